"""What routers can hold: a profile for each platform, and what is wrong with a rule for it.

A valid rule can reset a session or vanish on the way. Profiles name what was measured (FRR, BIRD, GoBGP); `generic` is
what all of them and the hardware we know of take.
"""

from dataclasses import dataclass
from functools import reduce

from rules.action import RateLimit
from rules.components import Bitmask, Numeric, Operator
from rules.errors import Problem, Refused
from rules.findings import Finding, error, warning
from rules.match import FRAGMENT_BITS, PREFIXES, TCP_FLAG_BITS, Component, Family, Match, OffsetPrefix
from rules.rule import Blackhole, FlowSpec, Rule
from rules.wire import encode

ALL_FRAGMENTS = sum(FRAGMENT_BITS.values())
_WHOLE_NLRI = 4095
_ONE_BYTE_FLAGS = 0xFF


@dataclass(frozen=True, slots=True)
class Profile:
    """The limits of one platform, or of several together."""

    name: str
    families: frozenset[Family] = frozenset(Family)
    max_values_per_component: int | None = None
    """Operator-value pairs; a range counts two."""
    allows_not_equal: bool = True
    """`!=` on numbers; the normal form never has it."""
    allows_offset: bool = True
    """IPv6 prefixes that skip leading bits."""
    max_nlri_bytes: int = _WHOLE_NLRI
    """Without the length in front."""
    fragment_bits: int = ALL_FRAGMENTS
    """Fragment kinds it can test."""
    tcp_flag_bits: int = 0xFFF
    polices_rate: bool = True
    """Whether a rate above 0 has an effect; without it the rule is carried but does nothing."""
    allows_two_ports: bool = True
    """Source and destination port in one rule: carried everywhere, not enforced everywhere."""

    def and_(self, other: "Profile") -> "Profile":
        """What both can hold."""
        counts = [n for n in (self.max_values_per_component, other.max_values_per_component) if n is not None]
        return Profile(
            name=self.name if self.name == other.name else f"{self.name}+{other.name}",
            families=self.families & other.families,
            max_values_per_component=min(counts, default=None),
            allows_not_equal=self.allows_not_equal and other.allows_not_equal,
            allows_offset=self.allows_offset and other.allows_offset,
            max_nlri_bytes=min(self.max_nlri_bytes, other.max_nlri_bytes),
            fragment_bits=self.fragment_bits & other.fragment_bits,
            tcp_flag_bits=self.tcp_flag_bits & other.tcp_flag_bits,
            polices_rate=self.polices_rate and other.polices_rate,
            allows_two_ports=self.allows_two_ports and other.allows_two_ports,
        )


PROFILES = {
    profile.name: profile
    for profile in (
        # Measured: 8.4 resets the session (NOTIFICATION 3/9) on `!=`, on a sixth value and on an offset.
        Profile(
            "frr",
            max_values_per_component=5,
            allows_not_equal=False,
            allows_offset=False,
            polices_rate=False,
            allows_two_ports=False,
        ),
        # Measured: 2.0 resets the session on offsets as ExaBGP packs them (and on IPv6 dont-fragment, see `Match`).
        Profile("bird", allows_offset=False),
        # Measured: 3.10 drops an NLRI of 240 bytes or more, or with an offset, silently; it loses the NS flag.
        Profile("gobgp", allows_offset=False, max_nlri_bytes=239, tcp_flag_bits=_ONE_BYTE_FLAGS),
        Profile(
            "generic",
            max_values_per_component=5,
            allows_not_equal=False,
            allows_offset=False,
            max_nlri_bytes=239,
            tcp_flag_bits=_ONE_BYTE_FLAGS,
        ),
    )
}
"""By name, as `Neighbour.profiles` lists them."""


def intersect(names: tuple[str, ...]) -> Profile:
    """What all the named platforms can hold: a route reflector passes rules on to every client. None means generic."""
    unknown = [name for name in names if name not in PROFILES]
    if unknown:
        known = ", ".join(sorted(PROFILES))
        raise Refused.all(Problem("profiles", name, f"is unknown; known: {known}") for name in unknown)
    return reduce(Profile.and_, (PROFILES[name] for name in dict.fromkeys(names or ("generic",))))


def findings(rule: Rule, profile: Profile) -> tuple[Finding, ...]:
    """Everything about a rule that this platform can't hold or won't do; blackholes are plain routes and suit all."""
    if isinstance(rule, Blackhole):
        return ()
    return (*_match_findings(rule.match, profile), *_doubts(rule, profile))


def match_findings(match: Match, profile: Profile) -> tuple[Finding, ...]:
    """The same for a match as it stands, not brought into its normal form."""
    return tuple(_match_findings(match, profile))


def _match_findings(match: Match, profile: Profile) -> list[Finding]:
    found = []
    if match.ip_family not in profile.families:
        reason = f"{profile.name} takes no {match.ip_family.label} FlowSpec"
        found.append(error("platform.family", "match", match.ip_family.label, reason, "leave this neighbour out"))
    if match.family is Family.IPV6 and match.destination is None and match.source is None:
        # ExaBGP 5 tells the family by the prefixes and sends such a match as IPv4.
        reason = "an IPv6 rule without a prefix would go out as an IPv4 one"
        found.append(error("platform.prefix", "match", match, reason, "name the destination"))
    for component, value in match.components():
        if component in PREFIXES:
            found += _prefix_findings(component, value, profile)
        elif isinstance(value, Numeric):
            found += _numeric_findings(component, value, profile)
        elif isinstance(value, Bitmask):
            found += _bitmask_findings(component, value, match, profile)
    return found + _size_findings(match, profile)


def _prefix_findings(component: Component, value: object, profile: Profile) -> list[Finding]:
    if not isinstance(value, OffsetPrefix) or profile.allows_offset:
        return []
    reason = f"{profile.name} cannot hold an IPv6 offset: it resets the session or drops the rule"
    return [error("platform.offset", component.keyword, value, reason, "name a prefix without an offset")]


def _numeric_findings(component: Component, value: Numeric, profile: Profile) -> list[Finding]:
    found = []
    operators = {comparison.operator for comparison in value.comparisons()}
    if Operator.NOT_EQUAL in operators and not profile.allows_not_equal:
        reason = f"{profile.name} resets the session on !="
        found.append(error("platform.not-equal", component.keyword, "!=", reason, "write the two ranges beside it"))
    if operators & {Operator.TRUE, Operator.FALSE}:
        reason = "platforms disagree on true and false, and ExaBGP refuses them"
        found.append(error("platform.true-false", component.keyword, "true/false", reason, "leave the component out"))
    return found + _count_findings(component, sum(1 for _ in value.comparisons()), profile)


def _count_findings(component: Component, count: int, profile: Profile) -> list[Finding]:
    limit = profile.max_values_per_component
    if limit is None or count <= limit:
        return []
    reason = f"{count} values, and {profile.name} holds {limit} a component (a range counts two)"
    fix = f"split it into rules of at most {limit} values, or widen to a range"
    return [error("platform.values", component.keyword, count, reason, fix)]


def _bitmask_findings(component: Component, value: Bitmask, match: Match, profile: Profile) -> list[Finding]:
    found = _count_findings(component, sum(1 for _ in value.tests()), profile)
    if component is Component.TCP_FLAGS and (extra := value.mask() & ~profile.tcp_flag_bits):
        reason = f"{profile.name} tests the flags {_names(profile.tcp_flag_bits, TCP_FLAG_BITS)} only"
        found.append(error("platform.tcp-flags", component.keyword, hex(extra), reason, "leave the others out"))
    if component is not Component.FRAGMENT:
        return found
    if extra := value.mask() & ~profile.fragment_bits:
        reason = f"{profile.name} tests {_names(profile.fragment_bits, FRAGMENT_BITS)} only"
        fix = "leave it out"
        found.append(error("platform.fragment", component.keyword, _names(extra, FRAGMENT_BITS), reason, fix))
    return found


def _names(mask: int, known: dict[str, int]) -> str:
    return ", ".join(name for name, bit in known.items() if mask & bit) or hex(mask)


def _size_findings(match: Match, profile: Profile) -> list[Finding]:
    if _longest(match) <= profile.max_nlri_bytes:
        return []
    try:
        nlri = encode(match)
    except Refused as refusal:
        fix = "split the rule"
        return [error("platform.nlri", "match", "", problem.reason, fix) for problem in refusal.problems]
    size = len(nlri) - (1 if nlri[0] < 0xF0 else 2)
    if size <= profile.max_nlri_bytes:
        return []
    reason = f"encodes to {size} bytes; {profile.name} holds {profile.max_nlri_bytes} and drops longer ones silently"
    return [error("platform.nlri", "match", size, reason, "split the rule, or use ranges")]


def _longest(match: Match) -> int:
    """More bytes than its NLRI can have, without encoding it: type, length, offset and address; 5 for each value."""
    return sum(
        1 + 5 * sum(map(len, value.groups)) if isinstance(value, Numeric | Bitmask) else 19
        for _, value in match.components()
    )


def _doubts(rule: FlowSpec, profile: Profile) -> list[Finding]:
    found = []
    if isinstance(rule.action, RateLimit) and not profile.polices_rate:
        reason = f"{profile.name} ignores every rate but 0: all of the traffic passes"
        fix = "discard, or enforce elsewhere"
        found.append(warning("platform.rate", "rate-limit", rule.action.bytes_per_second, reason, fix))
    if rule.match.source_port and rule.match.destination_port and not profile.allows_two_ports:
        reason = f"{profile.name} does not install rules with both source and destination port"
        found.append(warning("platform.two-ports", "source-port", "", reason, "leave one of them out"))
    return found
