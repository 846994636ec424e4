"""The ledger against a model of ExaBGP: whatever the order of wishes, answers, refusals and restarts, in the end ExaBGP
holds exactly what is wanted and fit."""

from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import Phase as HypothesisPhase
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rules.action import Discard, RateLimit
from rules.lifecycle import Phase
from rules.neighbour import Address, Neighbour, SessionFamily
from rules.rule import Blackhole, FlowSpec, Rule, RuleId
from rules.text import parse_flowspec
from speaker import reconcile
from speaker.commands import Route
from speaker.orders import Command, Verb
from speaker.reconcile import Ledger


def neighbour(
    number: int, budget: int = 100, families: frozenset[SessionFamily] = frozenset(SessionFamily)
) -> Neighbour:
    return Neighbour(
        name=f"edge{number}",
        peer_address=ip_address(f"192.0.2.{number}"),
        local_address=ip_address("192.0.2.250"),
        peer_as=64500,
        local_as=64500,
        router_id=IPv4Address("192.0.2.250"),
        families=families,
        budget=budget,
        next_hop_ipv4=IPv4Address("192.0.2.254"),
        next_hop_ipv6=IPv6Address("100::1"),
    )


def flowspec(number: int, rate: int = 0) -> FlowSpec:
    action = RateLimit(rate) if rate else Discard()
    return FlowSpec(parse_flowspec(f"match {{ destination 203.0.113.{number}/32; }} then {{ discard; }}").match, action)


def blackhole(number: int) -> Blackhole:
    found = flowspec(number).match.destination
    assert found is not None and not hasattr(found, "offset")
    return Blackhole(found)


EDGES = (neighbour(1), neighbour(2, budget=3), neighbour(3, families=frozenset({SessionFamily.IPV4_FLOW})))
RULES: tuple[Rule, ...] = tuple(flowspec(number) for number in range(5)) + tuple(blackhole(n) for n in range(3))


def started(*neighbours: Neighbour) -> Ledger:
    ledger = Ledger()
    ledger.set_neighbours(neighbours, 0)
    ledger.found({}, 0)
    return ledger


def drain(ledger: Ledger, now: float = 0.0, accepted: bool = True) -> list[Command]:
    commands = []
    while (command := ledger.next_command(now)) is not None:
        commands.append(command)
        ledger.answered(command, accepted, now)
    return commands


class Reconciling(RuleBasedStateMachine):
    """ExaBGP as a dictionary, answers delayed as long as Hypothesis likes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ledger = started(*EDGES)
        self.held: dict[tuple[Address, RuleId], Route] = {}
        self.due: list[tuple[Command, bool]] = []
        self.wanted: dict[RuleId, Rule] = {}
        self.barred: dict[Address, dict[RuleId, str]] = {}

    @rule(which=st.sampled_from(RULES), rate=st.sampled_from([0, 20_000]))
    def want(self, which: Rule, rate: int) -> None:
        if isinstance(which, FlowSpec) and rate:
            which = FlowSpec(which.match, RateLimit(rate))
        self.wanted[which.id] = which
        self.ledger.want(which, self.now)

    @rule(which=st.sampled_from(RULES))
    def unwant(self, which: Rule) -> None:
        self.wanted.pop(which.id, None)
        self.ledger.unwant(which.id, self.now)

    @rule(edge=st.sampled_from(EDGES), which=st.sets(st.sampled_from(RULES), max_size=2))
    def bar(self, edge: Neighbour, which: set[Rule]) -> None:
        self.barred[edge.peer_address] = {one.id: "quarantined" for one in which}
        self.ledger.bar(edge.peer_address, self.barred[edge.peer_address], self.now)

    @rule(count=st.integers(1, 5), is_refused=st.booleans())
    def send(self, count: int, is_refused: bool) -> None:
        for _ in range(count):
            command = self.ledger.next_command(self.now)
            if command is None:
                return
            refused = is_refused and command.verb is Verb.ANNOUNCE
            if not refused:
                self.carry_out(command)
            self.due.append((command, not refused))

    def carry_out(self, command: Command) -> None:
        for key, route in command.routes:
            if command.verb is Verb.ANNOUNCE:
                self.held[key] = route
            else:
                self.held.pop(key, None)

    @precondition(lambda self: self.due)
    @rule(count=st.integers(1, 5))
    def answer(self, count: int) -> None:
        for _ in range(min(count, len(self.due))):
            self.ledger.answered(*self.due.pop(0), self.now)

    @rule(seconds=st.sampled_from([0.1, 6.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(is_lost=st.booleans())
    def resync(self, is_lost: bool) -> None:
        """The speaker lost track, or ExaBGP restarted and holds nothing."""
        if is_lost:
            self.held.clear()
        self.due.clear()
        self.ledger.is_paused = True
        assert self.ledger.next_command(self.now) is None
        self.ledger.found({key: (route, True) for key, route in self.held.items()}, self.now)

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        for edge in EDGES:
            assert sum(peer == edge.peer_address for peer, _ in self.held) <= edge.budget

    @invariant()
    def the_counts_are_right(self) -> None:
        assert +self.ledger.counts == Counter((one.peer, one.phase) for one in self.ledger.statuses())

    def teardown(self) -> None:
        for _ in range(50):
            self.now += 61.0
            self.send(1000, False)
            while self.due:
                self.answer(1000)
        for edge in EDGES:
            held = {id: route.rule for (peer, id), route in self.held.items() if peer == edge.peer_address}
            barred = self.barred.get(edge.peer_address, {})
            fit = {
                id: one
                for id, one in self.wanted.items()
                if id not in barred and (isinstance(one, FlowSpec) or SessionFamily.IPV4_UNICAST in edge.families)
            }
            assert held.items() <= fit.items(), "holds what it must not"
            assert len(held) == min(len(fit), edge.budget), "lacks what it could hold"
            assert self.ledger.is_settled(edge.peer_address)
            phases = {s.rule: s.phase for s in self.ledger.statuses() if s.peer == edge.peer_address}
            assert {id for id, phase in phases.items() if phase is Phase.ACTIVE} == held.keys()
            assert {id for id, phase in phases.items() if phase is Phase.UNFIT} == self.wanted.keys() - held.keys()


TestReconciling = Reconciling.TestCase
TestReconciling.settings = settings(
    stateful_step_count=40,
    deadline=None,
    phases=(HypothesisPhase.explicit, HypothesisPhase.reuse, HypothesisPhase.generate),
)


def test_one_command_tells_all_neighbours_the_same_rule() -> None:
    ledger = started(neighbour(1), neighbour(2))
    ledger.want(flowspec(1), 0)
    (command,) = drain(ledger)
    assert command.line.startswith("neighbor 192.0.2.1 , neighbor 192.0.2.2 announce flow route {")
    assert len(command.routes) == 2


def test_blackholes_go_in_batches_and_flowspec_rules_do_not() -> None:
    ledger = started(neighbour(1, budget=1000), neighbour(2, budget=1000))
    for number in range(250):
        ledger.want(blackhole(number), 0)
    commands = drain(ledger)
    assert [len(command.routes) for command in commands] == [400, 100]
    for number in range(3):
        ledger.want(flowspec(number), 0)
    assert len(drain(ledger)) == 3


def test_a_refused_batch_is_taken_apart_so_that_only_the_culprit_suffers() -> None:
    ledger = started(neighbour(1))
    for number in range(4):
        ledger.want(blackhole(number), 0)
    batch = ledger.next_command(0)
    assert batch is not None and len(batch.routes) == 4
    ledger.answered(batch, False, 0)
    culprit = blackhole(2).id
    while (command := ledger.next_command(0)) is not None:
        ((key, _),) = command.routes
        ledger.answered(command, command.verb is Verb.WITHDRAW or key[1] != culprit, 0)
    phases = {status.rule: status.phase for status in ledger.statuses()}
    assert phases.pop(culprit) is Phase.UNFIT
    assert set(phases.values()) == {Phase.ACTIVE}


def test_a_changed_action_replaces_without_a_withdrawal_and_not_too_soon() -> None:
    ledger = started(neighbour(1))
    ledger.want(flowspec(1), 0)
    drain(ledger, 0)
    ledger.want(flowspec(1, rate=20_000), 1)
    assert drain(ledger, 1) == []
    (command,) = drain(ledger, reconcile.SETTLING_SECONDS)
    assert command.verb is Verb.ANNOUNCE and "rate-limit 20000" in command.line


def test_without_a_configuration_what_is_wanted_stays_and_what_is_not_goes() -> None:
    ledger = Ledger()
    peer = ip_address("192.0.2.1")
    ledger.want(flowspec(1), 0)
    ledger.found({(peer, flowspec(n).id): (Route(flowspec(n)), True) for n in (1, 2)}, 0)
    (command,) = drain(ledger)
    assert command.verb is Verb.WITHDRAW and "203.0.113.2/32" in command.line
    ledger.unwant(flowspec(1).id, 0)
    (command,) = drain(ledger)
    assert command.verb is Verb.WITHDRAW and "203.0.113.1/32" in command.line


def test_a_neighbour_that_exabgp_does_not_know_gets_nothing() -> None:
    ledger = started(neighbour(1), neighbour(2))
    ledger.set_missing(frozenset({ip_address("192.0.2.2")}), 0)
    ledger.want(flowspec(1), 0)
    (command,) = drain(ledger)
    assert [key[0] for key, _ in command.routes] == [ip_address("192.0.2.1")]
    assert {status.phase for status in ledger.statuses()} == {Phase.ACTIVE, Phase.UNFIT}


def test_a_withdrawal_that_keeps_failing_raises_an_alarm_and_is_tried_again_later() -> None:
    ledger = started(neighbour(1))
    ledger.want(flowspec(1), 0)
    drain(ledger)
    ledger.unwant(flowspec(1).id, 0)
    assert len(drain(ledger, 0, accepted=False)) == 5
    assert ledger.alarms and ledger.statuses()[0].phase is Phase.STUCK
    assert len(drain(ledger, reconcile.RETRY_SECONDS)) == 1
    assert ledger.statuses() == ()
