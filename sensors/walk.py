"""The walkers: from where records stand to the kernel.

They differ only in where a record's bytes, time and weight are: a capture file's buffer, a batch with columns, a
block of the kernel's packet ring, or records of flows that have no bytes at all.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import numpy as np

from sensors.compiled import fetch_ahead, inlined, kernel
from sensors.count import T_VLAN, moment, record, tally
from sensors.framing import ETHERNET
from sensors.headers import HEADER, MAPPED, WORDS
from sensors.heat import expect_flow
from sensors.keyed import expect_bucket, expect_row, zone_of
from sensors.loads import be32, byte, le16, le32
from sensors.tables import ANY, KEY_HIGH, KEY_LOW, LINE, NEXT_TIME, USED, ZONE, Tables

LARGEST_RECORD = 262_144
"""libpcap's own limit; a larger record length means a damaged file."""
NEVER = (1 << 63) - 1
FAR, NEAR = 10, 5
"""So many records before their turn the index, and then the row, of the host that they go to is asked for: with a
hundred thousand hosts, waiting for memory costs more than all the rest."""
AHEAD_BYTES, LINE_BYTES = 1_024, 64
"""So far before the first of those records the bytes themselves are asked for, by lines of the caches."""
CACHED_HOSTS = 4_096
"""Some 1.5 MB of rows and index."""
MORE, REACHED, DAMAGED = 0, 1, 2
"""Why a walker stopped: it needs more bytes, it reached `until`, the records make no sense from here on."""


@kernel
def batch(index, rows, ring, normal, state, prefixes, reflectors,
          buffer, meta, link, weight, begin, until):  # fmt: skip
    """A batch of pcapy's: `meta` has seconds, microseconds, offset and length for each record of `buffer`. From record
    `begin` on, until one's time (ns) reaches `until`: the number to go on with."""
    limit = np.int64(len(buffer))
    for number in range(begin, len(meta)):
        now = moment(state, np.int64(meta[number, 0]) * 1_000_000_000 + np.int64(meta[number, 1]) * 1000)
        if now >= until:
            state[NEXT_TIME] = now
            return np.int64(number)
        start = min(np.int64(meta[number, 2]), limit)
        length = np.int64(meta[number, 3])
        # What was on the wire isn't told: the IP header says how long its packet is.
        record(index, rows, ring, normal, state, prefixes, reflectors,
               buffer, start, min(start + length, limit), length, now, link, weight, 0)  # fmt: skip
    return np.int64(len(meta))


@kernel
def tallies(index, rows, ring, normal, state, prefixes, reflectors, entries, begin, until):
    """Records without bytes, as `words` of `headers.HEADER` entries: each is counted as `weight` packets alike, of
    `length` bytes each, at `time`. `kind` and `row` are not read, nor `marks` but for what payload says. From entry
    `begin` on, until one's time (ns) reaches `until`: the number to go on with."""
    for number in range(begin, len(entries)):
        now = moment(state, np.int64(entries[number, 0]))
        if now >= until:
            state[NEXT_TIME] = now
            return np.int64(number)
        tally(index, rows, ring, normal, state, prefixes, reflectors, entries[number], now)
    return np.int64(len(entries))


@inlined
def _u32(buffer, at, swapped):
    return be32(buffer, at) if swapped else le32(buffer, at)


@inlined
def _lead(state):
    """How many records have been asked for at the start: none, or more than will ever come where the hosts are so few
    that the processor's caches hold them, and asking would only cost."""
    return 0 if state[USED] > CACHED_HOSTS else NEVER


@inlined
def _expect(index, rows, state, buffer, start, end, link, is_near):
    """Asks for what a plain IPv4 packet in an Ethernet frame will need; others wait for it at their turn. Hosts only
    where they are many, flows always: after a sleep, nothing of their table is in the caches any more."""
    if link == ETHERNET and start + 54 <= end and le16(buffer, start + 12) == 8:
        low = np.uint64(MAPPED) | np.uint64(be32(buffer, start + 30))
        if is_near:
            expect_row(index, rows, state, low)
        else:
            source, protocol = np.uint64(MAPPED) | np.uint64(be32(buffer, start + 26)), byte(buffer, start + 23)
            ports = be32(buffer, start + 34) if protocol in (6, 17) else 0
            expect_flow(state, source, low, protocol, ports)
            if state[USED] > CACHED_HOSTS:
                expect_bucket(index, state, low)


@inlined
def _after(buffer, at, end, swapped):
    """Where the record behind this one begins; `end` where there is none whole."""
    length = _u32(buffer, at + 8, swapped)
    return at + 16 + length if length <= LARGEST_RECORD and at + 16 + length + 16 <= end else end


@kernel
def pcap(index, rows, ring, normal, state, prefixes, reflectors,
         buffer, at, end, swapped, fraction, link, weight, until):  # fmt: skip
    """Records of a classic capture file in `buffer[at:end]`: where to go on, and why it stopped there.

    `swapped`: big-endian file; `fraction`: nanoseconds in one unit of the stamps' second word, 1000 or 1.
    """
    far = near = at
    leads = follows = _lead(state)
    while at + 16 <= end:
        while leads < FAR and far + 16 <= end:
            _expect(index, rows, state, buffer, far + 16, end, link, False)
            far, leads = _after(buffer, far, end, swapped), leads + 1
        while follows < NEAR and near < far and near + 16 <= end:
            _expect(index, rows, state, buffer, near + 16, end, link, True)
            near, follows = _after(buffer, near, end, swapped), follows + 1
        leads, follows = leads - 1, follows - 1
        length, wire = _u32(buffer, at + 8, swapped), _u32(buffer, at + 12, swapped)
        if length > LARGEST_RECORD:
            return at, DAMAGED
        if at + 16 + length > end:
            return at, MORE
        now = moment(state, _u32(buffer, at, swapped) * 1_000_000_000 + _u32(buffer, at + 4, swapped) * fraction)
        if now >= until:
            state[NEXT_TIME] = now
            return at, REACHED
        record(index, rows, ring, normal, state, prefixes, reflectors,
               buffer, at + 16, at + 16 + length, wire, now, link, weight, 0)  # fmt: skip
        at += 16 + length
    return at, MORE


VIRTIO_NET_HEADER = 10
"""`struct virtio_net_hdr` in front of each frame (linux/virtio_net.h): flags, gso_type, hdr_len, gso_size, …"""
_OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h


@inlined
def _expect_frame(index, rows, state, buffer, at, stop, link, is_near):
    start = at + le16(buffer, at + 24)
    _expect(index, rows, state, buffer, start, stop, link, is_near)


@inlined
def _expect_bytes(buffer, at, stop):
    """Asks for a frame's bytes: another processor wrote them, and what guesses by itself stops at the end of a page."""
    ahead = at + AHEAD_BYTES
    if ahead + 2 * LINE_BYTES < stop:
        fetch_ahead(buffer, (ahead,))
        fetch_ahead(buffer, (ahead + LINE_BYTES,))
        fetch_ahead(buffer, (ahead + 2 * LINE_BYTES,))


@inlined
def _next_frame(buffer, at, stop):
    """Where the frame behind this one begins; `stop` behind the last."""
    step = _u32(buffer, at, False)
    return min(at + step, stop) if step > 0 else stop


@kernel
def ring_blocks(index, rows, ring, normal, state, prefixes, reflectors,
                buffer, first, count, size, link, weight, with_virtio, keep_outgoing):  # fmt: skip
    """The frames of so many TPACKET_V3 blocks (linux/if_packet.h: `tpacket_block_desc`, `tpacket3_hdr`), the first of
    which begins at `first`: how many were read."""
    read = 0
    for block in range(first, first + count * size, size):
        stop = min(block + size, np.int64(len(buffer)))
        frames = _u32(buffer, block + 12, False)
        at = block + _u32(buffer, block + 16, False)
        far = near = at
        leads, follows = 0, _lead(state)
        for _ in range(frames):
            if at + 68 > stop:
                break
            while leads < FAR and far + 68 <= stop:
                _expect_bytes(buffer, far, stop)
                _expect_frame(index, rows, state, buffer, far, stop, link, False)
                far, leads = _next_frame(buffer, far, stop), leads + 1
            while follows < NEAR and near < far and near + 68 <= stop:
                _expect_frame(index, rows, state, buffer, near, stop, link, True)
                near, follows = _next_frame(buffer, near, stop), follows + 1
            leads, follows = leads - 1, follows - 1
            seconds, nanoseconds = _u32(buffer, at + 4, False), _u32(buffer, at + 8, False)
            length, wire = _u32(buffer, at + 12, False), _u32(buffer, at + 16, False)
            start = at + le16(buffer, at + 24)
            end = min(start + length, stop)
            merged = np.int64(0)
            virtio = start - VIRTIO_NET_HEADER
            if with_virtio and at < virtio and start <= stop and buffer[virtio + 1]:
                # Its header length is a hint only: the kernel puts there how much lies in one piece.
                merged = le16(buffer, virtio + 4)
            if keep_outgoing or buffer[at + 58] != _OUTGOING:
                now = moment(state, seconds * 1_000_000_000 + nanoseconds)
                record(index, rows, ring, normal, state, prefixes, reflectors,
                       buffer, start, max(start, end), wire, now, link, weight, merged)  # fmt: skip
                if buffer[at + 20] & 0x10:  # TP_STATUS_VLAN_VALID: the card or the kernel took the tag out
                    state[T_VLAN] += weight
            read += 1
            step = _u32(buffer, at, False)
            if step <= 0:
                break
            at += step
    return read


@kernel
def rezone(rows, used, prefixes, nowhere):
    """Gives every host in use the zone that it has now; `nowhere` where it has none any more. Prefixes are found anew:
    those known so far belong to no zone."""
    for row in range(used):
        if rows[row, LINE] == 0:
            zone = zone_of(prefixes, np.uint64(rows[row, KEY_HIGH]), np.uint64(rows[row, KEY_LOW]))
            rows[row, ZONE] = zone if zone >= 0 else nowhere
        else:
            rows[row, ZONE] = nowhere


def pcapy_batch(packets: bytes, meta: bytes) -> tuple[ANY, ANY]:
    """What pcapy's `next_batch` gives, as `batch` takes it: buffer and meta, not copied."""
    return np.frombuffer(packets or bytes(1), np.uint8), np.frombuffer(meta, np.uint32).reshape(-1, 4)


def words(entries: ANY) -> ANY:
    """An array of `headers.HEADER` entries as `tallies` takes it, not copied."""
    return np.ascontiguousarray(entries).view(np.uint64).reshape(-1, WORDS)


def warm_up(tables: Tables) -> None:
    """Compiles, or loads from NUMBA_CACHE_DIR, every walker, so that the first packet waits for nothing."""
    from sensors import walk_pcapng  # it needs this module

    empty = np.zeros(64, np.uint8)
    tallies(*tables.arrays, words(np.zeros(0, HEADER)), 0, NEVER)
    batch(*tables.arrays, *pcapy_batch(b"", b""), ETHERNET, 1, 0, NEVER)
    pcap(*tables.arrays, empty, 0, 0, False, 1000, ETHERNET, 1, NEVER)
    ring_blocks(*tables.arrays, empty, 0, 1, 64, ETHERNET, 1, True, False)
    rezone(tables.rows, 0, tables.prefixes, 0)
    walk_pcapng.warm_up(tables)
