"""What a speaker said, from the raw body of a BGP UPDATE (RFC 4271 §4.3, RFC 4760, RFC 8955). Pure.

A rule that can't be understood never takes others along: NLRIs are cut apart by their lengths before they are decoded.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from rules import action, wire
from rules.action import Action
from rules.errors import Refused
from rules.match import Family, Match
from rules.neighbour import Address

_MP_REACH, _MP_UNREACH, _EXTENDED_COMMUNITIES = 14, 15, 16
_EXTENDED_LENGTH = 0x10
_SAFI_FLOW = 133


@dataclass(frozen=True, slots=True)
class Announced:
    """A rule, valid until it is withdrawn or announced anew."""

    key: bytes
    """Family and NLRI as sent: what BGP identifies it by."""
    match: Match
    action: Action


@dataclass(frozen=True, slots=True)
class Unusable:
    """An announcement that can't be enforced; one held before under the same key is replaced by it all the same."""

    key: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The end of an announcement."""

    key: bytes


Said = Announced | Unusable | Withdrawn


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """A session came up or went down."""

    peer: Address
    is_up: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """One UPDATE."""

    peer: Address
    said: tuple[Said, ...]
    malformed: str = ""
    """Why the rest of the message could not be read."""


Event = SessionChanged | Heard


def parse_event(line: bytes) -> Event | None:
    """One line from ExaBGP; None for what doesn't concern us. Raises `Refused` for what should, but can't be read."""
    if not line.lstrip().startswith(b"{"):
        return None  # an answer to a command
    try:
        event = json.loads(line)
        kind, neighbour = event.get("type"), event.get("neighbor", {})
        if kind == "state" and neighbour.get("state") in ("up", "down"):
            return SessionChanged(_peer(neighbour), neighbour["state"] == "up")
        if kind == "update" and neighbour.get("direction") == "receive":
            return heard(_peer(neighbour), bytes.fromhex(neighbour["message"]["body"].removeprefix("0x")))
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise Refused("event", line[:200].decode(errors="replace"), f"is no event of ExaBGP: {wrong!r}") from wrong
    return None


def _peer(neighbour: dict[str, dict[str, str]]) -> Address:
    return ip_address(neighbour["address"]["peer"])


def heard(peer: Address, body: bytes) -> Heard:
    """What an UPDATE's body says about FlowSpec."""
    said: list[Said] = []
    try:
        attributes = dict(_attributes(body))
        if unreach := attributes.get(_MP_UNREACH):
            family = _family(unreach)
            if family is not None:
                said += (Withdrawn(_key(family, nlri)) for nlri in _split(unreach[3:]))
        if reach := attributes.get(_MP_REACH):
            family = _family(reach)
            if family is not None:
                # AFI, SAFI, the length of a next hop that FlowSpec leaves empty, one reserved byte.
                nlris = reach[5 + _take(reach, 3, 1)[0] :]
                communities = attributes.get(_EXTENDED_COMMUNITIES, b"")
                said += (_announced(family, nlri, communities) for nlri in _split(nlris))
    except Refused as refused:
        return Heard(peer, tuple(said), str(refused))
    return Heard(peer, tuple(said))


def _announced(family: Family, nlri: bytes, communities: bytes) -> Said:
    key = _key(family, nlri)
    try:
        return Announced(key, wire.decode(nlri, family), action.decode(communities))
    except Refused as refused:
        return Unusable(key, str(refused))


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    withdrawn = int.from_bytes(_take(body, 0, 2), "big")
    start = 4 + withdrawn
    end = start + int.from_bytes(_take(body, 2 + withdrawn, 2), "big")
    _take(body, start, end - start)
    while start < end:
        flags, kind = _take(body, start, 2)
        width = 2 if flags & _EXTENDED_LENGTH else 1
        length = int.from_bytes(_take(body, start + 2, width), "big")
        yield kind, _take(body, start + 2 + width, length)
        start += 2 + width + length


def _split(nlris: bytes) -> Iterator[bytes]:
    """NLRIs, each with its length in front (RFC 8955 §4.1)."""
    start = 0
    while start < len(nlris):
        head, length = 1, nlris[start]
        if length >= 0xF0:
            head, length = 2, int.from_bytes(_take(nlris, start, 2), "big") & 0x0FFF
        yield _take(nlris, start, head + length)
        start += head + length


def _family(attribute: bytes) -> Family | None:
    afi, safi = int.from_bytes(_take(attribute, 0, 2), "big"), _take(attribute, 2, 1)[0]
    return Family(afi) if safi == _SAFI_FLOW and afi in (1, 2) else None


def _key(family: Family, nlri: bytes) -> bytes:
    return bytes((family.value,)) + nlri


def _take(data: bytes, start: int, count: int) -> bytes:
    taken = data[start : start + count]
    if count < 0 or len(taken) < count:
        raise Refused("update", data.hex()[:200], f"ends before byte {start + count}")
    return taken
