"""The narrowest FlowSpec rules that take an attack away, with what they would take besides. Pure.

Candidates are scored on the attack sample (coverage) and on the host's normal traffic (collateral). A candidate never
asks for ports where fragments carry none, nor for more than routers' profiles hold: at most five values in a component.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rules.components import Bitmask, FlagTest, Numeric
from rules.match import FRAGMENT_BITS, ICMP, ICMPV6, TCP, TCP_FLAG_BITS, UDP, Match, Network
from rules.traffic import AMPLIFICATION_SERVICES, Signature, Vector
from sensors.classify import Picture
from sensors.headers import HAS_PORTS
from sensors.matching import selected
from sensors.tables import ANY

MOST = 4
"""Signatures in one detection."""
MOST_VALUES = 5
NORMAL_SAMPLE = 20
"""Fewer normal packets than this say nothing about collateral."""
_KEEPS = 0.98
"""A refinement must keep so much of what the plainer rule takes."""
_KEEPS_SPARING = 0.9
"""The same where it can be seen that it spares normal traffic."""
_SMALLEST_VALUE = 0.01
"""A port with less than this share of a vector's packets isn't worth a value in a rule."""
_SMALLEST = 0.05
"""A vector or a vector's fragments below this share get no rule of their own."""

_FIN, _SYN, _RST, _PUSH, _ACK, _URG = (TCP_FLAG_BITS[name] for name in ("fin", "syn", "rst", "push", "ack", "urg"))
_LATER, _FIRST = FRAGMENT_BITS["is-fragment"], FRAGMENT_BITS["first-fragment"]


def _flags(required: int, *absent: int) -> Bitmask:
    tests = (FlagTest(required, exact=True),) if required else ()
    return Bitmask.of(*tests, *(FlagTest(mask, negated=True) for mask in absent))


_TCP_FLAGS = {
    "syn_flood": _flags(_SYN, _ACK),
    "synack_reflection": _flags(_SYN | _ACK),
    "ack_flood": _flags(_ACK, _SYN | _RST | _FIN),
    "rst_flood": _flags(_RST),
    "fin_flood": _flags(_FIN, _SYN | _RST),
    "tcp_null": _flags(0, _FIN | _SYN | _RST | _PUSH | _ACK | _URG),
    "tcp_xmas": _flags(_FIN | _PUSH | _URG, _ACK),
}
_PROTECTED_ICMP = {(ICMP, 3), *((ICMPV6, kind) for kind in (1, 2, 133, 134, 135, 136, 137))}
"""Types that the network needs to work (RFC 1191, RFC 4890 §4.3): never in a rule of ours."""
_REFLECTOR_PORTS = {service: port for port, service in AMPLIFICATION_SERVICES.items()}


def signatures(target: Network, sample: ANY, picture: Picture, normal: ANY) -> tuple[Signature, ...]:
    """At most four rules, best first; `sample` is the attack as classified in `picture`, `normal` the host's other
    traffic."""
    out: list[Signature] = []
    for share, member in zip(picture.vectors, picture.members, strict=True):
        if max(share.packets, share.bytes) < _SMALLEST:
            continue
        for match in _of_vector(target, share.vector, sample[member], normal):
            scored = score(match, sample, normal)
            known = any(match == earlier.match for earlier in out)
            if not known and len(out) < MOST and scored.coverage >= _SMALLEST:
                out.append(scored)
    return tuple(sorted(out, key=lambda signature: -signature.coverage))


def score(match: Match, sample: ANY, normal: ANY) -> Signature:
    """What a match takes of the attack, and of normal traffic."""
    packets, size = _shares(match, sample)
    collateral = max(_shares(match, normal)) if len(normal) >= NORMAL_SAMPLE else None
    return Signature(match, min(packets, size), collateral)


def _shares(match: Match, entries: ANY) -> tuple[float, float]:
    hit = selected(match, entries)
    weights = entries["weight"].astype(np.float64)
    sizes = weights * entries["length"]
    packets, size = (min(1.0, float(of[hit].sum()) / max(float(of.sum()), 1e-9)) for of in (weights, sizes))
    return packets, size


def _of_vector(target: Network, vector: Vector, part: ANY, normal: ANY) -> Iterator[Match]:
    """Rules for one vector's packets: the plain one, refined as far as the packets allow; another for its fragments."""
    later = part["fragment"] & _LATER != 0
    if vector.kind == "ip_fragment_flood":
        yield _fragment_rule(target, part)
        return
    ported = part[~later]
    if len(ported) >= max(1, _SMALLEST * len(part)):
        for base in _bases(target, vector, ported):
            yield _refined(base, vector, ported[selected(base, ported)], normal)
    if later.any() and later.mean() >= _SMALLEST:
        yield _fragment_rule(target, part[later])


def _fragment_rule(target: Network, part: ANY) -> Match:
    """Later fragments, and first ones where the attack has them."""
    wanted = _LATER | _FIRST if (part["fragment"] & _FIRST != 0).mean() >= _SMALLEST else _LATER
    fragment = Bitmask.any_of(*(FlagTest(bit, exact=True) for bit in (_LATER, _FIRST) if wanted & bit))
    protocol = _few(part["protocol"], 1)
    if protocol and target.version == 4:
        return Match(destination=target, protocol=Numeric.only(*protocol), fragment=fragment)
    # Routers find no upper-layer protocol in a later IPv6 fragment.
    return Match(destination=target, fragment=fragment)


def _bases(target: Network, vector: Vector, part: ANY) -> Iterator[Match]:
    if vector.kind == "udp_amp" and vector.service is not None:
        port = _REFLECTOR_PORTS[vector.service]
        yield Match(destination=target, protocol=Numeric.only(UDP), source_port=Numeric.only(port))
    elif vector.kind in _TCP_FLAGS:
        yield Match(destination=target, protocol=Numeric.only(TCP), tcp_flags=_TCP_FLAGS[vector.kind])
        if vector.kind == "synack_reflection" and (part["tcp_flags"] & _RST != 0).mean() >= _SMALLEST:
            yield Match(destination=target, protocol=Numeric.only(TCP), tcp_flags=_TCP_FLAGS["rst_flood"])
    elif vector.kind in ("icmp_flood", "icmpv6_flood"):
        protocol = ICMP if vector.kind == "icmp_flood" else ICMPV6
        types = [kind for kind in _common(part["icmp_type"]) if (protocol, kind) not in _PROTECTED_ICMP]
        if types:
            yield Match(destination=target, protocol=Numeric.only(protocol), icmp_type=Numeric.only(*types))
    else:
        protocols = _few(part["protocol"], MOST_VALUES)
        if protocols:
            yield Match(destination=target, protocol=Numeric.only(*protocols))


def _refined(base: Match, vector: Vector, part: ANY, normal: ANY) -> Match:
    """Of the base and its refinements by ports and length, the one that spares most of normal traffic; without a normal
    sample, the narrowest by ports that loses next to nothing."""
    best, best_cost = base, _cost(base, base, part, normal)
    for candidate in _candidates(base, vector, part, len(normal) >= NORMAL_SAMPLE):
        cost = _cost(candidate, base, part, normal)
        if cost is not None and (best_cost is None or cost < best_cost):
            best, best_cost = candidate, cost
    return best


def _cost(match: Match, base: Match, part: ANY, normal: ANY) -> tuple[float, int, int] | None:
    """To be as small as can be: collateral, lengths (they change more easily than ports), and breadth. None: it
    misses too much of what it is for."""
    kept, spared = min(_shares(match, part)), 0.0
    known = len(normal) >= NORMAL_SAMPLE
    if known:
        spared = round(max(_shares(match, normal)), 2)
    if kept < (_KEEPS_SPARING if known else _KEEPS):
        return None
    has_length = match.packet_length is not None
    return spared, int(has_length), sum(1 for _ in base.components()) - sum(1 for _ in match.components()) + has_length


def _candidates(base: Match, vector: Vector, part: ANY, sparing: bool) -> Iterator[Match]:
    plain = [base]
    if vector.kind not in ("icmp_flood", "icmpv6_flood") and (part["marks"] & HAS_PORTS).any():
        plain += [replace(base, destination_port=ports) for ports in _ports(part["destination_port"])]
        if base.source_port is None:
            plain += [
                replace(match, source_port=ports) for ports in _ports(part["source_port"]) for match in list(plain)
            ]
    yield from plain[1:]
    if sparing:
        lengths = _lengths(part["length"])
        yield from (replace(match, packet_length=lengths) for match in plain)


def _ports(values: ANY) -> Iterator[Numeric]:
    """The most frequent value, the two most frequent ones, … as long as each matters."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    for most in range(1, len(order) + 1):
        if counts[order[most - 1]] < _SMALLEST_VALUE * counts.sum():
            return
        yield Numeric.only(*(int(found[place]) for place in order[:most]))


def _few(values: ANY, most: int) -> tuple[int, ...]:
    """The values that make up nearly all, if there are no more than `most`; else none. Two or more must each matter."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    total = counts.sum()
    covered = np.cumsum(counts[order]) >= _KEEPS * total
    if not covered.any():
        return ()
    return tuple(sorted(int(found[place]) for place in order[: int(np.argmax(covered)) + 1]))


def _common(values: ANY) -> tuple[int, ...]:
    """The most frequent values, at most five, each at least a twentieth of all."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    return tuple(int(found[place]) for place in order if counts[place] * 20 >= counts.sum())


def _lengths(values: ANY) -> Numeric:
    """One range that holds nearly all lengths."""
    low, high = (int(edge) for edge in np.quantile(values, [0.01, 0.99], method="nearest"))
    return Numeric.between(low, high) if low < high else Numeric.only(low)
