"""Whether a match means what its author can have meant: components that need each other, sets that hold nothing or all.

Looks at one match alone, neither at who asks nor at what else is there. Most of these a router accepts without a word.
"""

from collections.abc import Iterator

from rules.action import Discard, RateLimit
from rules.components import Bitmask, Numeric, Operator, Spans
from rules.findings import Finding, error, warning
from rules.guard_values import Limits
from rules.match import FRAGMENT_BITS, ICMP, ICMPV6, MAXIMUM, TCP, UDP, Component, Family, Match, OffsetPrefix
from rules.region import FRAGMENT_VALUES, LATER_FRAGMENT, fragment_values, region
from rules.rule import FlowSpec

_DONT_FRAGMENT = FRAGMENT_BITS["dont-fragment"]
_PORTS = (Component.PORT, Component.DESTINATION_PORT, Component.SOURCE_PORT)
_ICMP_FIELDS = (Component.ICMP_TYPE, Component.ICMP_CODE)
_EXTENSION_HEADERS = (0, 43, 44, 60, 135, 139, 140)
"""Hop-by-hop, routing, fragment, destination options, mobility, HIP, shim6: never the upper-layer protocol."""
_SHORTEST = {Family.IPV4: 20, Family.IPV6: 40}
"""Bytes of an IP header: no packet is shorter."""


def findings(rule: FlowSpec, limits: Limits) -> Iterator[Finding]:
    """Everything that is odd about the rule in itself."""
    match = rule.match
    faults = [*_sets(match), *_transport(match), *_fragments(match), *_lengths(match, limits), *_offsets(match)]
    yield from faults
    if not any(fault.is_error for fault in faults) and region(match).is_empty:
        reason = "its components contradict each other: no packet can match"
        yield error("guard.semantics.nothing", "match", match, reason, "leave one of the components out")
    yield from _action(rule, limits)


def _given(match: Match, components: tuple[Component, ...]) -> list[Component]:
    return [component for component in components if getattr(match, component.attribute) is not None]


# --------------------------------------------------------------------------------------------------- sets and offsets


def _sets(match: Match) -> Iterator[Finding]:
    for component, value in match.components():
        kind = _emptiness(component, value, match.ip_family)
        if kind == "empty":
            reason = "matches nothing: the conditions exclude each other"
            yield error(
                "guard.semantics.empty", component.keyword, _text(match, component), reason, "correct the values"
            )
        elif kind == "universal":
            reason = "matches every value, so it only looks like a condition"
            fix = f"leave {component.keyword} out, or narrow it"
            yield error("guard.semantics.universal", component.keyword, _text(match, component), reason, fix)
        elif isinstance(value, Bitmask) and not all(test.mask for test in value.tests()):
            reason = "one of the tests names no flag, so it always gives the same answer"
            fix = "leave it out; for packets without a flag, test each: !fin&!syn&!rst&!ack"
            yield error("guard.semantics.no-flag", component.keyword, _text(match, component), reason, fix)


def _emptiness(component: Component, value: object, family: Family) -> str | None:
    if isinstance(value, Numeric):
        spans = value.spans(MAXIMUM[component])
        return "empty" if not spans else "universal" if spans == ((0, MAXIMUM[component]),) else None
    if not isinstance(value, Bitmask):
        return None
    if component is Component.FRAGMENT:
        accepted = fragment_values(value, family)
        return "empty" if not accepted else "universal" if accepted == FRAGMENT_VALUES[family] else None
    meaning = value.meaning()
    return "empty" if not meaning.accepted else "universal" if not meaning.support else None


def _text(match: Match, component: Component) -> str:
    """The component as canonical text has it."""
    alone = Match(family=match.family, **{component.attribute: getattr(match, component.attribute)})
    return str(alone).removeprefix("match { ").split(" ", 1)[1].removesuffix("; }")


def _offsets(match: Match) -> Iterator[Finding]:
    for component, value in match.components():
        if isinstance(value, OffsetPrefix):
            reason = "offsets are encoded in two incompatible ways in the wild, and reset sessions"
            yield error("guard.prefix.offset", component.keyword, value, reason, "name a prefix without an offset")


# ---------------------------------------------------------------------------------------------------------- transport


def _protocols(match: Match) -> Spans | None:
    return None if match.protocol is None else match.protocol.spans(MAXIMUM[Component.PROTOCOL])


def _only(spans: Spans | None, *numbers: int) -> bool:
    return bool(spans) and all(n in numbers for low, high in spans or () for n in range(low, high + 1))


def _transport(match: Match) -> Iterator[Finding]:
    protocols = _protocols(match)
    ports = _given(match, _PORTS)
    for component in ports:
        if not _only(protocols, TCP, UDP):
            reason = "ports exist in TCP and UDP only (RFC 8955 §4.2.2.4), and routers differ on what this does"
            yield _needs("guard.semantics.port-protocol", match, component, reason, "protocol =udp, =tcp or both")
    if len(ports) > 1 and Component.PORT in ports:
        reason = "port means source or destination port; together with either, some routers refuse the rule"
        yield error("guard.semantics.port-twice", "port", _text(match, Component.PORT), reason, "leave port out")
    if match.tcp_flags is not None and not _only(protocols, TCP):
        yield _needs(
            "guard.semantics.flags-protocol", match, Component.TCP_FLAGS, "only TCP has flags", "protocol =tcp"
        )
    yield from _icmp(match, protocols)
    if match.ip_family is Family.IPV6 and protocols and _only(protocols, *_EXTENSION_HEADERS):
        reason = "names extension headers, which routers step over (RFC 8956 §3.3): no packet matches"
        fix = "name the protocol behind them; for fragments write fragment"
        yield warning("guard.semantics.extension-header", "next-header", _text(match, Component.PROTOCOL), reason, fix)


def _icmp(match: Match, protocols: Spans | None) -> Iterator[Finding]:
    family = match.ip_family
    right, wrong = (ICMP, ICMPV6) if family is Family.IPV4 else (ICMPV6, ICMP)
    fix = "protocol =icmp" if family is Family.IPV4 else "next-header =58"
    for component in _given(match, _ICMP_FIELDS):
        if not _only(protocols, right):
            reason = f"types and codes exist in the ICMP of {family.label} only (protocol {right})"
            yield _needs("guard.semantics.icmp-protocol", match, component, reason, fix)
    if protocols and protocols == ((wrong, wrong),):
        reason = f"protocol {wrong} is the ICMP of the other family: such packets hardly exist in {family.label}"
        yield warning("guard.semantics.icmp-family", "protocol", wrong, reason, f"write {fix}")


def _needs(id: str, match: Match, component: Component, reason: str, protocol: str) -> Finding:
    return error(id, component.keyword, _text(match, component), reason, f"add {protocol}, and nothing else")


# -------------------------------------------------------------------------------------------------- fragments, lengths


def _fragments(match: Match) -> Iterator[Finding]:
    if match.fragment is None:
        return
    family, text = match.ip_family, _text(match, Component.FRAGMENT)
    later = {value for value in fragment_values(match.fragment, family) if value & LATER_FRAGMENT}
    # Asking for don't-fragment selects later fragments too, which set it only on paper.
    if any(not value & _DONT_FRAGMENT for value in later):
        for component in _given(match, (*_PORTS, *_ICMP_FIELDS, Component.TCP_FLAGS)):
            reason = f"selects later fragments, which carry no {component.keyword}"
            fix = f"ask for first-fragment or !is-fragment, or leave {component.keyword} out"
            yield error("guard.semantics.fragment-transport", "fragment", text, reason, fix)


def _lengths(match: Match, limits: Limits) -> Iterator[Finding]:
    if match.packet_length is None:
        return
    shortest, text = _SHORTEST[match.ip_family], _text(match, Component.PACKET_LENGTH)
    pointless = (Operator.TRUE, Operator.FALSE)
    values = [one.value for one in match.packet_length.comparisons() if one.operator not in pointless]
    if any(value < shortest for value in values):
        reason = f"a packet has at least {shortest} bytes in {match.ip_family.label}; the length counts the IP header"
        fix = f"use lengths from {shortest} to 65535"
        yield error("guard.length.range", "packet-length", text, reason, fix)
    spans = match.packet_length.spans(MAXIMUM[Component.PACKET_LENGTH])
    if any(low > limits.mtu for low, _ in spans):
        reason = f"packets above the MTU of {limits.mtu} bytes never come; such a rule once brought routers down"
        yield warning("guard.length.mtu", "packet-length", text, reason, f"end at {limits.mtu}")


# ------------------------------------------------------------------------------------------------------------- action


def _action(rule: FlowSpec, limits: Limits) -> Iterator[Finding]:
    if isinstance(rule.action, RateLimit) and rule.action.bytes_per_second < limits.lowest_rate:
        rate = f"{rule.action.bytes_per_second} B/s ({rule.action.bits_per_second} bit/s)"
        reason = (
            f"below {limits.lowest_rate} B/s ({limits.lowest_rate * 8} bit/s) routers police badly or drop everything"
        )
        yield warning("guard.rate.low", "rate-limit", rate, reason, "raise it, or discard")
    only = [component for component, _ in rule.match.components()]
    if isinstance(rule.action, Discard) and only == [Component.DESTINATION]:
        reason = "drops everything to the destination: a blackhole in disguise, at the price of a filter entry"
        yield warning("guard.discard.destination-only", "match", rule.target, reason, "narrow it, or use a blackhole")
