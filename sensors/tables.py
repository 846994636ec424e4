"""The memory the kernel works in: the host table, the header rings, the protected prefixes, the totals.

Everything is allocated once; nothing grows with traffic. Pages that traffic never reaches are never touched. Few and
wide arrays, because each array that a compiled function takes out of a container costs it more than a packet may.
"""

import secrets
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from rules.traffic import AMPLIFICATION_SERVICES
from sensors.headers import COLUMNS, HEADER, MAPPED, TOTALS, WORDS
from sensors.prefixes import intervals

UNSIGNED = NDArray[np.uint64]
SIGNED = NDArray[np.int64]
ANY = NDArray[Any]

LAST_SEEN, NEXT_SAMPLE, PINNED, SLOT, KEY_HIGH, KEY_LOW, ZONE, REBORN = range(COLUMNS, COLUMNS + 8)
"""Columns of `rows` behind the counts. PINNED: under attack, never reclaimed and not sampled as normal. REBORN: given
to another host since the window last looked. Keys are the bits of an unsigned number."""
ROW_WORDS = 32

USED, HAND, RING_HEAD, NORMAL_HEAD, CLOCK, CLOCK_STEP, SAMPLE_GAP, KEEP_OUTGOING, STARTED, SEED, NEXT_TIME = range(11)
"""Places in `state`: rows in use; where reclaiming looks next; entries ever written to each ring; the analysis clock,
what it adds to the capture's (both ns), the least distance of two normal samples of a host; whether packets from
protected hosts go into the ring; whether the clock runs; what keeps people from choosing addresses that share a
bucket; the time of the packet that a walker stopped at."""
TOTALS_AT = 16
"""Where the totals start in `state`."""

WAYS = 8
"""Slots in a bucket of the index."""
_LOW = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Tables:
    """Arrays that `sensors.count` reads and writes."""

    index: UNSIGNED
    """Slots, `WAYS` to a bucket: key high, key low, row number plus one (0: the slot is free), nothing."""
    rows: SIGNED
    """One line for each host: counts as in `headers.Column`, then the columns above; in use are the first `used`."""
    ring: UNSIGNED
    """The last packets, as `headers.HEADER`."""
    normal: UNSIGNED
    """A thinned history of hosts not under attack, as `headers.HEADER`."""
    state: SIGNED
    prefixes: UNSIGNED
    """Protected intervals: first high, first low, last high, last low, zone; disjoint and ascending. None at all
    means that everything is protected."""
    reflectors: ANY
    """1 at the UDP source ports of known reflectors."""

    @property
    def arrays(self) -> tuple[ANY, ...]:
        """What every walker takes first."""
        return self.index, self.rows, self.ring, self.normal, self.state, self.prefixes, self.reflectors

    @property
    def used(self) -> int:
        """Rows in use."""
        return int(self.state[USED])

    @property
    def totals(self) -> SIGNED:
        """Counters over everything, as in `headers.Total`."""
        return self.state[TOTALS_AT : TOTALS_AT + TOTALS]

    @property
    def clock_ns(self) -> int:
        """The analysis time of the last packet."""
        return int(self.state[CLOCK])

    def host(self, row: int) -> Network:
        """The destination that a row counts."""
        high, low = (int(half) & _LOW for half in self.rows[row, KEY_HIGH : KEY_LOW + 1])
        return address(high, low)

    def since(self, moment_ns: int) -> ANY:
        """The remembered packets from that analysis time on, oldest first."""
        written, size = int(self.state[RING_HEAD]), len(self.ring)
        entries = self.ring.view(HEADER).reshape(-1)
        head = written % size
        older = entries[head:] if written >= size else entries[:0]
        newer = entries[:head]
        if len(newer) and newer["time"][0] < moment_ns:
            return newer[bisect_left(newer["time"], moment_ns) :]
        # Not searchsorted: it would first copy every time out of its entry.
        older = older[bisect_left(older["time"], moment_ns) :]
        return np.concatenate((older, newer)) if len(older) else newer

    def history(self) -> ANY:
        """The entries of the normal history; a view, not a copy."""
        return _entries(self.normal, int(self.state[NORMAL_HEAD]))


def make(
    protected: Iterable[tuple[Network, int]] = (),
    *,
    rows: int = 65_536,
    ring: int = 131_072,
    normal: int = 65_536,
    sample_gap_ns: int = 50_000_000,
    keep_outgoing: bool = False,
) -> Tables:
    """Empty tables; `protected` gives each prefix the number of its zone, the most specific wins. Sizes are powers of
    two."""
    reflectors = np.zeros(65_536, np.uint8)
    reflectors[list(AMPLIFICATION_SERVICES)] = 1
    state = np.zeros(TOTALS_AT + TOTALS, np.int64)
    state[SAMPLE_GAP], state[KEEP_OUTGOING], state[SEED] = sample_gap_ns, keep_outgoing, secrets.randbits(63)
    return Tables(
        index=np.zeros((2 * max(rows, WAYS), 4), np.uint64),
        rows=np.zeros((rows, ROW_WORDS), np.int64),
        ring=np.zeros((ring, WORDS), np.uint64),
        normal=np.zeros((normal, WORDS), np.uint64),
        state=state,
        prefixes=prefix_table(protected),
        reflectors=reflectors,
    )


def prefix_table(protected: Iterable[tuple[Network, int]]) -> UNSIGNED:
    """What `Tables.prefixes` holds."""
    spans = intervals(protected)
    lines = [(first >> 64, first & _LOW, last >> 64, last & _LOW, zone) for first, last, zone in spans]
    return np.array(lines, np.uint64).reshape(-1, 5)


def _entries(words: UNSIGNED, written: int) -> ANY:
    return words[: min(written, len(words))].view(HEADER).reshape(-1)


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
