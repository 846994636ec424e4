"""Whether a rule, with those that stand, would leave next to nothing of a network: a blackhole in other words.

Every rule looks narrow to whoever wrote it, and two halves make a whole. So ordinary packets are held against all rules
that stop something there: a few dozen, as servers and their clients get them. Judges by effect, not by how it is said.
"""

from collections.abc import Iterable, Iterator
from functools import cache

from rules.action import Discard
from rules.components import FlagMeaning, Spans
from rules.findings import Finding, error, warning
from rules.guard_active import Held
from rules.guard_values import Limits, Request, Surroundings
from rules.match import MAXIMUM, TCP, TCP_FLAG_BITS, UDP, Component, Family, Match, Network, OffsetPrefix
from rules.region import Bits, Region, region
from rules.rule import FlowSpec, Rule

_TCP_STOPPED = "guard.whole.tcp"
NEARLY_ALL = 0.9
"""Share of the ordinary packets."""
_LOOKED_AT = 64
"""Places inside a rule's destination where others stand already."""
_HOST_BITS = {4: 32, 6: 64}
"""A prefix as long as this is one host's: its neighbours go on."""
_HOSTS_COUNTED = 256
"""More hosts of a network than that are not busy at once."""

_TCP_PORTS = (
    (50000, 443), (443, 50001), (41000, 80), (52000, 443), (443, 53000), (62000, 22),
    (80, 41000), (33000, 443), (443, 61000), (33000, 25), (20500, 8080), (993, 52000),
)  # fmt: skip
_UDP_PORTS = (
    (50000, 443), (443, 50001), (53, 30500), (52000, 443), (443, 53000),
    (41000, 53), (33000, 443), (443, 61000), (5060, 5060), (123, 62000),
)  # fmt: skip
"""From and to: the web as often as all others together, as servers get it and as their clients do."""
_TCP_LENGTHS, _UDP_LENGTHS = (60, 576, 1400, 1500), (80, 600, 1350)
_SOURCES = {
    Family.IPV4: (0x172D4359, 0x57415515, 0x97650101, 0xC6336401),
    Family.IPV6: tuple(top << 112 for top in (0x2001, 0x2400, 0x2600, 0x2A00)),
}
"""In four quarters of the addresses in use, so that no half of them holds all."""
_FLAGS = (
    TCP_FLAG_BITS["ack"],
    TCP_FLAG_BITS["ack"] | TCP_FLAG_BITS["push"],
    TCP_FLAG_BITS["ack"],
    TCP_FLAG_BITS["syn"],
)
_EVERY_FLAG = 0xFF
_DONT_FRAGMENT = 1


def findings(request: Request, surroundings: Surroundings) -> Iterator[Finding]:
    """What a rule would stop altogether, and whether whoever asks may."""
    rule, limits = request.rule, surroundings.limits
    target = rule.target
    if target is None or isinstance(target, OffsetPrefix) or not _starves(rule, target, limits):
        return
    by_machine = request.origin.is_automatic and not request.person_decides
    is_host = target.prefixlen >= _HOST_BITS[target.version]
    if is_host and not by_machine:
        return
    others = [held for held in surroundings.active.related(rule) if _counts(held, request, by_machine, limits)]
    matches = [rule.match, *(held.rule.match for held in others)]  # type: ignore[union-attr]
    # Most rules name one protocol and stand alone: then there is nothing to hold packets against.
    if not _may_hold(matches, TCP) or (is_host and not _may_hold(matches, UDP)):
        return
    prepared = surroundings.active.prepared
    regions = [region(rule.match), *(prepared(held, held.rule.match).region for held in others)]  # type: ignore[union-attr]
    places = dict.fromkeys([target, *(one for held in others if (one := _inside(held.rule, target)))])
    for place in list(places)[:_LOOKED_AT]:
        tcp, udp = _is_tcp_stopped(place, regions), _is_stopped(place, regions, _ordinary(_family(place), UDP))
        found = _judged(request, surroundings, place, (tcp, udp), bool(others), by_machine, is_host)
        # A limit for all TCP of a network may be meant so, unless it is a discard in other words.
        if found and (found.id != _TCP_STOPPED or _stops(rule, limits)):
            yield found
            return


def is_for_people(rule: FlowSpec) -> bool:
    """Whether the rule alone stops so much of a network that the machine may only propose it."""
    target = rule.target
    if target is None or isinstance(target, OffsetPrefix) or target.prefixlen >= _HOST_BITS[target.version]:
        return False
    limits, own = Limits(), [region(rule.match)]
    if not _starves(rule, target, limits) or not _may_hold([rule.match], TCP) or not _is_tcp_stopped(target, own):
        return False
    return _stops(rule, limits) or _is_stopped(target, own, _ordinary(_family(target), UDP))


def share_of_ordinary(match: Match) -> float:
    """The largest share that the match selects of the ordinary packets of TCP, or of UDP, to where it points."""
    own, family = region(match), match.ip_family
    return max(
        sum(own.covers(_placed(packet, own.destination)) for packet in packets) / len(packets)
        for packets in (_ordinary(family, TCP), _ordinary(family, UDP))
    )


def _judged(
    request: Request,
    surroundings: Surroundings,
    place: Network,
    stopped: tuple[bool, bool],
    together: bool,
    by_machine: bool,
    is_host: bool,
) -> Finding | None:
    tcp, udp = stopped
    with_others = "together with rules that stand, " if together else ""
    if tcp and udp:
        if is_host and any(zone.blackhole and zone.holds(place) for zone in surroundings.zones):
            return None
        how = "stop" if _stops(request.rule, surroundings.limits) else "starve"
        reason = f"{with_others}it would {how} nearly everything to {place}: a blackhole in other words"
        fix = "narrow it to what the attack looks like, limit the rate instead, or blackhole single hosts"
        return error("guard.whole.everything", "match", request.rule.id, reason, fix)
    if tcp and not is_host:
        reason = f"{with_others}it would stop nearly all TCP to {place}"
        fix = "narrow it to ports, flags, lengths or sources; a person may do it"
        say = error if by_machine else warning
        return say(_TCP_STOPPED, "match", request.rule.id, reason, fix)
    return None


def _stops(rule: Rule, limits: Limits) -> bool:
    """Whether nothing worth the name gets through: a limit far below what a line carries is a discard."""
    if not isinstance(rule, FlowSpec):
        return False
    return isinstance(rule.action, Discard) or rule.action.bytes_per_second < limits.lowest_rate


def _starves(rule: Rule, target: Network, limits: Limits) -> bool:
    """Whether what gets through is too little for the hosts there, who share one limit."""
    if not isinstance(rule, FlowSpec):
        return False
    hosts = min(1 << max(0, _HOST_BITS[target.version] - target.prefixlen), _HOSTS_COUNTED)
    return isinstance(rule.action, Discard) or rule.action.bytes_per_second < limits.lowest_rate * hosts


def _counts(held: Held, request: Request, by_machine: bool, limits: Limits) -> bool:
    """Whether a rule that stands adds to what this one stops; what people stopped on purpose isn't the machine's."""
    if held.id in (request.rule.id, request.replaces) or not _stops(held.rule, limits):
        return False
    return held.origin.is_automatic or not by_machine


def _may_hold(matches: Iterable[Match], protocol: int) -> bool:
    return any(
        one.protocol is None
        or any(low <= protocol <= high for low, high in one.protocol.spans(MAXIMUM[Component.PROTOCOL]))
        for one in matches
    )


def _inside(rule: Rule, target: Network) -> Network | None:
    own = rule.target
    if own is None or isinstance(own, OffsetPrefix) or own.version != target.version:
        return None
    return own if own.subnet_of(target) else None  # type: ignore[arg-type]


def _is_tcp_stopped(place: Network, regions: list[Region]) -> bool:
    """Whether nearly all TCP to that place is stopped; no connection goes on without its ACKs."""
    family = _family(place)
    return any(_is_stopped(place, regions, packets) for packets in (_ordinary(family, TCP), _established(family)))


def _is_stopped(place: Network, regions: list[Region], packets: tuple[Region, ...]) -> bool:
    """Whether nearly all of these packets, sent to that place, are in one of the regions."""
    destination = (int(place.netmask), int(place.network_address))
    # Hundreds of rules for single hosts may stand inside a network, and few of them say anything about one place.
    regions = [one for one in regions if _reaches(one, destination)]
    may_pass = len(packets) - NEARLY_ALL * len(packets)
    passed = 0
    for packet in packets:
        to_place = _placed(packet, destination)
        passed += not any(one.covers(to_place) for one in regions)
        if passed > may_pass:
            return False
    return True


def _placed(packet: Region, destination: Bits) -> Region:
    return Region(
        packet.family, destination, packet.source, packet.protocols, packet.fragments, packet.numbers, packet.flags,
        packet.ports,
    )  # fmt: skip


def _family(place: Network) -> Family:
    return Family.IPV4 if place.version == 4 else Family.IPV6


def _reaches(one: Region, place: Bits) -> bool:
    mask, value = one.destination
    return mask & place[0] == mask and place[1] & mask == value


@cache
def _ordinary(family: Family, protocol: int) -> tuple[Region, ...]:
    """Packets as they come all day, to no address in particular; sources and flags take turns."""
    ports, lengths = (_TCP_PORTS, _TCP_LENGTHS) if protocol == TCP else (_UDP_PORTS, _UDP_LENGTHS)
    sources, bits = _SOURCES[family], family.bits
    found = []
    for number, (pair, length) in enumerate((pair, length) for length in lengths for pair in ports):
        flags = FlagMeaning(_EVERY_FLAG, frozenset({_FLAGS[(number // 3) % len(_FLAGS)]}))
        # Else a pair of ports would always come from the same source: 12 pairs and four sources share a factor.
        source = sources[(number + number // len(ports)) % len(sources)]
        dscp, label = (46 if number % 16 == 15 else 0), number * 20_011 % (MAXIMUM[Component.FLOW_LABEL] + 1)
        numbers: tuple[Spans, ...] = (((0, 0),), ((0, 0),), ((length, length),), ((dscp, dscp),), ((label, label),))
        is_whole = frozenset({_DONT_FRAGMENT if family is Family.IPV4 and protocol == TCP else 0})
        found.append(
            Region(
                family,
                (0, 0),
                ((1 << bits) - 1, source),
                ((protocol, protocol),),
                is_whole,
                numbers,
                flags if protocol == TCP else FlagMeaning(0, frozenset({0})),
                ((((pair[0], pair[0]),), ((pair[1], pair[1]),)),),
            )
        )
    return tuple(found)


@cache
def _established(family: Family) -> tuple[Region, ...]:
    """The ordinary TCP packets with ACK: all but the first of each connection."""
    return tuple(one for one in _ordinary(family, TCP) if min(one.flags.accepted) & TCP_FLAG_BITS["ack"])
