"""Real routers and a real ExaBGP for the tests of this folder, in namespaces that are removed afterwards."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

import needs
import pytest

from lab.exabgp import ScriptedExaBgp
from lab.namespaces import Namespace, Port, join, namespaces, sweep
from lab.routers import Bird, Configuration, Frr, GoBgp, Router, Session
from rules.neighbour import Neighbour, SessionFamily

PROGRAMS = ("ip", "bird", "birdc", "gobgpd", "gobgp", "vtysh")
ROUTERS: dict[str, tuple[type[Router], int]] = {"bird": (Bird, 65000), "frr": (Frr, 65001), "gobgp": (GoBgp, 65002)}
"""Class and AS; the speaker is AS 65000, so that BIRD is an iBGP peer and the others eBGP."""


@dataclass(frozen=True, slots=True)
class Peers:
    """An ExaBGP and the routers it has sessions with."""

    exabgp: ScriptedExaBgp
    routers: dict[str, Router]
    neighbours: dict[str, Neighbour]


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    """BIRD over iBGP, FRR and GoBGP over eBGP, all families, MD5 and GTSM; all sessions are up."""
    needs.root_and(*PROGRAMS)
    sweep()
    with namespaces("speaker", *ROUTERS) as (speaker, *edges), ExitStack() as stack:
        neighbours = {edge.label: _connect(speaker, edge, number) for number, edge in enumerate(edges)}
        routers = {
            edge.label: stack.enter_context(ROUTERS[edge.label][0](edge, _configuration(neighbours[edge.label])))
            for edge in edges
        }
        exabgp = stack.enter_context(ScriptedExaBgp(speaker, neighbours.values()))
        for router in routers.values():
            router.wait_established(60)
        yield Peers(exabgp, routers, neighbours)


def _connect(speaker: Namespace, edge: Namespace, number: int) -> Neighbour:
    local, peer = (IPv4Interface(f"10.99.{number}.{host}/30") for host in (1, 2))
    join(Port(speaker, edge.label, (local,)), Port(edge, "up", (peer,)))
    return Neighbour(
        name=edge.label,
        peer_address=peer.ip,
        local_address=local.ip,
        peer_as=ROUTERS[edge.label][1],
        local_as=65000,
        router_id=IPv4Address("10.99.0.1"),
        families=frozenset(SessionFamily),
        profiles=(edge.label,),
        next_hop_ipv4=IPv4Address("192.0.2.254"),
        next_hop_ipv6=IPv6Address("100::1"),
        gtsm_hops=1,
        md5_password="differential",
    )


def _configuration(neighbour: Neighbour) -> Configuration:
    assert isinstance(neighbour.peer_address, IPv4Address)
    return Configuration(neighbour.peer_address, (Session.facing(neighbour),))
