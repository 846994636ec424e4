"""Interfaces as a source, through the kernel's packet ring (AF_PACKET with TPACKET_V3, packet(7)).

Packets are read where the kernel put them. Needs CAP_NET_RAW and nothing else. Offloaded super-frames come with a
virtio-net header that tells what they were made from; VLAN tags that the card took out are reported by the kernel
beside the frame.
"""

import ctypes
import mmap
import select
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pcapy
import structlog

from rules.errors import Refused
from sensors import walk
from sensors.evidence_ring import RecentBytes, keep_block
from sensors.framing import ETHERNET, IEEE802_11, IEEE802_11_RADIO, RAW
from sensors.headers import Total
from sensors.settings import Capturing
from sensors.source import Fed, InterfaceNumbers, Losses
from sensors.tables import Tables

log = structlog.get_logger("ring")

# linux/if_packet.h, asm-generic/socket.h
_SOL_PACKET, _ETH_P_ALL, _SO_ATTACH_FILTER = 263, 0x0003, 26
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
    """One interface's ring."""

    def __init__(self, interface: str, settings: Capturing, recent: RecentBytes | None = None) -> None:
        """Raises `Refused` when the interface or the filter is unknown, or packets may not be captured."""
        self.interface, self._settings, self._recent = interface, settings, recent
        self.link = link_type(interface)
        self.packets = self.bytes = 0
        self._fullest, self._looked, self.lasts = 0, time.monotonic(), 0.0
        self._blocks = max(4, settings.ring_megabytes * (1 << 20) // _BLOCK_BYTES)
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
        self._attach_filter()
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

    def _attach_filter(self) -> None:
        """A classic BPF program that cuts frames to the snap length, and lets only what the filter matches pass."""
        try:
            program = pcapy.compile(self.link, self._settings.snap_bytes, self._settings.filter or "", 1, 0xFFFFFFFF)
        except (pcapy.BPFError, pcapy.PcapError) as error:
            raise Refused("filter", self._settings.filter or "", f"is no filter libpcap knows: {error}") from None
        steps = program.get_bpf()
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
        # `struct sock_fprog`, with the padding that the machine gives it.
        pointer = struct.pack("HP", len(steps), ctypes.addressof(code))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)

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
    """Several interfaces, each with its ring, as one source. An interface that goes away is waited for."""

    live = True

    def __init__(self, settings: Capturing, recent: RecentBytes | None = None) -> None:
        """Opens every interface; raises `Refused` for the first that can't be. What comes is kept in `recent` too."""
        self._settings, self._recent = settings, recent
        self._pause = settings.ring_megabytes * (1 << 20) / _FASTEST
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
        ring = Ring(interface, self._settings, self._recent)
        self._rings.append(ring)
        self._poll.register(ring.socket, select.POLLIN)

    def feed(self, tables: Tables, until_ns: int) -> Fed:
        """As `Source.feed`; what arrives meanwhile may be counted too."""
        for ring in self._rings:
            ring.feed(tables)
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
        ring = next(ring for ring in self._rings if ring.socket.fileno() == number)
        error = ring.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        log.warning("interface is down", interface=ring.interface, error=error)
        self._before[ring.interface] = replace(self._numbers(ring), is_up=False, filled=0.0)
        self._lost = self._sum(ring.losses(), self._lost)
        self._poll.unregister(ring.socket)
        self._rings.remove(ring)
        ring.close()
        self._gone[ring.interface] = time.monotonic()

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
        found = {ring.interface: self._numbers(ring) for ring in self._rings}
        return tuple(found.get(name) or self._before[name] for name in self._settings.interfaces)

    def _numbers(self, ring: Ring) -> InterfaceNumbers:
        before = self._before.get(ring.interface, InterfaceNumbers(ring.interface, True))
        return InterfaceNumbers(
            ring.interface,
            True,
            before.packets + ring.packets,
            before.bytes + ring.bytes,
            before.dropped + ring.losses().dropped,
            ring.filled(),
        )

    def close(self) -> None:
        """As `Source.close`."""
        for ring in self._rings:
            ring.close()
        self._rings.clear()
