"""Counts what reaches a victim: benign packets apart from attack packets, losses, and when the last of each came.

A TPACKET_V2 ring is read as a NumPy array, so that a burst of thousands is counted in a few operations and the kernel's
own time stamps are used. Whatever does not come from `lab.benign.CLIENTS` counts as attack, but for neighbour discovery
and ARP, which count as nothing.
"""

import json
import mmap
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab import namespaces
from lab.benign import CLIENTS, SEQUENCE
from lab.namespaces import Namespace, wait_until
from rules.match import Family

_SOL_PACKET, _PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _TPACKET_V2 = 263, 5, 6, 10, 1
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
_FRAME, _FRAMES = 256, 1 << 16
_BLOCK = 1 << 16
_OUTGOING = 4
_HEADER = np.dtype(
    [
        ("status", "<u4"), ("length", "<u4"), ("snap", "<u4"), ("mac", "<u2"), ("net", "<u2"),
        ("second", "<u4"), ("nanosecond", "<u4"), ("tci", "<u2"), ("tpid", "<u2"), ("pad", "V4"),
    ]
)  # fmt: skip
"""struct tpacket2_hdr; sockaddr_ll follows, its packet type at byte 42 of the frame."""
_PACKET_TYPE = 32 + 10
BUNDLE_SECONDS = 0.01
"""Counting each packet when it comes would take half a processor from what is measured; the kernel stamps them anyway.
The ring holds what a million packets a second bring in six times as long."""


@dataclass(slots=True)
class Tally:
    """One class of packets."""

    packets: int = 0
    bytes: int = 0
    first_ns: int = 0
    """CLOCK_MONOTONIC."""
    last_ns: int = 0

    def add(self, lengths: NDArray[np.int64], stamps: NDArray[np.int64]) -> None:
        """Count packets with these lengths and arrival times."""
        if not len(lengths):
            return
        self.packets += len(lengths)
        self.bytes += int(lengths.sum())
        self.first_ns = self.first_ns or int(stamps[0])
        self.last_ns = int(stamps[-1])


@dataclass(slots=True)
class Counts:
    """What arrived so far."""

    attack: Tally = field(default_factory=Tally)
    benign: Tally = field(default_factory=Tally)
    benign_span: int = 0
    """Benign packets that were sent between the first and the last that arrived, both included."""
    dropped: int = 0
    """Packets the receiver itself was too slow for: above 0 the rest is not exact."""

    @property
    def benign_lost(self) -> int:
        """Benign packets missing between the first and the last that arrived."""
        return max(0, self.benign_span - self.benign.packets)


class Ring:
    """A packet ring on an interface of the current namespace."""

    def __init__(self, interface: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        request = struct.pack("4I", _BLOCK, _FRAME * _FRAMES // _BLOCK, _FRAME, _FRAMES)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        self._map = mmap.mmap(self.socket.fileno(), _FRAME * _FRAMES, mmap.MAP_SHARED)
        self._frames = np.frombuffer(self._map, np.uint8).reshape(_FRAMES, _FRAME)
        self._headers: NDArray[Any] = self._frames[:, : _HEADER.itemsize].view(_HEADER)[:, 0]
        self._next = 0
        self._previous: int | None = None
        self._clock = time.time_ns() - time.monotonic_ns()
        self.counts = Counts()
        self.numbers = np.zeros(SEQUENCE, np.int64)
        """How many benign packets of each number arrived."""
        self.socket.bind((interface, _ETH_P_ALL))

    def wait(self, seconds: float) -> None:
        """Until there is something to count, or the time is over."""
        select.select([self.socket], [], [], seconds)

    def count(self) -> int:
        """Count what has come, and give it back to the kernel; how many there were."""
        ready = self._headers["status"][self._next :] & 1
        size = len(ready) if ready.all() else int(ready.argmin())
        if size:
            part = slice(self._next, self._next + size)
            self._classify(self._headers[part], self._frames[part])
            self._headers["status"][part] = 0
            self._next = (self._next + size) % _FRAMES
        return size

    def drops(self) -> None:
        """Bring `counts.dropped` up to date."""
        raw = self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.counts.dropped += struct.unpack("II", raw)[1]

    def _classify(self, headers: NDArray[Any], frames: NDArray[np.uint8]) -> None:
        arrived = frames[:, _PACKET_TYPE] != _OUTGOING
        stamps = headers["second"].astype(np.int64) * 1_000_000_000 + headers["nanosecond"] - self._clock
        lengths = headers["length"].astype(np.int64)
        start = int(headers["mac"][0])
        rows = frames[:, start : start + 62]
        types = rows[:, 12].astype(np.int64) << 8 | rows[:, 13]
        four, six = arrived & (types == _ETH_P_IP), arrived & (types == _ETH_P_IPV6)
        own, numbers = _is_client(rows, four, six)
        self.counts.benign.add(lengths[own], stamps[own])
        self._sequence(numbers[own])
        np.add.at(self.numbers, numbers[own], 1)
        other = (four | (six & ~_is_control(rows))) & ~own
        self.counts.attack.add(lengths[other], stamps[other])

    def _sequence(self, numbers: NDArray[np.int64]) -> None:
        if not len(numbers):
            return
        previous = numbers[0] - 1 if self._previous is None else self._previous
        steps = np.diff(numbers, prepend=previous) % SEQUENCE
        # A step of more than half the circle is an overtaken packet, which adds nothing to the span.
        self.counts.benign_span += int(steps[steps < SEQUENCE // 2].sum())
        self._previous = int(numbers[-1])


def _is_client(
    rows: NDArray[np.uint8], four: NDArray[np.bool_], six: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which packets come from `CLIENTS`, and every packet's number."""
    first = CLIENTS[Family.IPV4].network_address.packed[:2]
    second = CLIENTS[Family.IPV6].network_address.packed[:6]
    in_four = four & (rows[:, 26:28] == np.frombuffer(first, np.uint8)).all(axis=1)
    in_six = six & (rows[:, 22:28] == np.frombuffer(second, np.uint8)).all(axis=1)
    columns = np.where(six[:, None], rows[:, 16:18], rows[:, 18:20]).astype(np.int64)
    return in_four | in_six, columns[:, 0] << 8 | columns[:, 1]


def _is_control(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Link-local IPv6: neighbour discovery, MLD."""
    result: NDArray[np.bool_] = (rows[:, 22] == 0xFE) & (rows[:, 23] & 0xC0 == 0x80) | (rows[:, 38] == 0xFF)
    return result


class Receiver:
    """A counting process in a namespace; `counts()` at any time, `stop()` for the last word."""

    def __init__(self, namespace: Namespace, interface: str, directory: Path) -> None:
        self._path = directory / f"received-{namespace.label}-{interface}.json"
        for path in (self._path, _numbers_path(self._path)):
            path.unlink(missing_ok=True)
        arguments = namespace.command(sys.executable, "-m", "lab.receiver", interface, self._path)
        self._process: subprocess.Popen[bytes] = namespaces.start(arguments, directory / "receiver.log")
        wait_until(self._path.exists, "the receiver does not start", 30)

    def counts(self) -> Counts:
        """At most a tenth of a second old."""
        return counts_from_json(self._path.read_text())

    def stop(self) -> Counts:
        """End it; everything that had arrived is counted."""
        namespaces.stop(self._process)
        return self.counts()

    def numbers(self) -> NDArray[np.int64]:
        """How many benign packets of each number arrived; after `stop`."""
        loaded: NDArray[np.int64] = np.load(_numbers_path(self._path))
        return loaded


def counts_from_json(text: str) -> Counts:
    """What a receiver process wrote."""
    raw = json.loads(text)
    return Counts(Tally(**raw["attack"]), Tally(**raw["benign"]), raw["benign_span"], raw["dropped"])


def run(ring: Ring, path: Path, is_over: Callable[[], bool]) -> None:
    """Count until it is over, with the state in a file ten times a second."""
    written = 0.0
    while True:
        over = is_over()
        size = ring.count()
        now = time.monotonic()
        if over or now - written > 0.1:
            ring.drops()
            _write(path, ring.counts)
            written = now
        if over and not size:
            np.save(_numbers_path(path), ring.numbers)
            return
        if size:
            time.sleep(BUNDLE_SECONDS)
        else:
            ring.wait(0.05)


def _numbers_path(path: Path) -> Path:
    return path.with_suffix(".npy")


def _write(path: Path, counts: Counts) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(counts)))
    beside.replace(path)


def main() -> None:
    """`python -m lab.receiver INTERFACE FILE`, until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
    run(Ring(sys.argv[1]), Path(sys.argv[2]), lambda: bool(stopped))


if __name__ == "__main__":
    main()
