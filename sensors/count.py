"""The per-packet kernel, compiled by Numba: parse, count for the host and what it lies in, remember the header. The GIL
is released.

One packet costs no Python at all. No bytes, times or lengths may make it read out of bounds or stop counting.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import inlined, kernel
from sensors.framing import network
from sensors.headers import (
    HAS_FLAGS,
    HAS_ICMP,
    HAS_PORTS,
    IS_HTTP,
    IS_IPV6,
    IS_OUTGOING,
    IS_TLS,
    MAPPED,
    Column,
    Kind,
    Total,
)
from sensors.heat import heated, is_fresh
from sensors.keyed import NO_ROOM, expect_parent, host_row, parent_row, part_row, source_row
from sensors.parse import COUNTED, NOT_IP, TRUNCATED, parse
from sensors.tables import (
    BLOCK,
    CLOCK,
    CLOCK_STEP,
    COVERING,
    KEEP_OUTGOING,
    KEPT,
    KEPT_SECONDS,
    LAST_SEEN,
    LINE,
    MOST_ZONES,
    NEXT_KEPT,
    NEXT_SAMPLE,
    NORMAL_HEAD,
    PINNED,
    RING_HEAD,
    SAMPLE_GAP,
    STARTED,
    TOTALS_AT,
    WHOLE_24,
    WHOLE_48,
    WHOLE_ZONE,
    ZONE,
    ZONES_AT,
)

PACKETS, BYTES, TCP, UDP, UDP_BYTES = map(int, (Column.PACKETS, Column.BYTES, Column.TCP, Column.UDP, Column.UDP_BYTES))
AMPLIFICATION, FRAGMENTS, HTTP, TLS, FLOWS = map(
    int, (Column.AMPLIFICATION, Column.FRAGMENTS, Column.HTTP, Column.TLS, Column.FLOWS)
)
SENT, SENT_BYTES = int(Column.OUTGOING), int(Column.OUTGOING_BYTES)
SYN, ACK, SYN_ACK, RST, FIN = map(int, (Kind.SYN, Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN))
TCP_NULL, TCP_XMAS, TCP_OTHER = int(Kind.TCP_NULL), int(Kind.TCP_XMAS), int(Kind.TCP_OTHER)
ICMP, ICMPV6, GRE, ESP, OTHER = map(int, (Kind.ICMP, Kind.ICMPV6, Kind.GRE, Kind.ESP, Kind.OTHER))
T_PACKETS, T_RECORDS, T_BYTES = (TOTALS_AT + int(total) for total in (Total.PACKETS, Total.RECORDS, Total.BYTES))
T_NOT_IP, T_TRUNCATED, T_MALFORMED, T_UNPROTECTED, T_OVERFLOW = (
    TOTALS_AT + int(total)
    for total in (Total.NOT_IP, Total.TRUNCATED, Total.MALFORMED, Total.UNPROTECTED, Total.OVERFLOW)
)
T_BACKWARDS, T_VLAN, T_IPV6, T_OUTGOING, T_STEPS = (
    TOTALS_AT + int(total) for total in (Total.BACKWARDS, Total.VLAN, Total.IPV6, Total.OUTGOING, Total.CLOCK_STEPS)
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
    if protocol == 17 and marks & 1 and reflectors[source_port >> 3] >> (source_port & 7) & 1:
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
def _count_row(rows, row, kind, protocol, fragment, marks, fresh, packets, size):
    if marks & IS_OUTGOING:
        rows[row, SENT] += packets
        rows[row, SENT_BYTES] += size
        return
    if marks & IS_HTTP:
        rows[row, HTTP] += packets
    elif marks & IS_TLS:
        rows[row, TLS] += packets
    if fresh:
        rows[row, FLOWS] += 1
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
    row = host_row(index, rows, state, prefixes, dh, dl, now)
    if row >= 0:
        if state[COVERING] != 0:
            expect_parent(rows, row)
        # A later fragment has no ports to tell its flow by.
        ports = sport << 16 | dport
        fresh = not fragment & LATER and is_fresh(state, now, sh, sl, dh, dl, protocol, ports)
        _count_all(index, rows, state, row, now, kind, protocol, fragment, marks, fresh, dh, dl, packets, size)
    elif row == NO_ROOM:
        state[T_OVERFLOW] += packets
    else:
        owner = source_row(index, rows, state, prefixes, sh, sl, now)
        if owner < 0:
            state[T_UNPROTECTED] += packets
            return
        state[T_OUTGOING] += packets
        marks |= IS_OUTGOING
        _count_all(index, rows, state, owner, now, kind, protocol, fragment, marks, False, sh, sl, packets, size)
        if state[KEEP_OUTGOING] == 0:
            return
    place = state[RING_HEAD] & (len(ring) - 1)
    state[RING_HEAD] += 1
    _write(ring, place, now, sh, sl, dh, dl, _pack(sport, dport, min(length, 65535), flags),
           _pack(protocol | ttl << 8, itype | icode << 8, fragment | kind << 8, marks | class_ << 8),
           np.uint64(packets & 0xFFFFFFFF) | (np.uint64(row & 0xFFFFFFFF) << np.uint64(32)))  # fmt: skip
    if row >= 0 and now >= rows[row, NEXT_SAMPLE] and rows[row, PINNED] == 0:
        rows[row, NEXT_SAMPLE] = now + state[SAMPLE_GAP]
        _sampled(ring, normal, state, place, now)


@kernel
def _count_all(index, rows, state, row, now, kind, protocol, fragment, marks, fresh, high, low, packets, size):
    """Counts for a host, its /24 or /48, the parts of that where it is divided, and its zone."""
    at = row
    while at >= 0:
        line = rows[at, LINE]
        if line in (0, WHOLE_24, WHOLE_48):
            heated(rows, state, at, kind, marks, fresh, packets, size)
        _count_row(rows, at, kind, protocol, fragment, marks, fresh, packets, size)
        rows[at, LAST_SEEN] = now
        if state[COVERING] == 0 or line == WHOLE_ZONE:
            break
        if line == 0:
            above = parent_row(index, rows, state, row, now)
            if above >= 0:
                at = above
                continue
        elif rows[at, BLOCK] > 0:
            at = part_row(rows, at, high, low)
            continue
        if rows[row, ZONE] >= MOST_ZONES:
            break
        at = state[ZONES_AT] + rows[row, ZONE]


@kernel
def _sampled(ring, normal, state, place, now):
    """Puts an entry of the ring into the normal history. What it displaces there is kept for hours, if it is time."""
    half = len(normal) // 2
    sample = state[NORMAL_HEAD] & (half - 1)
    if state[NORMAL_HEAD] >= half and now >= state[NEXT_KEPT]:
        state[NEXT_KEPT] = now + KEPT_SECONDS * 1_000_000_000 // half
        kept = state[KEPT]
        # Once there is no room, any of them goes: so a few are much older than the mean.
        at = kept if kept < half else np.int64(np.uint64(kept) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)) % half
        for word in range(normal.shape[1]):
            normal[half + at, word] = normal[sample, word]
        state[KEPT] = kept + 1
    for word in range(normal.shape[1]):
        normal[sample, word] = ring[place, word]
    state[NORMAL_HEAD] += 1


@inlined
def _write(ring, place, now, sh, sl, dh, dl, ports, fields, tail):
    ring[place, 0] = np.uint64(now)
    ring[place, 1], ring[place, 2], ring[place, 3], ring[place, 4] = sh, sl, dh, dl
    ring[place, 5], ring[place, 6], ring[place, 7] = ports, fields, tail
