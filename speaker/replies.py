"""What ExaBGP says: one line of bytes in, one typed value out. Arbitrary bytes give a value too: `Unknown`.

Answers to commands are bare `done` and `error`, without a reason or an id; everything else is an event.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Any

from rules.action import Action, Discard, RateLimit
from rules.errors import Refused
from rules.match import Family, Network, parse_prefix
from rules.neighbour import Address, SessionFamily
from rules.rule import Blackhole, FlowSpec, Scope
from speaker.commands import NO_EXPORT, Community, Route
from speaker.names import COMMUNITIES, readings


@dataclass(frozen=True, slots=True)
class Done:
    """The oldest command without an answer was taken."""


@dataclass(frozen=True, slots=True)
class Error:
    """The oldest command without an answer was refused; why is in ExaBGP's log only."""


@dataclass(frozen=True, slots=True)
class Version:
    """The answer to `version`, before its `done`."""

    text: str


class Session(Enum):
    """Session states ExaBGP tells of."""

    UP = "up"
    CONNECTED = "connected"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class PeerState:
    """A session changed its state."""

    peer: Address
    state: Session
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both ends of a session speak."""

    peer: Address
    families: frozenset[SessionFamily]


class Waits(Enum):
    """What a session that is not established waits for (RFC 4271 §8.2.2)."""

    CONNECTION = "connection"
    """Idle, Active: no TCP connection stands."""
    OPEN = "open"
    """Connect (as ExaBGP means it), OpenSent: TCP stands, and the neighbour has not spoken."""
    KEEPALIVE = "keepalive"
    """OpenConfirm: it has sent its OPEN, and has not agreed to ours."""


@dataclass(frozen=True, slots=True)
class Unestablished:
    """A session that is not up."""

    peer: Address
    waits_for: Waits


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The answer to `show neighbor json`, before its `done`: who is up, with which families, and who is not."""

    established: tuple[Negotiated, ...]
    others: tuple[Unestablished, ...]


@dataclass(frozen=True, slots=True)
class UpdateSent:
    """An UPDATE was written to a session: how many routes it announced and withdrew."""

    peer: Address
    announced: int
    withdrawn: int


@dataclass(frozen=True, slots=True)
class UpdateReceived:
    """A neighbour announced something to us, which none should."""

    peer: Address


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """A neighbour's End-of-RIB (or ours, where sent updates are reported)."""

    peer: Address


@dataclass(frozen=True, slots=True)
class NotificationReceived:
    """A neighbour closed the session and says why (RFC 4271 §6)."""

    peer: Address
    code: int
    subcode: int


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """A neighbour asks for everything again; ExaBGP answers by itself."""

    peer: Address


@dataclass(frozen=True, slots=True)
class AdjRibRoute:
    """One route that ExaBGP holds for one peer: each candidate is a reading, several where names are ambiguous."""

    peer: Address
    candidates: tuple[Route, ...]
    exact: bool
    """One reading, and every attribute understood: equal to what was announced."""


@dataclass(frozen=True, slots=True)
class UnreadableRoute:
    """A route that ExaBGP holds and that can't be read back."""

    peer: Address
    why: str


@dataclass(frozen=True, slots=True)
class Shutdown:
    """ExaBGP is about to end."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything else."""

    line: bytes


Reply = (
    Done | Error | Version | PeerState | Negotiated | Neighbours | UpdateSent | UpdateReceived | EndOfRib
    | NotificationReceived | RefreshRequest | AdjRibRoute | UnreadableRoute | Shutdown | Unknown
)  # fmt: skip

_DONE, _ERROR = Done(), Error()
_WAITS = {"CONNECT": Waits.OPEN, "OPENSENT": Waits.OPEN, "OPENCONFIRM": Waits.KEEPALIVE}
_RATE = re.compile(r"rate-limit:(\d{1,13})")
_COMMUNITY = re.compile(r"(\d{1,5}):(\d{1,5})")


def parse(line: bytes) -> Reply:
    """The value of one line, its end removed; never raises."""
    if line == b"done":
        return _DONE
    if line == b"error":
        return _ERROR
    try:
        if line.startswith(b"exabgp "):
            return Version(line[7:].decode("ascii"))
        if line[:1] in (b"{", b"["):
            return _json(json.loads(line)) or Unknown(line)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # Whatever shape the bytes have, the reader must live on.
        return Unknown(line)
    return Unknown(line)


def _json(value: Any) -> Reply | None:
    if isinstance(value, list):
        return _neighbours(value)
    if "route" in value:
        return _listed(value)
    kind = value.get("type")
    if kind == "notification" and value.get("notification") == "shutdown":
        return Shutdown()
    about = value["neighbor"]
    peer = ip_address(about["address"]["peer"])
    match kind:
        case "state":
            return PeerState(peer, Session(about["state"]), str(about.get("reason", "")))
        case "negotiated":
            return Negotiated(peer, _families(about["negotiated"]["families"]))
        case "notification":
            what = about["notification"]
            sent = about.get("direction") == "send"
            return None if sent else NotificationReceived(peer, int(what["code"]), int(what["subcode"]))
        case "refresh":
            return RefreshRequest(peer)
        case "update":
            return _update(peer, about)
    return None


def _update(peer: Address, about: Any) -> Reply:
    message = about["message"]
    if "eor" in message:
        return EndOfRib(peer)
    if about.get("direction") != "send":
        return UpdateReceived(peer)
    update = message["update"]
    announced = sum(len(many) for hops in update.get("announce", {}).values() for many in hops.values())
    withdrawn = sum(len(many) for many in update.get("withdraw", {}).values())
    return UpdateSent(peer, announced, withdrawn)


def _families(given: Any) -> frozenset[SessionFamily]:
    known = {family.value: family for family in SessionFamily}
    return frozenset(known[name] for name in given if name in known)


def _neighbours(given: Any) -> Neighbours:
    up, others = [], []
    for one in given:
        peer = ip_address(one["peer"]["address"])
        state = str(one["fsm"]).upper()
        if state == "ESTABLISHED":
            up.append(Negotiated(peer, _families(one["families"])))
        else:
            others.append(Unestablished(peer, _WAITS.get(state, Waits.CONNECTION)))
    return Neighbours(tuple(up), tuple(others))


# ---------------------------------------------------------------------------------------------------- listed routes


def _listed(value: Any) -> AdjRibRoute | UnreadableRoute:
    peer = ip_address(value["peer"]["address"])
    try:
        nlri, attributes = value["route"]["nlri"], value["route"]["attributes"]
        communities = _communities(attributes)
        known = tuple(sorted(community for community in communities if community is not None))
        exact = None not in communities
        if "prefix" in nlri:
            return AdjRibRoute(peer, (_blackhole(nlri, known),), exact)
        family = {"ipv4": Family.IPV4, "ipv6": Family.IPV6}[nlri["family"]["afi"]]
        action = _action(attributes)
        routes = tuple(Route(FlowSpec(match, action or Discard()), known) for match in readings(nlri["rules"], family))
        return AdjRibRoute(peer, routes, exact and action is not None and len(routes) == 1)
    except (Refused, KeyError, TypeError, ValueError, AttributeError) as error:
        return UnreadableRoute(peer, f"{type(error).__name__}: {error}"[:500])


def _blackhole(nlri: Any, communities: tuple[Community, ...]) -> Route:
    prefix: Network = parse_prefix("prefix", nlri["prefix"])
    scope = Scope.LOCAL if NO_EXPORT in communities else Scope.UPSTREAM
    return Route(Blackhole(prefix, scope), communities, ip_address(nlri["nexthop"]))


def _communities(attributes: Any) -> set[Community | None]:
    """None stands for those that can't be told."""
    found: set[Community | None] = set()
    for text in attributes.get("community", ()):
        parsed = _COMMUNITY.fullmatch(text)
        found.add((int(parsed.group(1)), int(parsed.group(2))) if parsed else COMMUNITIES.get(text))
    return found


def _action(attributes: Any) -> Action | None:
    texts = attributes.get("extended-community", ())
    rates = [int(parsed.group(1)) for text in texts if (parsed := _RATE.fullmatch(text))]
    if len(texts) != 1 or len(rates) != 1 or rates[0] > RateLimit.MAXIMUM:
        return None
    return RateLimit(rates[0]) if rates[0] else Discard()
