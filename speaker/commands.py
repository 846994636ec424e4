"""What Stopbank says to ExaBGP 5: typed values in, command lines out. No other module knows ExaBGP's grammar.

ExaBGP is no validator: its flat form can match everything, lists without brackets are cut short, a stray word can crash
it. So only the block form is written, only from typed values, only with `[ … ]` around several values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from rules.components import Numeric, Operator
from rules.errors import Problem, Refused
from rules.match import OffsetPrefix
from rules.neighbour import Address, Neighbour, Role, SessionFamily
from rules.rule import Blackhole, FlowSpec, Rule, Scope

Community = tuple[int, int]

NO_EXPORT: Community = (65535, 65281)
"""RFC 1997: stays within the AS."""

LINE_LIMIT = 1024 * 1024
"""ExaBGP ends a process whose line is longer."""

BATCH_LIMIT = 200
"""Blackholes in one command: the line stays below 16 KiB, which is what ExaBGP reads at once."""


@dataclass(frozen=True, slots=True)
class Route:
    """One rule as one neighbour is told it: all that distinguishes UPDATEs."""

    rule: Rule
    communities: tuple[Community, ...] = ()
    next_hop: Address | None = None
    """For blackholes; a FlowSpec rule has none."""


def route(rule: Rule, neighbour: Neighbour) -> Route:
    """The rule as this neighbour must hear it; raises `Refused` for what can't be said to it."""
    if problems := tuple(_unspeakable(rule)):
        raise Refused.all(problems)
    match rule:
        case FlowSpec():
            return Route(rule, (NO_EXPORT,) if neighbour.role is Role.OWN_EDGE else ())
        case Blackhole(prefix=prefix, scope=scope):
            is_ipv4 = isinstance(prefix, IPv4Network)
            next_hop: Address | None = neighbour.next_hop_ipv4 if is_ipv4 else neighbour.next_hop_ipv6
            if next_hop is None:
                raise Refused("next_hop", neighbour.name, f"is needed to blackhole {prefix} there")
            # RFC 7999 §3.2: the provider decides how far a blackhole travels in his network, so no NO_EXPORT.
            local = (NO_EXPORT,) if scope is Scope.LOCAL else ()
            return Route(rule, tuple(sorted({*neighbour.blackhole_communities, *local})), next_hop)


def family(rule: Rule) -> SessionFamily:
    """The session family that carries a rule."""
    match rule:
        case FlowSpec(match=match):
            return SessionFamily(f"{match.ip_family.label} flow")
        case Blackhole(prefix=prefix):
            return SessionFamily.IPV4_UNICAST if prefix.version == 4 else SessionFamily.IPV6_UNICAST


def _unspeakable(rule: Rule) -> Iterable[Problem]:
    if isinstance(rule, Blackhole):
        return
    if rule.match.destination is None and rule.match.source is None:
        # Without a prefix ExaBGP guesses the address family.
        yield Problem("destination", "", "a rule without destination and source is not announced")
    for component, value in rule.match.components():
        if isinstance(value, OffsetPrefix):
            yield Problem(component.keyword, str(value), "prefixes with an offset are not announced")
        if isinstance(value, Numeric):
            for comparison in value.comparisons():
                if comparison.operator in (Operator.TRUE, Operator.FALSE):
                    yield Problem(component.keyword, str(rule.match), "matches everything or nothing; leave it out")


# -------------------------------------------------------------------------------------------------------- announcing


def announce(routes: Sequence[Route], peers: Sequence[Address]) -> str:
    """One line that announces one FlowSpec rule, or blackholes of equal attributes, to these peers (none: to all)."""
    return _line(peers, "announce", routes)


def withdraw(routes: Sequence[Route], peers: Sequence[Address]) -> str:
    """One line that withdraws what `announce` of the same routes announced.

    The attributes are repeated: ExaBGP queues by attributes, and a withdrawal that stands in another queue than the
    next announcement of the same rule may overtake it, so that the router ends up without the rule.
    """
    return _line(peers, "withdraw", routes)


def may_share_line(one: Route, other: Route) -> bool:
    """Whether two routes may go in one command: blackholes of one family with equal attributes."""
    return (
        isinstance(one.rule, Blackhole)
        and isinstance(other.rule, Blackhole)
        and one.rule.prefix.version == other.rule.prefix.version
        and (one.communities, one.next_hop) == (other.communities, other.next_hop)
    )


def _line(peers: Sequence[Address], verb: str, routes: Sequence[Route]) -> str:
    first = routes[0]
    if any(not may_share_line(first, other) for other in routes[1:]):
        raise AssertionError("only blackholes with equal attributes go in one command")
    words = [_neighbours(peers), verb]
    match first.rule:
        case FlowSpec(match=match, action=action):
            community = f" community {_communities(first.communities)};" if first.communities else ""
            words += ["flow route {", str(match), str(action).removesuffix(" }") + community, "} }"]
        case Blackhole():
            prefixes = " ".join(str(one.rule.prefix) for one in routes if isinstance(one.rule, Blackhole))
            words += ["attributes next-hop", str(first.next_hop)]
            words += ["community", _communities(first.communities)] if first.communities else []
            words += ["nlri", prefixes]
    return _checked(" ".join(word for word in words if word))


def _communities(communities: tuple[Community, ...]) -> str:
    return f"[ {' '.join(f'{high}:{low}' for high, low in communities)} ]"


def _neighbours(peers: Sequence[Address]) -> str:
    return " , ".join(f"neighbor {peer}" for peer in peers)


def _checked(line: str) -> str:
    if not (line.isascii() and line.isprintable() and len(line) < LINE_LIMIT):
        raise AssertionError(f"not one line of at most {LINE_LIMIT} printable ASCII characters: {line[:80]!r}")
    return line


# ------------------------------------------------------------------------------------------------------- housekeeping

RESET = "reset"
"""Forget commands of ours that are not finished; the only command without an answer."""
VERSION = "version"
"""Answered by a line `exabgp …` and `done`: what comes before belongs to our predecessor."""
SHOW_ROUTES = "show adj-rib out json"
"""One JSON line for each route and peer, then `done`; needs `exabgp.api.show-routes-format=v2`."""
SHOW_NEIGHBOURS = "show neighbor json"
"""One JSON line with all neighbours, then `done`: a new process gets no replay of session events."""
SHUTDOWN = "shutdown"
"""Ends ExaBGP, which says so by a notification; who supervises it starts it anew."""
CLEAR = "clear adj-rib out"
"""Withdraws everything from everybody."""


def clear(peers: Sequence[Address]) -> str:
    """Withdraw everything from these peers."""
    return _checked(f"{_neighbours(peers)} {CLEAR}" if peers else CLEAR)


def end_of_rib(peer: Address, session_family: SessionFamily) -> str:
    """End-of-RIB of one family (RFC 4724 §2); answered by `error` while the session is down."""
    return _checked(f"neighbor {peer} announce eor {session_family.value}")
