"""What the speaker says about itself: the answer to a status query, and the gauges."""

from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

from rules.messages import KillMode
from rules.neighbour import Address
from speaker.metrics import Metrics
from speaker.reconcile import Ledger
from speaker.sessions import Sessions
from speaker.suspects import Suspects
from speaker.talk import Talk

log = structlog.get_logger("speaker")


def neighbours(ledger: Ledger, sessions: Sessions, suspects: Suspects, now: float) -> list[dict[str, object]]:
    """Each neighbour: its session, and how many rules stand there in which phase."""
    return [
        {
            "name": one.name,
            "up": (session := sessions.of(peer)).is_up,
            "for_seconds": round(now - session.since, 1),
            "reason": session.reason,
            "families": sorted(family.value for family in session.families),
            "end_of_rib": sorted(family.value for family in session.ended),
            "rules": {phase.value: count for (at, phase), count in ledger.counts.items() if at == peer and count},
            "flaps": session.flaps,
            "notification": session.notification,
            "inbound_updates": session.inbound,
            "quarantined": sorted(suspects.of(peer).sentenced),
        }
        for peer, one in ledger.neighbours.items()
    ]


def kill(mode: KillMode, by: str, ledger: Ledger, is_synced: bool, holding: Collection[Address]) -> dict[str, object]:
    """Whether the switch has done what it says, and at how many neighbours nothing stands any more.

    `holding`: neighbours that ExaBGP held routes for when it last listed them after a clear.
    """
    peers = {*ledger.neighbours, *(peer for peer, _ in ledger.counts if ledger.may_hold(peer))}
    clear = [peer for peer in peers if peer not in holding and not ledger.may_hold(peer)]
    settled = is_synced and all(ledger.is_settled(peer) for peer in peers)
    is_all = mode is KillMode.WITHDRAW_ALL
    return {
        "mode": mode.value,
        "by": by,
        "done": settled and (not is_all or len(clear) == len(peers)),
        "clear": len(clear),
        "neighbours": len(peers),
    }


class Gauges:
    """Fills the metrics from what the speaker knows."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted: dict[str, float] = {}

    def count(self, totals: Mapping[str, float]) -> None:
        """Counters, given as totals by attribute name."""
        for name, total in totals.items():
            getattr(self._metrics, name).inc(total - self._counted.get(name, 0.0))
            self._counted[name] = total

    def fill(self, ledger: Ledger, sessions: Sessions, suspects: Suspects, talk: Talk, mode: KillMode) -> None:
        """Everything that stands in the ledger and the sessions."""
        metrics = self._metrics
        self.count(
            {
                "answers": talk.answered,
                "refused": talk.refused,
                "lost": talk.lost,
                "discarded": talk.discarded,
                "resyncs": talk.resyncs,
            }
        )
        metrics.in_flight.set(talk.in_flight)
        metrics.synced.set(talk.is_synced)
        metrics.frozen.clear()
        metrics.frozen.labels(mode.value).set(mode is not KillMode.NORMAL)
        metrics.announcements.clear()
        for (peer, phase), count in ledger.counts.items():
            metrics.announcements.labels(ledger.name(peer), phase.value).set(count)
        for peer, one in ledger.neighbours.items():
            metrics.sessions.labels(one.name).set(sessions.of(peer).is_up)
            metrics.quarantined.labels(one.name).set(len(suspects.of(peer).sentenced))

    def write(self, state: Path) -> None:
        """Into the state directory; a full disk costs the numbers and nothing else."""
        try:
            self._metrics.write(state)
        except OSError as error:
            log.warning("metrics cannot be written", why=str(error))
