"""FlowSpec NLRI, bytes both ways (RFC 8955 §4, RFC 8956 §3).

`decode` refuses what the RFCs forbid and everything that another implementation might read differently, and ignores
what they want ignored; what it accepts and `encode` writes is byte for byte the same, as long as the sender used the
shortest form of every value and left such bits alone.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_network
from typing import TypeVar

from rules.components import Bitmask, Comparison, FlagTest, Numeric, Operator
from rules.errors import Refused
from rules.match import (
    BITMASKS,
    FRAGMENT_MASK,
    MASK_LIMIT,
    MAXIMUM,
    PREFIXES,
    Component,
    Family,
    Match,
    OffsetPrefix,
    Prefix,
)

LENGTH_LIMIT = 4095
"""The two-byte length has 12 bits (RFC 8955 §4.1)."""

T = TypeVar("T")

_END, _AND, _LENGTH_BITS, _NOT, _MATCH = 0x80, 0x40, 0x30, 0x02, 0x01

_WIDTHS = {
    Component.TCP_FLAGS: (1, 2),
    Component.FRAGMENT: (1,),
    Component.DSCP: (1,),
}
"""Value widths in bytes the RFC insists on (RFC 8955 §4.2.2.9, .11, .12); elsewhere it only advises."""


def encode(match: Match) -> bytes:
    """The NLRI of a match, with its length in front."""
    body = b"".join(encode_component(component, value) for component, value in match.components())
    if len(body) > LENGTH_LIMIT:
        raise Refused("match", match, f"encodes to {len(body)} bytes; an NLRI holds at most {LENGTH_LIMIT}")
    if len(body) < 0xF0:
        return bytes((len(body),)) + body
    return (0xF000 | len(body)).to_bytes(2, "big") + body


def decode(nlri: bytes, family: Family) -> Match:
    """The match of exactly one NLRI, its length in front; all other bytes raise `Refused` and nothing else."""
    match, rest = decode_first(nlri, family)
    if rest:
        raise Refused("nlri", nlri.hex(), f"{len(rest)} bytes too many behind the {len(nlri) - len(rest)} of the NLRI")
    return match


def decode_first(nlris: bytes, family: Family) -> tuple[Match, bytes]:
    """The first match of a sequence of NLRIs, and the bytes behind it."""
    reader = _Reader(nlris, nlris, family)
    length = reader.take(1)[0]
    if length >= 0xF0:
        length = (length & 0x0F) << 8 | reader.take(1)[0]
    body = _Reader(nlris, reader.take(length), family)
    fields: dict[str, object] = {}
    previous = 0
    while body.rest:
        component = _component(body, previous)
        previous = component
        fields[component.attribute] = _decode_component(component, body)
    if not fields:
        raise Refused("nlri", nlris.hex(), "has no components: it would match every packet")
    return Match(family=family, **fields), reader.rest  # type: ignore[arg-type]


class _Reader:
    """A cursor over bytes that refuses to read past the end."""

    def __init__(self, whole: bytes, rest: bytes, family: Family) -> None:
        self.whole, self.rest, self.family = whole, rest, family

    def take(self, count: int) -> bytes:
        if len(self.rest) < count:
            missing = count - len(self.rest)
            raise Refused("nlri", self.whole.hex(), f"ends {missing} byte{'s' * (missing > 1)} too early")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def refuse(self, reason: str) -> Refused:
        return Refused("nlri", self.whole.hex(), reason)


def _component(reader: _Reader, previous: int) -> Component:
    number = reader.take(1)[0]
    try:
        component = Component(number)
    except ValueError:
        raise reader.refuse(f"unknown component type {number}") from None
    if component is Component.FLOW_LABEL and reader.family is Family.IPV4:
        raise reader.refuse("component type 13 (flow-label) exists in IPv6 only")
    if number == previous:
        raise reader.refuse(f"component {component.keyword} stands twice (RFC 8955 §4.2)")
    if number < previous:
        raise reader.refuse(f"component {component.keyword} stands behind a higher type (RFC 8955 §4.2)")
    return component


def _decode_component(component: Component, reader: _Reader) -> Prefix | Numeric | Bitmask:
    if component in PREFIXES:
        return _decode_prefix(component, reader)
    if component in BITMASKS:
        return Bitmask(_decode_groups(component, reader, _flag_test))
    return Numeric(_decode_groups(component, reader, _comparison))


def _decode_prefix(component: Component, reader: _Reader) -> Prefix:
    length, family = reader.take(1)[0], reader.family
    offset = reader.take(1)[0] if family is Family.IPV6 else 0
    if length > family.bits:
        raise reader.refuse(f"{component.keyword} has prefix length {length}; {family.label} ends at {family.bits}")
    if offset and offset >= length:
        raise reader.refuse(f"{component.keyword} has offset {offset}, not below its length {length} (RFC 8956 §3.1)")
    count = length - offset
    raw = int.from_bytes(reader.take((count + 7) // 8), "big") >> (-count % 8)
    if offset:
        return OffsetPrefix(IPv6Address(raw << (128 - length)), length, offset)
    address = (raw << (family.bits - length)).to_bytes(family.bits // 8, "big")
    return ip_network((address, length))


def _decode_groups(
    component: Component, reader: _Reader, test: Callable[[Component, _Reader, int, int], T]
) -> tuple[tuple[T, ...], ...]:
    groups: list[list[T]] = []
    while True:
        operator = reader.take(1)[0]
        width = 1 << ((operator & _LENGTH_BITS) >> 4)
        allowed = _WIDTHS.get(component)
        if allowed and width not in allowed:
            raise reader.refuse(
                f"{component.keyword} has a value of {width} bytes; allowed: {allowed} (RFC 8955 §4.2.2)"
            )
        value = int.from_bytes(reader.take(width), "big")
        parsed = test(component, reader, operator, value)
        # The AND bit of the first operator has no meaning and counts as unset (RFC 8955 §4.2.1.1).
        if operator & _AND and groups:
            groups[-1].append(parsed)
        else:
            groups.append([parsed])
        if operator & _END:
            return tuple(map(tuple, groups))


def _comparison(component: Component, reader: _Reader, operator: int, value: int) -> Comparison:
    if component is Component.DSCP:
        value &= MAXIMUM[component]  # the bits above count as 0 (RFC 8955 §4.2.2.11)
    if value > MAXIMUM[component]:
        raise reader.refuse(f"{component.keyword} has the value {value}; it ends at {MAXIMUM[component]}")
    return Comparison(Operator(operator & 0x07), value)


def _flag_test(component: Component, reader: _Reader, operator: int, value: int) -> FlagTest:
    if component is Component.FRAGMENT:
        value &= FRAGMENT_MASK[reader.family]  # other bits must be ignored (RFC 8955 §4.2.2.12, RFC 8956 §3.6)
    elif value > MASK_LIMIT[component]:
        raise reader.refuse(f"{component.keyword} tests the data offset ({value:#06x}), which must be zero")
    return FlagTest(value, exact=bool(operator & _MATCH), negated=bool(operator & _NOT))


# --------------------------------------------------------------------------------------------------------- encoding


def encode_component(component: Component, value: Prefix | Numeric | Bitmask) -> bytes:
    """One component as it stands in an NLRI, its type in front."""
    match value:
        case Numeric():
            groups = [[(int(comparison.operator), comparison.value) for comparison in group] for group in value.groups]
            return bytes((component,)) + _encode_groups(groups, _numeric_width)
        case Bitmask():
            tests = [[(_flag_operator(test), test.mask) for test in group] for group in value.groups]
            return bytes((component,)) + _encode_groups(tests, _flag_width)
        case _:
            return bytes((component,)) + _encode_prefix(value)


def _encode_prefix(prefix: Prefix) -> bytes:
    if isinstance(prefix, OffsetPrefix):
        count = prefix.length - prefix.offset
        raw = (int(prefix.pattern) >> (128 - prefix.length)) << (-count % 8)
        return bytes((prefix.length, prefix.offset)) + raw.to_bytes((count + 7) // 8, "big")
    head = bytes((prefix.prefixlen, 0) if isinstance(prefix, IPv6Network) else (prefix.prefixlen,))
    return head + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]


def _encode_groups(groups: Sequence[Sequence[tuple[int, int]]], width_of: Callable[[int], int]) -> bytes:
    out = bytearray()
    last = (len(groups) - 1, len(groups[-1]) - 1)
    for i, group in enumerate(groups):
        for j, (operator, value) in enumerate(group):
            width = width_of(value)
            length_bits = (width.bit_length() - 1) << 4
            out.append(operator | length_bits | (_AND if j else 0) | (_END if (i, j) == last else 0))
            out += value.to_bytes(width, "big")
    return bytes(out)


def _flag_operator(test: FlagTest) -> int:
    return (_NOT if test.negated else 0) | (_MATCH if test.exact else 0)


def _numeric_width(value: int) -> int:
    return 1 if value < 1 << 8 else 2 if value < 1 << 16 else 4


def _flag_width(value: int) -> int:
    return 1 if value < 1 << 8 else 2
