"""From what sensors propose to rules a machine may weigh: inside the zone, few, and each with what speaks against it.

Signatures are claims. Here they become candidates with the zone's action; nothing is decided, and a signature that
leaves the zone becomes nothing at all.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from itertools import combinations
from operator import add

from rules import guard_whole
from rules.action import Action, Discard, RateLimit
from rules.components import Bitmask, Numeric, Spans, contains, merged
from rules.errors import Refused
from rules.incident import Part
from rules.match import MAXIMUM, TCP, Component, Match, Network
from rules.rule import FlowSpec, RuleId
from rules.traffic import Signature
from rules.zone import Zone

LEAST_COVERAGE = 0.005
"""A rule that catches less of the attack is not worth its place in a router's table. Coverage is the lesser of packets
and bytes, and a SYN flood beside a reflection may make half of the packets and a hundredth of the bytes."""

VALUES_IN_A_COMPONENT = 5
"""Operators in a joined component; FRR resets the session on six (operator-value pairs)."""

_PROTOCOLS_OF_A_NARROW_RULE = 2
_ORDINARY_IN_A_NARROW_RULE = 0.5
"""Share of the packets that an ordinary host gets all day."""

_WEB_PORTS = (80, 443)

_NARROWING = (
    Component.PORT,
    Component.DESTINATION_PORT,
    Component.SOURCE_PORT,
    Component.ICMP_TYPE,
    Component.ICMP_CODE,
    Component.TCP_FLAGS,
    Component.PACKET_LENGTH,
    Component.FRAGMENT,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule that a sensor's signature asks for."""

    rule: FlowSpec
    covered: tuple[tuple[str, float], ...]
    """Sensor, and the share of the attack it saw that the rule catches; one entry for each sensor, by name."""
    collateral: float | None
    """Share of normal traffic it hits, 0 to 1; None where nobody knows."""
    is_forgeable: bool = False
    """It names sources, and nobody has shown that they are real."""

    @property
    def coverage(self) -> float:
        """The best share that any sensor gives it; each may see only a part of the attack."""
        return max(share for _, share in self.covered)


def candidates(witnesses: Sequence[Part], zone: Zone) -> tuple[Candidate, ...]:
    """What the witnesses' latest signatures ask for, best coverage first; one for each rule."""
    found: dict[RuleId, Candidate] = {}
    for witness in witnesses:
        for signature in witness.latest.signatures:
            candidate = _candidate(signature, witness, zone)
            if candidate is not None:
                key = candidate.rule.id
                found[key] = _worse(found[key], candidate) if key in found else candidate
    return tuple(sorted(found.values(), key=_best_first))


def total_coverage(chosen: Iterable[Candidate]) -> float:
    """Share of the attack that these rules catch together, as the sensor that thinks best of them counts."""
    shares: dict[str, float] = {}
    for candidate in chosen:
        for sensor, share in candidate.covered:
            shares[sensor] = min(1.0, shares.get(sensor, 0.0) + share)
    return max(shares.values(), default=0.0)


def doubt(candidate: Candidate, zone: Zone, target: Network) -> str | None:
    """Why a person has to decide on this one; None where the machine may."""
    match, collateral = candidate.rule.match, candidate.collateral
    if not _inside(match.destination, target):
        return f"it reaches beyond the target {target}"
    if guard_whole.is_for_people(candidate.rule):
        return "it would stop nearly all TCP to a whole network"
    if candidate.is_forgeable:
        return "it names sources that may be forged"
    if collateral is None and zone.collateral_limit == 0:
        return "its collateral is unknown and the zone allows none"
    if collateral is None and not is_narrow(match):
        return (
            "its collateral is unknown and it is not narrow (a protocol, and ports, flags, lengths, fragments or ICMP "
            "that spare at least half of ordinary traffic)"
        )
    if collateral is None and isinstance(candidate.rule.action, Discard) and _takes_pages(match):
        return "its collateral is unknown and it would drop whatever web servers answer"
    if collateral is not None and collateral > zone.collateral_limit:
        return f"it would hit {collateral:.1%} of normal traffic, the zone allows {zone.collateral_limit:.1%}"
    return None


def is_narrow(match: Match) -> bool:
    """Whether it names a protocol and narrows that further, so that it may go out before normal traffic is known.

    What it says must narrow in fact: `destination-port >=1024` leaves most of an ordinary host's traffic in.
    """
    protocols = match.protocol.spans(MAXIMUM[Component.PROTOCOL]) if match.protocol else ()
    named = sum(high - low + 1 for low, high in protocols)
    return (
        1 <= named <= _PROTOCOLS_OF_A_NARROW_RULE
        and any(_narrows(match, component) for component in _NARROWING)
        and guard_whole.share_of_ordinary(match) <= _ORDINARY_IN_A_NARROW_RULE
    )


def _takes_pages(match: Match) -> bool:
    """Whether whatever web servers answer over TCP is in it: a host that browses would get no page any more."""
    if match.protocol is None or match.source_port is None or match.tcp_flags or match.source:
        return False
    protocols, ports = (
        part.spans(MAXIMUM[component])
        for part, component in ((match.protocol, Component.PROTOCOL), (match.source_port, Component.SOURCE_PORT))
    )
    return _holds(protocols, TCP) and any(_holds(ports, port) for port in _WEB_PORTS)


def _holds(spans: Spans, value: int) -> bool:
    return any(low <= value <= high for low, high in spans)


def few(chosen: Sequence[Candidate], room: int, zone: Zone, target: Network) -> tuple[Candidate, ...]:
    """At most `room` of them: those that differ in one component become one, then the best coverage wins."""
    kept = list(chosen)
    while len(kept) > room:
        pair = next(_joinable(kept, zone, target), None)
        if pair is None:
            break
        one, other, joined = pair
        kept = [candidate for candidate in kept if candidate not in (one, other)] + [joined]
    kept.sort(key=_best_first)
    return tuple(kept[: max(room, 0)])


def _best_first(candidate: Candidate) -> tuple[float, str]:
    return -candidate.coverage, str(candidate.rule)


def _candidate(signature: Signature, witness: Part, zone: Zone) -> Candidate | None:
    destination = signature.match.destination
    if not isinstance(destination, IPv4Network | IPv6Network) or not zone.holds(destination):
        return None
    if signature.coverage < LEAST_COVERAGE:
        return None
    is_forgeable = signature.match.source is not None and witness.latest.spoofed is not False
    rule = FlowSpec(signature.match, _action(signature, zone))
    return Candidate(rule, ((witness.sensor, signature.coverage),), signature.collateral, is_forgeable)


def _action(signature: Signature, zone: Zone) -> Action:
    """The zone's; but what doesn't separate attack from normal is never dropped, only limited."""
    if signature.rate_limit is None or isinstance(zone.action, RateLimit):
        return zone.action
    return RateLimit(signature.rate_limit)


def _worse(one: Candidate, other: Candidate) -> Candidate:
    """Two words on one rule: the worse harm counts, and whoever says that it doesn't separate."""
    action = max(one.rule.action, other.rule.action, key=_let_through)
    known = [value for value in (one.collateral, other.collateral) if value is not None]
    return replace(
        one,
        rule=FlowSpec(one.rule.match, action),
        covered=_combined(one, other, max),
        collateral=max(known, default=None),
        is_forgeable=one.is_forgeable or other.is_forgeable,
    )


def _let_through(action: Action) -> int:
    return action.bytes_per_second if isinstance(action, RateLimit) else 0


def _inside(destination: object, target: Network) -> bool:
    if isinstance(destination, IPv4Network) and isinstance(target, IPv4Network):
        return destination.subnet_of(target)
    if isinstance(destination, IPv6Network) and isinstance(target, IPv6Network):
        return destination.subnet_of(target)
    return False


def _narrows(match: Match, component: Component) -> bool:
    value = getattr(match, component.attribute)
    if isinstance(value, Numeric):
        return not contains(value.spans(MAXIMUM[component]), ((0, MAXIMUM[component]),))
    return isinstance(value, Bitmask) and value.meaning().support != 0


def _combined(one: Candidate, other: Candidate, how: Callable[[float, float], float]) -> tuple[tuple[str, float], ...]:
    shares = dict(one.covered)
    for sensor, share in other.covered:
        shares[sensor] = min(1.0, how(shares[sensor], share)) if sensor in shares else share
    return tuple(sorted(shares.items()))


def _joinable(
    kept: Sequence[Candidate], zone: Zone, target: Network
) -> Iterator[tuple[Candidate, Candidate, Candidate]]:
    """Pairs that may become one rule without a doubt that neither had."""
    for one, other in combinations(kept, 2):
        joined = _joined(one, other)
        if joined is None:
            continue
        had_doubt = any(doubt(candidate, zone, target) is not None for candidate in (one, other))
        if had_doubt or doubt(joined, zone, target) is None:
            yield one, other, joined


def _joined(one: Candidate, other: Candidate) -> Candidate | None:
    """One rule for two that do the same and differ in the values of a single numeric component."""
    if one.rule.action != other.rule.action:
        return None
    differing = [
        component
        for component in Component
        if getattr(one.rule.match, component.attribute) != getattr(other.rule.match, component.attribute)
    ]
    if len(differing) != 1:
        return None
    [component] = differing
    values = [getattr(candidate.rule.match, component.attribute) for candidate in (one, other)]
    if not all(isinstance(value, Numeric) for value in values):
        return None
    maximum = MAXIMUM[component]
    numeric = Numeric.of_spans(merged(span for value in values for span in value.spans(maximum)), maximum)
    if sum(1 for _ in numeric.comparisons()) > VALUES_IN_A_COMPONENT:
        return None
    try:
        match = replace(one.rule.match, **{component.attribute: numeric})  # type: ignore[arg-type]
    except Refused:
        return None
    collateral = None
    if one.collateral is not None and other.collateral is not None:
        collateral = min(1.0, one.collateral + other.collateral)
    is_forgeable = one.is_forgeable or other.is_forgeable
    return Candidate(FlowSpec(match, one.rule.action), _combined(one, other, add), collateral, is_forgeable)
