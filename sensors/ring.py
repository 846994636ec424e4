"""One interface's packets, through the kernel's packet ring (AF_PACKET with TPACKET_V3, packet(7)).

Packets are read where the kernel put them. Needs CAP_NET_RAW and nothing else. Offloaded super-frames come with a
virtio-net header that tells what they were made from; VLAN tags that the card took out are reported by the kernel
beside the frame.
"""

import mmap
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pcapy
import structlog

from rules.errors import Refused
from sensors import walk
from sensors.evidence_kernel import keep_block
from sensors.evidence_ring import RecentBytes
from sensors.framing import ETHERNET, IEEE802_11, IEEE802_11_RADIO, RAW
from sensors.headers import Total
from sensors.ring_group import CLOSED, Steps, attach
from sensors.settings import Capturing
from sensors.source import Losses
from sensors.tables import Tables

log = structlog.get_logger("ring")

# linux/if_packet.h
_SOL_PACKET, _ETH_P_ALL = 263, 0x0003
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _VNET_HDR, _IGNORE_OUTGOING = 1, 5, 6, 10, 15, 23
_MR_PROMISC, _TPACKET_V3 = 1, 2
_BLOCK_BYTES = 1 << 18
_FRAME_BYTES = 1 << 11
_BLOCK_WORDS, _STATUS, _STATUS_USER = _BLOCK_BYTES // 4, 2, 1
"""Numbers of 32 bits in a block, which of them says whose it is, and that it is ours."""
_AT_ONCE = 16
"""Blocks: to call the compiled code finds nothing of the interpreter in the caches, after each block of packets."""
_SURGE = 4
"""By how much packets may become more from one look to the next, where few come."""

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
        self._words = memoryview(self._memory).cast("I")

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
        while taken < self._blocks and (ready := self._ready()):
            taken += ready
            begin = self._next * _BLOCK_BYTES
            walk.ring_blocks(
                *tables.arrays, self._bytes, begin, ready, _BLOCK_BYTES, self.link,
                self._settings.weight, self.link != RAW, self._settings.keep_outgoing,
            )  # fmt: skip
            for block in range(begin, begin + ready * _BLOCK_BYTES, _BLOCK_BYTES):
                if self._recent is not None and self._recent.wants_block():
                    keep_block(
                        *self._recent.arrays, tables.prefixes, self._bytes, block, _BLOCK_BYTES,
                        self.link, self._settings.keep_outgoing,
                    )  # fmt: skip
            for number in range(self._next, self._next + ready):
                self._words[number * _BLOCK_WORDS + _STATUS] = 0
            self._next = (self._next + ready) % self._blocks
        self.packets += int(totals[Total.PACKETS]) - packets
        self.bytes += int(totals[Total.BYTES]) - size
        self._fullest = max(self._fullest, taken)
        self.lasts, self._looked = (now - self._looked) * self._blocks / (_SURGE * max(taken, 1)), now
        return taken > 0

    def _ready(self) -> int:
        """How many blocks are there from the next one on, of those that are counted at once: the ring's end comes
        before its beginning, and the kernel gets them back soon."""
        # Plain numbers: a step of NumPy finds nothing of itself in the caches after a sleep, and takes 50 us.
        words, end = self._words, self._next + max(1, min(_AT_ONCE, self._blocks // 4))
        for number in range(self._next, min(end, self._blocks)):
            if not words[number * _BLOCK_WORDS + _STATUS] & _STATUS_USER:
                return number - self._next
        return min(end, self._blocks) - self._next

    def waits(self, blocks: int) -> bool:
        """Whether at least so many blocks can be counted now."""
        last = (self._next + min(blocks, self._blocks) - 1) % self._blocks
        return bool(self._words[last * _BLOCK_WORDS + _STATUS] & _STATUS_USER)

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
        del self._bytes
        self._words.release()
        self._memory.close()
        self.socket.close()
