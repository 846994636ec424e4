"""All database work, in a thread of its own: what is wanted in, status and audit out.

The database may be slow, locked or gone: the loop never waits for it. What could not be written is tried again; audit
lines stand in the journal until they are written.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain

from rules import guard
from rules.counted import counted
from rules.errors import Refused
from rules.guard import Surroundings
from rules.lifecycle import Phase
from rules.messages import Accepted, Declined, DetectionReport, Heartbeat
from rules.rule import RuleId
from rules.zone import Zone
from speaker import log
from speaker.clock import Clock
from speaker.desire import Expiry, Offer
from speaker.exchange import (
    Away,
    Configured,
    Known,
    Left,
    Look,
    News,
    Report,
    Request,
    Statuses,
    Switched,
    ToLoop,
    Written,
)
from speaker.incidents import Incidents
from speaker.journal import Note
from speaker.settings import Settings
from speaker.wishes import Remembered
from store.admission import request_of
from store.database import Concern
from store.errors import SchemaUnknown, StoreUnavailable
from store.records import AnnouncementRecord, RuleRecord, SensorRecord, World
from store.store import Store

POLL_SECONDS = 1.0
"""How often to look whether anything changed, when nobody says so."""
RELOAD_SECONDS = 30.0
"""How often to read everything again although nothing seems to have changed."""
RETRY_SECONDS = 1.0
CHUNK = 50
"""Rules judged before they are told: neither disk nor ExaBGP need wait for the last one."""
LEISURE_SECONDS = 10.0
"""How long what a predecessor had let through is not judged together with all others, while it is being told anew."""
BREATH_SECONDS, BREATHLESS_SECONDS = 0.05, 0.25
"""How long a rule that was just made has the processor for itself before the rest of the work is done, and how old that
may become while more and more are made."""
ENDED_KEPT = timedelta(days=1)
"""How long the status of an announcement that ended stays readable."""

_Row = tuple[str, RuleId]
"""Neighbour's name and rule."""


@dataclass(slots=True)
class _Backlog:
    """What must still be written."""

    rows: dict[_Row, AnnouncementRecord] = field(default_factory=dict)
    complete: set[_Row] | None = None
    expiries: dict[RuleId, Expiry] = field(default_factory=dict)
    notes: dict[int, Note] = field(default_factory=dict)
    sensors: dict[str, SensorRecord] = field(default_factory=dict)
    news: list[tuple[News, datetime]] = field(default_factory=list)


class Memory:
    """The thread."""

    def __init__(self, clock: Clock, tell: Callable[[ToLoop], None]) -> None:
        self._clock, self._tell = clock, tell
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._settings: Settings | None = None
        self._store: Store | None = None
        self._incidents: Incidents | None = None
        self._backlog = _Backlog()
        self._counter: int | None = None
        self._read_at = -1e9
        self._verdicts: dict[RuleId, Offer] = {}
        """What the guard said of a record in this world and these zones: `_judged_in`."""
        self._told: dict[RuleId, Offer] = {}
        """What the loop was told and took in."""
        self._judged_in: tuple[World, tuple[Zone, ...]] | None = None
        self._is_away = False
        self._tried_at = -1e9
        self._has_passed_on = False
        self._behind_since: float | None = None
        """Since when work is left; None when none is."""
        self._may_act = True
        self._forgot_at = -1e9
        self._remembered = 0
        """Entries of the audit when it was last read, also by a predecessor: a database with none is not that one."""
        self._carried: Mapping[RuleId, Remembered] = {}
        self._leisure = threading.Event()
        self._first_read_at: float | None = None

    def remember(self, audit_entries: int, wishes: Mapping[RuleId, Remembered]) -> None:
        """What the journal knows: how many audit entries, and the rules that a predecessor had let through and that are
        announced already. Call before `start`."""
        self._remembered, self._carried = audit_entries, wishes

    def at_leisure(self) -> None:
        """ExaBGP has heard everything: what stands may be judged again, and nobody waits for the processor."""
        self._leisure.set()
        self.ask(Look())

    def start(self) -> None:
        """Start the thread; it waits for its settings."""
        self._thread.start()

    def stop(self) -> None:
        """End it after what it is doing."""
        self._requests.put(None)
        self._thread.join(timeout=5)

    def ask(self, request: Request) -> None:
        """Hand over work; never blocks."""
        self._requests.put(request)

    def _run(self) -> None:
        reports: list[Report] = []
        while True:
            batch = self._gather()
            if None in batch:
                return
            for request in batch:
                if isinstance(request, Report):
                    reports.append(request)
                elif request is not None:
                    self._note(request)
            if self._is_away and not reports and self._clock.now() - self._tried_at < RETRY_SECONDS:
                continue
            self._tried_at = self._clock.now()
            try:
                self._work(reports)
            except (StoreUnavailable, SchemaUnknown, OSError) as error:
                self._lost(str(error), reports)
            except Exception as error:  # noqa: BLE001 - told, and tried again
                # A row that nobody foresaw: were this thread to end, no withdrawal would be seen any more.
                log.exception("unforeseen")
                self._lost(f"{type(error).__name__}: {error}", reports)
            reports.clear()

    def _gather(self) -> list[Request | None]:
        batch: list[Request | None] = []
        try:
            idle = RETRY_SECONDS if self._is_away else POLL_SECONDS
            batch.append(self._requests.get(timeout=idle if self._behind_since is None else BREATH_SECONDS))
            while True:
                batch.append(self._requests.get_nowait())
        except queue.Empty:
            return batch

    def _note(self, request: Look | Statuses | Configured | Switched | News | Expiry | Note) -> None:
        backlog, now = self._backlog, self._clock.wall()
        match request:
            case Configured(settings):
                self._configure(settings)
            case Statuses(changes, is_complete):
                name = self._settings.name if self._settings else ""
                for one in changes:
                    record = AnnouncementRecord(one.rule, one.neighbour, name, one.phase, now, one.detail)
                    backlog.rows[one.neighbour, one.rule] = record
                if is_complete:
                    backlog.complete = {(one.neighbour, one.rule) for one in changes}
            case Expiry(rule=rule):
                backlog.expiries[rule] = request
            case Note(number=number):
                backlog.notes[number] = request
            case News():
                backlog.news.append((request, now))
            case Switched(may_act):
                # What the loop would not take while the switch was thrown, it must be told again.
                self._may_act, self._counter = may_act, None
                self._told.clear()
            case Look():
                pass

    def _configure(self, settings: Settings) -> None:
        if self._settings is not None and self._settings.database_url == settings.database_url and self._incidents:
            self._incidents.settings = settings
        else:
            self._close()
        self._settings, self._counter = settings, None

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = self._incidents = None

    def _lost(self, why: str, reports: list[Report]) -> None:
        if not self._is_away:
            self._tell(Away(why))
        self._is_away = True
        self._close()
        for report in reports:
            report.answer(Declined.of(Refused("database", "", f"cannot be used now: {why}"), retry=True))

    def _work(self, reports: list[Report]) -> None:
        if self._settings is None:
            for report in reports:
                report.answer(Declined.of(Refused("speaker", "", "has no configuration yet"), retry=True))
            return
        if self._store is None:
            self._store = Store.open(self._settings.database_url)
            self._recognise(self._store)
            self._incidents = Incidents(self._store, self._settings, self._clock)
            self._counter, self._read_at = None, -1e9
        if self._incidents is not None:
            self._incidents.may_act = self._may_act
        for report in list(reports):
            self._report(report)
            reports.remove(report)
        if self._may_breathe():
            self._is_away = False
            return
        self._expire(self._store)
        if self._incidents is not None:
            self._incidents.tick(self._clock.wall())
        self._read(self._store, self._settings)
        self._write(self._store, self._settings)
        self._is_away = False

    def _may_breathe(self) -> bool:
        """Whether the rest of the work can wait for what was just passed on."""
        if not self._has_passed_on:
            self._behind_since = None
            return False
        self._has_passed_on = False
        now = self._clock.now()
        self._behind_since = now if self._behind_since is None else self._behind_since
        return now - self._behind_since < BREATHLESS_SECONDS

    def _recognise(self, store: Store) -> None:
        """An empty file in the place of the database that was there would end every rule: it counts as no database."""
        if self._remembered and store.audit_head().count == 0:
            had = counted(self._remembered, "audit entry", "audit entries")
            raise StoreUnavailable(f"the database is empty and had {had}: put it back, or restore a backup")

    def _report(self, report: Report) -> None:
        assert self._incidents is not None
        now = self._clock.wall()
        match report.request:
            case Heartbeat(sensor=sensor, statistics=statistics):
                # Nothing hangs on its being on disk, and a detection must not wait for that.
                self._backlog.sensors[sensor] = SensorRecord(sensor, now, dict(statistics.numbers))
                report.answer(Accepted())
            case DetectionReport() as detection:
                taken = self._incidents.take(detection, now)
                self._pass_on(taken.wanted)
                report.answer(taken.answer)

    def _pass_on(self, wanted: tuple[RuleRecord, ...]) -> None:
        """Rules that the guard has just let in go out before anything else is read or looked at."""
        offers = tuple(Offer(record) for record in wanted)
        for offer in offers:
            self._verdicts[offer.record.id] = self._told[offer.record.id] = offer
        if offers:
            self._has_passed_on = True
            self._tell(Known(offers, is_complete=False))

    def _expire(self, store: Store) -> None:
        for rule, expiry in list(self._backlog.expiries.items()):
            store.expire(rule, self._clock.wall(), seen_deadline=expiry.deadline)
            del self._backlog.expiries[rule]

    # -------------------------------------------------------------------------------------------------------- reading

    def _read(self, store: Store, settings: Settings) -> None:
        counter, now = store.change_counter(Concern.INTENTS), self._clock.now()
        if counter == self._counter and now - self._read_at < RELOAD_SECONDS and not self._is_time_for_standing():
            return
        records = store.wanted()
        world = World(settings.neighbours, settings.protected, settings.infrastructure, settings.limits)
        head = store.audit_head()
        self._remembered = max(self._remembered, head.count)
        self._first_read_at = now if self._first_read_at is None else self._first_read_at
        offers = self._judge(store, records, world)
        zones = self._judged_in[1] if self._judged_in else None
        # What stands and is left for later is none of these: the word is not complete before.
        self._tell(Known(offers, is_complete=not self._carried, audit_head=(head.count, head.hash), zones=zones))
        self._counter, self._read_at = counter, now

    def _judge(self, store: Store, records: tuple[RuleRecord, ...], world: World) -> tuple[Offer, ...]:
        """The guard's word on every rule: the database's rows are not trusted."""
        now = self._clock.wall()
        surroundings: Surroundings | None = None
        zones = store.zones()
        if self._judged_in != (world, zones):
            self._verdicts.clear()
            self._judged_in = (world, zones)
        # What stands is judged as well, but what waits to go out is judged before it.
        first = [record for record in records if not self._is_carried(record)]
        then = [record for record in records if self._is_carried(record)]
        is_left_for_later = bool(then) and not self._is_time_for_standing()
        if is_left_for_later or sum(record.id not in self._verdicts for record in records) > CHUNK:
            self._tell(Left(frozenset(record.id for record in records)))
        if is_left_for_later:
            then = []
        else:
            self._carried = {}
        verdicts: dict[RuleId, Offer] = {}
        untold: list[Offer] = []
        for record in chain(first, then):
            offer = self._verdicts.get(record.id)
            # The whole record: also who asked, what was measured and who approved it decide. An objection may be
            # lifted by time, by room or by a clock that is set right: it is asked for again.
            if offer is None or offer.objection or offer.record != record:
                # What counts is whether it may stand, not how fast it came.
                surroundings = surroundings or replace(store.surroundings(world, now), recent=0)
                offer = Offer(record, _objection(record, surroundings, now))
            verdicts[record.id] = offer
            if offer.objection and record.deadline <= now:
                # It is not announced, so nobody counts its deadline; left wanted it would fill budgets for ever.
                store.expire(record.id, now)
            if self._told.get(record.id) is not offer:
                self._told[record.id] = offer
                untold.append(offer)
            if len(untold) == CHUNK or (then and untold and len(verdicts) == len(first)):
                self._tell(Known(tuple(untold), is_complete=False))
                untold.clear()
        self._verdicts, self._told = verdicts, verdicts.copy()
        return tuple(verdicts.values())

    def _is_time_for_standing(self) -> bool:
        """Whether rules of the journal are left to be judged, and nobody waits for the processor any more."""
        if not self._carried or self._first_read_at is None:
            return False
        return self._leisure.is_set() or self._clock.now() - self._first_read_at > LEISURE_SECONDS

    def _is_carried(self, record: RuleRecord) -> bool:
        """Whether the rule was in the journal at start, exactly as the database wants it now."""
        wish = self._carried.get(record.id)
        return (
            wish is not None
            and (wish.generation, wish.origin, wish.owner, wish.zone)
            == (record.generation, record.origin, record.owner, record.zone)
            and wish.is_for(record.rule)
        )

    # -------------------------------------------------------------------------------------------------------- writing

    def _write(self, store: Store, settings: Settings) -> None:
        backlog = self._backlog
        if backlog.complete is not None:
            for row in store.announcements(speaker=settings.name):
                key = (row.neighbour, row.rule)
                if row.phase is not Phase.ENDED and key not in backlog.complete:
                    why = "ExaBGP did not hold it when the speaker looked"
                    backlog.rows.setdefault(key, replace(row, phase=Phase.ENDED, since=self._clock.wall(), detail=why))
            backlog.complete = None
        if backlog.rows or backlog.notes or backlog.sensors or backlog.news:
            # One wait for the disk.
            with store.together():
                store.record_announcements(backlog.rows.values())
                for note in backlog.notes.values():
                    store.audit(f"speaker:{settings.name}", note.action, note.subject, note.detail, note.at)
                for sensor in backlog.sensors.values():
                    store.save_sensor_seen(sensor)
                for news, at in backlog.news:
                    store.outbox_add(news.kind, news.body, at)
            written = tuple(backlog.notes)
            for part in (backlog.rows, backlog.notes, backlog.sensors, backlog.news):
                part.clear()
            if written:
                self._tell(Written(written))
        if time.monotonic() - self._forgot_at > ENDED_KEPT.total_seconds() / 24:
            self._forgot_at = time.monotonic()
            store.forget_ended_announcements(self._clock.wall() - ENDED_KEPT)


def _objection(record: RuleRecord, surroundings: Surroundings, now: datetime) -> str:
    if record.deadline <= now:
        # It counts on the monotonic clock whether it has expired; the lifetime is no reason here.
        now = record.deadline - timedelta(seconds=1)
    errors = [one for one in guard.objections(request_of(record, now), surroundings) if one.is_error]
    return "; ".join(f"[{one.id}] {one.reason}" for one in errors)
