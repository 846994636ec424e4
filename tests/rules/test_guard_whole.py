"""No rule, and no set of rules that look narrow, takes a network down; what separates attack from normal may go."""

from ipaddress import ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.guard import ActiveRules, Held, Origin, Request, Surroundings, objections
from rules.guard_whole import is_for_people
from rules.rule import FlowSpec, parse
from rules.zone import Zone

NETWORKS = ("203.0.113.0/24", "2001:db8:1::/48")
ZONE = Zone("web", tuple(map(ip_network, NETWORKS)))
OPENED = Zone("web", tuple(map(ip_network, NETWORKS)), blackhole=True, blackhole_bits_per_second=10**9)

EVERYTHING = (
    "", "packet-length >=20;", "packet-length >=41;", "dscp =0;", "dscp >=0&<=62;", "protocol [ =tcp =udp ];",
    "protocol [ =tcp =udp ]; port >=1;", "protocol [ =tcp =udp ]; destination-port [ <=21 >=23 ];",
    "fragment !is-fragment;", "protocol [ >=2&<=57 >=59&<=88 >=90 ];",
)  # fmt: skip
ALL_TCP = ("protocol =tcp;", "protocol =tcp; destination-port >=1;", "protocol =tcp; tcp-flags [ ack syn ];",
           "protocol =tcp; packet-length >=40&<=9000;",
           # No connection goes on without its ACKs.
           "protocol =tcp; tcp-flags ack;", "protocol =tcp; tcp-flags !syn;",
           "protocol =tcp; tcp-flags =ack&!rst&!fin;",
           "protocol =tcp; tcp-flags [ =ack+push =ack&!push ];")  # fmt: skip
NARROW = (
    "protocol =udp;", "protocol =udp; source-port =53; packet-length >=1000;", "protocol =tcp; tcp-flags =syn;",
    "protocol =tcp; destination-port =80;", "protocol =udp; source-port [ =53 =123 =389 =1900 =11211 ];",
    "protocol =tcp; tcp-flags !ack;", "protocol =tcp; tcp-flags =ack; packet-length =40;",
    "protocol =tcp; tcp-flags =ack; source-port =80;", "protocol =47;", "fragment is-fragment;",
    "protocol =tcp; tcp-flags rst; packet-length =40;",
)  # fmt: skip


def asked(
    rest: str, then: str = "discard", prefix: str = NETWORKS[0], origin: Origin = Origin.SENSOR, zone: Zone = ZONE,
    standing: tuple[Held, ...] = (), person_decides: bool = False,
) -> list[str]:  # fmt: skip
    """The guard's errors about wholes."""
    if ":" in prefix:
        rest = rest.replace("protocol", "next-header")
    rule = parse(f"match {{ destination {prefix}; {rest} }} then {{ {then}; }}")
    request = Request(
        rule,
        "operator",
        origin,
        600,
        is_operator=not origin.is_automatic,
        collateral=0.0,
        person_decides=person_decides,
    )
    found = objections(request, Surroundings((zone,), active=ActiveRules(standing)))
    return [one.id for one in found if one.is_error and one.id.startswith("guard.whole")]


def held(rest: str, prefix: str = NETWORKS[0], origin: Origin = Origin.SENSOR) -> Held:
    return Held(parse(f"match {{ destination {prefix}; {rest} }} then {{ discard; }}"), "operator", origin)


@pytest.mark.parametrize("prefix", [*NETWORKS, "203.0.113.128/25"])
@pytest.mark.parametrize("rest", EVERYTHING)
@pytest.mark.parametrize("then", ["discard", "rate-limit 1", "rate-limit 9599"])
def test_nobody_stops_a_network_in_other_words(prefix: str, rest: str, then: str) -> None:
    for origin in (Origin.SENSOR, Origin.OPERATOR):
        assert asked(rest, then, prefix, origin) == ["guard.whole.everything"]


@pytest.mark.parametrize("prefix", NETWORKS)
@pytest.mark.parametrize("rest", ALL_TCP)
def test_the_machine_does_not_stop_all_tcp_of_a_network_and_a_person_may(prefix: str, rest: str) -> None:
    assert asked(rest, prefix=prefix) == ["guard.whole.tcp"]
    assert asked(rest, prefix=prefix, origin=Origin.OPERATOR) == []
    assert asked(rest, prefix=prefix, person_decides=True) == []


@pytest.mark.parametrize("rest", EVERYTHING)
def test_the_machine_blackholes_no_host_in_other_words_unless_the_zone_allows_blackholes(rest: str) -> None:
    assert asked(rest, prefix="203.0.113.7/32") == ["guard.whole.everything"]
    assert asked(rest, prefix="203.0.113.7/32", zone=OPENED) == []
    assert asked(rest, prefix="203.0.113.7/32", origin=Origin.OPERATOR) == []
    assert asked(rest, prefix="203.0.113.0/24", zone=OPENED) == ["guard.whole.everything"]


@pytest.mark.parametrize("prefix", [*NETWORKS, "203.0.113.7/32"])
@pytest.mark.parametrize("rest", NARROW)
def test_what_separates_attack_from_normal_may_go_out(prefix: str, rest: str) -> None:
    assert asked(rest, prefix=prefix) == []


@pytest.mark.parametrize("prefix", NETWORKS)
def test_a_rate_that_lets_traffic_live_is_no_whole(prefix: str) -> None:
    for origin in (Origin.SENSOR, Origin.OPERATOR):
        assert asked("", "rate-limit 9600", prefix, origin) == ["guard.whole.everything"], "for 256 hosts together"
        assert asked("", f"rate-limit {256 * 9600}", prefix, origin) == []
        assert asked("protocol =tcp;", "rate-limit 9600", prefix, origin) == []
    assert asked("", "rate-limit 9600", "203.0.113.7/32") == []
    assert asked("", "rate-limit 9600", "203.0.113.6/31") == ["guard.whole.everything"]


@pytest.mark.parametrize(
    ("rest", "then", "is_theirs"),
    [
        ("protocol =tcp; tcp-flags ack;", "discard", True),
        ("protocol =tcp; tcp-flags ack;", "rate-limit 9599", True),
        ("protocol =tcp;", "rate-limit 9600", False),
        ("protocol [ =tcp =udp ];", "rate-limit 9600", True),
        ("protocol [ =tcp =udp ];", f"rate-limit {256 * 9600}", False),
        ("protocol =udp;", "discard", False),
    ],
)
def test_what_the_guard_would_refuse_the_machine_is_left_to_people_before(
    rest: str, then: str, is_theirs: bool
) -> None:
    rule = parse(f"match {{ destination {NETWORKS[0]}; {rest} }} then {{ {then}; }}")
    assert isinstance(rule, FlowSpec) and is_for_people(rule) is is_theirs
    assert bool(asked(rest, then)) is is_theirs


PORTS = "protocol [ =tcp =udp ]; destination-port"
HALVES = (
    (f"{PORTS} <=32767;", f"{PORTS} >=32768;"),
    ("protocol =tcp;", "protocol =udp;"),
    ("packet-length <=600;", "packet-length >=601;"),
    ("source 0.0.0.0/1;", "source 128.0.0.0/1;"),
    (f"{PORTS} [ >=1&<=100 ];", f"{PORTS} [ >=101&<=30000 ];", f"{PORTS} [ >=30001 ];"),
    ("source 0.0.0.0/2;", "source 64.0.0.0/2;", "source 128.0.0.0/2;", "source 192.0.0.0/2;"),
)


@pytest.mark.parametrize("parts", HALVES)
@pytest.mark.parametrize("origin", [Origin.SENSOR, Origin.OPERATOR])
def test_parts_of_a_whole_are_refused_when_the_last_one_comes_in_whatever_order(
    parts: tuple[str, ...], origin: Origin
) -> None:
    for order in (parts, parts[::-1]):
        standing = tuple(held(one, origin=origin) for one in order[:-1])
        assert asked(order[-1], origin=origin, standing=standing) == ["guard.whole.everything"]


def test_parts_on_narrower_and_wider_prefixes_make_a_whole_too() -> None:
    parts = HALVES[0]
    for one, other in (("203.0.113.0/24", "203.0.113.128/25"), ("203.0.113.128/25", "203.0.113.0/24")):
        assert asked(parts[1], prefix=other, standing=(held(parts[0], one),)) == ["guard.whole.everything"]
    assert asked(parts[1], prefix="203.0.113.0/25", standing=(held(parts[0], "203.0.113.128/25"),)) == []


def test_what_people_stopped_on_purpose_is_not_counted_against_the_machine() -> None:
    by_hand = (held("protocol =tcp;", origin=Origin.OPERATOR),)
    assert asked("protocol =udp; source-port =53;", standing=by_hand) == []
    assert asked("protocol =udp;", standing=by_hand) == []


def test_a_rule_that_takes_the_place_of_another_is_judged_without_it() -> None:
    one = held(HALVES[0][0])
    rule = parse(f"match {{ destination {NETWORKS[0]}; {HALVES[0][1]} }} then {{ discard; }}")
    request = Request(rule, "operator", Origin.SENSOR, 600, collateral=0.0, replaces=one.id)
    found = objections(request, Surroundings((ZONE,), active=ActiveRules((one,))))
    assert not [finding for finding in found if finding.is_error]


@given(st.lists(st.integers(1, 65534), min_size=1, max_size=7, unique=True), st.data())
def test_however_the_ports_are_cut_the_pieces_never_all_stand(cuts: list[int], data: st.DataObject) -> None:
    edges = [0, *sorted(cuts), 65535]
    pieces = [f"{PORTS} >={low + (low > 0)}&<={high};" for low, high in pairwise(edges)]
    pieces = data.draw(st.permutations(pieces))
    standing: tuple[Held, ...] = ()
    refused = 0
    for piece in pieces:
        if asked(piece, standing=standing):
            refused += 1
        else:
            standing = (*standing, held(piece))
    assert refused >= 1
