"""What the guard lets through, as laws over arbitrary rules."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from guarded import INFRASTRUCTURE, PROTECTED, WORLD, ZONES, errors_of
from hypothesis import Phase, event, find, given, settings
from hypothesis import strategies as st
from packets import Packet, packets, selects
from strategies import OWN, blackholes, flowspecs, hosts, matches, rules, sensible_matches, sensible_rules

from rules.action import Discard
from rules.findings import Objected, Severity
from rules.guard import ActiveRules, Held, Origin, Request, admit, objections
from rules.match import ICMP, ICMPV6, MAXIMUM, Component, Family, Match, Network, OffsetPrefix
from rules.region import region
from rules.rule import Blackhole, FlowSpec, Rule, Scope


def mostly(usual: object, *others: object) -> st.SearchStrategy[object]:
    """One value most of the time, so that not every request has some error or other."""
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(others) if n == 0 else st.just(usual))


requests = st.builds(
    Request,
    rule=st.integers(0, 9).flatmap(lambda n: (rules(), flowspecs())[n] if n < 2 else sensible_rules()),
    owner=mostly("tenant-a", "tenant-b", "operator"),
    origin=st.sampled_from([Origin.OPERATOR, *Origin]),
    lifetime_seconds=mostly(600.0, 3600.0, 86_400.0, 86_401.0, 0.0, float("nan"), float("inf")),
    is_operator=mostly(True, False),
    collateral=mostly(0.01, None, 0.0, 0.02, 1.0, float("nan")),
)


def is_admitted(request: Request) -> bool:
    """Whether no error was found; laws hold for all others anyway."""
    admitted = not errors_of(request)
    event(f"admitted: {admitted}, {type(request.rule).__name__}")
    return admitted


def plain(prefix: object) -> Network | None:
    return prefix if not isinstance(prefix, OffsetPrefix) else None  # type: ignore[return-value]


@pytest.mark.parametrize("origin", [Origin.OPERATOR, Origin.SENSOR])
@pytest.mark.parametrize("kind", [FlowSpec, Blackhole])
def test_the_laws_below_meet_requests_that_are_admitted(kind: type, origin: Origin) -> None:
    def is_good(one: Request) -> bool:
        return isinstance(one.rule, kind) and one.origin is origin and not errors_of(one)

    # A search rather than a law: enough tries to find one, and no time spent on making it small.
    found = find(requests, is_good, settings=settings(max_examples=5_000, phases=[Phase.generate], database=None))
    assert not errors_of(found)


@given(requests)
def test_nothing_admitted_leaves_our_zones_or_lacks_a_destination(request: Request) -> None:
    if not is_admitted(request):
        return
    target = request.rule.target
    if target is None:
        assert request.is_operator and not request.origin.is_automatic
        assert isinstance(request.rule, FlowSpec)
        target = plain(request.rule.match.source)
    assert target is not None and not isinstance(target, OffsetPrefix)
    first, last = ip_address(target[0]), ip_address(target[-1])
    inside = [zone for zone in ZONES for own in zone.prefixes if first in own and last in own]
    assert inside
    assert request.is_operator or request.origin.is_automatic or inside[0].owner == request.owner


@given(requests)
def test_nothing_admitted_is_wider_than_the_floor_or_names_every_address(request: Request) -> None:
    if not is_admitted(request):
        return
    if isinstance(request.rule, Blackhole):
        assert request.rule.prefix.num_addresses == 1
        return
    named = [request.rule.match.destination, request.rule.match.source]
    prefixes = [prefix for prefix in map(plain, named) if prefix is not None]
    assert prefixes and all(prefix.prefixlen > 0 for prefix in prefixes)
    assert prefixes[0].prefixlen >= (24 if prefixes[0].version == 4 else 48)
    assert not any(isinstance(prefix, OffsetPrefix) for prefix in named)


@given(requests, st.data())
def test_nothing_admitted_touches_a_protected_prefix(request: Request, data: st.DataObject) -> None:
    if not is_admitted(request):
        return
    own = data.draw(st.sampled_from(PROTECTED))
    address = data.draw(st.integers(int(own[0]), int(own[-1])))
    family = Family.of(own)
    if isinstance(request.rule, Blackhole):
        assert ip_address(address) not in request.rule.prefix
        return
    packet = data.draw(packets(request.rule.match, family))
    if request.rule.match.family is family:
        assert not selects(request.rule.match, replace(packet, destination=address))


def vital(packet: Packet) -> bool:
    """Whether the packet belongs to a protocol that routers need, written out once more."""
    ports = (packet.source_port, packet.destination_port)
    if packet.protocol == 6 and (179 in ports or 646 in ports):
        return True
    if packet.protocol == 17 and ports in ((49152, 3784), (65535, 4784), (3785, 3785), (646, 646), (520, 520)):
        return True
    if packet.protocol == 89:
        return True
    if packet.family is Family.IPV4:
        return packet.protocol == 1 and (packet.icmp_type, packet.icmp_code) == (3, 4)
    return packet.protocol == 58 and packet.icmp_type in (1, 2, 133, 134, 135, 136, 137)


vital_packets = st.sampled_from(
    [
        {"protocol": 6, "source_port": 50000, "destination_port": 179, "tcp_flags": 16},
        {"protocol": 6, "source_port": 179, "destination_port": 50000, "tcp_flags": 2},
        {"protocol": 17, "source_port": 49152, "destination_port": 3784},
        {"protocol": 17, "source_port": 65535, "destination_port": 4784},
        {"protocol": 17, "source_port": 3785, "destination_port": 3785},
        {"protocol": 17, "source_port": 646, "destination_port": 646},
        {"protocol": 17, "source_port": 520, "destination_port": 520},
        {"protocol": 89},
        {"protocol": 1, "icmp_type": 3, "icmp_code": 4},
        {"protocol": 58, "icmp_type": 2, "icmp_code": 0},
        {"protocol": 58, "icmp_type": 135, "icmp_code": 0},
    ]
)


@st.composite
def aimed_at_routers(draw: st.DrawFn) -> FlowSpec:
    own = draw(st.sampled_from(INFRASTRUCTURE[:2]))
    return draw(flowspecs(sensible_matches(own)))


@given(aimed_at_routers(), vital_packets, st.data())
def test_nothing_admitted_stops_routing_protocols_at_our_routers(
    rule: FlowSpec, fields: dict[str, int], data: st.DataObject
) -> None:
    request = Request(rule, "operator", Origin.OPERATOR, 600, is_operator=True)
    packet = data.draw(packets(rule.match))
    bare = replace(packet, source_port=None, destination_port=None, tcp_flags=None, icmp_type=None, icmp_code=None)
    packet = replace(bare, fragment=0, **fields)  # type: ignore[arg-type]
    assert rule.match.destination is not None
    packet = replace(packet, destination=int(plain(rule.match.destination)[0]))  # type: ignore[index]
    if vital(packet) and selects(rule.match, packet):
        assert "guard.infrastructure.flow" in errors_of(request)


@given(requests)
def test_nothing_automatic_is_admitted_that_names_icmp_and_stops_path_mtu_discovery(request: Request) -> None:
    if not (is_admitted(request) and request.origin.is_automatic and isinstance(request.rule, FlowSpec)):
        return
    own = request.rule.match
    number, needed = (ICMP, (3, 4)) if own.family is Family.IPV4 else (ICMPV6, (2, 0))
    if own.protocol is not None and any(
        low <= number <= high for low, high in own.protocol.spans(MAXIMUM[Component.PROTOCOL])
    ):
        destination = int(plain(own.destination)[0])  # type: ignore[index]
        kind, code = needed
        packet = Packet(own.ip_family, destination, 0, number, 100, 0, 0, 0, icmp_type=kind, icmp_code=code)
        assert not selects(replace(own, source=None, packet_length=None, dscp=None), packet)


@given(requests)
def test_nothing_admitted_lives_for_ever_or_too_long(request: Request) -> None:
    if not is_admitted(request):
        return
    assert 0 < request.lifetime_seconds <= (3600 if request.origin.is_automatic else 86_400)


@given(requests)
def test_nothing_automatic_is_admitted_above_the_zone_collateral(request: Request) -> None:
    if not (is_admitted(request) and request.origin.is_automatic and isinstance(request.rule, FlowSpec)):
        return
    assert request.collateral is None or request.collateral <= 0.01


@given(requests)
def test_nothing_admitted_asks_for_ports_types_or_flags_that_its_packets_lack(request: Request) -> None:
    if not (is_admitted(request) and isinstance(request.rule, FlowSpec)):
        return
    own = request.rule.match
    protocols = () if own.protocol is None else own.protocol.spans(255)
    numbers = {n for low, high in protocols for n in range(low, high + 1)}
    if own.port or own.source_port or own.destination_port:
        assert numbers and numbers <= {6, 17}
        assert own.port is None or own.source_port is own.destination_port is None
    if own.icmp_type or own.icmp_code:
        assert numbers == {1 if own.family is Family.IPV4 else 58}
    if own.tcp_flags:
        assert numbers == {6}
    assert not region(own).is_empty


@given(requests)
def test_errors_come_first_and_every_finding_is_complete(request: Request) -> None:
    found = objections(request, WORLD)
    weights = [finding.severity for finding in found]
    assert weights == sorted(weights, key=[Severity.ERROR, Severity.WARNING, Severity.NOTE].index)
    for finding in found:
        assert finding.id.startswith(("guard.", "platform.")) and finding.field and finding.reason
        assert finding.fix or not finding.is_error


@given(requests)
def test_admit_raises_with_everything_exactly_when_there_is_an_error(request: Request) -> None:
    found = objections(request, WORLD)
    try:
        passed = admit(request, WORLD)
    except Objected as objected:
        assert objected.findings == found
        assert str(objected).count("\n") + 1 >= len(found)
        assert any(finding.is_error for finding in found)
    else:
        assert passed == found
        assert not any(finding.is_error for finding in found)


@given(st.lists(sensible_rules(), max_size=30), sensible_rules())
def test_related_rules_are_exactly_those_whose_destination_meets(wanted: list[Rule], rule: Rule) -> None:
    active = ActiveRules(Held(one, "operator", Origin.OPERATOR) for one in wanted)
    met = {
        one.id
        for one in wanted
        if (ours := plain(rule.target)) and (theirs := plain(one.target)) and ours.version == theirs.version
        and int(ours[0]) <= int(theirs[-1]) and int(theirs[0]) <= int(ours[-1])
    }  # fmt: skip
    related = [held.id for held in active.related(rule)]
    assert set(related) == met and len(related) == len(met)
    assert len(active) == active.count() == active.count(Origin.OPERATOR) == len({one.id for one in wanted})


@given(st.lists(flowspecs(matches(Family.IPV4)), min_size=1, max_size=10))
def test_a_rule_without_a_plain_destination_is_related_to_all_and_all_to_it(wanted: list[FlowSpec]) -> None:
    everywhere = FlowSpec(Match(source=ip_network("203.0.113.7/32")), Discard())
    active = ActiveRules(Held(one, "a", Origin.API) for one in [*wanted, everywhere])
    assert {held.id for held in active.related(everywhere)} == {held.id for held in active}
    assert all(everywhere.id in {held.id for held in active.related(one)} for one in wanted)


@given(hosts(), st.sampled_from(Scope))
def test_the_zones_of_these_tests_hold_what_the_strategies_make(host: Network, scope: Scope) -> None:
    assert any(zone.holds(host) for zone in ZONES) and OWN
    assert Blackhole(host, scope).target == host


@given(blackholes(hosts()))
def test_no_blackhole_hits_a_router_or_a_protected_address(rule: Blackhole) -> None:
    errors = errors_of(Request(rule, "operator", Origin.OPERATOR, 600, is_operator=True))
    met = any(rule.prefix[0] in own for own in (*PROTECTED, *INFRASTRUCTURE))
    assert bool(errors) == met
