"""Programs that take packets from an interface, fed one after the other by the same sender, in short turns.

The speed of a shared machine changes within minutes, so only turns of one round are compared. Whose turn it is has a
processor for itself; the others are with the sender meanwhile, on the other one. What the kernel does to hand packets
over is the sender's time: what it takes longer than with nobody there.
"""

import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import sched_setaffinity
from pathlib import Path

from bench.fastnetmon import FIRST
from lab import sender
from lab.namespaces import Namespace, Port, join, namespaces
from lab.sender import Sent, Stream

SENDING, WATCHING = 0, 1
"""Processors."""
WATCH = "watch"
"""The interface that a program listens on."""
PREFERRED = ("sh", "-c", FIRST + 'exec "$@"', "sh")
"""Before a command: it goes before all else on the machine."""
_FEED = "feed"
_NOBODY = "02:00:00:00:00:99"
"""A mirror's frames are for somebody else, so that the kernel drops them behind the consumer."""
BEGINNING_SECONDS = 2.0
"""Of a feed, when an attack is found and described."""
_BEHIND_SECONDS = 0.3
"""After a feed: what is still in a ring is taken."""


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair; nobody but the sender says anything there."""

    feed: Namespace
    watch: Namespace

    def start(self, streams: Sequence[Stream]) -> "subprocess.Popen[str]":
        """A sender that is ready and begins when its stdin is closed."""
        command = sender.command(self.feed, _FEED, _NOBODY, Port(self.watch, WATCH))
        process = subprocess.Popen(
            [*PREFERRED, "taskset", "-c", str(SENDING), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(sender.plan(streams))
        process.stdin.flush()
        if process.stdout.readline().strip() != sender.READY:
            raise RuntimeError(f"the sender ended with {process.wait()}")
        return process

    def send(self, streams: Sequence[Stream]) -> list[Sent]:
        """What was sent, once it is."""
        process = self.start(streams)
        _begin(process)
        return _sent(process)


@dataclass(frozen=True, slots=True)
class Consumer:
    """A program that listens on a link."""

    name: str
    pid: int
    link: Link


@dataclass(frozen=True, slots=True)
class Turn:
    """What a feed cost."""

    rate: float
    """Packets a second that were sent."""
    sent: int
    nanoseconds: float
    """Of the consumer, for each packet sent."""
    steady_nanoseconds: float
    """The same without the feed's beginning."""
    kernel_nanoseconds: float
    """Of the sender in the kernel, for each packet."""


@contextlib.contextmanager
def link() -> Iterator[Link]:
    """A new one, removed at the end with everything inside."""
    with namespaces(_FEED, WATCH) as (feed, watch):
        for one in (feed, watch):
            one.set_kernel("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        join(Port(feed, _FEED), Port(watch, WATCH))
        yield Link(feed, watch)


def rounds(
    consumers: Sequence[Consumer], feed: Callable[[int], Sequence[Stream]], count: int
) -> Iterator[tuple[int, Consumer, Turn]]:
    """Each round's number and turns, as they come; who begins changes. `feed` gives a round's streams."""
    for number in range(count):
        for place in range(len(consumers)):
            consumer = consumers[(number + place) % len(consumers)]
            for one in consumers:
                move(one.pid, WATCHING if one is consumer else SENDING)
            yield number, consumer, _turn(consumer, feed(number))


def to_nobody(streams: Sequence[Stream], count: int) -> float:
    """Nanoseconds a packet that the sender takes when nobody listens; the median of some feeds."""
    with link() as alone:
        return statistics.median(_kernel_nanoseconds(alone.send(streams)) for _ in range(count))


def move(pid: int, processor: int) -> None:
    """All threads of a process onto a processor."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            sched_setaffinity(int(thread.name), {processor})


def processor_ns(pid: int) -> int:
    """User and system time of all threads, also of those that have ended."""
    # As clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of a process.
    return time.clock_gettime_ns(~pid << 3 | 2)


def resident_megabytes(pid: int) -> float:
    """Memory in use."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _turn(consumer: Consumer, streams: Sequence[Stream]) -> Turn:
    process = consumer.link.start(streams)
    begun = processor_ns(consumer.pid)
    _begin(process)
    time.sleep(BEGINNING_SECONDS)
    early, until = processor_ns(consumer.pid), time.monotonic_ns()
    sent = _sent(process)
    time.sleep(_BEHIND_SECONDS)
    end = processor_ns(consumer.pid)
    packets, last = sum(one.packets for one in sent), max(one.last_ns for one in sent)
    rate = packets * 1e9 / (last - min(one.first_ns for one in sent))
    steady = rate * (last - until) / 1e9
    return Turn(rate, packets, (end - begun) / packets, (end - early) / steady, _kernel_nanoseconds(sent))


def _begin(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()


def _sent(process: "subprocess.Popen[str]") -> list[Sent]:
    assert process.stdout is not None
    printed = process.stdout.read()
    if process.wait():
        raise RuntimeError(f"the sender ended with {process.returncode}")
    return sender.results(printed)


def _kernel_nanoseconds(sent: Sequence[Sent]) -> float:
    return sum(one.processor_ns for one in sent) / sum(one.packets for one in sent)
