"""One interface as a source, through libpcap: slower than the ring, for places where the ring is not to be had.

pcapy's blocking mode doesn't return on a silent link whatever its timeout says, so the handle never blocks and `wait`
sleeps.
"""

import time
from pathlib import Path

import pcapy

from rules.errors import Refused
from sensors import walk
from sensors.evidence_kernel import keep_batch
from sensors.evidence_ring import RecentBytes
from sensors.framing import LINK_TYPES
from sensors.headers import Total
from sensors.settings import Capturing
from sensors.source import Fed, InterfaceNumbers, Losses
from sensors.tables import UNSIGNED, Tables

_BATCH = 256
_ROUNDS = 1024
"""Batches in one call of `feed`, so that a flood never keeps the engine from looking at the counters."""

_FASTEST = 800_000_000
"""Bytes a second that may come into the buffer."""


class LibpcapInterface:
    """A live capture by libpcap."""

    live = True

    def __init__(self, interface: str, settings: Capturing, recent: RecentBytes | None = None) -> None:
        """Raises `Refused` when libpcap can't capture there. What comes is kept in `recent` too."""
        self._name, self._weight, self._recent = interface, settings.weight, recent
        self._packets = self._bytes = 0
        if not Path("/sys/class/net", interface).exists():
            # libpcap's own words for it are "Bad file descriptor".
            raise Refused("interfaces", interface, "there is no such interface on this machine")
        try:
            self._reader = reader = pcapy.create(interface)
            reader.set_snaplen(settings.snap_bytes)
            reader.set_promisc(int(settings.promiscuous))
            reader.set_timeout(settings.retire_milliseconds)
            reader.set_buffer_size(settings.ring_megabytes << 20)
            reader.activate()
            reader.setnonblock(1)
            if not settings.keep_outgoing:
                reader.setdirection(pcapy.PCAP_D_IN)
        except (pcapy.PcapError, pcapy.BPFError) as error:
            raise Refused("interfaces", interface, f"libpcap can't capture there: {error}") from None
        try:
            if settings.filter:
                reader.setfilter(settings.filter)
        except (pcapy.PcapError, pcapy.BPFError) as error:
            raise Refused("filter", settings.filter or "", f"is no filter libpcap knows: {error}") from None
        self.link: int | None = reader.datalink()
        if self.link not in LINK_TYPES:
            raise Refused("interfaces", interface, f"has link type {self.link}, which is not supported")
        self._pause = settings.ring_megabytes * (1 << 20) / _FASTEST

    def feed(self, tables: Tables, until_ns: int) -> Fed:
        """As `Source.feed`."""
        totals = tables.totals
        packets, size = int(totals[Total.PACKETS]), int(totals[Total.BYTES])
        for _ in range(_ROUNDS):
            buffer, meta = walk.pcapy_batch(*self._reader.next_batch(_BATCH))
            if not len(meta):
                break
            walk.batch(*tables.arrays, buffer, meta, self.link, self._weight, 0, walk.NEVER)
            if self._recent is not None and self._recent.wants_block():
                keep_batch(*self._recent.arrays, tables.prefixes, buffer, meta, self.link)
        self._packets += int(totals[Total.PACKETS]) - packets
        self._bytes += int(totals[Total.BYTES]) - size
        return Fed()

    def wait(self, seconds: float) -> None:
        """As `Source.wait`, but sleeps on when packets come, for as long as libpcap's buffer lasts."""
        time.sleep(min(max(0.0, seconds), self._pause))

    def losses(self) -> Losses:
        """As `Source.losses`."""
        _, dropped, by_interface = self._reader.stats()
        return Losses(dropped=dropped + by_interface)

    @property
    def helpers_seconds(self) -> float:
        """As `LiveSource.helpers_seconds`: there are none."""
        return 0.0

    def expect(self, prefixes: UNSIGNED) -> None:
        """As `LiveSource.expect`: nothing is to be done."""

    def interfaces(self) -> tuple[InterfaceNumbers, ...]:
        """As `LiveSource.interfaces`; how full libpcap's buffer is isn't told."""
        return (InterfaceNumbers(self._name, True, self._packets, self._bytes, self.losses().dropped),)

    def close(self) -> None:
        """As `Source.close`."""
        self._reader.close()
