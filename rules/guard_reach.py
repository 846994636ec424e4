"""Where a rule may reach: inside whose zones, how wide, and never over what keeps the network up.

Prefixes decide here, with their masks; an address inside ours does not make a prefix ours.
"""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from ipaddress import ip_network

from rules.findings import Finding, error, note, warning
from rules.guard_values import Request, Surroundings
from rules.match import ICMP, ICMPV6, MAXIMUM, Component, Family, Match, Network, OffsetPrefix
from rules.neighbour import Neighbour
from rules.region import Region, region
from rules.rule import Blackhole, FlowSpec, Rule
from rules.special import special
from rules.zone import Zone


def zones_of(request: Request, zones: Iterable[Zone]) -> tuple[Zone, ...]:
    """The zones this request may touch: a tenant's own; all of them for operators and the automation."""
    everywhere = request.is_operator or request.origin.is_automatic
    return tuple(zone for zone in zones if everywhere or zone.owner == request.owner)


def subject(rule: Rule) -> Network | None:
    """The prefix of ours the rule is about: its target, or the source of a source-only rule."""
    target = rule.target
    if target is None and isinstance(rule, FlowSpec):
        target = rule.match.source
    return None if isinstance(target, OffsetPrefix) else target


def findings(request: Request, surroundings: Surroundings) -> Iterator[Finding]:
    """Everything wrong with where the rule reaches."""
    rule = request.rule
    yield from _destination(request)
    yield from _universal(rule)
    yield from _special(rule)
    yield from _floor(rule, surroundings)
    yield from _ownership(request, surroundings)
    yield from _protected(rule, surroundings.protected)
    yield from _infrastructure(rule, surroundings)
    yield from _own(request, surroundings.neighbours)
    yield from _essential_icmp(request)


# -------------------------------------------------------------------------------------------------- whose, and how wide


def _field(rule: Rule) -> str:
    if isinstance(rule, Blackhole):
        return "prefix"
    return "source" if rule.target is None else "destination"


def _destination(request: Request) -> Iterator[Finding]:
    rule = request.rule
    if rule.target is not None or not isinstance(rule, FlowSpec):
        return
    if rule.match.source is None:
        reason = "is missing: the rule would filter traffic to everybody"
        yield error("guard.destination.missing", "destination", "", reason, "name the prefix under attack")
    elif not request.is_operator or request.origin.is_automatic:
        reason = "is missing; rules by source alone (to silence a host of ours) are for operators"
        yield error("guard.destination.source-only", "destination", "", reason, "name the prefix under attack")
    else:
        reason = "filters by source alone: traffic from this prefix to everybody"
        yield note("guard.destination.by-source", "source", rule.match.source, reason)


def _named(rule: Rule) -> Iterator[tuple[str, Network]]:
    """Every plain prefix the rule names, and its field."""
    if isinstance(rule, Blackhole):
        yield "prefix", rule.prefix
        return
    for component, value in rule.match.components():
        if component in (Component.DESTINATION, Component.SOURCE) and not isinstance(value, OffsetPrefix):
            yield component.keyword, value  # type: ignore[misc]


def _universal(rule: Rule) -> Iterator[Finding]:
    for field, prefix in _named(rule):
        if prefix.prefixlen == 0:
            yield error("guard.breadth.universal", field, prefix, "is every address there is", "name a narrower prefix")


def _special(rule: Rule) -> Iterator[Finding]:
    prefix = subject(rule)
    if prefix is not None and (name := special(prefix)) is not None:
        reason = f"holds addresses of nobody: {name}; hosts and routers of a link need them"
        yield error("guard.reach.special", _field(rule), prefix, reason, "name a prefix of yours")


def _floor(rule: Rule, surroundings: Surroundings) -> Iterator[Finding]:
    prefix, floor = subject(rule), surroundings.limits.floor(rule)
    if prefix is not None and prefix.prefixlen < floor:
        kind = "a blackhole" if isinstance(rule, Blackhole) else "FlowSpec"
        reason = f"is wider than the /{floor} that {kind} may cover here"
        yield error("guard.breadth.floor", _field(rule), prefix, reason, f"use /{floor} or longer")


def _ownership(request: Request, surroundings: Surroundings) -> Iterator[Finding]:
    prefix = subject(request.rule)
    if prefix is None or any(zone.holds(prefix) for zone in zones_of(request, surroundings.zones)):
        return
    field = _field(request.rule)
    if any(zone.holds(prefix) for zone in surroundings.zones):
        reason = f"lies in a zone that does not belong to {request.owner}"
        yield error("guard.ownership.tenant", field, prefix, reason, "ask the zone's owner or an operator")
    else:
        touched = [own for zone in surroundings.zones for own in zone.prefixes if _meet(own, prefix)]
        holding = f"; it holds {touched[0]}, and more" if touched else ""
        reason = f"lies in none of our zones as a whole{holding}"
        yield error("guard.ownership.outside", field, prefix, reason, "name a prefix inside a zone")


# -------------------------------------------------------------------------------------------------------- protected


def _meet(one: Network, two: Network) -> bool:
    return one.version == two.version and one.overlaps(two)


def _protected(rule: Rule, protected: tuple[Network, ...]) -> Iterator[Finding]:
    for field, prefix in _named(rule):
        for own in protected:
            if _meet(prefix, own):
                reason = f"meets the protected prefix {own}"
                yield error("guard.protected.overlap", field, prefix, reason, f"leave {own} out")


def _infrastructure(rule: Rule, surroundings: Surroundings) -> Iterator[Finding]:
    touched = [
        (field, prefix, own)
        for own in dict.fromkeys((*surroundings.infrastructure, *_router_addresses(surroundings.neighbours)))
        for field, prefix in _named(rule)
        if _meet(prefix, own)
    ]
    if not touched:
        return
    if hit := _vital_flows(rule):
        for field, prefix, own in touched:
            reason = f"meets the infrastructure {own} and would stop {', '.join(hit)}"
            yield error("guard.infrastructure.flow", field, prefix, reason, "leave these protocols or this prefix out")


@lru_cache(maxsize=16)
def _router_addresses(neighbours: tuple[Neighbour, ...]) -> tuple[Network, ...]:
    """Kept, since it is asked for each of thousands of rules."""
    addresses = (
        address
        for one in neighbours
        for address in (one.peer_address, one.local_address, one.next_hop_ipv4, one.next_hop_ipv6)
        if address is not None
    )
    return tuple(map(ip_network, addresses))


def _own(request: Request, neighbours: tuple[Neighbour, ...]) -> Iterator[Finding]:
    """The machine does not cut off the machine: people, sensors and routers reach it over TCP."""
    rule = request.rule
    if not request.origin.is_automatic or request.person_decides:
        return
    for own in _own_addresses(neighbours):
        for field, prefix in _named(rule):
            if _meet(prefix, own) and (isinstance(rule, Blackhole) or region(rule.match).overlaps(_tcp(own.version))):
                reason = f"holds {own}, where this speaker is reached, and would stop TCP there"
                yield error("guard.protected.own", field, prefix, reason, "leave TCP out, or let a person do it")


@lru_cache(maxsize=16)
def _own_addresses(neighbours: tuple[Neighbour, ...]) -> tuple[Network, ...]:
    return tuple(dict.fromkeys(ip_network(one.local_address) for one in neighbours))


@cache
def _tcp(version: int) -> Region:
    return region(Match.parse("match { protocol =tcp; }", Family.IPV4 if version == 4 else Family.IPV6))


# As they really come, from both ends: else nobody could filter a reflection off a router's address.
_EVERYWHERE = {
    "BGP": "protocol =tcp; port =179;",
    # Control packets come from 49152 on (RFC 5881 §4, RFC 5883 §5, RFC 7130 §2.2), echoes from where they went to.
    "BFD": "protocol =udp; source-port [ =3785 >=49152 ]; destination-port [ >=3784&<=3785 =4784 =6784 ];",
    "LDP": "protocol =tcp; port =646;",
    "LDP hellos": "protocol =udp; source-port =646; destination-port =646;",
    "RIP": "protocol =udp; source-port >=520&<=521; destination-port >=520&<=521;",
    "RSVP": "protocol =46;",
    "EIGRP": "protocol =88;",
    "OSPF": "protocol =89;",
    "PIM": "protocol =103;",
    "VRRP": "protocol =112;",
    "IS-IS": "protocol =124;",
}
_ESSENTIAL_ICMP = {
    Family.IPV4: {"fragmentation needed": "protocol =icmp; icmp-type =3; icmp-code =4;"},
    Family.IPV6: {
        "destination unreachable": "protocol =58; icmp-type =1;",
        "packet too big": "protocol =58; icmp-type =2;",
        "neighbour discovery": "protocol =58; icmp-type >=133&<=137;",
    },
}
"""Path MTU discovery and what IPv6 cannot do without (RFC 4890 §4.3.1)."""


@cache
def _regions(family: Family, only_icmp: bool) -> tuple[tuple[str, Region], ...]:
    flows = _ESSENTIAL_ICMP[family] if only_icmp else _EVERYWHERE | _ESSENTIAL_ICMP[family]
    return tuple((name, region(Match.parse(f"match {{ {text} }}", family))) for name, text in flows.items())


def _vital_flows(rule: Rule) -> list[str]:
    """What a rule over a router's address would stop."""
    if isinstance(rule, Blackhole):
        return ["everything"]
    own = region(rule.match)
    return [name for name, flow in _regions(rule.match.ip_family, False) if own.overlaps(flow)]


def _essential_icmp(request: Request) -> Iterator[Finding]:
    """Rules that name ICMP must leave the types alone that the hosts behind need."""
    rule = request.rule
    if not isinstance(rule, FlowSpec) or rule.match.protocol is None:
        return
    family, protocols = rule.match.ip_family, rule.match.protocol.spans(MAXIMUM[Component.PROTOCOL])
    number = ICMP if family is Family.IPV4 else ICMPV6
    if not any(low <= number <= high for low, high in protocols):
        return
    own = region(rule.match)
    if hit := [name for name, flow in _regions(family, True) if own.overlaps(flow)]:
        known = "[ =0 =8 ]" if family is Family.IPV4 else "[ =128 =129 ]"
        rest = "[ <=2 >=4 ]" if family is Family.IPV4 else "[ =0 >=3&<=132 >=138 ]"
        say = error if request.origin.is_automatic else warning
        value = "" if rule.match.icmp_type is None else "includes them"
        fix = f"enumerate the types: icmp-type {known} for pings, or icmp-type {rest} for all that is not needed"
        yield say("guard.icmp.essential", "icmp-type", value, f"would stop {', '.join(hit)}", fix)
