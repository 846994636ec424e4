"""The match half of a FlowSpec rule (RFC 8955, RFC 8956): which packets.

A `Match` keeps its components as they were given; `normal()` is the form rules are stored and announced in, and
`covers`, `overlaps` and `subsumes` in `rules.relations` work on meanings, not spellings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from rules.components import Bitmask, Numeric
from rules.errors import Problem, Refused


class Family(Enum):
    """The address family of a FlowSpec NLRI; the value is its AFI."""

    IPV4 = 1
    IPV6 = 2

    @property
    def bits(self) -> int:
        """The length of an address, in bits."""
        return 32 if self is Family.IPV4 else 128

    @property
    def label(self) -> str:
        """`ipv4` or `ipv6`, as in ExaBGP's and our own text."""
        return self.name.lower()

    @classmethod
    def of(cls, prefix: "IPv4Network | IPv6Network | OffsetPrefix") -> "Family":
        """The family a prefix belongs to."""
        return cls.IPV4 if isinstance(prefix, IPv4Network) else cls.IPV6


@dataclass(frozen=True, slots=True)
class OffsetPrefix:
    """An IPv6 prefix component that skips leading bits (RFC 8956 §3.1); decoded, never announced."""

    pattern: IPv6Address
    """The bits to match at their place; bits outside offset…length are zero."""
    length: int
    offset: int

    def __post_init__(self) -> None:
        if not 0 < self.offset < self.length <= 128:
            reason = f"must be at least 1 and below the prefix length {self.length}, which is at most 128"
            raise Refused("offset", self.offset, reason)
        mask = ((1 << (self.length - self.offset)) - 1) << (128 - self.length)
        object.__setattr__(self, "pattern", IPv6Address(int(self.pattern) & mask))

    def __str__(self) -> str:
        return f"{self.pattern}/{self.length}/{self.offset}"


Prefix = IPv4Network | IPv6Network | OffsetPrefix
Network = IPv4Network | IPv6Network


class Component(IntEnum):
    """FlowSpec component types (RFC 8955 §4.2.2, RFC 8956 §3), in the order they must stand in an NLRI."""

    DESTINATION = 1
    SOURCE = 2
    PROTOCOL = 3
    PORT = 4
    DESTINATION_PORT = 5
    SOURCE_PORT = 6
    ICMP_TYPE = 7
    ICMP_CODE = 8
    TCP_FLAGS = 9
    PACKET_LENGTH = 10
    DSCP = 11
    FRAGMENT = 12
    FLOW_LABEL = 13

    @property
    def attribute(self) -> str:
        """The field of `Match` that holds it."""
        return _ATTRIBUTES[self]

    @property
    def keyword(self) -> str:
        """Its word in ExaBGP's block form."""
        return _KEYWORDS[self]


# Looked up for every component of every rule that is parsed, judged or written: names of enum members are slow to get.
_ATTRIBUTES = {component: component.name.lower() for component in Component}
_KEYWORDS = {component: name.replace("_", "-") for component, name in _ATTRIBUTES.items()}


MAXIMUM = {
    Component.PROTOCOL: 255,
    Component.PORT: 65535,
    Component.DESTINATION_PORT: 65535,
    Component.SOURCE_PORT: 65535,
    Component.ICMP_TYPE: 255,
    Component.ICMP_CODE: 255,
    Component.PACKET_LENGTH: 65535,
    Component.DSCP: 63,
    Component.FLOW_LABEL: 0xFFFFF,
}
"""The largest value of each numeric component."""

PREFIXES = (Component.DESTINATION, Component.SOURCE)
BITMASKS = (Component.TCP_FLAGS, Component.FRAGMENT)

TCP_FLAG_BITS = {
    name: 1 << bit for bit, name in enumerate(("fin", "syn", "rst", "push", "ack", "urg", "ece", "cwr", "ns"))
}
FRAGMENT_BITS = {"dont-fragment": 0x01, "is-fragment": 0x02, "first-fragment": 0x04, "last-fragment": 0x08}
FLAG_NAMES = {Component.TCP_FLAGS: TCP_FLAG_BITS, Component.FRAGMENT: FRAGMENT_BITS}

MASK_LIMIT = {Component.TCP_FLAGS: 0x0FFF, Component.FRAGMENT: 0x0F}
"""TCP bits beyond the reserved and flag bits are the data offset, which must not be tested (RFC 8955 §4.2.2.9)."""
FRAGMENT_MASK = {Family.IPV4: 0x0F, Family.IPV6: 0x0E}
"""The fragment bits there are: IPv6 has no don't-fragment (RFC 8956 §3.6)."""

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58


@dataclass(frozen=True, slots=True)
class Match:
    """Which packets: the AND of all components given. Construct through keywords; `family` follows the prefixes."""

    destination: Prefix | None = None
    source: Prefix | None = None
    protocol: Numeric | None = None
    """IPv6: the upper-layer protocol behind all extension headers (RFC 8956 §3.3)."""
    port: Numeric | None = None
    """Source or destination port."""
    destination_port: Numeric | None = None
    source_port: Numeric | None = None
    icmp_type: Numeric | None = None
    icmp_code: Numeric | None = None
    tcp_flags: Bitmask | None = None
    packet_length: Numeric | None = None
    """IP total length in bytes, without the link layer (RFC 8955 §4.2.2.10)."""
    dscp: Numeric | None = None
    fragment: Bitmask | None = None
    flow_label: Numeric | None = None
    """IPv6 only."""
    family: Family | None = None
    """Needed only where there is no prefix to tell it; IPv4 by default."""
    _given: "tuple[tuple[Component, Prefix | Numeric | Bitmask], ...]" = field(
        init=False, repr=False, compare=False, default=()
    )
    """Worked out once: whoever judges a rule asks for it dozens of times."""

    def __post_init__(self) -> None:
        given = ((component, getattr(self, attribute)) for component, attribute in _ATTRIBUTES.items())
        object.__setattr__(self, "_given", tuple((component, value) for component, value in given if value is not None))
        prefixes = {c: p for c in PREFIXES if (p := getattr(self, c.attribute)) is not None}
        if self.family is None:
            default = Family.IPV6 if self.flow_label is not None else Family.IPV4
            # The destination decides; a source of the other family is then the one that is wrong.
            object.__setattr__(self, "family", next(map(Family.of, prefixes.values()), default))
        if problems := tuple(self._problems(prefixes)):
            raise Refused.all(problems)

    def _problems(self, prefixes: dict[Component, Prefix]) -> Iterator[Problem]:
        if not self._given:
            yield Problem("match", "", "empty: it would match every packet; give at least a destination")
        for component, prefix in prefixes.items():
            if Family.of(prefix) is not self.family:
                reason = f"belongs to the other address family; this match is {self.ip_family.label}"
                yield Problem(component.keyword, str(prefix), reason)
        if self.flow_label is not None and self.family is Family.IPV4:
            yield Problem("flow-label", "", "exists in IPv6 only (RFC 8956 §3.7)")
        if self.fragment is not None and self.family is Family.IPV6 and _tests_dont_fragment(self.fragment):
            yield Problem("fragment", "dont-fragment", "does not exist in IPv6 (RFC 8956 §3.6); leave it out")
        for component, value in self.components():
            yield from _value_problems(component, value)

    @property
    def ip_family(self) -> Family:
        """`family`, known to be set."""
        assert self.family is not None
        return self.family

    def components(self) -> "tuple[tuple[Component, Prefix | Numeric | Bitmask], ...]":
        """The components present, in NLRI order."""
        return self._given

    def normal(self) -> "Match":
        """The same packets, written in the one form that is stored and announced."""
        changes: dict[str, Numeric | Bitmask] = {}
        for component, value in self.components():
            if isinstance(value, Numeric | Bitmask):
                normal = value.normal(MAXIMUM[component]) if isinstance(value, Numeric) else value.normal()
                if normal != value:
                    changes[component.attribute] = normal
        return replace(self, **changes) if changes else self  # type: ignore[arg-type]

    def meaning(self) -> tuple[object, ...]:
        """A hashable value that is equal for two matches exactly when they select the same packets, component by
        component."""
        parts: list[object] = [self.ip_family]
        for component, value in self.components():
            match value:
                case Numeric():
                    parts.append((component, value.spans(MAXIMUM[component])))
                case Bitmask():
                    meaning = value.meaning()
                    parts.append((component, meaning.support, tuple(sorted(meaning.accepted))))
                case _:
                    parts.append((component, str(value)))
        return tuple(parts)

    def __str__(self) -> str:
        from rules import text

        return text.render_match(self)

    @classmethod
    def parse(cls, given: str, family: Family | None = None) -> "Match":
        """The match of a text in ExaBGP's block form; `Match.parse(str(m), m.family) == m`.

        Raises `Refused` with every problem found. `family` matters only for a text without prefixes.
        """
        from rules import text

        return text.parse_match(given, family)


def _tests_dont_fragment(fragment: Bitmask) -> bool:
    return bool(fragment.mask() & FRAGMENT_BITS["dont-fragment"])


def _value_problems(component: Component, value: Prefix | Numeric | Bitmask) -> Iterator[Problem]:
    match value:
        case Numeric():
            limit = MAXIMUM[component]
            for comparison in value.comparisons():
                if not 0 <= comparison.value <= limit:
                    yield Problem(component.keyword, str(comparison.value), f"must be a number from 0 to {limit}")
        case Bitmask():
            limit = MASK_LIMIT[component]
            for test in value.tests():
                if not 0 <= test.mask <= limit:
                    yield Problem(component.keyword, hex(test.mask), f"has bits outside {limit:#x}")


def parse_prefix(field: str, given: str) -> Network:
    """An IPv4 or IPv6 prefix; host bits, missing lengths and anything else doubtful are refused, never rounded."""
    if "/" not in given:
        raise Refused(field, given, "write the prefix length: 192.0.2.7/32 for one IPv4 host, 2001:db8::7/128 for IPv6")
    if "%" in given:
        raise Refused(field, given, "has a zone index, which no prefix has; leave out what stands behind the %")
    if given.rsplit("/", 1)[1].isdecimal():
        try:
            return ip_network(given)
        except ValueError:
            # What is wrong with it is said below.
            pass
    try:
        loose = ip_network(given, strict=False)
    except ValueError:
        raise Refused(field, given, "is no IPv4 or IPv6 prefix, such as 192.0.2.0/24 or 2001:db8::/48") from None
    if not given.rsplit("/", 1)[1].isdecimal():
        raise Refused(field, given, f"write the prefix length as a number: {loose}")
    raise Refused(field, given, f"has host bits set; the prefix of that length is {loose}")
