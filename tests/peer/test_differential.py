"""What ExaBGP sends for our text, real routers hold as the value we meant: our encoder, ExaBGP's and theirs agree.

Rules that a platform's profile excludes are never sent to it: one of them would reset the session for ever.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies import actions, matches, sensible_matches

from lab.namespaces import wait_until
from lab.routers import Router
from lab.session import HeldFlowSpec
from rules import platforms, wire
from rules.components import Bitmask, Numeric
from rules.match import Component, Family, Match, Network
from rules.rule import FlowSpec

pytestmark = pytest.mark.peer

# Shrinking would talk to real routers for minutes; the failing assertion names the rule as it is.
LIVE = settings(
    max_examples=max(1, settings.default.max_examples // 5),  # type: ignore[union-attr]
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    deadline=None,
)


def is_safe_for(router: str, match: Match) -> bool:
    """What the platform's profile lets through and ExaBGP can say."""
    # ExaBGP tells the family by the prefixes: an IPv6 match without one would go out as IPv4.
    has_prefix = match.destination is not None or match.source is not None
    tests = [test for _, value in match.components() if isinstance(value, Bitmask) for test in value.tests()]
    faults = platforms.match_findings(match, platforms.PROFILES[router])
    return not faults and all(test.mask for test in tests) and (has_prefix or match.family is Family.IPV4)


def flowspecs(router: str) -> st.SearchStrategy[list[FlowSpec]]:
    """Rules of people and of chance, in normal form, no two with one NLRI; never IPv6 offsets, see below."""
    any_match = st.one_of(sensible_matches(), matches(offsets=False)).map(Match.normal)
    safe = any_match.filter(lambda match: is_safe_for(router, match))
    return st.lists(st.builds(FlowSpec, safe, actions), min_size=1, max_size=40, unique_by=lambda rule: rule.match)


def announce(peers: Any, router: str, rules: Iterable[FlowSpec]) -> None:
    commands = [f"neighbor {peers.neighbours[router].peer_address} announce flow route {{ {rule} }}" for rule in rules]
    answers = peers.exabgp.send(*commands)
    assert set(answers) == {"done"}, [command for command, one in zip(commands, answers, strict=True) if one != "done"]


def withdraw(peers: Any, router: str, rules: Iterable[FlowSpec]) -> None:
    address = peers.neighbours[router].peer_address
    peers.exabgp.send(*(f"neighbor {address} withdraw flow route {{ {rule.match} }}" for rule in rules))


def held_by(peers: Any, router: str, count: int) -> tuple[HeldFlowSpec, ...]:
    """What the router holds once it holds `count` rules, or after a while whatever it holds."""
    try:
        wait_until(lambda: len(peers.routers[router].flowspec()) == count, "rules", 10)
    except TimeoutError:
        assert peers.routers[router].established(), f"{router} reset the session\n{peers.routers[router].log[-2000:]}"
    held: tuple[HeldFlowSpec, ...] = peers.routers[router].flowspec()
    return held


def check(peers: Any, router: str, rules: list[FlowSpec]) -> tuple[HeldFlowSpec, ...]:
    """Announce, return what arrived, withdraw, and see that nothing is left."""
    announce(peers, router, rules)
    held = held_by(peers, router, len(rules))
    withdraw(peers, router, rules)
    assert held_by(peers, router, 0) == (), "withdrawn rules are still there"
    assert peers.routers[router].is_whole, "a daemon died; zebra does when bgpd hands it rules"
    return held


@given(rules=flowspecs("gobgp"))
@LIVE
def test_gobgp_holds_the_very_bytes_we_encode(peers: Any, rules: list[FlowSpec]) -> None:
    held = check(peers, "gobgp", rules)
    assert {one.nlri for one in held} == {wire.encode(rule.match) for rule in rules}
    wanted = {wire.encode(rule.match): rule.action for rule in rules}
    assert {one.nlri: one.action for one in held} == wanted


@given(rules=flowspecs("bird"))
@LIVE
def test_bird_holds_the_meaning_and_action_we_announced(peers: Any, rules: list[FlowSpec]) -> None:
    held = check(peers, "bird", rules)
    wanted = {rule.match.meaning(): rule.action for rule in rules}
    found = {one.match.meaning(): one.action for one in held if one.match}
    assert {key: (action, wanted.get(key)) for key, action in found.items() if wanted.get(key) != action} == {}
    # Only a text that BIRD itself cut off may be missing.
    assert len(found) + sum(one.text.endswith("...") for one in held) == len(held) == len(rules)


WORDS = {
    Component.DESTINATION: "Destination Address", Component.SOURCE: "Source Address",
    Component.PROTOCOL: "IP Protocol", Component.PORT: "Port", Component.DESTINATION_PORT: "Destination Port",
    Component.SOURCE_PORT: "Source Port", Component.ICMP_TYPE: "ICMP Type", Component.ICMP_CODE: "ICMP Code",
    Component.TCP_FLAGS: "TCP Flags", Component.PACKET_LENGTH: "Packet Length", Component.DSCP: "DSCP field",
    Component.FRAGMENT: "Packet Fragment", Component.FLOW_LABEL: "Packet Flow Label",
}  # fmt: skip
"""FRR's names of the components."""


def shown_by_frr(held: HeldFlowSpec) -> tuple[object, ...]:
    """All that FRR's text still tells: each component's name with prefix or numbers in order, and the action."""
    parts = []
    for line in held.text.splitlines():
        name = max((word for word in WORDS.values() if line.startswith(word + " ")), key=len)
        rest = line.removeprefix(name).split("/off")[0].strip()
        is_prefix = name.endswith("Address")
        parts.append((name, str(ip_network(rest)) if is_prefix else tuple(re.findall(r"\d+", rest))))
    return (*parts, held.action)


def expected_from_frr(rule: FlowSpec) -> tuple[object, ...]:
    parts: list[tuple[str, object]] = []
    for component, value in rule.match.components():
        match value:
            case Numeric():
                parts.append((WORDS[component], tuple(str(one.value) for one in value.comparisons())))
            case Bitmask():
                parts.append((WORDS[component], tuple(str(test.mask) for test in value.tests())))
            case _:
                parts.append((WORDS[component], str(value)))
    return (*parts, rule.action)


@given(rules=flowspecs("frr"))
@LIVE
def test_frr_shows_every_component_and_the_action(peers: Any, rules: list[FlowSpec]) -> None:
    held = check(peers, "frr", rules)
    assert Counter(map(shown_by_frr, held)) == Counter(map(expected_from_frr, rules))


def holds(router: Router, prefixes: tuple[Network, ...]) -> bool:
    return router.blackholes() == prefixes


def test_a_blackhole_reaches_the_kernels_of_bird_and_frr_and_leaves_them(peers: Any) -> None:
    prefixes = (ip_network("203.0.113.7/32"), ip_network("2001:db8::7/128"))
    routes = tuple(f"{one} next-hop {'100::1' if one.version == 6 else '192.0.2.254'}" for one in prefixes)
    for verb, wanted in (("announce", prefixes), ("withdraw", ())):
        peers.exabgp.send(*(f"{verb} route {route} community [ 65535:666 ]" for route in routes))
        for name, router in peers.routers.items():
            wait_until(partial(holds, router, wanted), f"{name}: {verb}")


def test_what_is_no_tagged_host_route_is_no_blackhole(peers: Any) -> None:
    tagged, untagged, wide = "203.0.113.8/32", "203.0.113.9/32", "203.0.113.64/26"
    routes = (f"{untagged} next-hop 192.0.2.254", f"{wide} next-hop 192.0.2.254 community [ 65535:666 ]")
    last = f"{tagged} next-hop 192.0.2.254 community [ 65535:666 ]"
    peers.exabgp.send(*(f"announce route {route}" for route in (*routes, last)))
    for router in peers.routers.values():
        # Routes arrive in order: when the last is there, the others have been judged.
        wait_until(partial(holds, router, (ip_network(tagged),)), tagged)
    peers.exabgp.send(*(f"withdraw route {route}" for route in (*routes, last)))


@pytest.mark.parametrize("prefix", ["::/65/1", "::4000:0:0:0/68/63"])
def test_ipv6_offsets_reset_bird_so_they_stay_unannounced(peers: Any, prefix: str) -> None:
    """ExaBGP and BIRD disagree about how the pattern behind an offset is packed (RFC 8956 §3.1)."""
    bird, address = peers.routers["bird"], peers.neighbours["bird"].peer_address
    rule = f"flow route {{ match {{ source {prefix}; }} then {{ discard; }} }}"
    peers.exabgp.send(f"neighbor {address} announce {rule}")
    wait_until(lambda: "Invalid flow route" in bird.log, "BIRD's notification")
    peers.exabgp.send(f"neighbor {address} withdraw {rule}")
    bird.wait_established()
