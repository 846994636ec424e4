"""GoBGP's JSON of FlowSpec and unicast tables, read back into values. Pure."""

from collections.abc import Iterator
from typing import Any
from ipaddress import ip_network

from lab.session import HeldFlowSpec
from rules.match import Family, Network


def read_flowspec(rib: dict[str, Any], family: Family) -> Iterator[HeldFlowSpec]:
    yield from ()


def read_blackholes(rib: dict[str, Any], communities: tuple[tuple[int, int], ...]) -> Iterator[Network]:
    yield from ()
