"""The plain rules of each vector: what its name says, before anything is added to spare others. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rules.components import Bitmask, FlagTest, Numeric
from rules.match import FRAGMENT_BITS, ICMP, ICMPV6, TCP, TCP_FLAG_BITS, UDP, Match, Network
from rules.traffic import AMPLIFICATION_SERVICES, Vector
from sensors.features import MOST_VALUES, common, few
from sensors.headers import HAS_FLAGS
from sensors.scoring import SMALLEST
from sensors.tables import ANY

_FIN, _SYN, _RST, _PUSH, _ACK, _URG = (TCP_FLAG_BITS[name] for name in ("fin", "syn", "rst", "push", "ack", "urg"))
_ALL_FLAGS = _FIN | _SYN | _RST | _PUSH | _ACK | _URG
_LATER, _FIRST = FRAGMENT_BITS["is-fragment"], FRAGMENT_BITS["first-fragment"]


def _flags(required: int, *absent: int) -> Bitmask:
    tests = (FlagTest(required, exact=True),) if required else ()
    return Bitmask.of(*tests, *(FlagTest(mask, negated=True) for mask in absent))


SYN_ONLY = _flags(_SYN, _ACK)
_TCP_FLAGS = {
    "syn_flood": SYN_ONLY,
    "synack_reflection": _flags(_SYN | _ACK),
    "ack_flood": _flags(_ACK, _SYN | _RST | _FIN),
    "rst_flood": _flags(_RST),
    "fin_flood": _flags(_FIN, _SYN | _RST),
    "tcp_null": _flags(0, _ALL_FLAGS),
    "tcp_xmas": _flags(_FIN | _PUSH | _URG, _ACK),
}
_PROTECTED_ICMP = {ICMP: (3,), ICMPV6: (1, 2, 133, 134, 135, 136, 137)}
"""Types that the network needs to work (RFC 1191, RFC 4890 §4.3): never in a rule of ours."""
_ANY_ICMP = {
    ICMP: Numeric.of_spans(((0, 2), (4, 10), (13, 255)), 255),
    ICMPV6: Numeric.of_spans(((0, 0), (5, 132), (138, 255)), 255),
}
"""All types but those, and but the other errors."""
_IDLE_PROTOCOLS = Numeric.of_spans(((18, 40), (59, 87), (133, 255)), 255)
"""Those without tunnels, routing protocols, or services that anybody has, as far as five operators reach."""
_ODD_FLAGS = Bitmask.any_of(
    FlagTest(_FIN | _SYN, exact=True),
    FlagTest(_SYN | _RST, exact=True),
    FlagTest(_FIN | _SYN | _RST | _ACK, negated=True),
)
"""Whatever no stack sends."""
_MOSTLY = 0.5
"""Share of a flood's packets that what is named of them must have: values drawn at random are not worth a name each,
and packets cut short in their header tell nothing of those that are not."""
_REFLECTOR_PORTS = {service: port for port, service in AMPLIFICATION_SERVICES.items()}


def is_later(part: ANY) -> NDArray[np.bool_]:
    """Which packets are later fragments, which carry no ports."""
    out: NDArray[np.bool_] = part["fragment"] & _LATER != 0
    return out


def fragment_rule(target: Network, part: ANY) -> Match:
    """Later fragments, and first ones where the attack has them."""
    wanted = _LATER | _FIRST if (part["fragment"] & _FIRST != 0).mean() >= SMALLEST else _LATER
    fragment = Bitmask.any_of(*(FlagTest(bit, exact=True) for bit in (_LATER, _FIRST) if wanted & bit))
    protocol = few(part["protocol"], 1)
    if protocol and target.version == 4:
        return Match(destination=target, protocol=Numeric.only(*protocol), fragment=fragment)
    # Routers find no upper-layer protocol in a later IPv6 fragment.
    return Match(destination=target, fragment=fragment)


def bases(target: Network, vector: Vector, part: ANY) -> Iterator[Match]:
    """What a vector's name says of its packets, ports and protocols as `part` has them; no later fragments."""
    if vector.kind == "udp_amp" and vector.service is not None:
        port = _REFLECTOR_PORTS[vector.service]
        yield Match(destination=target, protocol=Numeric.only(UDP), source_port=Numeric.only(port))
    elif vector.kind == "tcp_middlebox_reflection":
        ports = common(part["source_port"])
        yield Match(destination=target, protocol=Numeric.only(TCP), source_port=Numeric.only(*ports))
    elif vector.kind in _TCP_FLAGS:
        yield Match(destination=target, protocol=Numeric.only(TCP), tcp_flags=_TCP_FLAGS[vector.kind])
        if vector.kind == "synack_reflection" and (part["tcp_flags"] & _RST != 0).mean() >= SMALLEST:
            yield Match(destination=target, protocol=Numeric.only(TCP), tcp_flags=_TCP_FLAGS["rst_flood"])
    elif vector.kind == "tcp_flood" and (has_flags := part["marks"] & HAS_FLAGS != 0).mean() >= _MOSTLY:
        found = part["tcp_flags"][has_flags] & _ALL_FLAGS
        if np.isin(found, common(found)).mean() < _MOSTLY:
            yield Match(destination=target, protocol=Numeric.only(TCP), tcp_flags=_ODD_FLAGS)
            return
        for flags in common(found):
            absent = (_ALL_FLAGS & ~flags,) if flags != _ALL_FLAGS else ()
            yield Match(destination=target, protocol=Numeric.only(TCP), tcp_flags=_flags(flags, *absent))
    elif vector.kind in ("icmp_flood", "icmpv6_flood"):
        protocol = ICMP if vector.kind == "icmp_flood" else ICMPV6
        if (protocol == ICMPV6) != (target.version == 6):
            # The other family's ICMP: nobody needs any of it.
            yield Match(destination=target, protocol=Numeric.only(protocol))
            return
        found = part["icmp_type"][~np.isin(part["icmp_type"], _PROTECTED_ICMP[protocol])]
        if len(found) < SMALLEST * len(part):
            return
        types = common(found)
        named = Numeric.only(*types) if np.isin(found, types).mean() >= _MOSTLY else _ANY_ICMP[protocol]
        yield Match(destination=target, protocol=Numeric.only(protocol), icmp_type=named)
    else:
        protocols = few(part["protocol"], MOST_VALUES) or common(part["protocol"])
        is_told = np.isin(part["protocol"], protocols).mean() >= _MOSTLY
        yield Match(destination=target, protocol=Numeric.only(*protocols) if is_told else _IDLE_PROTOCOLS)
