"""What a packet costs: our kernel behind each source, against a pcapy callback with `struct` and a dict, in the same
run.

Processor time of the consumer's thread over the packets it counted; medians of several interleaved rounds, because
shared machines swing by half. Prints one JSON object a line. Live figures need root: a veth pair, and a sender on its
other end.
"""

import json
import os
import secrets
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pcapy

from lab.benign import benign
from lab.frames import merged, write_pcap
from lab.traffic import attack
from rules.traffic import Vector
from sensors import walk
from sensors.libpcapfile import LibpcapCapture
from sensors.pcapfile import ClassicCapture
from sensors.pcaplive import LibpcapInterface
from sensors.rings import Rings
from sensors.settings import Capturing
from sensors.source import Source
from sensors.stream import Stream
from sensors.tables import make

PEER = "pcapy callback, struct and dict"
ROUNDS = 5
LIVE_SECONDS = 1.5
LIVE_PACKETS_PER_SECOND = 200_000


def callback(counts: dict[tuple[bytes, int], list[int]]) -> Callable[[Any, bytes], None]:
    """What a straightforward Python sensor does with each packet: parse IPv4, count packets and bytes by destination
    and protocol."""
    ethernet, header = struct.Struct("!12xH"), struct.Struct("!BBHHHBBH4s4s")

    def handle(_: Any, packet: bytes) -> None:
        if len(packet) < 34 or ethernet.unpack_from(packet)[0] != 0x0800:
            return
        _, _, length, _, _, _, protocol, _, _, destination = header.unpack_from(packet, 14)
        entry = counts.get((destination, protocol))
        if entry is None:
            counts[destination, protocol] = [1, length]
        else:
            entry[0] += 1
            entry[1] += length

    return handle


def write_mix(path: Path, packets: int) -> None:
    """A file of mixed traffic to a /24 and one victim: SYN flood, DNS and NTP amplification, ordinary traffic."""
    network, victim = ip_network("203.0.113.0/24"), ip_network("203.0.113.7/32")
    parts = [
        attack(Vector("syn_flood"), victim, packets * 4 // 10, 1),
        attack(Vector("udp_amp", "dns"), victim, packets // 10, 2),
        attack(Vector("udp_amp", "ntp"), victim, packets // 10, 3),
        attack(Vector("udp_flood"), network, packets // 10, 4),
        benign(network, packets * 3 // 10, 5),
    ]
    write_pcap(path, merged([part.paced(len(part)) for part in parts]))


def offline(path: Path, packets: int) -> dict[str, float]:
    """Nanoseconds a packet of each way through the file, medians."""
    tables = make()
    walk.warm_up(tables)

    def ours(open_source: Callable[[], Source]) -> float:
        source = open_source()
        began = time.thread_time()
        source.feed(tables, walk.NEVER)
        spent = time.thread_time() - began
        source.close()
        return spent

    def opened(kind: type[ClassicCapture] | type[LibpcapCapture]) -> Source:
        return kind(Stream(path), 1)

    def theirs() -> float:
        reader = pcapy.open_offline(str(path))
        began = time.thread_time()
        reader.loop(0, callback({}))
        return time.thread_time() - began

    ways: dict[str, Callable[[], float]] = {
        "file": lambda: ours(lambda: opened(ClassicCapture)),
        "batch": lambda: ours(lambda: opened(LibpcapCapture)),
        "callback": theirs,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            found[name].append(way() * 1e9 / packets)
    return {name: statistics.median(values) for name, values in found.items()}


@contextmanager
def link() -> Iterator[tuple[str, str]]:
    """A veth pair that carries nothing but what we send."""
    near, far = f"sbn{secrets.token_hex(4)}", f"sbf{secrets.token_hex(4)}"
    subprocess.run(["ip", "link", "add", near, "type", "veth", "peer", "name", far], check=True)
    try:
        for end in (near, far):
            Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").write_text("1")
            subprocess.run(["ip", "link", "set", end, "up"], check=True)
        yield near, far
    finally:
        subprocess.run(["ip", "link", "del", near], check=True)


def sender(path: Path, interface: str) -> "subprocess.Popen[bytes]":
    """Sends the file over and over, at a rate that every consumer keeps up with."""
    command = ["tcpreplay", "-q", "--preload-pcap", "--loop=0", f"--pps={LIVE_PACKETS_PER_SECOND}", "-i", interface]
    return subprocess.Popen([*command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def live(path: Path) -> dict[str, float]:
    """Nanoseconds a packet of each way to capture the same stream, medians."""
    tables = make()
    walk.warm_up(tables)

    def consume(source: Source) -> tuple[float, int]:
        before, began, until = int(tables.totals[1]), time.thread_time(), time.monotonic() + LIVE_SECONDS
        while time.monotonic() < until:
            source.wait(0.04)
            source.feed(tables, walk.NEVER)
        spent, counted = time.thread_time() - began, int(tables.totals[1]) - before
        source.close()
        return spent, counted

    def peer(interface: str) -> tuple[float, int]:
        reader = pcapy.open_live(interface, 128, 1, 10)
        counts: dict[tuple[bytes, int], list[int]] = {}
        handle, seen = callback(counts), 0
        began, until = time.thread_time(), time.monotonic() + LIVE_SECONDS
        while time.monotonic() < until:
            seen += reader.dispatch(4096, handle)
        spent = time.thread_time() - began
        reader.close()
        return spent, seen

    found: dict[str, list[float]] = {"ring": [], "batch": [], "callback": []}
    with link() as (near, far):
        settings = Capturing((near,))
        feeding = sender(path, far)
        try:
            for _ in range(ROUNDS):
                for name, (spent, counted) in (
                    ("ring", consume(Rings(settings))),
                    ("batch", consume(LibpcapInterface(near, settings))),
                    ("callback", peer(near)),
                ):
                    found[name].append(spent * 1e9 / max(counted, 1))
        finally:
            feeding.terminate()
            feeding.wait()
    return {name: statistics.median(values) for name, values in found.items()}


def lines(found: dict[str, float], where: str) -> Iterator[dict[str, object]]:
    """The results against the peer; a ratio of 8 is eight times cheaper."""
    peer = found.pop("callback")
    for name, value in found.items():
        yield {
            "metric": f"packet_cost.{where}.{name}_kernel",
            "value": round(value, 1),
            "unit": "ns/packet",
            "peer": PEER,
            "peer_value": round(peer, 1),
            "ratio": round(peer / value, 2),
        }


def run(packets: int = 200_000) -> Iterator[dict[str, object]]:
    """Every figure; the live ones only where a link can be made."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mix.pcap")
        write_mix(path, packets)
        yield from lines(offline(path, packets), "offline")
        if os.geteuid() == 0:
            yield from lines(live(path), "live")
        else:
            print("live figures need root: left out", file=sys.stderr)


def main() -> None:
    """Prints them."""
    for line in run():
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
