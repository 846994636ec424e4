"""Several interfaces, each with a ring or one for each shard, as one source of packets.

Where there is much to do all shards count at the same time, one of them in the thread that asks, which goes on when all
are done. An interface that goes away is waited for.
"""

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from rules.errors import Refused
from sensors.crew import Crew
from sensors.evidence_ring import RecentBytes
from sensors.evidence_shards import RecentShards
from sensors.framing import ETHERNET, RAW
from sensors.ring import Ring
from sensors.ring_group import CLOSED, join, steer
from sensors.settings import Capturing
from sensors.source import Fed, InterfaceNumbers, Losses
from sensors.steering_program import steering
from sensors.tables import UNSIGNED, Tables

log = structlog.get_logger("ring")

_FASTEST = 1_600_000_000
"""Bytes a second that may come into a ring: some seven million packets, cut to their headers."""
_WORTH_HELP = 8
"""Blocks in a ring, some 10,000 packets: with fewer, it costs less to count all shards than to wake who helps."""
_LONGEST = 2
"""How much longer is slept where few packets come."""


def _is_up(interface: str) -> bool:
    try:
        return bool(int(Path("/sys/class/net", interface, "flags").read_text(), 16) & 1)  # IFF_UP, linux/if.h
    except (OSError, ValueError):
        return False


class Rings:
    """The source; what shards there are follows from the settings."""

    live = True

    def __init__(self, settings: Capturing, recent: RecentShards | None = None) -> None:
        """Opens every interface; raises `Refused` for the first that can't be. What comes is kept in `recent` too. With
        several shards packets count from the first `feed` on."""
        self._settings, self._shards = settings, settings.fanout
        self._recent: Sequence[RecentBytes | None] = recent.parts if recent else [None] * self._shards
        self._crew = Crew(self._shards - 1, "capture")
        self._prefixes: UNSIGNED | None = None
        self._pause = settings.ring_megabytes * (1 << 20) / self._shards / _FASTEST
        self._rings: list[Ring] = []
        self._poll = select.poll()
        self._before: dict[str, InterfaceNumbers] = {}
        self._lost = Losses()
        self._gone: dict[str, float] = {}
        try:
            for interface in settings.interfaces:
                self._open(interface)
        except Refused:
            self.close()
            raise

    def _open(self, interface: str) -> None:
        rings: list[Ring] = []
        try:
            for shard, recent in enumerate(self._recent):
                rings.append(Ring(interface, self._settings, recent, shard))
            if self._shards > 1:
                self._join(rings)
        except Refused:
            for ring in rings:
                ring.close()
            raise
        self._rings += rings
        for ring in rings:
            self._poll.register(ring.socket, select.POLLIN)

    def _join(self, rings: list[Ring]) -> None:
        interface, link = rings[0].interface, rings[0].link
        if link not in (ETHERNET, RAW):
            raise Refused("sensor.fanout", self._shards, f"{interface} hands over frames that can't be divided: 1")
        try:
            join([ring.socket for ring in rings], self._settings.keep_outgoing)
            # A program that says nothing yet, for a kernel that takes none.
            steer(rings[0].socket, CLOSED)
        except OSError as error:
            raise Refused("sensor.fanout", self._shards, f"{interface} can't be divided: {error.strerror}") from None
        if self._prefixes is not None:
            self._steer(rings, self._prefixes)

    def _steer(self, rings: list[Ring], prefixes: UNSIGNED) -> None:
        """Tells the kernel which shard a packet belongs to, and lets packets in where none came so far. Those under
        way when zones change may be counted in another shard, never twice."""
        for ring in rings:
            if ring.shard == 0:
                told = steering(prefixes, self._shards, ring.link)
                steer(ring.socket, told.steps)
                if not told.is_exact:
                    log.warning("too many prefixes to divide traffic exactly", interface=ring.interface)
        for ring in rings:
            ring.open()

    def expect(self, prefixes: UNSIGNED) -> None:
        """As `LiveSource.expect`."""
        if self._shards > 1:
            for link in {ring.link for ring in tuple(self._rings)}:
                steering(prefixes, self._shards, link)

    @property
    def helpers_seconds(self) -> float:
        """As `LiveSource.helpers_seconds`."""
        return self._crew.cpu_seconds

    def feed(self, tables: Tables, until_ns: int) -> Fed:
        """As `Source.feed`; what arrives meanwhile may be counted too."""
        shards = tables.shards
        if len(shards) != self._shards:
            raise ValueError(f"tables for {len(shards)} shards, and packets for {self._shards}")
        if self._shards > 1 and tables.prefixes is not self._prefixes:
            self._prefixes = tables.prefixes
            self._steer(self._rings, tables.prefixes)

        def take(shard: int) -> None:
            for ring in self._rings:
                if ring.shard == shard:
                    ring.feed(shards[shard])

        if any(ring.shard and ring.waits(_WORTH_HELP) for ring in self._rings):
            self._crew.do(take)
        else:
            for shard in range(self._shards):
                take(shard)
        return Fed()

    def wait(self, seconds: float) -> None:
        """As `Source.wait`, but sleeps on when packets come, as long as the ring has room for them: waking for every
        block that the kernel retires costs more than counting what is in it, and every sleep leaves the processor's
        caches cold. So where few come it sleeps longer, up to what half of the fastest would fill."""
        lasts = min((ring.lasts for ring in self._rings), default=0.0)
        time.sleep(min(max(0.0, seconds), max(self._pause, min(lasts, _LONGEST * self._pause))))
        troubled = [number for number, event in self._poll.poll(0) if event & ~select.POLLIN]
        for number in troubled:
            self._trouble(number)
        for interface, since in list(self._gone.items()):
            self._return(interface, since)

    def _trouble(self, number: int) -> None:
        troubled = next((ring for ring in self._rings if ring.socket.fileno() == number), None)
        if troubled is None:
            return  # with another shard's ring of that interface
        interface, error = troubled.interface, troubled.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        log.warning("interface is down", interface=interface, error=error)
        self._before[interface] = replace(self._numbers(interface), is_up=False, filled=0.0)
        for ring in self._of(interface):
            self._lost = self._sum(ring.losses(), self._lost)
            self._poll.unregister(ring.socket)
            self._rings.remove(ring)
            ring.close()
        self._gone[interface] = time.monotonic()

    def _of(self, interface: str) -> list[Ring]:
        return [ring for ring in self._rings if ring.interface == interface]

    def _return(self, interface: str, since: float) -> None:
        """Opens an interface again, once a second at most. One that is down could be opened, but not read."""
        if time.monotonic() - since < 1:
            return
        self._gone[interface] = time.monotonic()
        if not _is_up(interface):
            return
        try:
            self._open(interface)
        except Refused as error:
            log.warning("interface is not back", why=str(error))
        else:
            del self._gone[interface]
            log.info("interface is back", interface=interface)

    @staticmethod
    def _sum(one: Losses, other: Losses) -> Losses:
        return Losses(dropped=one.dropped + other.dropped, frozen=one.frozen + other.frozen)

    def losses(self) -> Losses:
        """As `Source.losses`, over all interfaces."""
        total = self._lost
        for ring in self._rings:
            total = self._sum(total, ring.losses())
        return total

    @property
    def link(self) -> int | None:
        """As `LiveSource.link`."""
        found = {ring.link for ring in self._rings}
        return found.pop() if len(found) == 1 else None

    def interfaces(self) -> tuple[InterfaceNumbers, ...]:
        """As `LiveSource.interfaces`."""
        found = {name: self._numbers(name) for name in {ring.interface for ring in self._rings}}
        return tuple(found.get(name) or self._before[name] for name in self._settings.interfaces)

    def _numbers(self, interface: str) -> InterfaceNumbers:
        before, rings = self._before.get(interface, InterfaceNumbers(interface, True)), self._of(interface)
        return InterfaceNumbers(
            interface,
            True,
            before.packets + sum(ring.packets for ring in rings),
            before.bytes + sum(ring.bytes for ring in rings),
            before.dropped + sum(ring.losses().dropped for ring in rings),
            max(ring.filled() for ring in rings),
        )

    def close(self) -> None:
        """As `Source.close`."""
        self._crew.stop()
        for ring in self._rings:
            ring.close()
        self._rings.clear()
