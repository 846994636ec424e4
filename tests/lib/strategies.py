"""Hypothesis strategies for the values of `rules`; small pools of addresses and numbers, so that things collide."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from hypothesis import strategies as st

from rules.action import Action, Discard, RateLimit
from rules.components import Bitmask, Comparison, FlagTest, Numeric, Operator
from rules.match import (
    BITMASKS,
    FRAGMENT_MASK,
    ICMP,
    ICMPV6,
    MASK_LIMIT,
    MAXIMUM,
    PREFIXES,
    TCP,
    UDP,
    Component,
    Family,
    Match,
    Network,
    OffsetPrefix,
    Prefix,
)
from rules.neighbour import Address, Neighbour, Role, SessionFamily
from rules.rule import Blackhole, FlowSpec, Rule, Scope
from rules.special import WIDEST, special
from rules.traffic import AMPLIFICATION_SERVICES, Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import DEFAULT_LIMITS, Metric, Mode, Zone

OWN_IPV4 = (IPv4Network("203.0.113.0/24"), IPv4Network("198.51.100.0/22"))
"""Prefixes of ours in tests."""
OWN_IPV6 = (IPv6Network("2001:db8::/44"),)
OWN: tuple[Network, ...] = OWN_IPV4 + OWN_IPV6

_POOL_IPV4 = [
    int(IPv4Address(a)) for a in ("203.0.113.7", "203.0.113.128", "198.51.100.1", "192.0.2.53", "10.0.0.1", "0.0.0.0")
]
_POOL_IPV6 = [int(IPv6Address(a)) for a in ("2001:db8::7", "2001:db8:0:1::", "2001:db8:f::1", "fe80::1", "::")]

families = st.sampled_from(Family)


# --------------------------------------------------------------------------------------------------------- prefixes


def address_numbers(family: Family) -> st.SearchStrategy[int]:
    """Addresses as numbers, mostly from a small pool."""
    pool = _POOL_IPV4 if family is Family.IPV4 else _POOL_IPV6
    return st.one_of(st.sampled_from(pool), st.sampled_from(pool), st.integers(0, 2**family.bits - 1))


@st.composite
def networks(draw: st.DrawFn, family: Family | None = None, shortest: int = 0, longest: int | None = None) -> Network:
    """Prefixes without host bits, of `shortest` to `longest` bits."""
    family = family or draw(families)
    usual = [n for n in (0, 8, 16, 22, 23, 24, 25, 31, 32, 44, 48, 56, 64, 127, 128) if shortest <= n <= family.bits]
    limit = family.bits if longest is None else longest
    usual = [n for n in usual if n <= limit]
    lengths = st.integers(shortest, limit)
    length = draw(st.one_of(st.sampled_from(usual), lengths) if usual else lengths)
    return cut(draw(address_numbers(family)), length, family)


def cut(address: int, length: int, family: Family) -> Network:
    """The prefix of this length that holds the address."""
    start = address >> (family.bits - length) << (family.bits - length)
    return IPv4Network((start, length)) if family is Family.IPV4 else IPv6Network((start, length))


@st.composite
def subnets(draw: st.DrawFn, of: Network, shortest: int = 0) -> Network:
    """Prefixes inside another, itself included, not shorter than `shortest`."""
    family = Family.of(of)
    start = max(of.prefixlen, shortest)
    length = draw(st.one_of(st.sampled_from([start, family.bits]), st.integers(start, family.bits)))
    host = draw(st.one_of(st.integers(0, 3), st.integers(0, of.num_addresses - 1)))
    return cut(int(of.network_address) + host % of.num_addresses, length, family)


@st.composite
def offset_prefixes(draw: st.DrawFn) -> OffsetPrefix:
    """IPv6 prefixes that skip leading bits."""
    offset = draw(st.integers(1, 127))
    length = draw(st.integers(offset + 1, 128))
    return OffsetPrefix(IPv6Address(draw(address_numbers(Family.IPV6))), length, offset)


def prefixes(family: Family, offsets: bool = True) -> st.SearchStrategy[Prefix]:
    """Any prefix component of the family."""
    if family is Family.IPV6 and offsets:
        return st.one_of(networks(family), networks(family), offset_prefixes())
    return networks(family)


# ------------------------------------------------------------------------------------------------------- components

_TELLING = {
    Component.PROTOCOL: (0, 1, 2, 6, 17, 47, 58, 89, 255),
    Component.ICMP_TYPE: (0, 1, 2, 3, 4, 8, 128, 133, 137, 255),
    Component.PACKET_LENGTH: (0, 19, 20, 40, 41, 1500, 9216, 65535),
    Component.DSCP: (0, 1, 46, 63),
    Component.FLOW_LABEL: (0, 1, 70000, 0xFFFFF),
}
_PORTS = (0, 1, 53, 54, 80, 123, 179, 443, 3784, 65535)


def numbers(component: Component) -> st.SearchStrategy[int]:
    """Values of a numeric component, mostly telling ones."""
    telling = _TELLING.get(component, tuple(n for n in _PORTS if n <= MAXIMUM[component]))
    return st.one_of(st.sampled_from(telling), st.integers(0, MAXIMUM[component]))


def comparisons(component: Component) -> st.SearchStrategy[Comparison]:
    """Any comparison, TRUE and FALSE included."""
    return st.builds(Comparison, st.sampled_from(Operator), numbers(component))


def _groups(tests: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[tuple[Any, ...], ...]]:
    group = st.lists(tests, min_size=1, max_size=3).map(tuple)
    return st.lists(group, min_size=1, max_size=4).map(tuple)


def numerics(component: Component) -> st.SearchStrategy[Numeric]:
    """Any numeric component: nonsense such as empty and universal sets included."""
    return _groups(comparisons(component)).map(Numeric)


def plain_numerics(component: Component) -> st.SearchStrategy[Numeric]:
    """What people write: a few values or one range."""
    values = st.lists(numbers(component), min_size=1, max_size=3).map(lambda given: Numeric.only(*given))
    ends = st.tuples(numbers(component), numbers(component)).map(sorted)
    return st.one_of(values, ends.map(lambda given: Numeric.between(*given)))


def flag_tests(limit: int) -> st.SearchStrategy[FlagTest]:
    """Any flag test on these bits, the empty mask included."""
    mask = st.one_of(st.sampled_from([1, 2, 4, 8, 2 | 16]), st.integers(0, limit)).map(lambda given: given & limit)
    return st.builds(FlagTest, mask, st.booleans(), st.booleans())


def bitmasks(component: Component, family: Family = Family.IPV4) -> st.SearchStrategy[Bitmask]:
    """Any flags component; IPv6 fragments have one bit less."""
    limit = FRAGMENT_MASK[family] if component is Component.FRAGMENT else MASK_LIMIT[component]
    return _groups(flag_tests(limit)).map(Bitmask)


# ---------------------------------------------------------------------------------------------------------- matches


def component_values(component: Component, family: Family, offsets: bool = True) -> st.SearchStrategy[Any]:
    """Any value of one component."""
    if component in PREFIXES:
        return prefixes(family, offsets)
    return bitmasks(component, family) if component in BITMASKS else numerics(component)


@st.composite
def matches(draw: st.DrawFn, family: Family | None = None, offsets: bool = True) -> Match:
    """Any valid match of one family (both, unless given), sense or nonsense."""
    family = family or draw(families)
    known = [c for c in Component if not (c is Component.FLOW_LABEL and family is Family.IPV4)]
    chosen = draw(st.sets(st.sampled_from(known), min_size=1, max_size=5))
    fields = {c.attribute: draw(component_values(c, family, offsets)) for c in sorted(chosen)}
    return Match(family=family, **fields)


@st.composite
def sensible_matches(draw: st.DrawFn, destination: Network | None = None) -> Match:
    """Matches of the kind that pass the guard: destination inside `OWN`, one protocol and what goes with it."""
    if destination is None:
        own = draw(st.sampled_from(OWN))
        floor = 24 if own.version == 4 else 48
        destination = draw(st.one_of(hosts(), subnets(own, floor)))
    family = Family.of(destination)
    fields: dict[str, Any] = {"destination": destination}
    if draw(st.booleans()):
        fields["source"] = draw(networks(family, shortest=1))
    fields |= draw(st.one_of(_ports(), _tcp_flags(), _icmp(family), _lengths(), st.just({})))
    return Match(**fields)


def _ports() -> st.SearchStrategy[dict[str, Any]]:
    protocol = st.sampled_from([(TCP,), (UDP,), (TCP, UDP)]).map(lambda given: Numeric.only(*given))
    names = st.sampled_from([("port",), ("source_port",), ("destination_port",), ("source_port", "destination_port")])
    return st.tuples(protocol, names).flatmap(
        lambda given: st.fixed_dictionaries(
            {"protocol": st.just(given[0])} | {name: plain_numerics(Component.SOURCE_PORT) for name in given[1]}
        )
    )


def _tcp_flags() -> st.SearchStrategy[dict[str, Any]]:
    flags = st.builds(FlagTest, st.sampled_from([1, 2, 4, 8, 16, 18]), st.booleans(), st.booleans())
    return st.fixed_dictionaries({"protocol": st.just(Numeric.only(TCP)), "tcp_flags": flags.map(Bitmask.of)})


def _icmp(family: Family) -> st.SearchStrategy[dict[str, Any]]:
    protocol, types = (ICMP, (0, 8, 3, 4)) if family is Family.IPV4 else (ICMPV6, (128, 129, 1, 2, 135))
    chosen = st.sets(st.sampled_from(types), min_size=1).map(lambda given: Numeric.only(*given))
    return st.fixed_dictionaries({"protocol": st.just(Numeric.only(protocol)), "icmp_type": chosen})


def _lengths() -> st.SearchStrategy[dict[str, Any]]:
    ends = st.lists(st.integers(40, 9216), min_size=2, max_size=2).map(sorted)
    lengths = ends.map(lambda given: Numeric.between(*given))
    return st.fixed_dictionaries({"protocol": st.just(Numeric.only(UDP)), "packet_length": lengths})


# ------------------------------------------------------------------------------------------------ rules and settings

actions: st.SearchStrategy[Action] = st.one_of(
    st.just(Discard()), st.builds(RateLimit, st.one_of(st.integers(1, 20_000), st.integers(1, RateLimit.MAXIMUM)))
)
scopes = st.sampled_from(Scope)


def flowspecs(match: st.SearchStrategy[Match] | None = None) -> st.SearchStrategy[FlowSpec]:
    """FlowSpec rules, of any match unless given."""
    return st.builds(FlowSpec, matches() if match is None else match, actions)


def blackholes(prefix: st.SearchStrategy[Network] | None = None) -> st.SearchStrategy[Blackhole]:
    """Blackholes, of any prefix unless given."""
    return st.builds(Blackhole, networks() if prefix is None else prefix, scopes)


def hosts() -> st.SearchStrategy[Network]:
    """Single addresses inside `OWN`."""
    return st.sampled_from(OWN).flatmap(lambda own: subnets(own, 32 if own.version == 4 else 128))


def rules() -> st.SearchStrategy[Rule]:
    """Any rule, sense or nonsense."""
    return st.one_of(flowspecs(), blackholes())


def sensible_rules() -> st.SearchStrategy[Rule]:
    """Rules of the kind that pass the guard, for targets inside `OWN`."""
    return st.one_of(flowspecs(sensible_matches()), blackholes(hosts()))


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)


zone_prefixes = st.one_of(networks(Family.IPV4, WIDEST[4]), networks(Family.IPV6, WIDEST[6])).filter(
    lambda prefix: special(prefix) is None
)
"""What a zone may hold that is stored."""


@st.composite
def zones(draw: st.DrawFn, name: str | None = None) -> Zone:
    """Any valid zone; prefixes may lie outside `OWN`."""
    metrics = draw(st.sets(st.sampled_from(Metric), max_size=4))
    limits = tuple((metric, draw(st.integers(1, 10**15))) for metric in sorted(metrics, key=lambda m: m.value))
    blackhole = draw(st.booleans())
    return Zone(
        name=name or draw(names),
        prefixes=tuple(draw(st.lists(zone_prefixes, min_size=1, max_size=3))),
        owner=draw(st.sampled_from(["operator", "tenant-a", "tenant-b"])),
        mode=draw(st.sampled_from(Mode)),
        limits=draw(st.sampled_from([limits, DEFAULT_LIMITS])),
        prefix_factor=draw(st.floats(1, 256)),
        total_limits=draw(st.sampled_from([limits, ()])),
        learned=draw(st.booleans()),
        action=draw(actions),
        rule_lifetime_seconds=draw(st.integers(10, 86_400)),
        collateral_limit=draw(st.floats(0, 1)),
        automatic_rules=draw(st.integers(0, 10_000)),
        blackhole=blackhole,
        blackhole_bits_per_second=draw(st.integers(1, 10**12))
        if blackhole
        else draw(st.none() | st.integers(1, 10**9)),
    )


def _ipv4_ends(ends: list[int]) -> tuple[Address, Address]:
    return IPv4Address("192.0.2.0") + ends[0], IPv4Address("192.0.2.0") + ends[1]


def _ipv6_ends(ends: list[int]) -> tuple[Address, Address]:
    return IPv6Address("fd00::") + ends[0], IPv6Address("fd00::") + ends[1]


@st.composite
def neighbours(draw: st.DrawFn, profiles: tuple[str, ...] | None = None) -> Neighbour:
    """Any valid neighbour."""
    role = draw(st.sampled_from(Role))
    local_as = draw(st.integers(1, 2**32 - 2))
    multihop = draw(st.none() | st.integers(2, 255))
    permitted = st.lists(networks(shortest=1), min_size=1 if role is Role.UPSTREAM else 0, max_size=3)
    ends = draw(st.lists(st.integers(1, 250), min_size=2, max_size=2, unique=True))
    peer, local = draw(st.sampled_from([_ipv4_ends, _ipv6_ends]))(ends)
    return Neighbour(
        name=draw(names),
        peer_address=peer,
        local_address=local,
        peer_as=draw(st.just(local_as) | st.integers(1, 2**32 - 2)),
        local_as=local_as,
        router_id=IPv4Address(draw(st.integers(1, 2**32 - 2))),
        families=frozenset(draw(st.sets(st.sampled_from(SessionFamily), min_size=1))),
        role=role,
        profiles=profiles or tuple(draw(st.lists(st.sampled_from(["generic", "frr", "bird", "gobgp"]), min_size=1))),
        budget=draw(st.integers(1, 100_000)),
        permitted=tuple(draw(permitted)),
        next_hop_ipv4=IPv4Address("192.0.2.1"),
        next_hop_ipv6=IPv6Address("100::1"),
        port=draw(st.integers(1, 65535)),
        passive=draw(st.booleans()),
        hold_time_seconds=draw(st.integers(3, 65535)),
        multihop_ttl=multihop,
        gtsm_hops=draw(st.none() | st.integers(1, 254)) if multihop is None else None,
        graceful_restart_seconds=draw(st.none() | st.integers(1, 120)),
        md5_password=draw(st.none() | st.from_regex(r"[A-Za-z0-9!$%&()*+,.:<=>?@^_`|~-]{1,80}", fullmatch=True)),
    )


# -------------------------------------------------------------------------------------------------------- detections

shares = st.floats(0, 1)
_KINDS = ("syn_flood", "synack_reflection", "udp_flood", "icmp_flood", "ip_fragment_flood", "carpet_bombing")
vectors = st.one_of(
    st.sampled_from(_KINDS).map(Vector),
    st.sampled_from(sorted(AMPLIFICATION_SERVICES.values())).map(lambda service: Vector("udp_amp", service)),
)
rates = st.builds(Rate, st.floats(0, 1e9), st.floats(0, 1e13))
moments = st.datetimes(datetime(2024, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
"""Aware UTC."""


@st.composite
def detections(draw: st.DrawFn, target: Network | None = None, zone: str | None = None) -> Detection:
    """Any valid detection; for a given target the signatures name it."""
    target = target or draw(hosts())
    limits = st.none() | st.integers(1, 10**12)
    signature = st.builds(Signature, sensible_matches(target), shares, st.none() | shares, limits)
    vector_shares = st.builds(VectorShare, vectors, shares, shares)
    found = draw(st.lists(vector_shares, min_size=1, max_size=4, unique_by=lambda share: share.vector))
    first = draw(moments)
    return Detection(
        sensor=draw(names),
        attack=draw(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)),
        sequence=draw(st.integers(0, 2**40)),
        zone=zone or draw(names),
        target=target,
        state=draw(st.sampled_from(State)),
        vantage=draw(st.sampled_from(Vantage)),
        confirmed=draw(st.booleans()),
        severity=draw(st.floats(0, 1e6)),
        metric=draw(st.sampled_from(Metric)).value,
        rate=draw(rates),
        peak=draw(rates),
        vectors=tuple(sorted(found, key=lambda share: -share.packets)),
        signatures=tuple(draw(st.lists(signature, max_size=4))),
        sources=draw(st.integers(0, 2**32)),
        spoofed=draw(st.none() | st.booleans()),
        first_seen=first,
        seen=first + timedelta(seconds=draw(st.floats(0, 86_400))),
        confidence=draw(shares),
    )
