"""Frames into a namespace at a steady rate: out of an interface, or as if an interface there had received them.

Run as a process (`python -m lab.sender`) it reads a plan, a line of JSON, says that it is ready, begins once its stdin
ends, and writes a line of JSON with exact counts and the monotonic nanosecond of each stream's first packet. It always
ends itself: at its count, its duration, or SIGTERM.
"""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Protocol

from lab.benign import benign
from lab.frames import Frames
from lab.inside import call_inside
from lab.live_frames import LiveFrames, NoLiveFrames
from lab.namespaces import Namespace, Port
from lab.packet_socket import PacketSocket
from lab.traffic import attack
from rules.match import Network
from rules.traffic import Vector

BENIGN = "benign"
Ends = tuple[bytes, bytes]
"""MAC addresses of frames: to and from."""
READY = "ready"
"""What the process says before it waits for the end of its stdin."""
POOL = 1 << 14
"""Frames made for a stream and sent over and over; a divisor of `lab.benign.SEQUENCE`."""
_SLACK, _PAUSE_SECONDS = 2.0, 0.0002


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
    processor_ns: int = 0
    """Of the sender, in the system calls that sent it: its own work and that of who takes packets in the kernel."""


class Way(Protocol):
    """How frames leave: `LiveFrames` or `PacketSocket`."""

    def hand(self, parts: Sequence[tuple[int, int, int]]) -> list[int]:
        """Of some pools so many frames from one on; how many of each went, the first ones."""

    def close(self) -> None:
        """No more."""


class _Pool:
    """A stream's frames and what became of them."""

    def __init__(self, stream: Stream, destination: bytes, source: bytes) -> None:
        self.stream = stream
        self.frames = stream.frames().addressed(destination, source)
        self.sent, self.first_ns, self.last_ns, self.processor_ns = 0, 0, 0, 0.0

    def due(self, elapsed: float) -> int:
        """How many frames are behind schedule."""
        running = min(max(elapsed - self.stream.start_seconds, 0.0), self.stream.seconds)
        over = elapsed - self.stream.start_seconds >= self.stream.seconds
        wanted = self.stream.packets if over else int(running * self.stream.packets_per_second)
        return wanted - self.sent

    def part(self, due: int) -> tuple[int, int]:
        """The next frames: which is the first, and how many up to the pool's end."""
        first = self.sent % len(self.frames)
        return first, min(due, len(self.frames) - first)

    def went(self, count: int, begun_ns: int, processor_ns: float) -> None:
        """So many more frames were sent."""
        if count:
            self.first_ns, self.last_ns = self.first_ns or begun_ns, time.monotonic_ns()
            self.sent, self.processor_ns = self.sent + count, self.processor_ns + processor_ns

    def result(self) -> Sent:
        """What was sent so far."""
        whole, rest = divmod(self.sent, len(self.frames))
        size = int(self.frames.lengths.sum()) * whole + int(self.frames.lengths[:rest].sum())
        seconds = max(self.last_ns - self.first_ns, 1) / 1e9
        rate, spent = self.sent / seconds, round(self.processor_ns)
        return Sent(self.stream.name, self.sent, size, self.first_ns, self.last_ns, rate, spent)


def send(
    streams: Sequence[Stream], way: Callable[[Sequence[Frames]], Way], ends: Ends, go: Callable[[], None]
) -> list[Sent]:
    """Send the streams, once `go` returns; at most twice as long as planned."""
    pools = [_Pool(stream, *ends) for stream in streams]
    until = max(stream.start_seconds + stream.seconds for stream in streams)
    with contextlib.closing(way([pool.frames for pool in pools])) as out:
        go()
        begin = time.monotonic()
        while (elapsed := time.monotonic() - begin) < until * _SLACK + 1:
            due = [(number, *pool.part(count)) for number, pool in enumerate(pools) if (count := pool.due(elapsed)) > 0]
            if due:
                _burst(out, pools, due)
            if not any(pool.due(elapsed) > 0 for pool in pools):
                if elapsed >= until:
                    break
                # Without a pause each call would carry a few frames only, and cost as much as a hundred.
                time.sleep(_PAUSE_SECONDS)
    return [pool.result() for pool in pools]


def _burst(out: Way, pools: Sequence[_Pool], due: Sequence[tuple[int, int, int]]) -> None:
    begun, spent = time.monotonic_ns(), time.thread_time_ns()
    went = out.hand(due)
    each = (time.thread_time_ns() - spent) / max(1, sum(went))
    for (number, _, _), count in zip(due, went, strict=True):
        pools[number].went(count, begun, count * each)


def command(namespace: Namespace, interface: str, destination: str, into: Port | None = None) -> list[str]:
    """The command line that sends from a namespace; it takes `plan(streams)` on stdin and prints the results.

    With `into`, the other end, it hands the frames over there where the kernel can; stderr tells where it can't.
    """
    there = () if into is None else (into.namespace.path, into.interface)
    return namespace.command(sys.executable, "-m", "lab.sender", interface, destination, *there)


def plan(streams: Sequence[Stream]) -> str:
    """Streams as the sender process reads them."""
    return json.dumps([asdict(stream) | {"target": str(stream.target)} for stream in streams]) + "\n"


def results(printed: str) -> list[Sent]:
    """What a sender process printed."""
    return [Sent(**one) for one in json.loads(printed.splitlines()[-1])]


def main() -> None:
    """`python -m lab.sender INTERFACE DESTINATION_MAC [NAMESPACE_FILE INTERFACE_THERE] < plan`."""
    interface, destination, *there = sys.argv[1:]
    streams = [Stream(**(one | {"target": ip_network(one["target"])})) for one in json.loads(sys.stdin.readline())]
    ends = bytes.fromhex(destination.replace(":", "")), _mac(interface)
    sent = _handed_over(streams, ends, *there) if there else None
    if sent is None:
        sent = send(streams, lambda pools: PacketSocket(pools, interface), ends, _told)
    print(json.dumps([asdict(one) for one in sent]), flush=True)


def _told() -> None:
    """Says that all is ready, and waits for the end of stdin."""
    print(READY, flush=True)
    sys.stdin.read()


def _handed_over(streams: Sequence[Stream], ends: Ends, namespace: str, interface: str) -> list[Sent] | None:
    """Nothing where the kernel can't."""

    def inside() -> list[Sent]:
        return send(streams, lambda pools: LiveFrames(pools, interface), ends, _told)

    try:
        return call_inside(Path(namespace), inside)
    except NoLiveFrames as error:
        print(f"no live frames here ({error}): sends through a packet socket, which is slower", file=sys.stderr)
        return None


def _mac(interface: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
        probe.bind((interface, 0))
        address: bytes = probe.getsockname()[4]
        return address


if __name__ == "__main__":
    main()
