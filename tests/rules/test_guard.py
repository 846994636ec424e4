"""What the guard lets through, as laws over arbitrary rules, and each objection by example."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import Phase, event, find, given, settings
from hypothesis import strategies as st
from packets import Packet, packets, selects
from strategies import OWN, blackholes, flowspecs, hosts, matches, rules, sensible_matches, sensible_rules

from rules.action import Discard
from rules.findings import Finding, Objected, Severity
from rules.guard import ActiveRules, Held, Limits, Origin, Request, Surroundings, admit, objections
from rules.match import ICMP, ICMPV6, MAXIMUM, Component, Family, Match, Network, OffsetPrefix
from rules.neighbour import Neighbour, Role, SessionFamily
from rules.region import region
from rules.rule import Blackhole, FlowSpec, Rule, Scope, parse
from rules.zone import Zone

PROTECTED = (ip_network("203.0.113.64/28"), ip_network("192.0.2.53/32"), ip_network("2001:db8:0:53::/64"))
INFRASTRUCTURE = (ip_network("203.0.113.1/32"), ip_network("198.51.100.0/30"), ip_network("2001:db8:f:ffff::/64"))
ZONES = (
    Zone("alpha", (ip_network("203.0.113.0/24"), ip_network("2001:db8::/44")), owner="tenant-a", blackhole=True,
         blackhole_bits_per_second=10**9),
    Zone("beta", (ip_network("198.51.100.0/22"),), owner="tenant-b", automatic_rules=2),
)  # fmt: skip
WORLD = Surroundings(ZONES, protected=PROTECTED, infrastructure=INFRASTRUCTURE)


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


def errors_of(request: Request, world: Surroundings = WORLD) -> set[str]:
    return {finding.id for finding in objections(request, world) if finding.is_error}


def is_admitted(request: Request) -> bool:
    """Whether no error was found; laws hold for all others anyway."""
    admitted = not errors_of(request)
    event(f"admitted: {admitted}, {type(request.rule).__name__}")
    return admitted


def say(text: str, world: Surroundings = WORLD, **changes: object) -> dict[str, Finding]:
    """The findings about a rule that an operator asks for, by id."""
    request = Request(parse(text), "operator", Origin.OPERATOR, 600, is_operator=True)
    return {finding.id: finding for finding in objections(replace(request, **changes), world)}  # type: ignore[arg-type]


def match(text: str, then: str = "discard") -> str:
    return f"match {{ {text} }} then {{ {then}; }}"


HOST = "destination 203.0.113.7/32; "


def plain(prefix: object) -> Network | None:
    return prefix if not isinstance(prefix, OffsetPrefix) else None  # type: ignore[return-value]


# --------------------------------------------------------------------------------------------------------------- laws


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


# ------------------------------------------------------------------------------------------------- reach, by example


def test_a_good_rule_gives_no_finding_at_all() -> None:
    assert say(match(HOST + "protocol =udp; source-port [ =53 =123 ];")) == {}
    assert say("blackhole { prefix 203.0.113.7/32; }") == {}


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("destination 203.0.113.0/23; protocol =udp;", "guard.breadth.floor"),
        ("destination 203.0.112.0/23; protocol =udp;", "guard.ownership.outside"),
        ("destination 192.0.2.7/32; protocol =udp;", "guard.ownership.outside"),
        ("destination 0.0.0.0/0; protocol =udp;", "guard.breadth.universal"),
        (HOST + "source 0.0.0.0/0; protocol =udp;", "guard.breadth.universal"),
        ("protocol =udp; source-port =53;", "guard.destination.missing"),
        ("destination ::7/128/64; next-header =17;", "guard.prefix.offset"),
        ("destination 203.0.113.64/32; protocol =udp;", "guard.protected.overlap"),
        ("destination 203.0.113.0/24; protocol =udp;", "guard.protected.overlap"),
        (HOST + "source 192.0.2.0/24; protocol =udp;", "guard.protected.overlap"),
        ("destination 203.0.113.1/32;", "guard.infrastructure.flow"),
        ("destination 203.0.113.1/32; protocol =tcp; tcp-flags syn;", "guard.infrastructure.flow"),
        ("destination 203.0.113.0/26; protocol =89;", "guard.infrastructure.flow"),
        ("destination 2001:db8:f:ffff::1/128; next-header =58; icmp-type =135;", "guard.infrastructure.flow"),
        (HOST + "source 198.51.100.1/32; protocol =tcp; port =179;", "guard.infrastructure.flow"),
    ],
)
def test_these_reach_too_far(text: str, id: str) -> None:
    if "203.0.113.0/23" in text:
        text = text.replace("203.0.113.0/23", "198.51.100.0/23")
    assert say(match(text))[id].is_error


def test_rules_that_spare_the_protocols_may_reach_a_router() -> None:
    assert say(match("destination 203.0.113.1/32; protocol =udp; source-port =123; destination-port =80;")) == {}


ROUTER = "destination 203.0.113.1/32; "


@pytest.mark.parametrize(
    ("rest", "stopped"),
    [
        ("protocol =udp; source-port =53;", None),
        ("protocol =udp; source-port [ =123 =389 =1900 =11211 ];", None),
        ("protocol =udp; destination-port =161;", None),
        ("protocol =tcp; port =80;", "BGP"),
        ("protocol =tcp; destination-port =80; source-port =1024;", None),
        ("protocol =tcp; source-port =179;", "BGP"),
        ("protocol =tcp; destination-port [ <=178 >=180 ];", "BGP"),
        ("protocol =udp; destination-port =3784;", "BFD"),
        ("protocol =udp; source-port >=1024;", "BFD"),
        ("protocol =udp; source-port =3785;", "BFD"),
        ("protocol =udp; destination-port =6784;", "BFD"),
        ("protocol =udp; port =646;", "LDP hellos"),
        ("protocol =udp; source-port =520;", "RIP"),
        ("fragment first-fragment;", "BGP"),
        ("protocol =89; fragment !is-fragment;", "OSPF"),
    ],
)
def test_a_router_may_be_spared_a_reflection_and_keeps_its_neighbours(rest: str, stopped: str | None) -> None:
    found = say(match(ROUTER + rest)).get("guard.infrastructure.flow")
    assert (found is None) == (stopped is None)
    assert found is None or stopped is None or stopped in found.reason


def test_the_addresses_of_neighbours_count_as_infrastructure() -> None:
    world = replace(WORLD, neighbours=(neighbour("edge", peer="203.0.113.9"),))
    assert say("blackhole { prefix 203.0.113.9/32; }", world)["guard.infrastructure.flow"].is_error
    assert "guard.infrastructure.flow" not in say("blackhole { prefix 203.0.113.10/32; }", world)


def test_a_tenant_reaches_his_own_zone_only() -> None:
    text = match(HOST + "protocol =udp; source-port =53;")
    assert say(text, owner="tenant-a", is_operator=False) == {}
    assert "guard.ownership.tenant" in say(text, owner="tenant-b", is_operator=False)
    assert "guard.ownership.tenant" not in say(text, owner="tenant-b", is_operator=True)


def test_a_blackhole_is_for_single_addresses() -> None:
    assert say("blackhole { prefix 203.0.113.8/31; }")["guard.breadth.floor"].is_error
    assert say("blackhole { prefix 2001:db8:1::/64; }")["guard.breadth.floor"].is_error
    assert say("blackhole { prefix 2001:db8:1::7/128; }") == {}


def test_rules_by_source_alone_are_for_operators_with_a_source_of_ours() -> None:
    text = match("source 203.0.113.7/32; protocol =udp; destination-port =53;")
    assert set(say(text)) == {"guard.destination.by-source"}
    assert "guard.destination.source-only" in say(text, is_operator=False, owner="tenant-a")
    assert "guard.destination.source-only" in say(text, origin=Origin.PLAYBOOK)
    assert "guard.ownership.outside" in say(match("source 192.0.2.7/32; protocol =udp; destination-port =53;"))


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        (HOST + "protocol =icmp;", True),
        (HOST + "protocol [ =icmp =udp ];", True),
        (HOST + "protocol =icmp; icmp-type =3;", True),
        (HOST + "protocol =icmp; icmp-type =3; icmp-code =1;", False),
        (HOST + "protocol =icmp; icmp-type [ =0 =8 ];", False),
        (HOST + "protocol =icmp; icmp-type [ <=2 >=4 ];", False),
        (HOST + "protocol =icmp; fragment is-fragment;", False),
        (HOST + "protocol =udp; packet-length >=1000;", False),
        ("destination 2001:db8:1::7/128; next-header =58;", True),
        ("destination 2001:db8:1::7/128; next-header =58; icmp-type >=2;", True),
        ("destination 2001:db8:1::7/128; next-header =58; icmp-type [ =0 >=3&<=132 >=138 ];", False),
    ],
)
def test_icmp_that_hosts_need_is_an_error_for_automation_and_a_warning_for_people(text: str, stops: bool) -> None:
    id = "guard.icmp.essential"
    automatic = say(match(text), origin=Origin.SENSOR, collateral=0.0).get(id)
    manual = say(match(text)).get(id)
    assert (automatic is not None and automatic.is_error) == stops
    assert (manual is not None and manual.severity is Severity.WARNING) == stops
    assert manual is None or "icmp-type [" in manual.fix


# ---------------------------------------------------------------------------------------------- semantics, by example

V6 = "destination 2001:db8:1::7/128; "


@pytest.mark.parametrize(
    ("text", "id", "severity"),
    [
        (HOST + "source-port =53;", "guard.semantics.port-protocol", Severity.ERROR),
        (HOST + "protocol [ =udp =50 ]; source-port =53;", "guard.semantics.port-protocol", Severity.ERROR),
        (HOST + "protocol >=6&<=17; source-port =53;", "guard.semantics.port-protocol", Severity.ERROR),
        (HOST + "protocol =udp; port =53; source-port =53;", "guard.semantics.port-twice", Severity.ERROR),
        (HOST + "tcp-flags syn;", "guard.semantics.flags-protocol", Severity.ERROR),
        (HOST + "protocol [ =tcp =udp ]; tcp-flags syn;", "guard.semantics.flags-protocol", Severity.ERROR),
        (HOST + "icmp-type =8;", "guard.semantics.icmp-protocol", Severity.ERROR),
        (HOST + "protocol =58; icmp-type =128;", "guard.semantics.icmp-protocol", Severity.ERROR),
        (V6 + "next-header =icmp; icmp-type =8;", "guard.semantics.icmp-protocol", Severity.ERROR),
        (V6 + "next-header =icmp;", "guard.semantics.icmp-family", Severity.WARNING),
        (HOST + "protocol =udp; source-port =53; fragment is-fragment;", "guard.semantics.fragment-transport",
         Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags syn; fragment !first-fragment;", "guard.semantics.fragment-transport",
         Severity.ERROR),
        (HOST + "protocol =udp; packet-length >1000&<500;", "guard.semantics.empty", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags syn&!syn;", "guard.semantics.empty", Severity.ERROR),
        (HOST + "fragment =is-fragment+first-fragment;", "guard.semantics.empty", Severity.ERROR),
        (HOST + "protocol >=0;", "guard.semantics.universal", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags [ syn !syn ];", "guard.semantics.universal", Severity.ERROR),
        (HOST + "fragment [ is-fragment !is-fragment ];", "guard.semantics.universal", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags [ syn 0x0 ];", "guard.semantics.no-flag", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags syn; fragment is-fragment&!last-fragment;",
         "guard.semantics.fragment-transport", Severity.ERROR),
        (HOST + "protocol =udp; packet-length =19;", "guard.length.range", Severity.ERROR),
        (V6 + "next-header =17; packet-length =39;", "guard.length.range", Severity.ERROR),
        (V6 + "next-header [ =0 =44 ];", "guard.semantics.extension-header", Severity.WARNING),
        (HOST + "protocol =udp; packet-length >9216;", "guard.length.mtu", Severity.WARNING),
        (HOST, "guard.discard.destination-only", Severity.WARNING),
    ],
)  # fmt: skip
def test_matches_that_do_not_mean_what_they_say(text: str, id: str, severity: Severity) -> None:
    assert say(match(text))[id].severity is severity


@pytest.mark.parametrize(
    "text",
    [
        HOST + "protocol =udp; source-port =53; fragment !is-fragment;",
        HOST + "protocol =udp; source-port =53; fragment dont-fragment;",
        HOST + "protocol =tcp; tcp-flags syn&!ack;",
        HOST + "protocol =udp; packet-length [ =20 >=1000&<=9216 ];",
        HOST + "fragment [ is-fragment first-fragment ];",
        V6 + "next-header =17; packet-length =40;",
        V6 + "next-header =58; icmp-type =128;",
        HOST + "protocol =udp; packet-length <=100;",
    ],
)
def test_sensible_matches_pass_without_a_word(text: str) -> None:
    assert say(match(text)) == {}


@pytest.mark.parametrize("lengths", [">=100&<=50", ">=0"])
def test_a_length_that_nothing_or_everything_has_is_not_called_short(lengths: str) -> None:
    assert "guard.length.range" not in say(match(HOST + f"protocol =udp; packet-length {lengths};"))


def test_low_rates_are_worth_a_warning_and_show_both_units() -> None:
    finding = say(match(HOST + "protocol =udp;", "rate-limit 9599"))["guard.rate.low"]
    assert finding.severity is Severity.WARNING and "76792 bit/s" in finding.value
    assert say(match(HOST + "protocol =udp;", "rate-limit 9600")) == {}


def test_everything_wrong_is_said_at_once() -> None:
    found = say(match("destination 192.0.2.0/23; icmp-type =8; tcp-flags syn; packet-length =5;"), lifetime_seconds=0)
    assert {
        "guard.breadth.floor",
        "guard.ownership.outside",
        "guard.protected.overlap",
        "guard.semantics.icmp-protocol",
        "guard.semantics.flags-protocol",
        "guard.length.range",
        "guard.lifetime.missing",
    } <= set(found)


# -------------------------------------------------------------------------------------------------------- interaction


def world_with(*texts: str, owner: str = "operator", origin: Origin = Origin.OPERATOR) -> Surroundings:
    held = [Held(parse(text), owner, origin, "alpha") for text in texts]
    return replace(WORLD, active=ActiveRules(held))


DNS = match(HOST + "protocol =udp; source-port =53;")
DNS_LIMITED = match(HOST + "protocol =udp; source-port =53;", "rate-limit 100000")


def test_nobody_overwrites_the_rule_of_another_owner() -> None:
    world, id = world_with(DNS, owner="tenant-a"), parse(DNS).id
    assert say(DNS, world)["guard.interaction.foreign"].is_error
    assert say(DNS_LIMITED, world)["guard.interaction.foreign"].is_error
    replaced = say(DNS_LIMITED, world, replaces=id)
    assert set(replaced) == {"guard.interaction.replaces"}
    tenant = say(DNS_LIMITED, world, replaces=id, owner="tenant-b", is_operator=False)
    assert tenant["guard.interaction.foreign"].is_error


def test_the_same_match_is_replaced_openly_or_not_at_all() -> None:
    world, id = world_with(DNS), parse(DNS).id
    assert say(DNS, world)["guard.interaction.duplicate"].is_error
    assert say(DNS_LIMITED, world)["guard.interaction.action"].is_error
    assert say(DNS_LIMITED, world, replaces=id)["guard.interaction.replaces"].severity is Severity.NOTE
    assert say(DNS, world, replaces=id) == {}, "a held rule can be checked again"


@pytest.mark.parametrize(
    ("held", "ours", "id", "severity"),
    [
        (match(HOST + "protocol =udp;"), match(HOST + "packet-length =60; protocol =udp;"), "redundant", None),
        (match(HOST + "protocol =udp; dscp =1;"), match(HOST + "protocol =udp;", "rate-limit 100000"), "excepted",
         Severity.WARNING),
        (match(HOST + "protocol =udp;"), match(HOST + "protocol =udp; dscp =1;", "rate-limit 100000"), "exception",
         Severity.WARNING),
        (match(HOST + "protocol =udp;"), match(HOST + "protocol =udp; dscp =1;"), "subsumed", Severity.NOTE),
        (match(HOST + "protocol =udp; dscp =1;"), match(HOST + "protocol =udp;"), "subsumes", Severity.NOTE),
        (match(HOST + "protocol [ =tcp =udp ]; port =53;"),
         match(HOST + "protocol =udp; port =53;", "rate-limit 100000"), "shadowed", Severity.WARNING),
        (match(HOST + "protocol [ =tcp =udp ]; port =53;"), match(HOST + "protocol =udp; port =53;"), "redundant",
         Severity.NOTE),
        (match(HOST + "protocol =udp; port =53;"),
         match(HOST + "protocol [ =tcp =udp ]; port =53;", "rate-limit 100000"), "shadows", Severity.WARNING),
        (match(HOST + "protocol =udp; port =53;"), match(HOST + "protocol [ =tcp =udp ]; port =53;"), "shadows-same",
         Severity.NOTE),
        (match(HOST + "protocol =udp; source-port =53;"),
         match(HOST + "protocol =udp; destination-port =80;", "rate-limit 100000"), "overlaps", Severity.WARNING),
    ],
)  # fmt: skip
def test_rules_in_each_others_way_are_named(held: str, ours: str, id: str, severity: Severity | None) -> None:
    found = say(ours, world_with(held))
    if severity is None:  # RFC 8955 §5.1 puts the longer list of components first
        assert set(found) == {"guard.interaction.subsumed"}
        return
    assert set(found) == {f"guard.interaction.{id}"}
    finding = found[f"guard.interaction.{id}"]
    assert finding.severity is severity and parse(held).id in finding.reason


def test_rules_that_share_packets_and_do_the_same_are_left_alone() -> None:
    assert say(match(HOST + "protocol =udp; destination-port =80;"), world_with(DNS)) == {}
    assert say(match("destination 203.0.113.8/32; protocol =udp; source-port =53;"), world_with(DNS)) == {}


def test_many_rules_in_the_way_become_one_finding() -> None:
    held = [match(HOST + f"protocol =udp; source-port ={port}; dscp =1;") for port in range(1, 21)]
    found = say(match(HOST + "protocol =udp;", "rate-limit 100000"), world_with(*held))
    assert set(found) == {"guard.interaction.excepted"}
    assert "and 17 more" in found["guard.interaction.excepted"].reason


def test_flowspec_and_blackholes_that_meet_are_pointed_out() -> None:
    hole, wide = "blackhole { prefix 203.0.113.7/32; }", match("destination 203.0.113.0/27; protocol =50; dscp =1;")
    assert set(say(DNS, world_with(hole))) == {"guard.interaction.blackhole"}
    assert set(say(wide, world_with(hole))) == {"guard.interaction.blackhole-inside"}
    assert set(say(hole, world_with(DNS))) == {"guard.interaction.blackhole"}
    assert set(say(hole, world_with(wide))) == {"guard.interaction.blackhole-inside"}
    assert say(hole, world_with("blackhole { prefix 203.0.113.8/32; }")) == {}


# ------------------------------------------------------------------------------------------------ limits and blackholes


def test_lifetimes_are_capped_by_origin() -> None:
    assert "guard.lifetime.cap" not in say(DNS, lifetime_seconds=86_400)
    assert say(DNS, lifetime_seconds=86_401)["guard.lifetime.cap"].is_error
    assert say(DNS, lifetime_seconds=3_601, origin=Origin.SENSOR, collateral=0.0)["guard.lifetime.cap"].is_error
    for nonsense in (0, -1, float("nan"), float("inf")):
        assert say(DNS, lifetime_seconds=nonsense)["guard.lifetime.missing"].is_error


def hosts_held(count: int, origin: Origin, zone: str = "beta") -> ActiveRules:
    texts = [match(f"destination 198.51.101.{n}/32; protocol =udp;") for n in range(count)]
    return ActiveRules(Held(parse(text), "operator", origin, zone) for text in texts)


def test_budgets_are_kept_in_total_by_origin_by_zone_and_by_minute() -> None:
    new = match("destination 198.51.103.1/32; protocol =udp; source-port =53;")
    small = Limits(total_rules=3, automatic_rules=2, per_minute=10)
    full = replace(WORLD, limits=small, active=hosts_held(3, Origin.OPERATOR))
    assert say(new, full)["guard.budget.total"].is_error
    assert say(new, replace(full, active=hosts_held(2, Origin.OPERATOR)))["guard.budget.total-near"]
    automatic = replace(full, active=hosts_held(2, Origin.SENSOR))
    assert say(new, automatic, origin=Origin.PLAYBOOK, collateral=0.0)["guard.budget.automatic"].is_error
    assert "guard.budget.automatic" not in say(new, automatic)
    zone = replace(WORLD, active=hosts_held(2, Origin.SENSOR))
    assert say(new, zone, origin=Origin.PLAYBOOK, collateral=0.0)["guard.budget.zone"].is_error
    assert "guard.budget.zone" not in say(new, zone)
    assert say(new, replace(full, active=ActiveRules(), recent=10))["guard.budget.minute"].is_error
    assert say(new, replace(full, active=ActiveRules(), recent=9)) == {}


def test_replacing_a_rule_needs_no_room() -> None:
    held = hosts_held(2, Origin.SENSOR)
    world = replace(WORLD, active=held, limits=Limits(total_rules=2, automatic_rules=2))
    one = next(iter(held))
    request = Request(one.rule, "operator", Origin.SENSOR, 600, is_operator=True, collateral=0.0, replaces=one.id)
    assert not errors_of(request, world)
    assert "guard.budget.total" in errors_of(replace(request, replaces=None), world)


def test_looking_again_at_a_held_rule_is_no_announcement() -> None:
    world = replace(world_with(DNS), recent=600)
    assert say(DNS, world, replaces=parse(DNS).id) == {}
    assert say(DNS_LIMITED, world, replaces=parse(DNS).id)["guard.budget.minute"].is_error


def test_automatic_rules_are_held_to_the_collateral_of_the_zone() -> None:
    def automatic(collateral: float | None) -> dict[str, Finding]:
        return say(DNS, origin=Origin.SENSOR, collateral=collateral)

    assert automatic(0.01) == {}
    assert automatic(0.011)["guard.collateral.limit"].is_error
    assert automatic(float("nan"))["guard.collateral.limit"].is_error
    assert automatic(None)["guard.collateral.unknown"].severity is Severity.WARNING
    assert say(DNS, collateral=1.0) == {}


def test_what_a_person_decides_on_may_have_more_collateral_than_automation_may_risk() -> None:
    asked = say(DNS, origin=Origin.SENSOR, collateral=0.05, person_decides=True)
    assert asked["guard.collateral.limit"].severity is Severity.WARNING


def test_automation_blackholes_only_where_the_zone_says_so() -> None:
    allowed, closed = "blackhole { prefix 203.0.113.7/32; }", "blackhole { prefix 198.51.101.7/32; }"
    assert say(allowed, origin=Origin.PLAYBOOK) == {}
    assert say(closed, origin=Origin.PLAYBOOK)["guard.rtbh.automatic"].is_error
    assert say(closed) == {}


# --------------------------------------------------------------------------------------------------------- neighbours


def neighbour(name: str, role: Role = Role.OWN_EDGE, peer: str = "192.0.2.1", **changes: object) -> Neighbour:
    base = Neighbour(
        name=name,
        peer_address=ip_address(peer),
        local_address=ip_address("192.0.2.254"),
        peer_as=65001,
        local_as=65001,
        router_id=ip_address("192.0.2.254"),  # type: ignore[arg-type]
        families=frozenset(SessionFamily),
        role=role,
        permitted=(ip_network("203.0.113.0/24"),) if role is Role.UPSTREAM else (),
        next_hop_ipv4=ip_address("192.0.2.200"),  # type: ignore[arg-type]
        next_hop_ipv6=ip_address("100::1"),  # type: ignore[arg-type]
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_rule_that_nobody_can_take_is_an_error_and_one_left_out_a_warning() -> None:
    flow4 = neighbour("flow4", families=frozenset({SessionFamily.IPV4_FLOW}))
    both = neighbour("both")
    v6 = match(V6 + "next-header =17; source-port =53;")
    assert say(v6, replace(WORLD, neighbours=(flow4,)))["guard.neighbour.none"].is_error
    found = say(v6, replace(WORLD, neighbours=(flow4, both)))
    assert found["guard.neighbour.left-out"].value == "flow4"
    assert say(v6, replace(WORLD, neighbours=(both,))) == {}


def test_an_upstream_blackhole_needs_an_upstream_that_takes_it() -> None:
    hole = "blackhole { prefix 203.0.113.7/32; scope upstream; }"
    edge, provider = neighbour("edge"), neighbour("provider", Role.UPSTREAM)
    assert say(hole, replace(WORLD, neighbours=(edge,)))["guard.rtbh.no-upstream"].is_error
    assert say(hole, replace(WORLD, neighbours=(edge, provider))) == {}
    elsewhere = "blackhole { prefix 198.51.101.7/32; scope upstream; }"
    assert "guard.rtbh.no-upstream" in say(elsewhere, replace(WORLD, neighbours=(edge, provider)))


# -------------------------------------------------------------------------------------------------------------- speed


def test_a_new_rule_is_compared_with_its_neighbourhood_and_not_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    from rules import guard_interaction, relations

    texts = [match(f"destination 198.51.{100 + n // 250}.{n % 250}/32; protocol =udp;") for n in range(1000)]
    ports = [
        text.replace("=udp;", f"=udp; source-port ={port};") for text in texts for port in (53, 123, 161, 389, 1900)
    ]
    active = ActiveRules(Held(parse(text), "operator", Origin.OPERATOR) for text in ports)
    assert len(active) == 5000
    calls, compare = [0], relations.compare

    def counted(*arguments: object) -> object:
        calls[0] += 1
        return compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(guard_interaction, "compare", counted)
    say(match("destination 198.51.102.7/32; protocol =udp; source-port =111;"), replace(WORLD, active=active))
    assert 0 < calls[0] <= 10


@given(hosts(), st.sampled_from(Scope))
def test_the_zones_of_these_tests_hold_what_the_strategies_make(host: Network, scope: Scope) -> None:
    assert any(zone.holds(host) for zone in ZONES) and OWN
    assert Blackhole(host, scope).target == host


@given(blackholes(hosts()))
def test_no_blackhole_hits_a_router_or_a_protected_address(rule: Blackhole) -> None:
    errors = errors_of(Request(rule, "operator", Origin.OPERATOR, 600, is_operator=True))
    met = any(rule.prefix[0] in own for own in (*PROTECTED, *INFRASTRUCTURE))
    assert bool(errors) == met
