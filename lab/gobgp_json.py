"""GoBGP's JSON of FlowSpec and unicast tables, read back into values. Pure.

The JSON keeps every operator byte, so the NLRI is rebuilt byte for byte.
"""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from lab.session import HeldFlowSpec
from rules import wire
from rules.action import Action, Discard, RateLimit
from rules.errors import Refused
from rules.match import PREFIXES, Component, Family, Match, Network

_COMMUNITIES, _EXTENDED_COMMUNITIES = 8, 16
"""Path attribute types (RFC 1997, RFC 4360)."""
_WIDTH_SHIFT, _WIDTH_MASK = 4, 3


def read_flowspec(rib: dict[str, Any], family: Family) -> Iterator[HeldFlowSpec]:
    """The routes of `gobgp -j global rib -a ipv4-flowspec`."""
    for text, paths in rib.items():
        for path in paths:
            nlri = _nlri(path["nlri"]["value"], family)
            communities = _attribute(path, _EXTENDED_COMMUNITIES)
            yield HeldFlowSpec(
                family=family,
                text=text,
                match=_match(nlri, family),
                action_text=" ".join(map(str, communities)),
                action=_action(communities),
                nlri=nlri,
            )


def read_blackholes(rib: dict[str, Any], communities: tuple[tuple[int, int], ...]) -> Iterator[Network]:
    """The host routes of `gobgp -j global rib -a ipv4` that carry one of the communities, sorted."""
    wanted = {high << 16 | low for high, low in communities}
    for text in sorted(rib):
        prefix = ip_network(text)
        carried = {value for path in rib[text] for value in _attribute(path, _COMMUNITIES, "communities")}
        if prefix.prefixlen == prefix.max_prefixlen and carried & wanted:
            yield prefix


def _match(nlri: bytes, family: Family) -> Match | None:
    try:
        return wire.decode(nlri, family)
    except Refused:  # GoBGP keeps what the RFC forbids, such as a flow label in IPv4
        return None


def _nlri(components: list[dict[str, Any]], family: Family) -> bytes:
    body = b"".join(_component(Component(one["type"]), one, family) for one in components)
    head = bytes((len(body),)) if len(body) < 0xF0 else (0xF000 | len(body)).to_bytes(2, "big")
    return head + body


def _component(component: Component, given: dict[str, Any], family: Family) -> bytes:
    if component in PREFIXES:
        prefix = ip_network(given["value"]["prefix"])
        lengths = (prefix.prefixlen, given.get("offset", 0)) if family is Family.IPV6 else (prefix.prefixlen,)
        return bytes((component, *lengths)) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
    return bytes((component,)) + b"".join(_test(test["op"], test["value"]) for test in given["value"])


def _test(operator: int, value: int) -> bytes:
    width = 1 << (operator >> _WIDTH_SHIFT & _WIDTH_MASK)
    return bytes((operator,)) + value.to_bytes(width, "big")


def _attribute(path: dict[str, Any], kind: int, key: str = "value") -> list[Any]:
    return [one for attribute in path["attrs"] if attribute["type"] == kind for one in attribute[key]]


def _action(communities: list[dict[str, Any]]) -> Action | None:
    rates = [one["rate"] for one in communities if (one.get("type"), one.get("subtype")) == (0x80, 0x06)]
    if len(rates) != 1:
        return None
    return RateLimit(int(rates[0])) if rates[0] >= 1 else Discard()
