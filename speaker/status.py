"""What the speaker says about itself: the answer to a status query, and the gauges."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rules.messages import KillMode
from rules.neighbour import Address
from speaker import log
from speaker.desire import Desire
from speaker.reconcile import Ledger
from speaker.sessions import Sessions
from speaker.suspects import Suspects
from speaker.talk import Talk
from speaker.tally import Tally

if TYPE_CHECKING:
    from prometheus_client import Counter

    from speaker.metrics import Metrics


@dataclass(frozen=True, slots=True)
class View:
    """What there is to be looked at."""

    ledger: Ledger
    sessions: Sessions
    suspects: Suspects
    talk: Talk
    desire: Desire


def neighbours(view: View, now: float) -> list[dict[str, object]]:
    """Each neighbour: its session, and how many rules stand there in which phase."""
    return [
        {
            "name": one.name,
            "up": (session := view.sessions.of(peer)).is_up,
            "for_seconds": round(now - (session.since or now), 1),
            "reason": session.reason,
            "waits_for": session.waits_for.value if session.waits_for else "",
            "hangs": session.hangs(now),
            "families": sorted(family.value for family in session.families),
            "end_of_rib": sorted(family.value for family in session.ended),
            "rules": {phase.value: count for (at, phase), count in view.ledger.counts.items() if at == peer and count},
            "flaps": session.flaps,
            "notification": session.notification,
            "inbound_updates": session.inbound,
            "quarantined": sorted(view.suspects.of(peer).sentenced),
        }
        for peer, one in view.ledger.neighbours.items()
    ]


def kill(mode: KillMode, by: str, ledger: Ledger, is_sure: bool, holding: Collection[Address]) -> dict[str, object]:
    """Whether the switch has done what it says, and at how many neighbours nothing stands any more.

    `is_sure`: what ExaBGP holds, and who the neighbours are, is known. `holding`: neighbours that ExaBGP held routes
    for when it last listed them after a clear.
    """
    peers = {*ledger.neighbours, *(peer for peer, _ in ledger.counts if ledger.may_hold(peer))}
    clear = [peer for peer in peers if peer not in holding and not ledger.may_hold(peer)]
    settled = is_sure and all(ledger.is_settled(peer) for peer in peers)
    is_all = mode is KillMode.WITHDRAW_ALL
    return {
        "mode": mode.value,
        "by": by,
        "done": settled and (not is_all or len(clear) == len(peers)),
        "clear": len(clear),
        "neighbours": len(peers),
    }


class Gauges:
    """Fills the metrics from what the speaker knows. Their library is loaded with the first ones, not at the start."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, ...], float] = {}
        self._made: Metrics | None = None

    @property
    def _metrics(self) -> "Metrics":
        if self._made is None:
            from speaker.metrics import Metrics

            self._made = Metrics()
        return self._made

    def _count(self, counter: "Counter", total: float, *key: str) -> None:
        """Counters, given as totals."""
        counter.inc(total - self._counted.get(key, 0.0))
        self._counted[key] = total

    def fill(self, view: View) -> None:
        """Everything that stands in the ledger and the sessions."""
        metrics, mode = self._metrics, view.desire.mode
        for name in ("answered", "refused", "lost", "discarded", "resyncs"):
            counter = getattr(metrics, "answers" if name == "answered" else name)
            self._count(counter, getattr(view.talk, name), name)
        metrics.wishes.set(view.desire.count)
        metrics.in_flight.set(view.talk.in_flight)
        metrics.synced.set(view.talk.is_synced)
        metrics.frozen.clear()
        metrics.frozen.labels(mode.value).set(mode is not KillMode.NORMAL)
        metrics.announcements.clear()
        for (peer, phase), count in view.ledger.counts.items():
            metrics.announcements.labels(view.ledger.name(peer), phase.value).set(count)
        for peer, one in view.ledger.neighbours.items():
            metrics.sessions.labels(one.name).set(view.sessions.of(peer).is_up)
            metrics.quarantined.labels(one.name).set(len(view.suspects.of(peer).sentenced))

    def write(self, state: Path, tally: Tally, is_database_up: bool) -> None:
        """Into the state directory, with what was counted; a full disk costs the numbers and nothing else."""
        metrics = self._metrics
        metrics.database.set(is_database_up)
        self._count(metrics.alarms, tally.alarms, "alarms")
        self._count(metrics.expired, tally.expired, "expired")
        for name in tally.flaps:
            self._count(metrics.flaps.labels(name), tally.flaps[name], "flaps", name)
        for name in tally.inbound:
            self._count(metrics.inbound.labels(name), tally.inbound[name], "inbound", name)
        for seconds in tally.lateness:
            metrics.lateness.observe(seconds)
        tally.lateness.clear()
        try:
            metrics.write(state)
        except OSError as error:
            log.warning("metrics cannot be written", why=str(error))
