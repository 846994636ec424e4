"""What the speaker tells of itself: the answer to a status query, `status.json`, metrics, statuses for the database,
and sessions that hang. Decides nothing, and changes nothing that is announced.
"""

from pathlib import Path

from rules.messages import KillMode
from speaker import exchange, log, report, status
from speaker.beginning import PATIENCE_SECONDS, Beginning
from speaker.clock import Clock
from speaker.health import UNREAD, Health
from speaker.kill_flag import Watch
from speaker.latecomer import LateMemory
from speaker.sessions import PeerSession
from speaker.tally import Tally
from speaker.trail import Trail

REPORT_SECONDS = 2.0
"""How often the speaker reports on itself, and writes its metrics."""
STATUS_SECONDS = 0.5
"""How often changes of status go to the database."""
BUSY_STATUS_SECONDS = 3.0
"""The same while ExaBGP is being told things: rows that are about to change again take time from what changes them."""


class Reporter:
    """Tells of one speaker."""

    def __init__(
        self,
        state: Path,
        clock: Clock,
        view: status.View,
        health: Health,
        watch: Watch,
        beginning: Beginning,
        memory: LateMemory,
        trail: Trail,
        tally: Tally,
    ) -> None:
        self._state, self._clock, self._view, self._health, self._watch = state, clock, view, health, watch
        self._beginning, self._memory, self._trail, self._tally = beginning, memory, trail, tally
        self._gauges = status.Gauges()
        self._status_at = self._metrics_at = self._listed_at = -1e9
        self._are_statuses_due = False

    def listed(self, now: float) -> None:
        """ExaBGP has told what it holds: all statuses are due, once they stand."""
        self._listed_at = now
        self._are_statuses_due = True

    def status(self) -> dict[str, object]:
        """Everything, for whoever asks."""
        view, health = self._view, self._health
        kept = health.holding if view.desire.mode is KillMode.WITHDRAW_ALL else frozenset()
        # Who knows of no neighbours yet can't say that nothing stands at any.
        is_sure = view.talk.is_synced and health.configuration != UNREAD
        return {
            "speaker": health.settings.name if health.settings else "",
            "seconds": round(self._beginning.seconds(self._clock.now()), 1),
            "configured": health.settings is not None,
            "problem": health.configuration,
            "synced": view.talk.is_synced,
            "informed": health.is_informed,
            "database": health.database or "up",
            "journal": health.journal or "up",
            "clock": health.clock,
            "rules": view.desire.count,
            "in_flight": view.talk.in_flight,
            "resyncs": view.talk.resyncs,
            "neighbours": status.neighbours(view, self._clock.now()),
            "kill": status.kill(view.desire.mode, self._watch.flag.by, view.ledger, is_sure, kept),
        }

    def end(self) -> None:
        """The last word: nobody takes what was said before for what is so."""
        report.write(self._state, self.status() | {"ended": True}, self._clock.wall())

    def tick(self, now: float) -> None:
        """Time passes: whatever is due is told."""
        if now - self._status_at > (BUSY_STATUS_SECONDS if self._view.talk.in_flight else STATUS_SECONDS):
            self._status_at = now
            self._tell_statuses(now)
        for session in self._view.sessions.reports(now):
            name = self._view.ledger.name(session.peer)
            log.info("session", neighbour=name, up=session.is_up, reason=session.reason)
        for session in self._view.sessions.hanging(now):
            self._tell_of_hanging(session, now)
        if now - self._metrics_at > REPORT_SECONDS:
            self._metrics_at = now
            self._gauges.fill(self._view)
            self._gauges.write(self._state, self._tally, is_database_up=not self._health.database)
            report.write(self._state, self.status(), self._clock.wall())

    def _tell_statuses(self, now: float) -> None:
        """To the database: after a resynchronisation all of them, once they stand, and then what changes."""
        ledger = self._view.ledger
        changes = ledger.take_changes()
        if not self._are_statuses_due:
            if changes:
                self._memory.ask(exchange.Statuses(changes))
            return
        is_told = self._beginning.has_told_all() or now - self._listed_at > PATIENCE_SECONDS
        if self._view.desire.inherited.is_judged and is_told:
            self._are_statuses_due = False
            self._memory.ask(exchange.Statuses(ledger.statuses(), is_complete=True))

    def _tell_of_hanging(self, session: PeerSession, now: float) -> None:
        if session.peer not in self._view.ledger.neighbours:
            return
        name = self._view.ledger.name(session.peer)
        if session.is_up:
            self._memory.ask(exchange.News("neighbour.up", {"id": name}))
            return
        waits_for = session.waits_for.value if session.waits_for else ""
        detail = {"seconds": round(now - session.since), "waits_for": waits_for, "why": session.reason}
        self._trail.alarm("a session does not come up", neighbour=name, **detail)
        self._memory.ask(exchange.News("neighbour.hangs", {"id": name, **detail}))
