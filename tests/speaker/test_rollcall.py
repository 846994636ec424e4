"""The roll call with a real ledger and conversation; ExaBGP's side is played."""

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

from rules.action import Discard
from rules.lifecycle import Phase
from rules.neighbour import Address, Neighbour, SessionFamily
from rules.rule import FlowSpec
from rules.text import parse_flowspec
from speaker import commands
from speaker.pipe import Writer
from speaker.reconcile import Ledger
from speaker.replies import Done, Negotiated, Neighbours, PeerState, Session, Version
from speaker.resync import Listed, Listing
from speaker.rollcall import DESERTED_SECONDS, EAGER_SECONDS, PATIENT_EVERY_SECONDS, RollCall
from speaker.sessions import Sessions
from speaker.suspects import Suspects
from speaker.talk import Talk

RULE = FlowSpec(parse_flowspec("match { destination 203.0.113.1/32; } then { discard; }").match, Discard())
FAMILIES = frozenset({SessionFamily.IPV4_FLOW})


class Lines(Writer):
    """Keeps what would go to ExaBGP."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, *lines: str) -> None:
        self.written.extend(lines)


class Silent(Suspects):
    """Suspects nobody."""

    def __init__(self) -> None:
        pass

    def up(self, peer: Address, now: float) -> None:
        pass


def neighbour(number: int) -> Neighbour:
    return Neighbour(
        name=f"edge{number}",
        peer_address=IPv4Address(f"192.0.2.{number}"),
        local_address=IPv4Address("192.0.2.250"),
        peer_as=64500,
        local_as=64500,
        router_id=IPv4Address("192.0.2.250"),
        families=FAMILIES,
    )


ONE, TWO = neighbour(1), neighbour(2)


class Stage:
    """A speaker in small: synchronised with an ExaBGP that has these neighbours."""

    def __init__(self, *there: Neighbour) -> None:
        self.lines, self.ledger, self.sessions = Lines(), Ledger(), Sessions()
        self.talk = Talk(self.lines, self.ledger, self.listed)
        self.roll = RollCall(self.ledger, self.sessions, Silent(), self.talk)
        self.there = there
        self.held: Listed = {}
        self.talk.resync(0)
        self.synchronise(0)

    def listed(self, listing: Listing) -> None:
        assert listing.neighbours is not None
        self.roll.counted(listing.neighbours, 0, with_routes=True)
        self.ledger.found(self.held, 0)

    def neighbours(self) -> Neighbours:
        return Neighbours(tuple(Negotiated(one.peer_address, FAMILIES) for one in self.there), ())

    def synchronise(self, now: float) -> None:
        assert not self.talk.is_synced
        for reply in (Version("5"), Done(), self.neighbours(), Done(), Done()):
            if isinstance(reply, Neighbours):
                self.roll.heard(reply, now)
            self.talk.take(reply, now)
        assert self.talk.is_synced
        self.lines.written.clear()

    def configure(self, *neighbours: Neighbour, now: float = 0) -> None:
        self.ledger.set_neighbours(neighbours, now)
        self.roll.expect(neighbours, now)

    def asked(self, now: float) -> bool:
        """Whether it asks now whom ExaBGP has."""
        self.lines.written.clear()
        self.roll.tick(now)
        return self.lines.written == [commands.SHOW_NEIGHBOURS]

    def answer(self, now: float) -> None:
        self.roll.heard(self.neighbours(), now)
        self.roll.counted(self.neighbours(), now)
        self.talk.take(Done(), now)

    def phase(self, one: Neighbour) -> Phase | None:
        return next((status.phase for status in self.ledger.statuses() if status.peer == one.peer_address), None)


def test_a_neighbour_that_exabgp_reads_later_is_asked_for_until_it_is_there_and_then_told() -> None:
    stage = Stage(ONE)
    stage.configure(ONE)
    stage.ledger.want(RULE, 0)
    stage.configure(ONE, TWO, now=10)
    stage.synchronise(10)
    assert stage.phase(TWO) is Phase.UNFIT
    assert stage.asked(10.1)
    assert not stage.asked(10.2)
    stage.answer(10.2)
    assert stage.phase(TWO) is Phase.UNFIT
    assert stage.asked(11.2)
    stage.there = (ONE, TWO)
    stage.answer(11.3)
    # It may hold something from an earlier life: that is looked at first.
    stage.roll.tick(11.4)
    stage.synchronise(11.5)
    assert stage.phase(TWO) is Phase.ANNOUNCING
    assert not stage.asked(40)


def test_everybody_is_looked_at_now_and_then_so_that_nothing_missed_is_missed_for_long() -> None:
    stage = Stage(ONE)
    stage.configure(ONE)
    asked = []
    for now in range(1, 301):
        if stage.asked(now):
            asked.append(now)
            stage.answer(now)
    assert 300 / PATIENT_EVERY_SECONDS - 1 <= len(asked) <= 300 / PATIENT_EVERY_SECONDS
    stage.sessions.state(PeerState(ONE.peer_address, Session.DOWN), 301)
    stage.answer(302)
    assert stage.sessions.of(ONE.peer_address).is_up


def test_who_never_comes_is_asked_for_less_and_less_but_for_ever() -> None:
    stage = Stage(ONE)
    stage.configure(ONE, TWO)
    asked = []
    for now in range(1, 300):
        if stage.asked(now):
            asked.append(now)
            stage.answer(now)
    early = [now for now in asked if now < EAGER_SECONDS]
    assert len(early) > EAGER_SECONDS - 5
    assert len(asked) - len(early) <= 300 / PATIENT_EVERY_SECONDS and asked[-1] > 250


def test_an_exabgp_that_keeps_none_of_its_neighbours_is_deserted_and_one_that_lacks_some_is_not() -> None:
    stage = Stage()
    stage.configure(ONE, TWO)
    found = []
    for now in range(1, 21):
        if stage.asked(now):
            stage.answer(now)
        if stage.roll.is_deserted(now):
            found.append(now)
    assert found and found[0] <= DESERTED_SECONDS + 2
    assert all(later - earlier >= DESERTED_SECONDS for earlier, later in pairwise(found))
    stage.there = (ONE,)
    for now in range(21, 41):
        if stage.asked(now):
            stage.answer(now)
        assert not stage.roll.is_deserted(now) or now == 21


def test_an_exabgp_without_neighbours_is_not_deserted_where_none_are_configured_or_it_may_not_have_read_them() -> None:
    stage = Stage()
    stage.configure()
    for now in range(1, 40):
        if stage.asked(now):
            stage.answer(now)
        assert not stage.roll.is_deserted(now)
    stage.configure(ONE, now=40)
    assert not stage.roll.is_deserted(40)
    stage.there = (ONE,)
    stage.synchronise(44)
    assert not stage.roll.is_deserted(100)


def test_a_session_that_comes_up_proves_that_the_neighbour_is_there() -> None:
    stage = Stage(ONE)
    stage.configure(ONE, TWO)
    stage.ledger.want(RULE, 0)
    assert stage.phase(TWO) is Phase.UNFIT
    stage.roll.up(TWO.peer_address, 1)
    assert stage.phase(TWO) is Phase.ANNOUNCING


def test_a_changed_neighbour_is_looked_at_anew_once_its_session_is_up_again() -> None:
    stage = Stage(ONE)
    stage.configure(ONE)
    changed = replace(ONE, hold_time_seconds=60)
    stage.configure(changed, now=1)
    stage.synchronise(1)
    stage.roll.tick(2)
    assert stage.talk.is_synced
    stage.roll.up(ONE.peer_address, 3)
    stage.roll.tick(3)
    assert not stage.talk.is_synced
    stage.synchronise(3)
    stage.roll.up(ONE.peer_address, 4)
    stage.roll.tick(4)
    assert stage.talk.is_synced, "an ordinary flap needs no new look"


def test_a_removed_neighbour_leaves_nothing_behind_even_where_its_withdrawal_was_refused() -> None:
    stage = Stage(ONE, TWO)
    stage.configure(ONE, TWO)
    stage.ledger.want(RULE, 0)
    while (command := stage.ledger.next_command(0)) is not None:
        stage.ledger.answered(command, True, 0)
    # ExaBGP has not read its file when it lists, and has when the withdrawal reaches it.
    stage.held = {(TWO.peer_address, RULE.id): (commands.route(RULE, TWO), True)}
    stage.configure(ONE, now=1)
    stage.synchronise(1)
    while (command := stage.ledger.next_command(1)) is not None:
        stage.ledger.answered(command, TWO.peer_address not in {key[0] for key, _ in command.routes}, 1)
    assert stage.phase(TWO) is Phase.STUCK
    stage.there, stage.held = (ONE,), {}
    assert stage.asked(2)
    stage.answer(2)
    stage.roll.tick(2.1)
    stage.synchronise(2.1)
    assert stage.phase(TWO) is None and TWO.peer_address not in stage.sessions.known
