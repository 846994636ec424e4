"""The one loop that decides what is said to ExaBGP, fed by one queue from all threads.

It blocks on nothing but the pipe to ExaBGP. The database, the disk and every client have threads of their own; expiry,
withdrawal and the kill switch go on when any of them is dead.
"""

import queue
from collections.abc import Callable
from pathlib import Path

from rules.errors import Refused
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
from speaker import exchange, journal, kill_flag, log
from speaker.beginning import Beginning
from speaker.clock import Clock
from speaker.deadlines import AlarmClock
from speaker.desire import Desire
from speaker.end_of_rib import EndsOfRib
from speaker.events import Asked, Configured, Event, Failed, Inbox, Said, Synced, Woken
from speaker.health import Health
from speaker.journal import Journal
from speaker.kill_flag import Flag, Watch
from speaker.latecomer import LateMemory
from speaker.pipe import Writer
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
from speaker.reporter import Reporter
from speaker.resync import Listing, listed
from speaker.rollcall import RollCall
from speaker.sessions import Sessions
from speaker.socket import Answering
from speaker.status import View
from speaker.steps import Advice, Steps
from speaker.suspects import Suspects
from speaker.talk import EndOfRib, Talk
from speaker.tally import Tally
from speaker.trail import Trail

TICK_SECONDS = 0.5
"""The longest the loop sleeps: no clock step and no lost wake-up makes it later than this."""
CHORES_SECONDS = 0.02
"""How often to look at everything that is not a command: each answer would be too often."""
BATCH = 256
"""Events taken before commands are sent."""
ADOPTED = 100
"""Rules made ready for announcement before the first of them go out."""


class Loop:
    """Everything the speaker knows, and what it does about it."""

    def __init__(self, state: Path, inbox: Inbox, writer: Writer, clock: Clock, reload: Callable[[], None]) -> None:
        self._state, self._inbox, self._clock, self._reload = state, inbox, clock, reload
        self._tally = Tally()
        self._health = Health()
        self._ledger = Ledger()
        self._sessions = Sessions()
        self._talk = Talk(writer, self._ledger, self._listed)
        self._journal = Journal(
            state / "journal", lambda ticket: inbox.put(Synced(ticket)), lambda error: inbox.put(Failed(str(error)))
        )
        self._desire = Desire(self._ledger, self._journal, clock)
        self._suspects = Suspects(self._ledger, self._journal, self._sentenced)
        self._roll = RollCall(self._ledger, self._sessions, self._suspects, self._talk)
        self._ends = EndsOfRib(self._ledger, self._sessions, self._talk)
        self._memory = LateMemory(clock, inbox.put)
        self._trail = Trail(self._journal, self._memory, clock, self._tally)
        self._watch = Watch(state, self._switched)
        self._steps = Steps()
        self._alarm = AlarmClock(lambda: inbox.put(Woken()))
        self._beginning = Beginning(self._talk, self._ledger, self._desire, self._memory, self._health)
        view = View(self._ledger, self._sessions, self._suspects, self._talk, self._desire)
        self._reporter = Reporter(
            state, clock, view, self._health, self._watch, self._beginning, self._memory, self._trail, self._tally
        )
        self._chores_at = -1e9
        self._are_chores_left = False
        self._wake_at: float | None = None
        self._is_ending = False

    # -------------------------------------------------------------------------------------------------------- running

    def start(self) -> None:
        """Read journal and flag, start the threads, greet ExaBGP. Raises `OSError` when the journal can't be opened."""
        contents = self._journal.open()
        now = self._clock.now()
        self._beginning.begin(now)
        self._talk.resync(now)
        self._trail.load(contents)
        self._memory.remember(contents.audit_head[0] if contents.audit_head else 0, contents.wishes)
        self._health.zones = contents.zones
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
        self._reporter.end()

    def _gather(self) -> list[Event]:
        next_deadline = self._desire.deadlines.next()
        wait = CHORES_SECONDS if self._are_chores_left else TICK_SECONDS
        if self._beginning.may_inherit():
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
                self._health.journal = ""
                if self._desire.synced(ticket, ADOPTED):
                    self._inbox.put(event)
                self._talk.pump(self._clock.now())
            case Failed(why):
                if not self._health.journal:
                    self._trail.alarm("the journal cannot be written: nothing new is announced", why=why)
                self._health.journal = why
            case Configured():
                self._configured(event)
            case exchange.Known():
                self._known(event)
            case exchange.Left(rules):
                self._desire.keep_only(rules)
            case exchange.Away(why):
                self._health.database = why
                log.warning("database away", why=why)
            case exchange.Written(numbers):
                self._trail.written(numbers)
            case Woken():
                pass

    def _tick(self) -> None:
        now = self._clock.now()
        self._expire()
        if self._beginning.may_inherit():
            self._beginning.inherit()
        self._talk.pump(now)
        self._are_chores_left = now - self._chores_at < CHORES_SECONDS
        if not self._are_chores_left:
            self._chores_at = now
            self._do_chores(now)

    def _do_chores(self, now: float) -> None:
        """What need not be looked at after every answer."""
        self._watch.look(now)
        if problem := self._talk.tick(now):
            self._trail.alarm(problem)
        self._beginning.tick(now)
        self._suspects.tick(now)
        self._roll.tick(now)
        if self._roll.is_deserted(now):
            self._trail.alarm("ExaBGP has lost all its neighbours; it is told to end, and started anew")
            self._talk.shut_down()
        self._mind_the_clock(now)
        self._talk.pump(now)
        if self._health.is_informed and self._desire.is_on_disk and self._talk.is_synced:
            self._ends.tick(now)
        self._reporter.tick(now)
        self._arm()

    def _mind_the_clock(self, now: float) -> None:
        self._steps.tick(now, self._clock.wall())
        advice, back = self._steps.advise(self._sessions.known.values(), now), f"{self._steps.seconds:.0f} s"
        self._health.clock = ""
        if advice is Advice.TELL:
            self._health.clock = (
                f"The clock was set back by {back}, and ExaBGP may try who is down only after that time. "
                "Restart Stopbank to have them tried now; the other sessions start anew as well."
            )
        elif advice is Advice.START_ANEW:
            self._trail.alarm("the clock was set back and no session is up: ExaBGP is told to end", by=back)
            self._talk.shut_down()

    def _arm(self) -> None:
        """APScheduler wakes the loop at the next deadline; the loop's own patience makes it certain."""
        if not self._health.is_informed:
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
                    self._ends.failed(failed, now)
        for alarm in self._ledger.alarms:
            self._trail.alarm(alarm)
        self._ledger.alarms.clear()

    def _session_changed(self, event: PeerState, now: float) -> None:
        was_up = self._sessions.of(event.peer).is_up
        if not self._sessions.state(event, now):
            return
        if event.state is Session.UP:
            self._ends.up(event.peer)
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
        now = self._clock.now()
        if listing.neighbours is not None:
            self._roll.counted(listing.neighbours, now, with_routes=True)
        self._health.holding = listing.peers
        if listing.unreadable:
            peers = tuple(dict.fromkeys(route.peer for route in listing.unreadable))
            self._trail.alarm("routes that cannot be read back: clearing", why=listing.unreadable[0].why)
            self._talk.clear(peers, now)
            return
        found = listed(listing)
        self._beginning.found({rule for _, rule in found}, now)
        self._ledger.found(found, now)
        self._ledger.take_changes()
        self._reporter.listed(now)
        log.info("synchronised", exabgp=listing.version, routes=len(listing.routes), wishes=self._desire.count)

    # ------------------------------------------------------------------------------------------------ what is wanted

    def _configured(self, event: Configured) -> None:
        self._health.configuration = event.problem
        if event.settings is None:
            log.error("no usable configuration: nothing is announced, deadlines are kept", problem=event.problem)
            return
        if event.settings == self._health.settings:
            return
        self._health.settings = event.settings
        now = self._clock.now()
        self._desire.peers = tuple(one.peer_address for one in event.settings.neighbours)
        self._ledger.set_neighbours(event.settings.neighbours, now)
        self._roll.expect(event.settings.neighbours, now)
        self._memory.ask(exchange.Configured(event.settings))

    def _known(self, event: exchange.Known) -> None:
        self._health.database = ""
        if event.audit_head is not None:
            self._trail.head(event.audit_head)
        if event.zones is not None and event.zones != self._health.zones:
            self._health.zones = event.zones
            self._journal.append([journal.zones(event.zones)])
        # A first part is not the whole word.
        self._health.is_informed |= event.is_complete
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
                answer(Accepted(self._reporter.status()))
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
            kill_flag.write(self._state, mode, by, self._clock.wall())
        except OSError as error:
            answer(Declined.of(Refused("kill", mode.value, f"the flag cannot be written: {error}"), retry=True))
            return
        self._watch.look(self._clock.now(), at_once=True, by=by)
        answer(Accepted(self._reporter.status()))
