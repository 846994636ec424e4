"""What capture on two processors gives over one: packets counted from memory, where nobody else needs a processor, and
from a wire, where the sender needs one of them.

Processor time is that of all threads that count. Medians of interleaved rounds; a machine of two processors shows the
second figure at its worst.
"""

import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

import numpy as np

from bench.packet_cost import link
from bench.result import Result
from lab.benign import benign
from lab.frames import merged, write_pcap
from lab.traffic import attack
from rules.traffic import Vector
from sensors import fanout, walk
from sensors.crew import Crew
from sensors.framing import ETHERNET
from sensors.headers import Total
from sensors.rings import Rings
from sensors.settings import Capturing
from sensors.tables import ANY, Tables

SHARDS = (1, 2)
ROUNDS, PACKETS, LIVE_SECONDS = 5, 200_000, 1.5
TIMES = 10
"""How often the packets are counted in a round."""
NETWORK = ip_network("198.51.100.0/22")
_HEADER, _RECORD = 24, 16


@dataclass(frozen=True, slots=True)
class Round:
    """What one gave."""

    packets_per_second: float
    nanoseconds: float
    """Of processor time for each packet."""
    lost: float
    """The share that the kernel dropped."""


def write_mix(path: Path, packets: int) -> None:
    """A carpet over four /24, and ordinary traffic."""
    parts = [attack(Vector("udp_flood"), NETWORK, packets * 6 // 10, 1), benign(NETWORK, packets * 4 // 10, 2)]
    write_pcap(path, merged([part.paced(len(part)) for part in parts]))


def divided(content: bytes, shards: int) -> list[ANY]:
    """The records of a capture file as steering divides them."""
    parts: list[list[bytes]] = [[] for _ in range(shards)]
    at = _HEADER
    while at < len(content):
        end = at + _RECORD + struct.unpack_from("<I", content, at + 8)[0]
        ends = [ip_address(content[at + _RECORD + place : at + _RECORD + place + 4]) for place in (30, 26)]
        ours = ends[0] if ends[0] in NETWORK else ends[1]
        parts[(int(ours) >> 8) % shards].append(content[at:end])
        at = end
    return [np.frombuffer(b"".join(part), np.uint8) for part in parts]


def tables(shards: int) -> Tables:
    """Of the usual size."""
    return fanout.make([(NETWORK, 0)], shards=shards)


def from_memory(content: bytes, shards: int) -> Round:
    """Every packet counted, so often, by all shards at the same time."""
    into, parts, crew = tables(shards), divided(content, shards), Crew(shards - 1, "bench")

    def count(shard: int) -> None:
        for _ in range(TIMES):
            part = parts[shard]
            walk.pcap(*into.shards[shard].arrays, part, 0, len(part), False, 1000, ETHERNET, 1, walk.NEVER)

    began, spent = time.monotonic(), time.thread_time()
    crew.do(count)
    seconds, spent = time.monotonic() - began, time.thread_time() - spent + crew.cpu_seconds
    crew.stop()
    packets = int(into.totals[Total.PACKETS])
    return Round(packets / seconds, spent * 1e9 / packets, 0.0)


def from_wire(near: str, shards: int) -> Round:
    """What comes from a sender that goes as fast as it can."""
    source, into = Rings(Capturing((near,), ring_megabytes=64, fanout=shards)), tables(shards)
    source.feed(into, walk.NEVER)
    began, spent = time.monotonic(), time.thread_time()
    while time.monotonic() - began < LIVE_SECONDS:
        source.wait(0.04)
        source.feed(into, walk.NEVER)
    seconds, spent = time.monotonic() - began, time.thread_time() - spent + source.helpers_seconds
    packets, lost = int(into.totals[Total.RECORDS]), source.losses().dropped
    source.close()
    return Round(packets / seconds, spent * 1e9 / max(packets, 1), lost / max(packets + lost, 1))


def rounds(path: Path) -> Iterator[tuple[str, dict[int, list[Round]]]]:
    """All figures of both ways, by the number of shards."""
    content = path.read_bytes()
    yield "memory", _interleaved(lambda shards: from_memory(content, shards))
    if os.geteuid() != 0:
        print("figures from a wire need root: left out", file=sys.stderr)
        return
    with link() as (near, far):
        command = ["tcpreplay", "-q", "--preload-pcap", "--loop=0", "--topspeed", "-i", far, str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sending:
            try:
                yield "wire", _interleaved(lambda shards: from_wire(near, shards))
            finally:
                sending.terminate()


def _interleaved(measured: Callable[[int], Round]) -> dict[int, list[Round]]:
    found: dict[int, list[Round]] = {shards: [] for shards in SHARDS}
    for _ in range(ROUNDS):
        for shards in SHARDS:
            found[shards].append(measured(shards))
    return found


def run() -> Iterator[Result]:
    """Two against one: packets a second, of which more is better, and processor time, of which less is."""
    walk.warm_up(tables(1))
    processors = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mix.pcap")
        write_mix(path, PACKETS)
        for where, found in rounds(path):
            rate = {shards: statistics.median(one.packets_per_second for one in some) for shards, some in found.items()}
            cost = {shards: statistics.median(one.nanoseconds for one in some) for shards, some in found.items()}
            lost = {shards: statistics.median(one.lost for one in some) for shards, some in found.items()}
            note = f"{processors} processors; more is better"
            if where == "wire":
                note += f", the sender needs one of them; lost {lost[1]:.1%} with one thread, {lost[2]:.1%} with two"
            times = rate[2] / rate[1]
            yield Result(f"fanout.{where}.rate", rate[2], "packets/s", "one thread", rate[1], times, note)
            yield Result.against(f"fanout.{where}.cost", cost[2], "ns/packet", "one thread", cost[1], "of all threads")
