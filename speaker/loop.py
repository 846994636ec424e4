"""The one loop that decides what is said to ExaBGP, fed by one queue from all threads.

It blocks on nothing but the pipe to ExaBGP. The database, the disk and every client have threads of their own; expiry,
withdrawal and the kill switch go on when any of them is dead.
"""

import gc
import queue
from collections.abc import Callable
from pathlib import Path

from rules.errors import Refused
from rules.guard import Surroundings
from rules.messages import (
    Accepted,
    Declined,
    DetectionReport,
    Heartbeat,
    Kill,
    KillMode,
    Reload,
    SpeakerRequest,
    StatusQuery,
    Wake,
)
from rules.neighbour import Address
from rules.rule import RuleId
from rules.zone import Zone
from speaker import exchange, journal, killswitch, log, report, status
from speaker.clock import Clock
from speaker.deadlines import AlarmClock
from speaker.desire import Desire
from speaker.events import Asked, Configured, Event, Failed, Inbox, Said, Synced, Woken
from speaker.journal import Journal
from speaker.killswitch import Flag, Watch
from speaker.latecomer import LateMemory
from speaker.pipe import WINDOW, Writer
from speaker.reconcile import Ledger
from speaker.replies import (
    Negotiated,
    Neighbours,
    NotificationReceived,
    PeerState,
    Reply,
    Session,
    Shutdown,
    UpdateReceived,
)
from speaker.resync import Listing, listed
from speaker.rollcall import RollCall
from speaker.sessions import PeerSession, Sessions
from speaker.settings import Settings
from speaker.socket import Answering
from speaker.suspects import Suspects
from speaker.talk import EndOfRib, Talk
from speaker.tally import Tally
from speaker.trail import Trail

TICK_SECONDS = 0.5
"""The longest the loop sleeps: no clock step and no lost wake-up makes it later than this."""
CHORES_SECONDS = 0.02
"""How often to look at everything that is not a command: each answer would be too often."""
REPORT_SECONDS = 2.0
"""How often the speaker reports on itself, and writes its metrics."""
STATUS_SECONDS = 0.5
"""How often changes of status go to the database."""
BUSY_STATUS_SECONDS = 3.0
"""The same while ExaBGP is being told things: rows that are about to change again take time from what changes them."""
PATIENCE_SECONDS = 10.0
"""How long End-of-RIB waits for the database's first word, of the restart time routers grant."""
STANDING_SECONDS = 3.0
"""How long what stands already leaves the processor to the database's first word: what is new and what has ended."""
END_OF_RIB_RETRY_SECONDS = 5.0
BATCH = 256
"""Events taken before commands are sent."""
ADOPTED = 100
"""Rules made ready for announcement before the first of them go out."""
INHERITED = 32
"""Rules of the journal judged in one turn: a window's worth of commands bridges it."""
AHEAD = 2 * WINDOW
"""So many rules waiting to go out are enough: what is judged later keeps nobody waiting."""

COLLECT_AFTER = 20_000
"""Objects made before Python looks for cycles: rules are thousands of values that live long and have none."""


def collect_rarely() -> None:
    """Look for garbage again after start-up, which goes without, and not among what was made until now."""
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, 20, 20)
        gc.enable()


class Loop:
    """Everything the speaker knows, and what it does about it."""

    def __init__(self, state: Path, inbox: Inbox, writer: Writer, clock: Clock, reload: Callable[[], None]) -> None:
        self._state, self._inbox, self._clock, self._reload = state, inbox, clock, reload
        self._tally = Tally()
        self._gauges = status.Gauges()
        self._ledger = Ledger()
        self._sessions = Sessions()
        self._talk = Talk(writer, self._ledger, self._listed)
        self._journal = Journal(
            state / "journal", lambda ticket: inbox.put(Synced(ticket)), lambda error: inbox.put(Failed(str(error)))
        )
        self._desire = Desire(self._ledger, self._journal, clock)
        self._suspects = Suspects(self._ledger, self._journal, self._sentenced)
        self._roll = RollCall(self._ledger, self._sessions, self._suspects, self._talk)
        self._memory = LateMemory(clock, inbox.put)
        self._trail = Trail(self._journal, self._memory, clock, self._tally)
        self._watch = Watch(state, self._switched)
        self._alarm = AlarmClock(lambda: inbox.put(Woken()))
        self._settings: Settings | None = None
        self._zones: tuple[Zone, ...] = ()
        """As the database last had them, perhaps for a predecessor."""
        self._problem = "no settings yet"
        self._started = clock.now()
        self._is_informed = False
        """The database has told what it wants, or was waited for long enough."""
        self._database_problem = "not asked yet"
        self._journal_problem = ""
        self._holding: frozenset[Address] = frozenset()
        """Neighbours that ExaBGP held routes for when it last listed them."""
        self._chores_at = self._status_at = self._metrics_at = self._listed_at = -1e9
        self._are_statuses_due = self._is_through = False
        self._eor_retry: dict[Address, float] = {}
        self._are_chores_left = False
        self._wake_at: float | None = None
        self._is_ending = False

    # -------------------------------------------------------------------------------------------------------- running

    def start(self) -> None:
        """Read journal and flag, start the threads, greet ExaBGP. Raises `OSError` when the journal can't be opened."""
        contents = self._journal.open()
        now = self._clock.now()
        self._talk.resync(now)
        self._trail.load(contents)
        self._memory.remember(contents.audit_head[0] if contents.audit_head else 0, contents.wishes)
        self._zones = contents.zones
        self._desire.load(contents)
        self._suspects.load(contents.quarantine, now)
        self._watch.look(now, at_once=True)

    def run(self) -> None:
        """Until ExaBGP closes the pipe or says that it ends."""
        while not self._is_ending:
            for event in self._gather():
                self._handle(event)
                if self._is_ending:
                    break
            else:
                self._tick()

    def stop(self) -> None:
        """Leave everything written and every thread ended; routes stay where they are."""
        self._alarm.stop()
        self._memory.ask(exchange.Statuses(self._ledger.take_changes()))
        self._memory.stop()
        self._journal.close()

    def _gather(self) -> list[Event]:
        next_deadline = self._desire.deadlines.next()
        wait = CHORES_SECONDS if self._are_chores_left else TICK_SECONDS
        if self._may_inherit():
            wait = 0.0
        if next_deadline is not None:
            wait = min(wait, next_deadline - self._clock.now())
        events: list[Event] = []
        try:
            events.append(self._inbox.get(timeout=max(0.0, wait)))
            while len(events) < BATCH:
                events.append(self._inbox.get_nowait())
        except queue.Empty:
            return events
        return events

    def _handle(self, event: Event) -> None:
        match event:
            case Said(reply):
                self._said(reply)
            case Asked(request, answer):
                self._asked(request, answer)
            case Synced(ticket):
                self._journal_problem = ""
                if self._desire.synced(ticket, ADOPTED):
                    self._inbox.put(event)
                self._talk.pump(self._clock.now())
            case Failed(why):
                if not self._journal_problem:
                    self._trail.alarm("the journal cannot be written: nothing new is announced", why=why)
                self._journal_problem = why
            case Configured():
                self._configured(event)
            case exchange.Known():
                self._known(event)
            case exchange.Left(rules):
                self._desire.keep_only(rules)
            case exchange.Away(why):
                self._database_problem = why
                log.warning("database away", why=why)
            case exchange.Written(numbers):
                self._trail.written(numbers)
            case Woken():
                pass

    def _tick(self) -> None:
        now = self._clock.now()
        self._expire()
        if self._may_inherit():
            self._inherit()
        self._talk.pump(now)
        self._are_chores_left = now - self._chores_at < CHORES_SECONDS
        if not self._are_chores_left:
            self._chores_at = now
            self._do_chores(now)

    def _has_told_all(self) -> bool:
        """Whether ExaBGP has heard all there is, what the journal says included."""
        is_waiting = self._talk.in_flight or self._ledger.waiting
        return self._talk.is_synced and self._desire.inherited.is_judged and not is_waiting

    def _may_inherit(self) -> bool:
        """Whether a rule of the journal may be judged now, with a use for it."""
        is_ready = self._settings is not None and self._talk.is_synced
        return is_ready and self._desire.inherited.has_next and self._ledger.waiting < AHEAD

    def _inherit(self) -> None:
        """The next rules of the journal go out as the guard lets them, before the database was read."""
        assert self._settings is not None
        if not self._zones:
            self._desire.inherited.leave_unjudged()
            return
        one = self._settings
        self._desire.inherit(
            INHERITED,
            Surroundings(self._zones, one.neighbours, one.protected, one.infrastructure, limits=one.limits),
        )

    def _do_chores(self, now: float) -> None:
        """What need not be looked at after every answer."""
        self._watch.look(now)
        if problem := self._talk.tick(now):
            self._trail.alarm(problem)
        if not self._is_informed and now - self._started > PATIENCE_SECONDS:
            self._is_informed = True
            collect_rarely()
        if not self._database_problem or now - self._started > STANDING_SECONDS:
            self._desire.inherited.resume()
        if not self._is_through and self._has_told_all():
            self._is_through = True
            self._memory.at_leisure()
            collect_rarely()
        self._suspects.tick(now)
        self._roll.tick(now)
        if self._roll.is_deserted(now):
            self._trail.alarm("ExaBGP has lost all its neighbours; it is told to end, and started anew")
            self._talk.shut_down()
        self._talk.pump(now)
        self._end_ribs(now)
        self._report(now)
        self._arm()

    def _arm(self) -> None:
        """APScheduler wakes the loop at the next deadline; the loop's own patience makes it certain."""
        if not self._is_informed:
            # What APScheduler imports can wait until everything is said.
            return
        if not self._alarm.is_running:
            self._alarm.start()
            self._alarm.every(5.0, "periodic checks", lambda: self._inbox.put(Woken()))
        at = self._desire.deadlines.next()
        if at is not None and at != self._wake_at:
            self._alarm.in_seconds(at - self._clock.now())
        self._wake_at = at

    # --------------------------------------------------------------------------------------------------------- ExaBGP

    def _said(self, reply: Reply | None) -> None:
        now = self._clock.now()
        match reply:
            case None | Shutdown():
                log.info("ExaBGP ends")
                self._is_ending = True
            case PeerState():
                self._session_changed(reply, now)
            case Negotiated():
                self._sessions.negotiated(reply)
            case Neighbours():
                self._roll.heard(reply, now)
                if self._talk.is_synced:
                    self._roll.counted(reply, now)
                else:
                    self._talk.take(reply, now)
            case NotificationReceived(peer, code, subcode):
                self._notified(peer, code, subcode, now)
            case UpdateReceived(peer):
                name = self._ledger.name(peer)
                self._sessions.of(peer).inbound += 1
                self._tally.inbound[name] += 1
                self._trail.alarm("a neighbour announces routes to us; nothing is imported", neighbour=name)
            case _:
                failed = self._talk.take(reply, now)
                if isinstance(failed, EndOfRib):
                    self._sessions.of(failed.peer).ended.discard(failed.family)
                    self._eor_retry[failed.peer] = now + END_OF_RIB_RETRY_SECONDS
        for alarm in self._ledger.alarms:
            self._trail.alarm(alarm)
        self._ledger.alarms.clear()

    def _session_changed(self, event: PeerState, now: float) -> None:
        was_up = self._sessions.of(event.peer).is_up
        if not self._sessions.state(event, now):
            return
        if event.state is Session.UP:
            self._eor_retry.pop(event.peer, None)
            self._suspects.up(event.peer, now)
            self._roll.up(event.peer, now)
        elif was_up:
            self._tally.flaps[self._ledger.name(event.peer)] += 1
            self._suspects.down(event.peer, now)

    def _notified(self, peer: Address, code: int, subcode: int, now: float) -> None:
        self._sessions.of(peer).notification = f"{code}/{subcode}"
        log.warning("NOTIFICATION received", neighbour=self._ledger.name(peer), code=code, subcode=subcode)
        self._suspects.notified(peer, code, subcode, now)

    def _sentenced(self, peer: Address, rule: RuleId, why: str) -> None:
        name = self._ledger.name(peer)
        self._trail.note("rule.quarantined", rule, {"neighbour": name, "why": why})
        self._trail.alarm("a rule resets a session and is kept from it", neighbour=name, rule=rule, why=why)

    def _listed(self, listing: Listing) -> None:
        """ExaBGP has told what it holds."""
        now = self._listed_at = self._clock.now()
        if listing.neighbours is not None:
            self._roll.counted(listing.neighbours, now, with_routes=True)
        self._holding = listing.peers
        if listing.unreadable:
            peers = tuple(dict.fromkeys(route.peer for route in listing.unreadable))
            self._trail.alarm("routes that cannot be read back: clearing", why=listing.unreadable[0].why)
            self._talk.clear(peers, now)
            return
        found = listed(listing)
        if now - self._started < STANDING_SECONDS and self._database_problem:
            self._desire.inherited.postpone({rule for _, rule in found})
        self._ledger.found(found, now)
        self._ledger.take_changes()
        self._are_statuses_due = True
        log.info("synchronised", exabgp=listing.version, routes=len(listing.routes), wishes=self._desire.count)

    def _end_ribs(self, now: float) -> None:
        """End-of-RIB for every family of every session that has been told everything."""
        if not (self._is_informed and self._desire.is_on_disk and self._talk.is_synced):
            return
        for peer in self._ledger.neighbours:
            if self._eor_retry.get(peer, 0.0) > now or not self._ledger.is_settled(peer):
                continue
            for family in self._sessions.unended(peer):
                if self._talk.has_room():
                    self._sessions.of(peer).ended.add(family)
                    self._talk.end_of_rib(peer, family, now)

    # ------------------------------------------------------------------------------------------------ what is wanted

    def _configured(self, event: Configured) -> None:
        self._problem = event.problem
        if event.settings is None:
            log.error("no usable configuration: nothing is announced, deadlines are kept", problem=event.problem)
            return
        if event.settings == self._settings:
            return
        self._settings = event.settings
        now = self._clock.now()
        self._desire.peers = tuple(one.peer_address for one in event.settings.neighbours)
        self._ledger.set_neighbours(event.settings.neighbours, now)
        self._roll.expect(event.settings.neighbours, now)
        self._memory.ask(exchange.Configured(event.settings))

    def _known(self, event: exchange.Known) -> None:
        self._database_problem = ""
        if event.audit_head is not None:
            self._trail.head(event.audit_head)
        if event.zones is not None and event.zones != self._zones:
            self._zones = event.zones
            self._journal.append([journal.zones(event.zones)])
        # A first part is not the whole word.
        self._is_informed = self._is_informed or event.is_complete
        for offer in self._desire.known(event.offers, event.is_complete):
            self._trail.note("rule.objected", offer.record.id, {"rule": str(offer.record.rule), "why": offer.objection})
            log.warning("the guard objects to a rule of the database", rule=str(offer.record.rule), why=offer.objection)
        if event.is_complete and self._desire.is_on_disk:
            self._suspects.forget_all_but(self._desire.wishes.keys() | self._desire.inherited.ids, self._clock.now())

    def _expire(self) -> None:
        for expiry in self._desire.due():
            self._tally.expired += 1
            self._tally.lateness.append(expiry.late_seconds)
            self._memory.ask(expiry)

    def _switched(self, flag: Flag) -> None:
        """The kill switch stands differently from before."""
        log.warning("kill switch", mode=flag.mode.value, by=flag.by)
        self._desire.set_mode(flag.mode)
        self._memory.ask(exchange.Switched(flag.mode is KillMode.NORMAL))
        self._trail.note("kill-switch", flag.mode.value, {"by": flag.by, "at": flag.at})
        if flag.mode is KillMode.WITHDRAW_ALL:
            self._talk.clear((), self._clock.now())

    # -------------------------------------------------------------------------------------------------------- telling

    def hand_over(self, request: SpeakerRequest, answer: Answering) -> None:
        """A client's request, from any thread. A sensor's goes to the database thread past the loop, which has nothing
        to say to it."""
        if isinstance(request, DetectionReport | Heartbeat):
            self._memory.ask(exchange.Report(request, answer))
        else:
            self._inbox.put(Asked(request, answer))

    def _asked(self, request: SpeakerRequest, answer: Answering) -> None:
        match request:
            case Wake():
                self._memory.ask(exchange.Look())
                answer(Accepted())
            case StatusQuery():
                answer(Accepted(self._status()))
            case Reload():
                self._reload()
                self._roll.look_again(self._clock.now())
                answer(Accepted())
            case Kill(mode, by):
                self._kill(mode, by, answer)
            case DetectionReport() | Heartbeat():
                self._memory.ask(exchange.Report(request, answer))

    def _kill(self, mode: KillMode, by: str, answer: Answering) -> None:
        try:
            killswitch.write(self._state, mode, by, self._clock.wall())
        except OSError as error:
            answer(Declined.of(Refused("kill", mode.value, f"the flag cannot be written: {error}"), retry=True))
            return
        self._watch.look(self._clock.now(), at_once=True)
        answer(Accepted(self._status()))

    def _status(self) -> dict[str, object]:
        return {
            "speaker": self._settings.name if self._settings else "",
            "configured": self._settings is not None,
            "problem": self._problem,
            "synced": self._talk.is_synced,
            "informed": self._is_informed,
            "database": self._database_problem or "up",
            "journal": self._journal_problem or "up",
            "rules": self._desire.count,
            "in_flight": self._talk.in_flight,
            "resyncs": self._talk.resyncs,
            "neighbours": status.neighbours(self._ledger, self._sessions, self._suspects, self._clock.now()),
            "kill": status.kill(
                self._desire.mode, self._watch.flag.by, self._ledger, self._talk.is_synced, self._kept()
            ),
        }

    def _kept(self) -> frozenset[Address]:
        """Who still holds something after everything was to be withdrawn."""
        return self._holding if self._desire.mode is KillMode.WITHDRAW_ALL else frozenset()

    def _tell_statuses(self, now: float) -> None:
        """To the database: after a resynchronisation all of them, once they stand, and then what changes."""
        changes = self._ledger.take_changes()
        if not self._are_statuses_due:
            if changes:
                self._memory.ask(exchange.Statuses(changes))
        elif self._desire.inherited.is_judged and (self._has_told_all() or now - self._listed_at > PATIENCE_SECONDS):
            self._are_statuses_due = False
            self._memory.ask(exchange.Statuses(self._ledger.statuses(), is_complete=True))

    def _tell_of_hanging(self, session: PeerSession, now: float) -> None:
        if session.peer not in self._ledger.neighbours:
            return
        name = self._ledger.name(session.peer)
        if session.is_up:
            self._memory.ask(exchange.News("neighbour.up", {"id": name}))
            return
        waits_for = session.waits_for.value if session.waits_for else ""
        detail = {"seconds": round(now - session.since), "waits_for": waits_for, "why": session.reason}
        self._trail.alarm("a session does not come up", neighbour=name, **detail)
        self._memory.ask(exchange.News("neighbour.hangs", {"id": name, **detail}))

    def _report(self, now: float) -> None:
        if now - self._status_at > (BUSY_STATUS_SECONDS if self._talk.in_flight else STATUS_SECONDS):
            self._status_at = now
            self._tell_statuses(now)
        for session in self._sessions.reports(now):
            name = self._ledger.name(session.peer)
            log.info("session", neighbour=name, up=session.is_up, reason=session.reason)
        for session in self._sessions.hanging(now):
            self._tell_of_hanging(session, now)
        if now - self._metrics_at > REPORT_SECONDS:
            self._metrics_at = now
            self._gauges.fill(self._ledger, self._sessions, self._suspects, self._talk, self._desire)
            self._gauges.write(self._state, self._tally, is_database_up=not self._database_problem)
            report.write(self._state, self._status(), self._clock.wall())
