"""The compiled part of the ring of recent bytes: packets into it, and those of a target out again.

The writer chooses by chance where not all fit. Only packets to or from protected addresses are kept. Arrays in, arrays
changed; nothing is made here.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import numpy as np

from sensors.compiled import inlined, kernel
from sensors.framing import ETHERNET, network
from sensors.headers import MAPPED
from sensors.keyed import zone_of
from sensors.loads import be32, be64

SEGMENT_WORDS = 1 << 15
"""A segment has 256 kB; records never cross from one into the next."""
_HEAD_WORDS = 3
"""Of a record: time (ns); kept length and wire length; link type, how many packets it is one of, VLAN tag."""
SEGMENT, CHANCE, STRIDE, OFFERED, KEPT, WITHIN, PASSED_OVER = range(7)
"""Places in `state`: number of the segment being filled, the state of the dice, packets for one that is kept, bytes
that keeping all would have taken, records kept, packets for one that is kept in a block that is looked at, how many
are passed over before the next one that is kept."""
STATE_WORDS = 8
_TAGGED = 1 << 48
_VALID_TAG, _VALID_PROTOCOL = 0x10, 0x40  # TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID, linux/if_packet.h
_OUTGOING = 4  # PACKET_OUTGOING


@inlined
def _ends(buffer, at, end):
    """Destination and source of the IP packet at `at` as keys, and whether there is one."""
    zero = np.uint64(0)
    if at < 0 or at + 20 > end:
        return zero, zero, zero, zero, False
    version = buffer[at] >> 4
    mapped = np.uint64(MAPPED)
    if version == 4:
        return zero, mapped | np.uint64(be32(buffer, at + 16)), zero, mapped | np.uint64(be32(buffer, at + 12)), True
    if version == 6 and at + 40 <= end:
        return (be64(buffer, at + 24), be64(buffer, at + 32), be64(buffer, at + 8), be64(buffer, at + 16), True)
    return zero, zero, zero, zero, False


@inlined
def _room(segments, state, need):
    """The first word of a new record in the ring."""
    number = state[SEGMENT]
    slot = number % len(segments)
    if segments[slot, 1] + need > SEGMENT_WORDS:
        number += 1
        slot = number % len(segments)
        segments[slot, 0], segments[slot, 1] = number, 0
        state[SEGMENT] = number
    return slot


@inlined
def _copy(out, into, data, start, count):
    """Unsigned, so that nothing has to be asked about places counted from the end, and many bytes go at once."""
    into, start = np.uint64(into), np.uint64(start)
    for at in range(np.uint64(count)):
        out[into + at] = data[start + at]


@inlined
def _chosen(state):
    """Whether chance keeps this packet. It says how many are passed over: asked for each, it would cost more than to
    keep a few."""
    stride = state[WITHIN]
    if stride <= 1:
        return True
    if state[PASSED_OVER] > 0:
        state[PASSED_OVER] -= 1
        return False
    state[CHANCE] = state[CHANCE] * 6364136223846793005 + 1442695040888963407
    # From none to twice as many as on average.
    state[PASSED_OVER] = ((state[CHANCE] >> 33) & 0x3FFFFFFF) % (2 * stride - 1)
    return True


@inlined
def _keep(data, words, segments, state, prefixes, buffer, start, end, wire, stamp, link, tag):
    at, _ = network(buffer, start, end, link)
    dh, dl, sh, sl, found = _ends(buffer, at, end)
    if not found or (zone_of(prefixes, dh, dl) < 0 and zone_of(prefixes, sh, sl) < 0):
        return
    length, stride = end - start, state[STRIDE]
    need = _HEAD_WORDS + ((length + 7) >> 3)
    if need > SEGMENT_WORDS:
        return
    state[OFFERED] += need * 8 * stride
    state[KEPT] += 1
    slot = _room(segments, state, need)
    place = slot * SEGMENT_WORDS + segments[slot, 1]
    words[place] = stamp
    words[place + 1] = length | wire << 32
    words[place + 2] = link | stride << 16 | tag
    _copy(data, (place + _HEAD_WORDS) * 8, buffer, start, length)
    segments[slot, 1] += need


@inlined
def _u16(buffer, at):
    return np.int64(buffer[at]) | np.int64(buffer[at + 1]) << 8


@inlined
def _u32(buffer, at):
    return _u16(buffer, at) | _u16(buffer, at + 2) << 16


@kernel
def keep_block(data, words, segments, state, prefixes, buffer, block, size, link, keep_outgoing):
    """Keeps the frames of one TPACKET_V3 block, as `walk.ring_blocks` reads them."""
    stop = min(block + size, np.int64(len(buffer)))
    at = block + _u32(buffer, block + 16)
    for _ in range(_u32(buffer, block + 12)):
        if at < block or at + 68 > stop:
            break
        start, end = stop, stop
        if (keep_outgoing or buffer[at + 58] != _OUTGOING) and _chosen(state):
            start = at + _u16(buffer, at + 24)
            end = min(start + _u32(buffer, at + 12), stop)
        if start < end:
            tag = np.int64(0)
            if buffer[at + 20] & _VALID_TAG and link == ETHERNET:
                protocol = _u16(buffer, at + 36) if buffer[at + 20] & _VALID_PROTOCOL else 0x8100
                tag = np.int64(_TAGGED | (1 << 49 if protocol == 0x88A8 else 0))
                tag |= _u16(buffer, at + 32) << 32
            stamp = _u32(buffer, at + 4) * 1_000_000_000 + _u32(buffer, at + 8)
            _keep(data, words, segments, state, prefixes, buffer, start, end, _u32(buffer, at + 16), stamp, link, tag)
        step = _u32(buffer, at)
        if step <= 0:
            break
        at += step


@kernel
def keep_batch(data, words, segments, state, prefixes, buffer, meta, link):
    """Keeps the records of one batch of pcapy's, as `walk.batch` reads them."""
    limit = np.int64(len(buffer))
    for number in range(len(meta)):
        start = min(np.int64(meta[number, 2]), limit)
        length = np.int64(meta[number, 3])
        end = min(start + length, limit)
        stamp = np.int64(meta[number, 0]) * 1_000_000_000 + np.int64(meta[number, 1]) * 1000
        if start < end and _chosen(state):
            _keep(
                data, words, segments, state, prefixes, buffer, start, end, length, stamp, link, np.int64(0)
            )  # fmt: skip


@inlined
def _put32(out, at, value):
    for byte in range(4):
        out[at + byte] = np.uint8((value >> (8 * byte)) & 0xFF)


@inlined
def _within(high, low, low_high, low_low, top_high, top_low):
    above = high > low_high or (high == low_high and low >= low_low)
    return above and (high < top_high or (high == top_high and low <= top_low))


@kernel
def select(data, words, begin, end, low_high, low_low, top_high, top_low, since, every, phase, bare, out, found):
    """Writes the records of `words[begin:end]` that are to or from the addresses between low and top, not before
    `since`, as records of a nanosecond capture file: the bytes written.

    Of those that match only every `every`-th, counted on from `phase`; 0 counts only. `bare` leaves the link layer out.
    `found`: matching, written, time of the first written, of the last, and of how many packets the rarest is one.
    """
    at, wrote = begin, np.int64(0)
    while at + _HEAD_WORDS <= end:
        length, wire = words[at + 1] & 0xFFFFFFFF, (words[at + 1] >> 32) & 0xFFFFFFFF
        link, stride = words[at + 2] & 0xFFFF, (words[at + 2] >> 16) & 0xFFFF
        start = (at + _HEAD_WORDS) * 8
        step = _HEAD_WORDS + ((length + 7) >> 3)
        if at + step > end:
            break
        stamp, tag = words[at], words[at + 2] >> 32
        at += step
        if stamp < since:
            continue
        header, _ = network(data, start, start + length, link)
        dh, dl, sh, sl, is_ip = _ends(data, header, start + length)
        to = _within(dh, dl, low_high, low_low, top_high, top_low)
        if not (is_ip and (to or _within(sh, sl, low_high, low_low, top_high, top_low))):
            continue
        found[0] += 1
        if every == 0 or (phase + found[0]) % every or wrote + length + 20 > len(out):
            continue
        extra = np.int64(4 if tag & (_TAGGED >> 32) and not bare and length >= 12 else 0)
        skipped = header - start if bare else np.int64(0)
        _put32(out, wrote, stamp // 1_000_000_000)
        _put32(out, wrote + 4, stamp % 1_000_000_000)
        _put32(out, wrote + 8, length + extra - skipped)
        _put32(out, wrote + 12, max(wire, length) + extra - skipped)
        wrote += 16
        if extra:
            _copy(out, wrote, data, start, 12)
            wrote += 12
            kind = 0x88A8 if tag & (1 << 17) else 0x8100
            out[wrote], out[wrote + 1] = np.uint8(kind >> 8), np.uint8(kind & 0xFF)
            out[wrote + 2], out[wrote + 3] = np.uint8((tag >> 8) & 0xFF), np.uint8(tag & 0xFF)
            _copy(out, wrote + 4, data, start + 12, length - 12)
            wrote += length - 8
        else:
            _copy(out, wrote, data, start + skipped, length - skipped)
            wrote += length - skipped
        if found[1] == 0:
            found[2] = stamp
        found[1] += 1
        found[3] = max(found[3], stamp)
        found[4] = max(found[4], stride)
    return wrote
