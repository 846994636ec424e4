"""What the guard is asked and what it needs to know to answer: the request, the limits, and what is around it."""

from dataclasses import dataclass, field

from rules.guard_active import ActiveRules, Origin
from rules.match import Family, Network
from rules.neighbour import Neighbour
from rules.rule import Blackhole, Rule, RuleId
from rules.zone import Zone


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants a rule."""

    rule: Rule
    owner: str
    """The tenant it is for: may only touch his zones, unless an operator or the automation asks."""
    origin: Origin
    lifetime_seconds: float
    """From now to the withdrawal; mandatory."""
    is_operator: bool = False
    """Whether a person of the network asks, rather than a tenant."""
    collateral: float | None = None
    """Share of the target's normal traffic that matches, 0 to 1; None where it was not measured."""
    replaces: RuleId | None = None
    """The held rule that this one takes the place of: its own id to change an action, or to check a held rule again."""
    person_decides: bool = False
    """A person looks at it before it goes out, or has: measured collateral then warns instead of refusing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How wide, how long and how many."""

    flowspec_floor_ipv4: int = 24
    """The shortest prefix length a FlowSpec rule may name."""
    flowspec_floor_ipv6: int = 48
    blackhole_floor_ipv4: int = 32
    """RFC 7999 §3.3: as specific as possible."""
    blackhole_floor_ipv6: int = 128
    manual_lifetime_seconds: int = 86_400
    automatic_lifetime_seconds: int = 3_600
    alone_seconds: int = 86_400
    """How long the machine may act on one attack, renewals included, without a person's word."""
    mtu: int = 9_216
    """Bytes; a packet-length beyond it never comes."""
    lowest_rate: int = 9_600
    """Bytes per second; routers police less badly, and ExaBGP warns."""
    total_rules: int = 5_000
    automatic_rules: int = 1_000
    """Of them, those no person looked at."""
    per_minute: int = 600
    """New announcements."""

    def floor(self, rule: Rule) -> int:
        """The shortest prefix length for this rule's kind and family."""
        if isinstance(rule, Blackhole):
            return self.blackhole_floor_ipv4 if rule.prefix.version == 4 else self.blackhole_floor_ipv6
        return self.flowspec_floor_ipv4 if rule.match.family is Family.IPV4 else self.flowspec_floor_ipv6

    def lifetime_seconds(self, origin: Origin) -> int:
        """The longest lifetime a rule of this origin may have."""
        return self.automatic_lifetime_seconds if origin.is_automatic else self.manual_lifetime_seconds


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world a request is judged in."""

    zones: tuple[Zone, ...]
    neighbours: tuple[Neighbour, ...] = ()
    """Where it would go; their addresses and next hops count as infrastructure. None: that part is not judged."""
    protected: tuple[Network, ...] = ()
    """Never touched by any rule, neither as destination nor as a named source: management, resolvers, sensors."""
    infrastructure: tuple[Network, ...] = ()
    """Router addresses and peering LANs: routing protocols and path MTU discovery must go through."""
    active: ActiveRules = field(default_factory=ActiveRules)
    limits: Limits = field(default_factory=Limits)
    recent: int = 0
    """Announcements in the last minute."""
