"""The lab of the demo: an attacker, a Linux edge, a victim behind it, and Stopbank beside it with three BGP routers.

                      mirror of what comes in, before any filter
                    ┌────────────────────────────► stopbank: sensor on `mirror`, speaker
    attacker ══► edge ══► victim                     │ iBGP     │ eBGP     │ eBGP
                  └── BIRD (validates) ◄─────────────┘          FRR        GoBGP

Everything lives in namespaces of its own and is gone when `lab` ends.
"""

import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path
from types import FrameType

from lab import sender
from lab.namespaces import Namespace, Port, join, namespaces, sweep
from lab.receiver import Receiver
from lab.routers import Bird, Configuration, Frr, GoBgp, Session
from lab.sender import Sent, Stream
from lab.session import DISCARD_IPV4, DISCARD_IPV6
from rules.match import Network
from rules.neighbour import Address, Neighbour, SessionFamily

PROTECTED: tuple[Network, ...] = (ip_network("203.0.113.0/24"), ip_network("2001:db8::/48"))
"""What the edge routes to the victim; the victim answers to none of it, so floods cause no replies."""
TARGET_IPV4, TARGET_IPV6 = IPv4Address("203.0.113.7"), IPv6Address("2001:db8::7")
LOCAL_AS, FRR_AS, GOBGP_AS = 65000, 65001, 65002
ENFORCER = IPv4Address("10.64.0.3")
"""The edge's second address on the link to Stopbank: for a FlowSpec receiver beside BIRD."""
MIRROR = "mirror"
"""The sensor's interface, in the namespace `stopbank`."""
_LINKS = {
    "edge": ("10.64.0.1/29", "10.64.0.2/29"),
    "frr": ("10.64.0.9/30", "10.64.0.10/30"),
    "gobgp": ("10.64.0.13/30", "10.64.0.14/30"),
}
"""Stopbank's and the router's ends."""


@dataclass(frozen=True, slots=True)
class Lab:
    """Everything that is up while the context of `lab()` lasts."""

    attacker: Namespace
    edge: Namespace
    victim: Namespace
    stopbank: Namespace
    bird: Bird
    """In the edge's namespace: its blackholes drop real packets."""
    frr: Frr
    gobgp: GoBgp
    neighbours: tuple[Neighbour, ...]
    """BIRD, FRR, GoBGP as Stopbank's speaker is to know them; sessions are not up before it runs."""
    directory: Path
    """For logs and results; removed at the end."""

    def attack(self, streams: Sequence[Stream]) -> "subprocess.Popen[str]":
        """Start sending from the attacker; `sent` waits for it."""
        command = sender.command(self.attacker, "uplink", _mac(self.edge, "outside"))
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdin is not None
        process.stdin.write(sender.plan(streams))
        process.stdin.close()
        process.stdin = None
        return process

    def sent(self, process: "subprocess.Popen[str]", timeout_seconds: float = 120) -> list[Sent]:
        """What an attack sent, once it is over."""
        printed, _ = process.communicate(timeout=timeout_seconds)
        return sender.results(printed)

    def receiver(self) -> Receiver:
        """A counter on the victim's interface."""
        return Receiver(self.victim, "inside", self.directory)

    def mirrored(self) -> Receiver:
        """A counter on the sensor's interface: what reaches it must be what was sent."""
        return Receiver(self.stopbank, MIRROR, self.directory)

    def describe(self) -> str:
        """How to look inside, for people."""
        enter = "ip netns exec {} {}".format
        return "\n".join(
            (
                f"attacker  {enter(self.attacker.name, 'bash')}",
                f"edge      {enter(self.edge.name, 'bash')}",
                f"victim    {enter(self.victim.name, 'tcpdump -ni inside')}",
                f"stopbank  {enter(self.stopbank.name, 'bash')}    (sensor interface: {MIRROR})",
                f"BIRD      birdc -s {self.bird.socket}",
                f"FRR       vtysh --vty_socket {self.frr.directory}",
                f"GoBGP     {enter(self.gobgp.namespace.name, 'gobgp global rib -a ipv4-flowspec')}",
                *(
                    f"peer      {one.local_address} → {one.peer_address} AS{one.peer_as} {one.name}"
                    for one in self.neighbours
                ),
            )
        )


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """The whole topology, routers running; needs root."""
    sweep()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stopbank-lab-")))
        made = stack.enter_context(namespaces("attacker", "edge", "victim", "stopbank", "frr", "gobgp"))
        attacker, edge, victim, stopbank, frr, gobgp = made
        _wire(attacker, edge, victim, stopbank)
        for name, router in (("edge", edge), ("frr", frr), ("gobgp", gobgp)):
            local, peer = map(ip_interface, _LINKS[name])
            join(Port(stopbank, name, (local,)), Port(router, "stopbank", (peer,)))
        edge.ip("address", "add", f"{ENFORCER}/29", "dev", "stopbank")
        neighbours = _neighbours()
        bird, other, third = (_configuration(one) for one in neighbours)
        yield Lab(
            attacker,
            edge,
            victim,
            stopbank,
            stack.enter_context(Bird(edge, bird)),
            stack.enter_context(Frr(frr, other)),
            stack.enter_context(GoBgp(gobgp, third)),
            neighbours,
            directory,
        )


def _wire(attacker: Namespace, edge: Namespace, victim: Namespace, stopbank: Namespace) -> None:
    join(
        _port(attacker, "uplink", "100.64.1.2/24", "fd64:1::2/64"),
        _port(edge, "outside", "100.64.1.1/24", "fd64:1::1/64"),
    )
    join(
        _port(edge, "inside", "100.64.2.1/24", "fd64:2::1/64"), _port(victim, "inside", "100.64.2.2/24", "fd64:2::2/64")
    )
    join(Port(edge, MIRROR), Port(stopbank, MIRROR))
    edge.forward()
    for prefix, gateway in zip(PROTECTED, ("100.64.2.2", "fd64:2::2"), strict=True):
        edge.ip("route", "add", str(prefix), "via", gateway)
        # A fixed entry: under a flood nobody should wait for neighbour discovery.
        edge.ip("neighbour", "replace", gateway, "lladdr", _mac(victim, "inside"), "dev", "inside", "nud", "permanent")
    edge.ip("route", "add", "default", "via", "100.64.1.2")
    edge.ip("route", "add", "default", "via", "fd64:1::2")
    _mirror(edge, "outside", MIRROR)


def _port(namespace: Namespace, interface: str, *addresses: str) -> Port:
    return Port(namespace, interface, tuple(map(ip_interface, addresses)))


def _mirror(namespace: Namespace, source: str, copy: str) -> None:
    """Copy all that comes in on `source`, before nftables and routing see it."""
    namespace.run("tc", "qdisc", "add", "dev", source, "handle", "ffff:", "ingress")
    # u32 with a mask of 0 matches everything; the classifier matchall is often not built.
    namespace.run(
        *("tc", "filter", "add", "dev", source, "parent", "ffff:", "protocol", "all", "u32", "match", "u32", "0", "0"),
        *("action", "mirred", "egress", "mirror", "dev", copy),
    )


def _neighbours() -> tuple[Neighbour, ...]:
    return (
        _neighbour("bird", "edge", LOCAL_AS),
        _neighbour("frr", "frr", FRR_AS),
        _neighbour("gobgp", "gobgp", GOBGP_AS),
    )


def _neighbour(name: str, link: str, autonomous_system: int) -> Neighbour:
    local, peer = (ip_interface(end).ip for end in _LINKS[link])
    return Neighbour(
        name=name,
        peer_address=peer,
        local_address=local,
        peer_as=autonomous_system,
        local_as=LOCAL_AS,
        router_id=IPv4Address("10.64.0.1"),
        families=frozenset(SessionFamily),
        profiles=(name,),
        next_hop_ipv4=IPv4Address(DISCARD_IPV4),
        next_hop_ipv6=IPv6Address(DISCARD_IPV6),
        gtsm_hops=1,
        graceful_restart_seconds=60,
        md5_password=f"lab-{name}",
    )


def _configuration(neighbour: Neighbour) -> Configuration:
    return Configuration(
        router_id=_router_id(neighbour.peer_address),
        sessions=(Session.facing(neighbour),),
        validate=neighbour.name == "bird",
        routes=PROTECTED,
    )


def _router_id(address: Address) -> IPv4Address:
    assert isinstance(address, IPv4Address)
    return address


def _mac(namespace: Namespace, interface: str) -> str:
    # `-br link`: name, state, address, flags.
    return namespace.ip("-br", "link", "show", "dev", interface).split()[2]


def main() -> None:
    """Stand until Ctrl-C or SIGTERM, then leave nothing behind."""
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt), lab() as up:
        print(up.describe(), "Ctrl-C takes it down.", sep="\n", flush=True)
        signal.pause()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
