"""Namespaces with one real router each around the place where a speaker runs. The control plane only: no traffic."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

from lab.namespaces import Namespace, Port, join, namespaces, sweep
from lab.routers import Bird, Configuration, Frr, GoBgp, Router, Session
from rules.neighbour import Neighbour, SessionFamily

AUTONOMOUS_SYSTEM = 64500
ROUTER_ID = IPv4Address("192.0.2.250")
BUDGET = 20_000
_KINDS: dict[str, type[Router]] = {"bird": Bird, "frr": Frr, "gobgp": GoBgp}


@dataclass(frozen=True, slots=True)
class Network:
    """Running routers, and how a speaker in `speaker` knows them."""

    speaker: Namespace
    neighbours: tuple[Neighbour, ...]
    routers: dict[str, Router]
    """By kind."""

    @property
    def bird(self) -> Bird:
        """BIRD, where there is one."""
        router = self.routers["bird"]
        assert isinstance(router, Bird)
        return router

    @property
    def frr(self) -> Frr:
        """FRR, where there is one."""
        router = self.routers["frr"]
        assert isinstance(router, Frr)
        return router


@contextmanager
def network(*kinds: str) -> Iterator[Network]:
    """One router of each kind, no session up yet; everything is removed at the end."""
    sweep()
    with ExitStack() as stack:
        speaker, *spaces = stack.enter_context(namespaces("speaker", *kinds))
        neighbours = tuple(_neighbour(kind, number) for number, kind in enumerate(kinds))
        routers = {}
        for kind, one, space in zip(kinds, neighbours, spaces, strict=True):
            ours, theirs = IPv4Interface(f"{one.local_address}/30"), IPv4Interface(f"{one.peer_address}/30")
            join(Port(speaker, kind, (ours,)), Port(space, "up", (theirs,)))
            configuration = Configuration(theirs.ip, (Session.facing(one),))
            routers[kind] = stack.enter_context(_KINDS[kind](space, configuration))
        yield Network(speaker, neighbours, routers)


def _neighbour(kind: str, number: int) -> Neighbour:
    return Neighbour(
        name=kind,
        peer_address=IPv4Address(f"192.0.2.{4 * number + 1}"),
        local_address=IPv4Address(f"192.0.2.{4 * number + 2}"),
        peer_as=AUTONOMOUS_SYSTEM,
        local_as=AUTONOMOUS_SYSTEM,
        router_id=ROUTER_ID,
        families=frozenset(SessionFamily),
        profiles=(kind,),
        budget=BUDGET,
        next_hop_ipv4=IPv4Address("192.0.2.254"),
        next_hop_ipv6=IPv6Address("100::1"),
        graceful_restart_seconds=60,
    )
