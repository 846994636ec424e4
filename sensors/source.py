"""The one interface between packets and the engine: whoever delivers packets feeds them to the kernel up to a moment.

A source hands bytes over in blocks and never makes a Python object of a packet. Records carry a weight, the number of
packets each stands for, so that sampled streams fit the same interface.
"""

from dataclasses import dataclass
from typing import Protocol

from sensors.tables import UNSIGNED, Tables


@dataclass(frozen=True, slots=True)
class Fed:
    """What one call of `feed` did."""

    reached: bool = False
    """The next packet is at or after the moment given; False: nothing more is there, now or at all."""
    ended: bool = False
    """There will never be more."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Packets that never got here, since the source was opened."""

    dropped: int = 0
    """By the kernel, because nobody took them in time."""
    damaged: int = 0
    """Places where a capture file made no sense any more; what follows is lost."""
    truncated: int = 0
    """Records cut off by the end of the file."""
    frozen: int = 0
    """Times the kernel's ring was full."""


@dataclass(frozen=True, slots=True)
class InterfaceNumbers:
    """What came through one interface, since the source was opened."""

    name: str
    is_up: bool
    packets: int = 0
    bytes: int = 0
    """IP bytes."""
    dropped: int = 0
    filled: float = 0.0
    """The most that was waiting at once, as a share of the ring, since the last look."""


class Source(Protocol):
    """Something that packets come from."""

    live: bool
    """True: packets arrive as they are sent, and time is the machine's. False: the capture's time drives everything."""

    def feed(self, tables: Tables, until_ns: int) -> Fed:
        """Counts what is there into the tables; a file stops before the first packet at or after `until_ns` of
        analysis time, a live source returns when nothing waits."""

    def wait(self, seconds: float) -> None:
        """Sleeps until packets are there, at most so long; returns at once for a file."""

    def losses(self) -> Losses:
        """What was lost so far."""

    def close(self) -> None:
        """Lets go of sockets, memory and files."""


class LiveSource(Source, Protocol):
    """A source of packets as they come."""

    @property
    def link(self) -> int | None:
        """The link type of all interfaces; None when they differ."""

    @property
    def helpers_seconds(self) -> float:
        """Processor time of threads beside the one that feeds."""

    def expect(self, prefixes: UNSIGNED) -> None:
        """These (`tables.prefix_table`) will soon be protected: what takes time is done now. Any thread may call."""

    def interfaces(self) -> tuple[InterfaceNumbers, ...]:
        """Numbers of each interface; for the thread that feeds."""
