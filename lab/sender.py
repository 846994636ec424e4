"""Sends frames from a namespace at a steady rate: AF_PACKET past the queueing discipline, many frames for each call.

Run as a process (`python -m lab.sender`) it reads a plan as JSON on stdin and writes one JSON object with exact counts
and the monotonic nanosecond of each stream's first packet. Always ends: at its count, its duration, or SIGTERM.
"""

import ctypes
import json
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_network

import numpy as np

from lab.benign import benign
from lab.frames import Frames
from lab.namespaces import Namespace
from lab.traffic import attack
from rules.match import Network
from rules.traffic import Vector

BENIGN = "benign"
POOL = 1 << 14
"""Frames made for a stream and sent over and over; a divisor of `lab.benign.SEQUENCE`."""
_SOL_PACKET, _PACKET_QDISC_BYPASS, _SYS_SENDMMSG = 263, 20, 307
_BATCH = 256
_MESSAGE = np.dtype(
    [
        ("name", "u8"), ("name_length", "u4"), ("pad", "u4"), ("vectors", "u8"), ("vector_count", "u8"),
        ("control", "u8"), ("control_length", "u8"), ("flags", "i4"), ("pad2", "u4"), ("sent", "u4"), ("pad3", "u4"),
    ]
)  # fmt: skip
"""struct mmsghdr on 64-bit Linux."""
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])


@dataclass(frozen=True, slots=True)
class Stream:
    """One kind of traffic at one rate."""

    name: str
    """A vector (`syn_flood`, `udp_amp:ntp`) or `benign`."""
    target: Network
    packets_per_second: int
    seconds: float
    start_seconds: float = 0.0
    """After the sender starts."""
    seed: int = 1
    port: int = 443
    first: int = 0
    """The number of a benign stream's first packet: two streams at once are told apart by it."""

    @property
    def packets(self) -> int:
        """Exactly as many as are sent, unless the sender is ended early."""
        return round(self.packets_per_second * self.seconds)

    def frames(self) -> Frames:
        """The pool that is sent in turns."""
        if self.name == BENIGN:
            return benign(self.target, POOL, self.seed, self.first)
        return attack(Vector.parse(self.name), self.target, POOL, self.seed, self.port)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a stream."""

    name: str
    packets: int
    bytes: int
    """On the wire, without the frame check sequence."""
    first_ns: int
    """CLOCK_MONOTONIC at the first packet's system call; 0 when nothing was sent."""
    last_ns: int
    packets_per_second: float
    """Measured between the two."""


class _Pool:
    """A stream's frames as an array of mmsghdr, ready for the system call."""

    def __init__(self, stream: Stream, destination: bytes, source: bytes) -> None:
        self.stream = stream
        self.frames = stream.frames().addressed(destination, source)
        count, stride = self.frames.block.shape
        self._vectors = np.zeros(count, _VECTOR)
        self._vectors["base"] = self.frames.block.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(stride)
        self._vectors["length"] = self.frames.lengths
        self._messages = np.zeros(count, _MESSAGE)
        offsets = np.arange(count, dtype=np.uint64) * np.uint64(_VECTOR.itemsize)
        self._messages["vectors"], self._messages["vector_count"] = self._vectors.ctypes.data + offsets, 1
        self.address = self._messages.ctypes.data
        self.next, self.sent, self.first_ns, self.last_ns = 0, 0, 0, 0

    def due(self, elapsed: float) -> int:
        """How many frames are behind schedule."""
        running = min(max(elapsed - self.stream.start_seconds, 0.0), self.stream.seconds)
        over = elapsed - self.stream.start_seconds >= self.stream.seconds
        wanted = self.stream.packets if over else int(running * self.stream.packets_per_second)
        return wanted - self.sent

    def result(self) -> Sent:
        """What was sent so far."""
        whole, rest = divmod(self.sent, len(self.frames))
        size = int(self.frames.lengths.sum()) * whole + int(self.frames.lengths[:rest].sum())
        seconds = max(self.last_ns - self.first_ns, 1) / 1e9
        return Sent(self.stream.name, self.sent, size, self.first_ns, self.last_ns, self.sent / seconds)


def send(
    streams: Sequence[Stream], interface: str, destination: bytes, source: bytes, slack: float = 2.0
) -> list[Sent]:
    """Send the streams out of an interface of the current namespace; at most `slack` times as long as planned."""
    pools = [_Pool(stream, destination, source) for stream in streams]
    ends = max(stream.start_seconds + stream.seconds for stream in streams)
    libc = ctypes.CDLL(None, use_errno=True)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        out.bind((interface, 0))
        begin = time.monotonic()
        while (elapsed := time.monotonic() - begin) < ends * slack + 1:
            due = [(pool, count) for pool in pools if (count := pool.due(elapsed)) > 0]
            if not due and elapsed >= ends:
                break
            for pool, count in due:
                _burst(libc, out.fileno(), pool, min(count, _BATCH))
            if not due:
                time.sleep(0.0002)
    return [pool.result() for pool in pools]


def _burst(libc: ctypes.CDLL, descriptor: int, pool: _Pool, count: int) -> None:
    count = min(count, len(pool.frames) - pool.next)
    now = time.monotonic_ns()
    address = ctypes.c_void_p(pool.address + pool.next * _MESSAGE.itemsize)
    done = libc.syscall(_SYS_SENDMMSG, descriptor, address, count, 0)
    if done <= 0:
        return  # ENOBUFS: the device's ring is full; the frames stay due
    pool.first_ns, pool.last_ns = pool.first_ns or now, time.monotonic_ns()
    pool.sent += done
    pool.next = (pool.next + done) % len(pool.frames)


def command(namespace: Namespace, interface: str, destination: str) -> list[str]:
    """The command line that sends from a namespace; it takes `plan(streams)` on stdin and prints the results."""
    return namespace.command(sys.executable, "-m", "lab.sender", interface, destination)


def plan(streams: Sequence[Stream]) -> str:
    """Streams as the sender process reads them."""
    return json.dumps([asdict(stream) | {"target": str(stream.target)} for stream in streams])


def results(printed: str) -> list[Sent]:
    """What a sender process printed."""
    return [Sent(**one) for one in json.loads(printed)]


def main() -> None:
    """`python -m lab.sender INTERFACE DESTINATION_MAC < plan`."""
    interface, destination = sys.argv[1:3]
    streams = [Stream(**(one | {"target": ip_network(one["target"])})) for one in json.load(sys.stdin)]
    own = _mac(interface)
    sent = send(streams, interface, bytes.fromhex(destination.replace(":", "")), own)
    print(json.dumps([asdict(one) for one in sent]), flush=True)


def _mac(interface: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
        probe.bind((interface, 0))
        address: bytes = probe.getsockname()[4]
        return address


if __name__ == "__main__":
    main()
