"""An enforcing machine for tests: attacker, edge and victim in namespaces, and the program that ExaBGP runs there."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_interface
from pathlib import Path

from frames import caught, ip_bytes, open_wire, send
from packets import Packet

from lab.namespaces import Namespace, Port, join, namespaces, wait_until
from rules.match import Family
from sensors.enforce_settings import EnforceSettings, Source

ATTACKER, VICTIM, SPEAKER, EDGE = "198.51.100.66", "203.0.113.7", "192.0.2.1", "192.0.2.2"
ATTACKER6, VICTIM6 = "2001:db8:66::66", "2001:db8:7::7"

_PROGRAM = """import sys
sys.path[:0] = {paths!r}
from ipaddress import *
from pathlib import Path, PosixPath
from rules.match import Match
from rules.neighbour import SessionFamily
from sensors import enforce
from sensors.enforce_settings import EnforceSettings, Source
settings = EnforceSettings(
    local_address=IPv4Address({local!r}), local_as=64500, router_id=IPv4Address({local!r}),
    sources=(Source(IPv4Address({speaker!r}), 64500),), state=Path({state!r}), command=("/bin/true",),
    protected=(IPv4Network("192.0.2.128/25"),),
)
enforce.run(settings)
"""


@dataclass(frozen=True, slots=True)
class Path3:
    """Attacker — edge — victim, with a speaker beside the edge."""

    attacker: Namespace
    edge: Namespace
    victim: Namespace
    speaker: Namespace
    into: socket.socket
    """The attacker's wire."""
    out: socket.socket
    """The victim's wire."""
    hardware: bytes
    """The edge's address towards the attacker."""

    def arrives(self, *packets: bytes) -> list[bytes]:
        """Send these, and those of them that the victim's wire shows; a last packet that nothing filters ends the
        wait."""
        caught(self.out)
        closing = ip_bytes(udp(1, 1, destination="203.0.113.99", length=77))
        send(self.into, [*packets, closing], self.hardware)
        found: list[bytes] = []

        def is_over() -> bool:
            found.extend(caught(self.out))
            return any(one[16:20] == closing[16:20] for one in found)

        wait_until(is_over, "the closing packet", step_seconds=0.001)
        return [one for one in found if one[16:20] != closing[16:20]]


def udp(source_port: int, destination_port: int, destination: str = VICTIM, length: int = 100) -> Packet:
    """A UDP packet of the attacker."""
    addresses = (int(IPv4Address(destination)), int(IPv4Address(ATTACKER)))
    return Packet(Family.IPV4, *addresses, 17, length, 0, 0, 0, source_port, destination_port)


@contextmanager
def path() -> Iterator[Path3]:
    """The three namespaces and the speaker's, joined and routed."""
    with namespaces("attacker", "edge", "victim", "speaker") as (attacker, edge, victim, speaker):
        outside = (ip_interface("198.51.100.1/24"), ip_interface("2001:db8:66::1/64"))
        inside = (ip_interface("203.0.113.1/24"), ip_interface("2001:db8:7::1/64"))
        join(
            Port(attacker, "up", (ip_interface(f"{ATTACKER}/24"), ip_interface(f"{ATTACKER6}/64"))),
            Port(edge, "outside", outside),
        )
        join(
            Port(victim, "up", (ip_interface(f"{VICTIM}/24"), ip_interface(f"{VICTIM6}/64"))),
            Port(edge, "inside", inside),
        )
        join(
            Port(speaker, "up", (ip_interface(f"{SPEAKER}/24"),)), Port(edge, "control", (ip_interface(f"{EDGE}/24"),))
        )
        edge.forward()
        links = {link["ifname"]: link["address"] for link in json.loads(edge.run("ip", "-j", "link"))}
        mac = json.loads(victim.run("ip", "-j", "link", "show", "up"))[0]["address"]
        for address in (VICTIM, VICTIM6, "203.0.113.99"):
            edge.ip("neighbour", "replace", address, "lladdr", mac, "dev", "inside", "nud", "permanent")
        into = attacker.call(lambda: open_wire("up"))
        out = victim.call(lambda: open_wire("up"))
        try:
            yield Path3(attacker, edge, victim, speaker, into, out, bytes.fromhex(links["outside"].replace(":", "")))
        finally:
            into.close()
            out.close()


def program(state: Path, local: str = EDGE, speaker: str = SPEAKER) -> tuple[str, ...]:
    """The command line that ends in `enforce.run`, as ExaBGP would be told."""
    script = state / "enforcing.py"
    root = Path(__file__).resolve().parents[2]
    script.write_text(_PROGRAM.format(paths=[str(root)], local=local, speaker=speaker, state=str(state)))
    return (sys.executable, str(script))


def settings(state: Path) -> EnforceSettings:
    """For `serve`: the same machine, whose ExaBGP runs that program."""
    return EnforceSettings(
        local_address=IPv4Address(EDGE),
        local_as=64500,
        router_id=IPv4Address(EDGE),
        sources=(Source(IPv4Address(SPEAKER), 64500),),
        state=state,
        command=program(state),
        protected=(IPv4Network("192.0.2.128/25"),),
        exabgp=Path(sys.executable).with_name("exabgp"),
    )


def status(state: Path) -> dict[str, object]:
    """What the enforcing process last wrote; empty before it did."""
    file = state / "enforce.json"
    found: dict[str, object] = json.loads(file.read_text()) if file.exists() else {}
    return found
