"""Interfaces as a source, through the kernel's packet ring (AF_PACKET with TPACKET_V3, packet(7)).

Packets are read where the kernel put them. Needs CAP_NET_RAW and nothing else. Offloaded super-frames come with a
virtio-net header that tells what they were made from; VLAN tags that the card took out are reported by the kernel
beside the frame.
"""

import mmap
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pcapy
import structlog

from rules.errors import Refused
from sensors import walk
from sensors.crew import Crew
from sensors.evidence_ring import RecentBytes, keep_block
from sensors.evidence_shards import RecentShards
from sensors.framing import ETHERNET, IEEE802_11, IEEE802_11_RADIO, RAW
from sensors.headers import Total
from sensors.ring_group import CLOSED, Steps, attach, join, steer
from sensors.settings import Capturing
from sensors.source import Fed, InterfaceNumbers, Losses
from sensors.steering_program import steering
from sensors.tables import UNSIGNED, Tables

log = structlog.get_logger("ring")

# linux/if_packet.h
_SOL_PACKET, _ETH_P_ALL = 263, 0x0003
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _VNET_HDR, _IGNORE_OUTGOING = 1, 5, 6, 10, 15, 23
_MR_PROMISC, _TPACKET_V3 = 1, 2
_BLOCK_BYTES = 1 << 18
_FRAME_BYTES = 1 << 11
_STATUS, _STATUS_USER = 8, 1
_FASTEST = 1_600_000_000
"""Bytes a second that may come into a ring: some seven million packets, cut to their headers."""
_SURGE, _LONGEST = 4, 2
"""By how much packets may become more from one look to the next, where few come; and how much longer is slept then."""

_ARPHRD = {1: ETHERNET, 772: ETHERNET, 801: IEEE802_11, 803: IEEE802_11_RADIO} | dict.fromkeys(
    (512, 768, 769, 776, 778, 823, 65534), RAW
)
"""Kind of interface (linux/if_arp.h) -> link type: tunnels and point-to-point links hand over bare IP."""


def link_type(interface: str) -> int:
    """What frames of an interface begin with; raises `Refused` when there is no such interface, or of no known kind."""
    try:
        kind = int(Path("/sys/class/net", interface, "type").read_text())
    except (OSError, ValueError):
        raise Refused("interfaces", interface, "there is no such interface on this machine") from None
    if kind not in _ARPHRD:
        raise Refused("interfaces", interface, f"is of kind {kind} (linux/if_arp.h), which is not supported")
    return _ARPHRD[kind]


def _is_up(interface: str) -> bool:
    try:
        return bool(int(Path("/sys/class/net", interface, "flags").read_text(), 16) & 1)  # IFF_UP, linux/if.h
    except (OSError, ValueError):
        return False


class Ring:
    """One interface's ring, or one shard's part of it."""

    def __init__(self, interface: str, settings: Capturing, recent: RecentBytes | None = None, shard: int = 0) -> None:
        """Raises `Refused` when the interface or the filter is unknown, or packets may not be captured. Of several
        shards, none lets anything in before `open`."""
        self.interface, self.shard, self._settings, self._recent = interface, shard, settings, recent
        self.link = link_type(interface)
        self.packets = self.bytes = 0
        self._fullest, self._looked, self.lasts = 0, time.monotonic(), 0.0
        self._blocks = max(4, settings.ring_megabytes * (1 << 20) // _BLOCK_BYTES // settings.fanout)
        self._next = 0
        self._dropped = self._frozen = 0
        try:
            # Where there is no link layer to speak of, the kernel begins at the IP header for certain only when asked.
            kind = socket.SOCK_DGRAM if self.link == RAW else socket.SOCK_RAW
            self.socket = socket.socket(socket.AF_PACKET, kind, 0)
        except PermissionError:
            raise Refused("interfaces", interface, "capturing needs CAP_NET_RAW") from None
        try:
            self._memory = self._set_up()
        except OSError as error:
            self.socket.close()
            raise Refused("interfaces", interface, f"can't be captured: {error.strerror}") from None
        except Refused:
            self.socket.close()
            raise
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._status = np.frombuffer(self._memory, np.uint32)[_STATUS // 4 :: _BLOCK_BYTES // 4]

    def _set_up(self) -> mmap.mmap:
        settings, option = self._settings, self.socket.setsockopt
        option(_SOL_PACKET, _VERSION, _TPACKET_V3)
        if self.link != RAW:
            option(_SOL_PACKET, _VNET_HDR, 1)
        if not settings.keep_outgoing:
            option(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self._filter = self._compiled_filter()
        attach(self.socket, self._filter if settings.fanout == 1 else CLOSED)
        frames = self._blocks * _BLOCK_BYTES // _FRAME_BYTES
        request = (_BLOCK_BYTES, self._blocks, _FRAME_BYTES, frames, settings.retire_milliseconds, 0, 0)
        option(_SOL_PACKET, _RX_RING, struct.pack("=7I", *request))
        memory = mmap.mmap(self.socket.fileno(), self._blocks * _BLOCK_BYTES, mmap.MAP_SHARED)
        # Bound last: packets come only when everything is in place.
        self.socket.bind((self.interface, _ETH_P_ALL))
        if settings.promiscuous:
            index = socket.if_nametoindex(self.interface)
            option(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("=iHH8x", index, _MR_PROMISC, 0))
        return memory

    def open(self) -> None:
        """Lets packets in."""
        attach(self.socket, self._filter)

    def _compiled_filter(self) -> Steps:
        """A classic BPF program that cuts frames to the snap length, and lets only what the filter matches pass."""
        try:
            program = pcapy.compile(self.link, self._settings.snap_bytes, self._settings.filter or "", 1, 0xFFFFFFFF)
        except (pcapy.BPFError, pcapy.PcapError) as error:
            raise Refused("filter", self._settings.filter or "", f"is no filter libpcap knows: {error}") from None
        return [(code, true, false, value) for code, true, false, value in program.get_bpf()]

    def feed(self, tables: Tables) -> bool:
        """Counts every block that the kernel handed over, at most the whole ring; True when there was one. `lasts` says
        for how many seconds there is room then, were packets to come `_SURGE` times as fast as before."""
        totals = tables.totals
        packets, size = int(totals[Total.PACKETS]), int(totals[Total.BYTES])
        taken, now = 0, time.monotonic()
        for _ in range(self._blocks):
            if not self._status[self._next] & _STATUS_USER:
                break
            taken += 1
            walk.ring_block(
                *tables.arrays, self._bytes, self._next * _BLOCK_BYTES, _BLOCK_BYTES, self.link,
                self._settings.weight, self.link != RAW, self._settings.keep_outgoing,
            )  # fmt: skip
            if self._recent is not None and self._recent.wants_block():
                keep_block(
                    *self._recent.arrays, tables.prefixes, self._bytes, self._next * _BLOCK_BYTES, _BLOCK_BYTES,
                    self.link, self._settings.keep_outgoing,
                )  # fmt: skip
            self._status[self._next] = 0
            self._next = (self._next + 1) % self._blocks
        self.packets += int(totals[Total.PACKETS]) - packets
        self.bytes += int(totals[Total.BYTES]) - size
        self._fullest = max(self._fullest, taken)
        self.lasts, self._looked = (now - self._looked) * self._blocks / (_SURGE * max(taken, 1)), now
        return taken > 0

    def filled(self) -> float:
        """The most blocks that waited at once, as a share of all, since the last call."""
        fullest, self._fullest = self._fullest, 0
        return fullest / self._blocks

    def losses(self) -> Losses:
        """What the kernel dropped; the kernel's counters start anew whenever they are read."""
        try:
            _, dropped, frozen = struct.unpack("=3I", self.socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        except OSError:
            dropped = frozen = 0
        self._dropped += dropped
        self._frozen += frozen
        return Losses(dropped=self._dropped, frozen=self._frozen)

    def close(self) -> None:
        """Unmaps the ring and closes the socket."""
        del self._bytes, self._status
        self._memory.close()
        self.socket.close()


class Rings:
    """Several interfaces, each with its ring, or one for each shard, as one source. An interface that goes away is
    waited for."""

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

        self._crew.do(take)
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
