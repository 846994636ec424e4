"""All database work, in a thread of its own: what is wanted in, status and audit out.

The database may be slow, locked or gone: the loop never waits for it. What could not be written is tried again; audit
lines stand in the journal until they are written.
"""

import queue
import threading
from collections.abc import Callable, Mapping

from rules.counted import counted
from rules.errors import Refused
from rules.messages import Accepted, Declined, DetectionReport, Heartbeat
from rules.rule import RuleId
from speaker import log
from speaker.backlog import Backlog
from speaker.clock import Clock
from speaker.desire import Expiry
from speaker.exchange import (
    Away,
    Configured,
    Known,
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
from speaker.verdicts import Verdicts
from speaker.wishes import Remembered
from store.database import Concern
from store.errors import SchemaUnknown, StoreUnavailable
from store.records import RuleRecord, SensorRecord, World
from store.store import Store

POLL_SECONDS = 1.0
"""How often to look whether anything changed, when nobody says so."""
RELOAD_SECONDS = 30.0
"""How often to read everything again although nothing seems to have changed."""
RETRY_SECONDS = 1.0
BREATH_SECONDS, BREATHLESS_SECONDS = 0.05, 0.25
"""How long a rule that was just made has the processor for itself before the rest of the work is done, and how old that
may become while more and more are made."""


class Memory:
    """The thread."""

    def __init__(self, clock: Clock, tell: Callable[[ToLoop], None]) -> None:
        self._clock, self._tell = clock, tell
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._settings: Settings | None = None
        self._store: Store | None = None
        self._incidents: Incidents | None = None
        self._backlog = Backlog()
        self._verdicts = Verdicts(clock, tell)
        self._counter: int | None = None
        self._read_at = -1e9
        self._is_away = False
        self._tried_at = -1e9
        self._has_passed_on = False
        self._behind_since: float | None = None
        """Since when work is left; None when none is."""
        self._may_act = True
        self._remembered = 0
        """Entries of the audit when it was last read, also by a predecessor: a database with none is not that one."""

    def remember(self, audit_entries: int, wishes: Mapping[RuleId, Remembered]) -> None:
        """What the journal knows: how many audit entries, and the rules that a predecessor had let through and that are
        announced already. Call before `start`."""
        self._remembered = audit_entries
        self._verdicts.carry(wishes)

    def at_leisure(self) -> None:
        """ExaBGP has heard everything: what stands may be judged again, and nobody waits for the processor."""
        self._verdicts.at_leisure()
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
        match request:
            case Configured(settings):
                self._configure(settings)
            case Statuses():
                name = self._settings.name if self._settings else ""
                self._backlog.stands(request, name, self._clock.wall())
            case Expiry(rule=rule):
                self._backlog.expiries[rule] = request
            case Note(number=number):
                self._backlog.notes[number] = request
            case News():
                self._backlog.news.append((request, self._clock.wall()))
            case Switched(may_act):
                # What the loop would not take while the switch was thrown, it must be told again.
                self._may_act, self._counter = may_act, None
                self._verdicts.tell_again()
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
        self._backlog.expire(self._store, self._clock)
        if self._incidents is not None:
            self._incidents.tick(self._clock.wall())
        self._read(self._store, self._settings)
        if written := self._backlog.write(self._store, self._settings.name, self._clock):
            self._tell(Written(written))
        self._backlog.forget_ended(self._store, self._clock)
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
        if offers := self._verdicts.let_in(wanted):
            self._has_passed_on = True
            self._tell(Known(offers, is_complete=False))

    # -------------------------------------------------------------------------------------------------------- reading

    def _read(self, store: Store, settings: Settings) -> None:
        counter, now = store.change_counter(Concern.INTENTS), self._clock.now()
        if counter == self._counter and now - self._read_at < RELOAD_SECONDS and not self._verdicts.are_due():
            return
        records = store.wanted()
        world = World(settings.neighbours, settings.protected, settings.infrastructure, settings.limits)
        head = store.audit_head()
        self._remembered = max(self._remembered, head.count)
        self._tell(self._verdicts.of(records, store, world, (head.count, head.hash)))
        self._counter, self._read_at = counter, now
