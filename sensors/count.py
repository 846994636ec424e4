"""The per-packet kernel, compiled by Numba: parse, find the host's row, count, remember the header. The GIL is
released.

One packet costs no Python at all. No bytes, times or lengths may make it read out of bounds or stop counting.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import inlined, kernel
from sensors.framing import network
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PORTS, IS_IPV6, IS_OUTGOING, MAPPED, Column, Kind, Total
from sensors.parse import COUNTED, NOT_IP, TRUNCATED, parse
from sensors.tables import (
    CLOCK,
    CLOCK_STEP,
    HAND,
    KEEP_OUTGOING,
    KEY_HIGH,
    KEY_LOW,
    LAST_SEEN,
    NEXT_SAMPLE,
    NORMAL_HEAD,
    PINNED,
    REBORN,
    RING_HEAD,
    SAMPLE_GAP,
    SEED,
    SLOT,
    STARTED,
    TOTALS_AT,
    USED,
    WAYS,
    ZONE,
)

PACKETS, BYTES, TCP, UDP, UDP_BYTES = map(int, (Column.PACKETS, Column.BYTES, Column.TCP, Column.UDP, Column.UDP_BYTES))
AMPLIFICATION, FRAGMENTS = int(Column.AMPLIFICATION), int(Column.FRAGMENTS)
SYN, ACK, SYN_ACK, RST, FIN = map(int, (Kind.SYN, Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN))
TCP_NULL, TCP_XMAS, TCP_OTHER = int(Kind.TCP_NULL), int(Kind.TCP_XMAS), int(Kind.TCP_OTHER)
ICMP, ICMPV6, GRE, ESP, OTHER = map(int, (Kind.ICMP, Kind.ICMPV6, Kind.GRE, Kind.ESP, Kind.OTHER))
T_PACKETS, T_RECORDS, T_BYTES = (TOTALS_AT + int(total) for total in (Total.PACKETS, Total.RECORDS, Total.BYTES))
T_NOT_IP, T_TRUNCATED, T_MALFORMED, T_UNPROTECTED, T_OVERFLOW = (
    TOTALS_AT + int(total)
    for total in (Total.NOT_IP, Total.TRUNCATED, Total.MALFORMED, Total.UNPROTECTED, Total.OVERFLOW)
)
T_RECLAIMED, T_BACKWARDS, T_VLAN, T_IPV6, T_OUTGOING, T_STEPS = (
    TOTALS_AT + int(total)
    for total in (Total.RECLAIMED, Total.BACKWARDS, Total.VLAN, Total.IPV6, Total.OUTGOING, Total.CLOCK_STEPS)
)

LATER = 2
"""The bit of later fragments."""
ANY_FRAGMENT = LATER | 4
"""With that of first ones."""
CLOCK_TOLERANCE = 1_000_000_000
"""A timestamp this far (ns) before its predecessor is a step of the clock; less is disorder, and the clock stands
still."""


@inlined
def moment(state, stamp):
    """The analysis time of a capture timestamp (ns): never less than before."""
    clock = state[CLOCK]
    now = stamp + state[CLOCK_STEP]
    if now >= clock or state[STARTED] == 0:
        return now
    state[T_BACKWARDS] += 1
    if clock - now > CLOCK_TOLERANCE:
        state[CLOCK_STEP] += clock - now
        state[T_STEPS] += 1
    return clock


@kernel
def zone_of(prefixes, high, low):
    """The zone of an address, -1 outside all of them."""
    above = np.int64(len(prefixes))
    if above == 0:
        return np.int64(0)
    below = np.int64(0)
    while below < above:
        middle = (below + above) >> 1
        first = prefixes[middle, 0]
        if first < high or (first == high and prefixes[middle, 1] <= low):
            below = middle + 1
        else:
            above = middle
    at = below - 1
    if at < 0:
        return np.int64(-1)
    last = prefixes[at, 2]
    if high < last or (high == last and low <= prefixes[at, 3]):
        return np.int64(prefixes[at, 4])
    return np.int64(-1)


@inlined
def _bucket(index, seed, high, low):
    """The first slot of a key's bucket."""
    mixed = (low ^ np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15) ^ high * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    return np.int64(mixed & np.uint64(len(index) - WAYS)) & -WAYS


@kernel
def _longest_silent(rows, state):
    """Of the next eight rows behind the hand, the one not under attack that was silent longest; -1: all are under
    attack."""
    hand = state[HAND]
    best = np.int64(-1)
    for step in range(WAYS):
        row = (hand + step) & (len(rows) - 1)
        if rows[row, PINNED] == 0 and (best < 0 or rows[row, LAST_SEEN] < rows[best, LAST_SEEN]):
            best = row
    state[HAND] = (hand + WAYS) & (len(rows) - 1)
    return best


@kernel
def _silent_in_bucket(index, rows, base):
    """The row of a full bucket that was silent longest and is not under attack; -1: all are."""
    best = np.int64(-1)
    for slot in range(base, base + WAYS):
        row = np.int64(index[slot, 2]) - 1
        if rows[row, PINNED] == 0 and (best < 0 or rows[row, LAST_SEEN] < rows[best, LAST_SEEN]):
            best = row
    return best


@kernel
def _room(index, rows, state, base):
    """A row and a slot for a host that has none: fresh ones while there are, else those of a host silent for long.
    Row -1: no room."""
    slot = np.int64(-1)
    for way in range(base, base + WAYS):
        if index[way, 2] == 0:
            slot = np.int64(way)
            break
    if slot >= 0 and state[USED] < len(rows):
        state[USED] += 1
        return state[USED] - 1, slot
    row = _longest_silent(rows, state) if slot >= 0 else _silent_in_bucket(index, rows, base)
    if row >= 0:
        state[T_RECLAIMED] += 1
        index[rows[row, SLOT], 2] = 0
        if slot < 0:
            slot = rows[row, SLOT]
    return row, slot


@kernel
def _new_row(index, rows, state, base, high, low, zone, now):
    row, slot = _room(index, rows, state, base)
    if row < 0:
        return np.int64(-2)
    index[slot, 0], index[slot, 1], index[slot, 2] = high, low, np.uint64(row + 1)
    for column in range(rows.shape[1]):
        rows[row, column] = 0
    rows[row, KEY_HIGH], rows[row, KEY_LOW] = np.int64(high), np.int64(low)
    rows[row, SLOT], rows[row, ZONE], rows[row, REBORN] = slot, zone, 1
    # A host's first packet is never a sample, so that a scan of many addresses doesn't flush the normal history.
    rows[row, NEXT_SAMPLE] = now + state[SAMPLE_GAP]
    return row


@inlined
def _row(index, rows, state, prefixes, high, low, now):
    """The row of a protected destination; -1: unprotected, -2: no room."""
    base = _bucket(index, state[SEED], high, low)
    for slot in range(base, base + WAYS):
        if index[slot, 1] == low and index[slot, 0] == high and index[slot, 2] != 0:
            return np.int64(index[slot, 2]) - 1
    zone = zone_of(prefixes, high, low)
    if zone < 0:
        return zone
    return _new_row(index, rows, state, base, high, low, zone, now)


@inlined
def _tcp_kind(marks, flags):
    if not marks & HAS_FLAGS:
        return TCP_OTHER
    low = flags & 0x3F
    if low & 0x17 == 0x10:  # ACK without FIN, SYN, RST
        return ACK
    if low & 0x17 == 0x02:
        return SYN
    if low & 0x17 == 0x12:
        return SYN_ACK
    if low & 0x06 == 0x04:
        return RST
    if low == 0:
        return TCP_NULL
    if low & 0x39 == 0x29 and not low & 0x06:  # FIN, PUSH, URG without ACK
        return TCP_XMAS
    if low & 0x07 == 0x01:
        return FIN
    return TCP_OTHER


@inlined
def _kind(reflectors, marks, protocol, flags, source_port, fragment):
    """The packet's one class; `headers.Kind` says how fragments are told."""
    if protocol == 17 and marks & 1 and reflectors[source_port]:
        return AMPLIFICATION
    if fragment & ANY_FRAGMENT:
        return FRAGMENTS
    if protocol == 6:
        return _tcp_kind(marks, flags)
    if protocol == 17:
        return UDP
    if protocol == 1:
        return ICMP
    if protocol == 58:
        return ICMPV6
    if protocol == 47:
        return GRE
    if protocol == 50:
        return ESP
    return OTHER


@inlined
def _count_row(rows, row, kind, protocol, fragment, packets, size):
    rows[row, PACKETS] += packets
    rows[row, BYTES] += size
    if fragment & ANY_FRAGMENT:
        rows[row, FRAGMENTS] += packets
    elif protocol != 17:
        rows[row, kind] += packets
    if protocol == 6:
        rows[row, TCP] += packets
    elif protocol == 17:
        rows[row, UDP] += packets
        rows[row, UDP_BYTES] += size
        if kind == AMPLIFICATION:
            rows[row, AMPLIFICATION] += packets


@inlined
def _pack(a, b, c, d):
    """Four 16-bit fields, the first lowest."""
    return (
        np.uint64(a)
        | (np.uint64(b) << np.uint64(16))
        | (np.uint64(c) << np.uint64(32))
        | (np.uint64(d) << np.uint64(48))
    )


@inlined
def record(index, rows, ring, normal, state, prefixes, reflectors,
           buffer, start, end, wire, now, link, weight, merged):  # fmt: skip
    """Counts one record at analysis time `now`, which stands for `weight` packets of a sampled stream. `merged` is what
    offloading (GRO, TSO) says: the payload of each of the packets that this one was made from, 0 without."""
    _begin(state, now)
    at, tagged = network(buffer, start, end, link)
    if tagged:
        state[T_VLAN] += weight
    verdict, marks, sh, sl, dh, dl, protocol, length, ttl, class_, fragment, sport, dport, flags, itype, icode, head = (
        parse(buffer, at, end, wire - (at - start))
    )
    if verdict != COUNTED:
        state[T_PACKETS] += weight
        state[T_NOT_IP if verdict == NOT_IP else T_TRUNCATED if verdict == TRUNCATED else T_MALFORMED] += weight
        return
    packets, size = weight, length * weight
    if merged > 0 and length > head + merged:
        pieces = (length - head + merged - 1) // merged
        packets, size = weight * pieces, weight * (length + (pieces - 1) * head)
        length = head + merged
    _counted(index, rows, ring, normal, state, prefixes, reflectors, now, marks, sh, sl, dh, dl, protocol, length, ttl,
             class_, fragment, sport, dport, flags, itype, icode, packets, size)  # fmt: skip


@inlined
def tally(index, rows, ring, normal, state, prefixes, reflectors, entry, now):  # fmt: skip
    """Counts one entry laid out as `headers.HEADER` that stands for `weight` packets: what `record` does after
    parsing. `kind` and `row` are found here; `marks` need only say what the other fields don't."""
    _begin(state, now)
    sh, sl, dh, dl = entry[1], entry[2], entry[3], entry[4]
    sport, dport, length, flags = _field(entry[5], 0), _field(entry[5], 16), _field(entry[5], 32), _field(entry[5], 48)
    fields = entry[6]
    protocol, ttl, itype, icode = _byte(fields, 0), _byte(fields, 8), _byte(fields, 16), _byte(fields, 24)
    fragment, marks, class_ = _byte(fields, 32), _byte(fields, 48), _byte(fields, 56)
    packets = np.int64(entry[7] & np.uint64(0xFFFFFFFF))
    marks &= ~IS_OUTGOING
    if dh != 0 or dl >> np.uint64(32) != np.uint64(MAPPED >> 32):
        marks |= IS_IPV6
    if not fragment & LATER:
        if protocol == 6:
            marks |= HAS_PORTS | HAS_FLAGS
        elif protocol == 17:
            marks |= HAS_PORTS
        elif protocol == 1 or protocol == 58:
            marks |= HAS_ICMP
    _counted(index, rows, ring, normal, state, prefixes, reflectors, now, marks, sh, sl, dh, dl, protocol, length, ttl,
             class_, fragment, sport, dport, flags, itype, icode, packets, length * packets)  # fmt: skip


@inlined
def _begin(state, now):
    if state[STARTED] == 0 or now > state[CLOCK]:
        state[CLOCK], state[STARTED] = now, 1
    state[T_RECORDS] += 1


@inlined
def _field(word, shift):
    return np.int64((word >> np.uint64(shift)) & np.uint64(0xFFFF))


@inlined
def _byte(word, shift):
    return np.int64((word >> np.uint64(shift)) & np.uint64(0xFF))


@inlined
def _counted(index, rows, ring, normal, state, prefixes, reflectors, now, marks, sh, sl, dh, dl, protocol, length, ttl,
             class_, fragment, sport, dport, flags, itype, icode, packets, size):  # fmt: skip
    """Counts and remembers `packets` alike of `length` each, `size` bytes together, whose fields are known."""
    state[T_PACKETS] += packets
    state[T_BYTES] += size
    if marks & IS_IPV6:
        state[T_IPV6] += packets
    kind = _kind(reflectors, marks, protocol, flags, sport, fragment)
    row = _row(index, rows, state, prefixes, dh, dl, now)
    if row >= 0:
        _count_row(rows, row, kind, protocol, fragment, packets, size)
        rows[row, LAST_SEEN] = now
    elif row == -2:
        state[T_OVERFLOW] += packets
    elif state[KEEP_OUTGOING] == 0 or zone_of(prefixes, sh, sl) < 0:
        state[T_UNPROTECTED] += packets
        return
    else:
        state[T_OUTGOING] += packets
        marks |= IS_OUTGOING
    place = state[RING_HEAD] & (len(ring) - 1)
    state[RING_HEAD] += 1
    _write(ring, place, now, sh, sl, dh, dl, _pack(sport, dport, min(length, 65535), flags),
           _pack(protocol | ttl << 8, itype | icode << 8, fragment | kind << 8, marks | class_ << 8),
           np.uint64(packets & 0xFFFFFFFF) | (np.uint64(row & 0xFFFFFFFF) << np.uint64(32)))  # fmt: skip
    if row >= 0 and now >= rows[row, NEXT_SAMPLE] and rows[row, PINNED] == 0:
        rows[row, NEXT_SAMPLE] = now + state[SAMPLE_GAP]
        sample = state[NORMAL_HEAD] & (len(normal) - 1)
        for word in range(normal.shape[1]):
            normal[sample, word] = ring[place, word]
        state[NORMAL_HEAD] += 1


@inlined
def _write(ring, place, now, sh, sl, dh, dl, ports, fields, tail):
    ring[place, 0] = np.uint64(now)
    ring[place, 1], ring[place, 2], ring[place, 3], ring[place, 4] = sh, sl, dh, dl
    ring[place, 5], ring[place, 6], ring[place, 7] = ports, fields, tail
