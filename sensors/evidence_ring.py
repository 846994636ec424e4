"""The bytes of recent packets, kept in memory for evidence: written by the capture thread, read by another.

Bounded by what it was given. When packets come faster than the ring could hold for `cover_seconds`, only some of them
are kept, chosen by chance, and each tells of how many it is one. Only packets to or from protected addresses are kept.
The writer never waits: a reader looks afterwards whether what it read was overwritten meanwhile.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import random
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

import numpy as np

from rules.match import Network
from sensors.compiled import inlined, kernel
from sensors.framing import ETHERNET, network
from sensors.headers import MAPPED
from sensors.keyed import zone_of
from sensors.loads import be32, be64
from sensors.tables import ANY, key

SEGMENT_WORDS = 1 << 15
"""A segment has 256 kB; records never cross from one into the next."""
_HEAD_WORDS = 3
"""Of a record: time (ns); kept length and wire length; link type, how many packets it is one of, VLAN tag."""
_SPARE_SEGMENTS = 2
"""The oldest ones are not read: the writer is about to come by."""

_SEGMENT, _CHANCE, _STRIDE, _OFFERED, _KEPT, _WITHIN = range(6)
"""Places in `state`: number of the segment being filled, the state of the dice, packets for one that is kept, bytes
that keeping all would have taken, records kept, packets for one that is kept in a block that is looked at."""
_MOST_WITHIN = 4
"""When fewer than one of so many is kept, whole blocks are passed over: to walk through a flood costs, too."""
_TAGGED = 1 << 48
_VALID_TAG, _VALID_PROTOCOL = 0x10, 0x40  # TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID, linux/if_packet.h
_OUTGOING = 4  # PACKET_OUTGOING
_NOBODY = IPv4Network("0.0.0.0/32")


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
    number = state[_SEGMENT]
    slot = number % len(segments)
    if segments[slot, 1] + need > SEGMENT_WORDS:
        number += 1
        slot = number % len(segments)
        segments[slot, 0], segments[slot, 1] = number, 0
        state[_SEGMENT] = number
    return slot


@inlined
def _copy(out, into, data, start, count):
    """Unsigned, so that nothing has to be asked about places counted from the end, and many bytes go at once."""
    into, start = np.uint64(into), np.uint64(start)
    for at in range(np.uint64(count)):
        out[into + at] = data[start + at]


@inlined
def _chosen(state):
    """Whether chance keeps this packet."""
    stride = state[_WITHIN]
    if stride <= 1:
        return True
    state[_CHANCE] = state[_CHANCE] * 6364136223846793005 + 1442695040888963407
    return (state[_CHANCE] >> 33) & (stride - 1) == 0


@inlined
def _keep(data, words, segments, state, prefixes, buffer, start, end, wire, stamp, link, tag):
    at, _ = network(buffer, start, end, link)
    dh, dl, sh, sl, found = _ends(buffer, at, end)
    if not found or (zone_of(prefixes, dh, dl) < 0 and zone_of(prefixes, sh, sl) < 0):
        return
    length, stride = end - start, state[_STRIDE]
    need = _HEAD_WORDS + ((length + 7) >> 3)
    if need > SEGMENT_WORDS:
        return
    state[_OFFERED] += need * 8 * stride
    state[_KEPT] += 1
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
    """Keeps the frames of one TPACKET_V3 block, as `walk.ring_block` reads them."""
    stop = min(block + size, np.int64(len(buffer)))
    at = block + _u32(buffer, block + 16)
    for _ in range(_u32(buffer, block + 12)):
        if at < block or at + 68 > stop:
            break
        start = at + _u16(buffer, at + 24)
        end = min(start + _u32(buffer, at + 12), stop)
        if start < end and (keep_outgoing or buffer[at + 58] != _OUTGOING) and _chosen(state):
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


@dataclass(frozen=True, slots=True)
class Selection:
    """What a look into the ring gave."""

    content: bytes
    """Records of a capture file."""
    matching: int
    """Records that matched, written or not."""
    packets: int
    first_ns: int
    last_ns: int
    one_of: int
    """Of how many packets the rarest one stands, where packets came too fast to keep all."""


class RecentBytes:
    """The ring."""

    def __init__(self, megabytes: int, cover_seconds: float) -> None:
        count = max(8, (megabytes << 20) // (SEGMENT_WORDS * 8))
        self._words = np.zeros(count * SEGMENT_WORDS, np.int64)
        self._data = self._words.view(np.uint8)
        self._segments = np.zeros((count, 2), np.int64)
        self._segments[:, 0] = -1
        self._segments[0, 0] = 0
        self._state = np.zeros(8, np.int64)
        self._state[_STRIDE] = self._state[_WITHIN] = 1
        self._chance = random.Random()
        self._bytes_per_second = count * SEGMENT_WORDS * 8 / cover_seconds
        self._paced = (0.0, 0)

    @property
    def arrays(self) -> tuple[ANY, ...]:
        """What the kernels take first."""
        return self._data, self._words, self._segments, self._state

    @property
    def kept(self) -> int:
        """Packets kept so far."""
        return int(self._state[_KEPT])

    @property
    def one_of(self) -> int:
        """Of how many packets one is kept now."""
        return int(self._state[_STRIDE])

    @property
    def used_bytes(self) -> int:
        """Filled so far; never more than the ring has."""
        return min(int(self._state[_SEGMENT]) + 1, len(self._segments)) * SEGMENT_WORDS * 8

    def pace(self, now: float) -> None:
        """Chooses how many packets to keep, by how many came since the last call; `now` in seconds."""
        before, offered_before = self._paced
        offered = int(self._state[_OFFERED])
        # Half a second evens out the clumps in which packets are handed over; a flood doesn't get that long.
        if now - before < 0.5 and offered - offered_before < self._words.nbytes / 16:
            return
        excess = (offered - offered_before) / max(now - before, 1e-3) / self._bytes_per_second
        stride = 1
        while stride < excess and stride < 1 << 15:
            stride *= 2
        self._state[_STRIDE], self._state[_WITHIN] = stride, min(stride, _MOST_WITHIN)
        self._paced = (now, offered)

    def wants_block(self) -> bool:
        """Whether anything of the next block or batch of packets is kept; to be asked before each."""
        every = int(self._state[_STRIDE]) // int(self._state[_WITHIN])
        return every <= 1 or self._chance.randrange(every) == 0

    @property
    def position(self) -> tuple[int, int]:
        """Where the writer is: segment and word; reading may go on from here later."""
        number = int(self._state[_SEGMENT])
        return number, int(self._segments[number % len(self._segments), 1])

    @property
    def oldest(self) -> tuple[int, int]:
        """The first place that can be read."""
        return max(0, int(self._state[_SEGMENT]) - len(self._segments) + 1 + _SPARE_SEGMENTS), 0

    def count(self, target: Network, span: tuple[tuple[int, int], tuple[int, int]], since_ns: int = 0) -> int:
        """How many records of a target lie between two positions."""
        return sum(one.matching for one in self._looks(target, span, since_ns, 0, False))

    def read(
        self, target: Network, span: tuple[tuple[int, int], tuple[int, int]], since_ns: int, every: int, bare: bool
    ) -> Iterator[Selection]:
        """The records of a target between two positions, a segment at a time; of those, every `every`-th."""
        return self._looks(target, span, since_ns, every, bare)

    def _looks(
        self, target: Network, span: tuple[tuple[int, int], tuple[int, int]], since_ns: int, every: int, bare: bool
    ) -> Iterator[Selection]:
        (number, word), (last, last_word) = max(span[0], self.oldest), span[1]
        low, top = key(_host(target, 0)), key(_host(target, -1))
        bounds = tuple(np.uint64(half) for half in (*low, *top))
        out = np.empty(SEGMENT_WORDS * 8 if every else 0, np.uint8)
        phase = 0
        while number <= last:
            slot = number % len(self._segments)
            base = slot * SEGMENT_WORDS
            used = last_word if number == last else int(self._segments[slot, 1])
            found = np.zeros(5, np.int64)
            wrote = select(
                self._data, self._words, base + word, base + used, *bounds, since_ns, every, phase, bare, out, found
            )  # fmt: skip
            matching, packets, first, latest, one_of = found.tolist()
            # Whoever wrote here meanwhile has changed the segment's number before anything else.
            if int(self._segments[slot, 0]) == number and matching:
                yield Selection(out[:wrote].tobytes(), matching, packets, first, latest, one_of)
                phase += matching
            number, word = number + 1, 0


def _host(network_: Network, which: int) -> Network:
    return type(network_)((network_[which], network_.max_prefixlen))


def warm_up() -> None:
    """Compiles, or loads, the kernels, so that the first packet waits for nothing."""
    ring, prefixes = RecentBytes(1, 1.0), np.zeros((0, 5), np.uint64)
    empty = np.zeros(64, np.uint8)
    keep_block(*ring.arrays, prefixes, empty, 0, 64, ETHERNET, False)
    keep_batch(*ring.arrays, prefixes, empty, np.zeros((0, 4), np.uint32), ETHERNET)
    list(ring.read(_NOBODY, ((0, 0), (0, 0)), 0, 1, False))
