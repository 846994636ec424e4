"""Addresses that belong to no customer: what is sent there keeps hosts and routers of a link together."""

from collections.abc import Iterable
from ipaddress import ip_network

from rules.errors import Problem
from rules.match import Network

_SPECIAL: tuple[tuple[Network, str], ...] = (
    (ip_network("0.0.0.0/8"), "this network (RFC 1122)"),
    (ip_network("127.0.0.0/8"), "loopback"),
    (ip_network("169.254.0.0/16"), "link-local"),
    # Also where OSPF, VRRP and PIM speak.
    (ip_network("224.0.0.0/4"), "multicast"),
    (ip_network("240.0.0.0/4"), "reserved, and broadcast"),
    (ip_network("::/32"), "unspecified, loopback and mapped addresses"),
    (ip_network("fe80::/10"), "link-local"),
    # Also where neighbour discovery speaks.
    (ip_network("ff00::/8"), "multicast"),
)

WIDEST = {4: 8, 6: 16}
"""No network owns more in one piece: half of all addresses is no zone."""


def reach_problems(prefixes: Iterable[Network]) -> list[Problem]:
    """What speaks against announcing rules for these: whoever only looks (at a capture, say) may name them."""
    problems = []
    for prefix in prefixes:
        if prefix.prefixlen < WIDEST[prefix.version]:
            reason = f"a zone cannot protect everything; name your own prefixes, /{WIDEST[prefix.version]} or longer"
            problems.append(Problem("prefixes", str(prefix), reason))
        elif (name := special(prefix)) is not None:
            reason = f"holds addresses of nobody: {name}; name your own prefixes"
            problems.append(Problem("prefixes", str(prefix), reason))
    return problems


def special(prefix: Network) -> str | None:
    """What the prefix meets that nobody is attacked at; None for ordinary addresses."""
    return next((name for own, name in _SPECIAL if own.version == prefix.version and own.overlaps(prefix)), None)
