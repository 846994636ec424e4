"""What the database must still be told: statuses, expiries, audit lines, sensors, news. Kept until it is written."""

import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from rules.lifecycle import Phase
from rules.rule import RuleId
from speaker.clock import Clock
from speaker.desire import Expiry
from speaker.exchange import News, Statuses
from speaker.journal import Note
from store.records import AnnouncementRecord, SensorRecord
from store.store import Store

ENDED_KEPT = timedelta(days=1)
"""How long the status of an announcement that ended stays readable."""

_Row = tuple[str, RuleId]
"""Neighbour's name and rule."""


@dataclass(slots=True)
class Backlog:
    """The newest of each kind; what it replaces need not be written any more."""

    rows: dict[_Row, AnnouncementRecord] = field(default_factory=dict)
    complete: set[_Row] | None = None
    """All announcements there are: what else the database has of ours has ended."""
    expiries: dict[RuleId, Expiry] = field(default_factory=dict)
    notes: dict[int, Note] = field(default_factory=dict)
    sensors: dict[str, SensorRecord] = field(default_factory=dict)
    news: list[tuple[News, datetime]] = field(default_factory=list)
    _forgot_at: float = -1e9

    def stands(self, told: Statuses, speaker: str, now: datetime) -> None:
        """Where announcements of this speaker stand."""
        for one in told.changes:
            record = AnnouncementRecord(one.rule, one.neighbour, speaker, one.phase, now, one.detail)
            self.rows[one.neighbour, one.rule] = record
        if told.is_complete:
            self.complete = {(one.neighbour, one.rule) for one in told.changes}

    def expire(self, store: Store, clock: Clock) -> None:
        """Ends the rules whose deadline the loop has seen pass; before anything is read."""
        for rule, expiry in list(self.expiries.items()):
            store.expire(rule, clock.wall(), seen_deadline=expiry.deadline)
            del self.expiries[rule]

    def write(self, store: Store, speaker: str, clock: Clock) -> tuple[int, ...]:
        """Everything else, with one wait for the disk; the numbers of the audit lines that are in the database now."""
        if self.complete is not None:
            self._end_all_but(self.complete, store, speaker, clock)
            self.complete = None
        written: tuple[int, ...] = ()
        if self.rows or self.notes or self.sensors or self.news:
            with store.together():
                store.record_announcements(self.rows.values())
                for note in self.notes.values():
                    store.audit(f"speaker:{speaker}", note.action, note.subject, note.detail, note.at)
                for sensor in self.sensors.values():
                    store.save_sensor_seen(sensor)
                for news, at in self.news:
                    store.outbox_add(news.kind, news.body, at)
            written = tuple(self.notes)
            for part in (self.rows, self.notes, self.sensors, self.news):
                part.clear()
        return written

    def forget_ended(self, store: Store, clock: Clock) -> None:
        """Old statuses go, now and then."""
        if time.monotonic() - self._forgot_at > ENDED_KEPT.total_seconds() / 24:
            self._forgot_at = time.monotonic()
            store.forget_ended_announcements(clock.wall() - ENDED_KEPT)

    def _end_all_but(self, complete: set[_Row], store: Store, speaker: str, clock: Clock) -> None:
        for row in store.announcements(speaker=speaker):
            key = (row.neighbour, row.rule)
            if row.phase is not Phase.ENDED and key not in complete:
                why = "ExaBGP did not hold it when the speaker looked"
                self.rows.setdefault(key, replace(row, phase=Phase.ENDED, since=clock.wall(), detail=why))
