"""The memory the kernel works in: the host table, the header rings, the protected prefixes, the totals.

Everything is allocated once; nothing grows with traffic. Pages that traffic never reaches are never touched. Few and
wide arrays, because each array that a compiled function takes out of a container costs it more than a packet may.
"""

import secrets
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from rules.traffic import AMPLIFICATION_SERVICES, CONVERSATIONS
from sensors.headers import COLUMNS, HEADER, MAPPED, TOTALS, WORDS, Total
from sensors.prefixes import intervals

UNSIGNED = NDArray[np.uint64]
SIGNED = NDArray[np.int64]
ANY = NDArray[Any]

PINNED, WATCH, BLOCK, SHIFT, SLOT, REBORN, BORN = range(COLUMNS, COLUMNS + 7)
"""Columns of `rows` behind the counts. PINNED: never reclaimed, and not sampled as normal (`ATTACKED`). WATCH: its slot
in `sensors.watch`, plus one. BLOCK: where the rows of a prefix's parts begin, 0: it isn't divided. SHIFT: behind which
bits of the key stands the part's number. SLOT: its place in the index. REBORN: given to another target since somebody
last looked. BORN: the tick it came in, plus one."""
KEY_HIGH, KEY_LOW, HEAT, ZONE, LINE, LAST_SEEN, NEXT_SAMPLE, PARENT = range(32, 40)
"""What every packet needs, in a cache line of its own. Keys are the bits of an unsigned number. HEAT: how near the
target came to its limits since the last tick, below the tick's number. LINE: what kind of target it is, see `LENGTHS`.
PARENT: the row of the host's /24 or /48, -1: not found yet."""
ROW_WORDS = 40
ATTACKED, DIVIDED = 1, 2
"""Bits of PINNED: why a row must stay."""

LENGTHS = (128, 29, 28, 27, 26, 25, 24, 64, 60, 56, 52, 48, 0)
"""Prefix length of each line: hosts (IPv4 hosts are mapped), parts of a /24 and itself, parts of a /48 and itself, a
whole zone."""
LINES, WHOLE_24, WHOLE_48, WHOLE_ZONE = len(LENGTHS), 6, 11, 12
BLOCK_ROWS = 64
"""Rows of a divided prefix. A /24 is a binary heap: its halves at 2 and 3, its /29 from 32 on; the kernel counts the
/29. Of a /48, /52, … the sixteen parts stand at the beginning."""
BLOCKS = 48
MOST_ZONES = 1024
"""With limits for the zone as a whole; further ones go without."""

(USED, HAND, RING_HEAD, NORMAL_HEAD, CLOCK, CLOCK_STEP, SAMPLE_GAP, KEEP_OUTGOING, STARTED, SEED, NEXT_TIME, EPOCH,
 WARM, COVERING, HOSTS, ZONES_AT) = range(16)  # fmt: skip
"""Places in `state`: hashed rows in use; where reclaiming looks next; entries ever written to each ring; the analysis
clock, what it adds to the capture's (both ns), the least distance of two normal samples of a host; whether packets from
protected hosts go into the ring; whether the clock runs; what keeps people from choosing addresses that share a
bucket; the time of the packet that a walker stopped at; the number of the tick; how many rows are in the list of warm
ones; whether prefixes are counted; how many rows are hashed; the row of the first zone."""
TOTALS_AT = 16
"""Where the totals start in `state`."""
UNWATCHED_AT = TOTALS_AT + int(Total.UNWATCHED)
FIRST_ROW = 32
"""Which of all rows is the first of those hashed here: 0, but for tables that share their rows (`sensors.fanout`)."""
NEXT_KEPT, KEPT = 40, 41
"""When the next sample of normal traffic may be kept for long, and how many ever were."""
KEPT_SECONDS = 3 * 3600
"""The mean age of samples that are kept for long."""
FLOWS_AT, FLOW_WORDS = 64, 1 << 15
"""The recency table: in each half of a word the fingerprint of a flow, and the second it was last seen in."""
SCREEN_AT, SCREEN_WORDS = FLOWS_AT + FLOW_WORDS, 32
"""For each zone and line: how much nearer to the limits a packet of each kind brings a target (its column's number),
and a byte (`SCREEN_BYTES` and behind: bytes, outgoing bytes)."""
SCREEN_BYTES, SCREEN_OUTGOING_BYTES = COLUMNS, COLUMNS + 1
HOT = 1 << 36
"""The heat at which a row is warm: from here on it is looked at in every tick."""
WARM_AT, MOST_WARM = SCREEN_AT + (MOST_ZONES + 1) * LINES * SCREEN_WORDS, 8192
"""Rows that became warm since the last tick."""
BASES_AT = WARM_AT + MOST_WARM
"""What each of them had counted then."""
STATE_WORDS = BASES_AT + MOST_WARM * COLUMNS

LARGE_PAGE = 2 << 20
"""Bytes."""
WAYS = 8
"""Slots in a bucket of the index: one cache line."""
_LOW = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Tables:
    """Arrays that `sensors.count` reads and writes."""

    index: UNSIGNED
    """Slots, `WAYS` to a bucket: a tag of the key in the upper half, the row's number plus one in the lower; 0: no."""
    rows: SIGNED
    """One line for each target: counts as in `headers.Column`, then the columns above. First the hashed ones (hosts,
    /24, /48), of which the first `used` are in use; then blocks of parts; then zones."""
    ring: UNSIGNED
    """The last packets, as `headers.HEADER`."""
    normal: UNSIGNED
    """A thinned history of hosts not under attack, as `headers.HEADER`: the newest in the first half; of those that
    go from there a few, kept for hours, in the second half."""
    state: SIGNED
    """Numbers, then the sections above: one array, since each costs a compiled function time."""
    prefixes: UNSIGNED
    """Protected intervals: first high, first low, last high, last low, zone; disjoint and ascending. None at all
    means that everything is protected."""
    reflectors: ANY
    """A bit for each UDP source port, eight to a byte, the lowest first: set where packets count as amplification."""

    @property
    def arrays(self) -> tuple[ANY, ...]:
        """What every walker takes first."""
        return self.index, self.rows, self.ring, self.normal, self.state, self.prefixes, self.reflectors

    @property
    def shards(self) -> tuple["Tables", ...]:
        """What walkers count into: one for each processor that captures (`sensors.fanout`)."""
        return (self,)

    def holding(self, target: Network) -> tuple["Tables", ...]:
        """Those shards that may remember a target's packets."""
        return (self,)

    @property
    def used(self) -> int:
        """Rows in use."""
        return int(self.state[USED])

    def in_use(self, begin: int, end: int) -> SIGNED:
        """The rows number `begin` to `end` of those in use."""
        return np.arange(begin, end)

    @property
    def reach(self) -> int:
        """Behind the last row in use."""
        return self.used

    @property
    def remembers(self) -> int:
        """How many packets at most."""
        return len(self.ring)

    def gather(self) -> None:
        """Before a tick: what all shards have found comes together."""

    def spread(self, *, limits: bool = False) -> None:
        """After a tick: the shards are told what the engine set, with the `limits` where they are new."""

    def protecting(self, prefixes: UNSIGNED) -> "Tables":
        """The same memory, with other prefixes (`prefix_table`)."""
        return replace(self, prefixes=prefixes)

    @property
    def totals(self) -> SIGNED:
        """Counters over everything, as in `headers.Total`."""
        return self.state[TOTALS_AT : TOTALS_AT + TOTALS]

    @property
    def clock_ns(self) -> int:
        """The analysis time of the last packet."""
        return int(self.state[CLOCK])

    def host(self, row: int) -> Network:
        """The host or prefix that a row counts; of a zone's row it makes no sense."""
        high, low = (int(half) & _LOW for half in self.rows[row, KEY_HIGH : KEY_LOW + 1])
        found, line = address(high, low), int(self.rows[row, LINE])
        return found.supernet(new_prefix=LENGTHS[line]) if line else found

    def since(self, moment_ns: int) -> ANY:
        """The remembered packets from that analysis time on, oldest first."""
        older, newer = self._halves_since(moment_ns)
        return np.concatenate((older, newer)) if len(older) else newer

    def count_since(self, moment_ns: int) -> int:
        """How many those are."""
        return sum(map(len, self._halves_since(moment_ns)))

    def _halves_since(self, moment_ns: int) -> tuple[ANY, ANY]:
        """The ring's two ends, as views."""
        written, size = int(self.state[RING_HEAD]), len(self.ring)
        entries = self.ring.view(HEADER).reshape(-1)
        head = written % size
        older = entries[head:] if written >= size else entries[:0]
        newer = entries[:head]
        if len(newer) and newer["time"][0] < moment_ns:
            return older[:0], newer[bisect_left(newer["time"], moment_ns) :]
        # Not searchsorted: it would first copy every time out of its entry.
        return older[bisect_left(older["time"], moment_ns) :], newer

    def history(self) -> ANY:
        """The entries of the normal history; a view, not a copy."""
        half = len(self.normal) // 2
        written = min(int(self.state[NORMAL_HEAD]), half) + min(int(self.state[KEPT]), half)
        return self.normal[:written].view(HEADER).reshape(-1)


def make(
    protected: Iterable[tuple[Network, int]] = (),
    *,
    rows: int = 131_072,
    ring: int = 131_072,
    normal: int = 65_536,
    sample_gap_ns: int = 50_000_000,
    keep_outgoing: bool = False,
    conversations: bool = False,
) -> Tables:
    """Empty tables; `protected` gives each prefix the number of its zone, the most specific wins. Sizes are powers of
    two. `conversations`: whether packets from ports with ordinary traffic in bulk count as amplification too, for who
    looks closer (`sensors.judge`); to a plain limit every download over QUIC would be a reflection."""
    state = new_state(rows, rows + BLOCKS * BLOCK_ROWS, sample_gap_ns, keep_outgoing)
    state[SEED] = secrets.randbits(63)
    return Tables(
        index=new_index(rows),
        rows=aligned((rows + BLOCKS * BLOCK_ROWS + MOST_ZONES, ROW_WORDS), np.int64),
        ring=aligned((ring, WORDS), np.uint64),
        normal=aligned((normal, WORDS), np.uint64),
        state=state,
        prefixes=prefix_table(protected),
        reflectors=reflector_ports(conversations),
    )


def reflector_ports(conversations: bool) -> ANY:
    """What `Tables.reflectors` holds."""
    reflectors = np.zeros(65_536, np.uint8)
    ports = [port for port, name in AMPLIFICATION_SERVICES.items() if conversations or name not in CONVERSATIONS]
    reflectors[ports] = 1
    return np.packbits(reflectors, bitorder="little")


def new_index(rows: int) -> UNSIGNED:
    """What `Tables.index` begins with."""
    return aligned((2 * max(rows, WAYS),), np.uint64)


def new_state(hosts: int, zones_at: int, sample_gap_ns: int = 50_000_000, keep_outgoing: bool = False) -> SIGNED:
    """What `Tables.state` begins with."""
    state = aligned((STATE_WORDS,), np.int64)
    state[HOSTS], state[ZONES_AT], state[SAMPLE_GAP], state[KEEP_OUTGOING] = (
        hosts, zones_at, sample_gap_ns, keep_outgoing
    )  # fmt: skip
    return state


def aligned(shape: tuple[int, ...], kind: Any) -> ANY:
    """Zeros that begin with a cache line; large ones with a large page of memory, of which NumPy asks the kernel for as
    many as there are. To find the small pages of what is read here and there costs as much as to read it."""
    count = int(np.prod(shape))
    line = LARGE_PAGE // 8 if count * 8 >= LARGE_PAGE else 8
    whole = np.zeros(count + 2 * line, kind)
    skipped = -(whole.ctypes.data // 8) % line
    return whole[skipped : skipped + count].reshape(shape)


def prefix_table(protected: Iterable[tuple[Network, int]]) -> UNSIGNED:
    """What `Tables.prefixes` holds."""
    spans = intervals(protected)
    lines = [(first >> 64, first & _LOW, last >> 64, last & _LOW, zone) for first, last, zone in spans]
    return np.array(lines, np.uint64).reshape(-1, 5)


def in_order(parts: Sequence[ANY]) -> ANY:
    """Entries of several rings in the order of time."""
    entries = np.concatenate(parts)
    return entries[np.argsort(entries["time"], kind="stable")]


def address(high: int, low: int) -> Network:
    """The host of a key."""
    if high == 0 and low >> 32 == MAPPED >> 32:
        return IPv4Network((low & 0xFFFFFFFF, 32))
    return IPv6Network((high << 64 | low, 128))


def key(host: Network) -> tuple[int, int]:
    """The key of a host: `address(*key(host)) == host`."""
    number = int(host.network_address)
    if host.version == 4:
        return 0, MAPPED | number
    return number >> 64, number & _LOW


def masked(network: Network) -> tuple[int, int, int, int]:
    """A network's key and its mask, in halves: an address lies in it where its halves, masked, are the key's."""
    high, low = key(network)
    free = (1 << network.max_prefixlen - network.prefixlen) - 1
    return high, low, ~(free >> 64) & _LOW, ~free & _LOW
