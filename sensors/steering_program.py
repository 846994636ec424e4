"""The kernel's part of steering: a BPF program (PACKET_FANOUT_CBPF, packet(7)) that names each packet's shard.

It finds the IP header as `sensors.framing` does: behind tags, PPPoE, MPLS, LLC, provider's frames. What holds no IP
packet, and what stands behind more than ten MPLS labels, goes to shard 0.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

from sensors.bpf import LINK_LAYER, LONGEST, NETWORK, OUTGOING, PACKET_TYPE, Program
from sensors.framing import RAW
from sensors.headers import MAPPED
from sensors.prefixes import Interval
from sensors.steering import coarser, joined
from sensors.tables import UNSIGNED

Steps = list[tuple[int, int, int, int]]

_LAYERS, _LABELS = 8, 10
"""As many layers as `framing.network` looks through, and labels in a stack."""
_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
_ETHERNET = 14
_MAPPED_TOP = MAPPED | 0xFFFFFFFF
_MOST = 400
"""Intervals of each family to begin with; more than that are always too many for the kernel."""


@dataclass(frozen=True, slots=True)
class Steering:
    """What the kernel is told."""

    steps: Steps
    is_exact: bool
    """False: prefixes are so many that some gaps between them are taken for protected too. What protected hosts send to
    addresses there is then counted in the shard of the destination, apart from their other traffic."""


def steering(prefixes: UNSIGNED, shards: int, link: int) -> Steering:
    """For zones (`tables.prefix_table`) and frames of a link type, Ethernet or bare IP."""
    return _steering(tuple(joined(prefixes)), shards, link)


@lru_cache(8)
def _steering(ours: tuple[Interval, ...], shards: int, link: int) -> Steering:
    """Takes a third of a second where prefixes are too many."""
    mapped = [(max(first, MAPPED) - MAPPED, min(last, _MAPPED_TOP) - MAPPED, 0)
              for first, last, _ in ours if first <= _MAPPED_TOP and last >= MAPPED]  # fmt: skip
    others = [one for one in ours if not MAPPED <= one[0] <= one[1] <= _MAPPED_TOP]
    most = _MOST
    while True:
        steps = _program(coarser(mapped, most), coarser(others, most), shards, link)
        if len(steps) <= LONGEST:
            return Steering(steps, most >= max(len(mapped), len(others)))
        most = most * 7 // 8


def _program(mapped: list[Interval], others: list[Interval], shards: int, link: int) -> Steps:
    made = Program()
    made.load(4, PACKET_TYPE)
    made.when("==", OUTGOING, "sent")
    # The data of a packet that comes begin behind the link layer, and may lie in several pieces.
    made.set_x(0)
    made.jump("begin")
    made.label("sent")
    made.set_x(NETWORK if link == RAW else LINK_LAYER + _ETHERNET)
    made.label("begin")
    if link != RAW:
        made.load(2, LINK_LAYER + _ETHERNET - 2)
        for number in range(_LAYERS):
            _layer(made, number)
    made.label("ip")
    made.load_behind(1, 0)
    made.shift_right(4)
    made.when("==", 4, "ipv4")
    made.when("==", 6, "ipv6")
    made.label("other")
    made.give(0)
    made.label("ipv4")
    _choose(made, mapped, (16,), (12,), partial(_ipv4_shard, made, shards))
    made.label("ipv6")
    _choose(made, others, (24, 28, 32, 36), (8, 12, 16, 20), partial(_ipv6_shard, made, shards))
    return made.steps()


def _layer(made: Program, number: int) -> None:
    """A has the kind of what X points at."""
    made.label(f"layer {number}")
    for kind in (0x0800, 0x86DD):
        made.when("==", kind, "ip")
    if number == _LAYERS - 1:
        for name in ("bridged", "labels"):
            made.label(f"{name} {number}")
        made.jump("other")
        return
    for kind in _TAGS:
        made.when("==", kind, f"tag {number}")
    for kind, name in ((0x8864, "ppp"), (0x8847, "labels"), (0x8848, "labels"), (0x88E7, "backbone"), (0x8926, "vn")):
        made.when("==", kind, f"{name} {number}")
    made.when(">=", 1536, "other")
    made.when("==", 0, "other")
    following = f"layer {number + 1}"
    _link_control(made, following)
    _step(made, f"vn {number}", 6, following)
    _step(made, f"tag {number}", 4, following)
    made.label(f"backbone {number}")
    made.advance(4)
    made.jump(f"bridged {number + 1}")
    made.label(f"ppp {number}")
    _ppp(made, f"labels {number + 1}")
    made.label(f"labels {number}")
    _labels(made, f"bridged {number + 1}")
    _step(made, f"bridged {number}", _ETHERNET, following)


def _step(made: Program, name: str, length: int, following: str) -> None:
    """A header whose last two bytes tell the next one's kind."""
    made.label(name)
    made.advance(length)
    made.load_behind(2, -2)
    made.jump(following)


def _link_control(made: Program, following: str) -> None:
    bare = made.fresh()
    made.load_behind(2, 0)
    made.when("==", 0x0606, bare)
    named = made.fresh()
    made.when("==", 0xAAAA, named)
    made.jump("other")
    made.label(bare)
    made.advance(3)
    made.jump("ip")
    _step(made, named, 8, following)


def _ppp(made: Program, labels: str) -> None:
    made.advance(6)
    plain, compressed, long, short = (made.fresh() for _ in range(4))
    made.load_behind(2, 0)
    control = made.fresh()
    made.when("==", 0xFF03, control)
    made.jump(plain)
    made.label(control)
    made.advance(2)
    made.label(plain)
    made.load_behind(1, 0)
    made.when("&", 1, compressed)
    made.load_behind(2, 0)
    stack = made.fresh()
    for kind, to in ((0x0021, long), (0x0057, long), (0x0281, stack)):
        made.when("==", kind, to)
    made.jump("other")
    made.label(compressed)
    for kind in (0x21, 0x57):
        made.when("==", kind, short)
    made.jump("other")
    for name, length, to in ((long, 2, "ip"), (short, 1, "ip"), (stack, 2, labels)):
        made.label(name)
        made.advance(length)
        made.jump(to)


def _labels(made: Program, bridged: str) -> None:
    """Behind a stack of labels: IP, or an Ethernet frame with or without a control word."""
    bottom = made.fresh()
    for _ in range(_LABELS):
        made.load_behind(1, 2)
        made.when("&", 1, bottom)
        made.advance(4)
    made.jump("other")
    made.label(bottom)
    made.advance(4)
    made.load_behind(1, 0)
    made.shift_right(4)
    zero, maybe, behind = made.fresh(), made.fresh(), made.fresh()
    made.when("==", 0, zero)
    for version in (4, 6):
        made.when("==", version, maybe)
    made.jump(bridged)
    made.label(zero)
    _is_frame(made, 4, behind, bridged)
    made.label(behind)
    made.advance(4)
    made.jump(bridged)
    made.label(maybe)
    _is_frame(made, 0, bridged, "ip")


def _is_frame(made: Program, at: int, yes: str, no: str) -> None:
    made.load_behind(2, at + 12)
    checks = {0x0800: made.fresh(), 0x86DD: made.fresh()}
    for kind, to in checks.items():
        made.when("==", kind, to)
    for kind in (*_TAGS, 0x0806, 0x8847, 0x8864):
        made.when("==", kind, yes)
    made.jump(no)
    for kind, version in ((0x0800, 4), (0x86DD, 6)):
        made.label(checks[kind])
        made.load_behind(1, at + 14)
        made.shift_right(4)
        made.when("==", version, yes)
        made.jump(no)


def _choose(
    made: Program, ours: list[Interval], destination: tuple[int, ...], source: tuple[int, ...], give: "partial[None]"
) -> None:
    """By the destination, but where only the source is ours. The addresses' words stand at these places."""
    if ours:
        to, others, outgoing = made.fresh(), made.fresh(), made.fresh()
        _find(made, ours, destination, to, others)
        made.label(others)
        _find(made, ours, source, outgoing, to)
        made.label(outgoing)
        give(source[0])
        made.label(to)
    give(destination[0])


def _ipv4_shard(made: Program, shards: int, at: int) -> None:
    made.load_behind(4, at)
    made.shift_right(8)
    made.modulo(shards)
    made.give_a()


def _ipv6_shard(made: Program, shards: int, at: int) -> None:
    made.load_behind(2, at + 4)
    made.keep(0)
    made.load_behind(4, at)
    made.recall_x(0)
    made.add_x()
    made.modulo(shards)
    made.give_a()


_Flip = tuple[int, ...]


def _find(made: Program, ours: list[Interval], places: tuple[int, ...], yes: str, no: str) -> None:
    """Whether the address at these places lies in one of the intervals."""
    bits = 32 * len(places)
    points = sorted({first for first, _, _ in ours} | {last + 1 for _, last, _ in ours})
    flips = [_words(point, len(places)) for point in points if 0 < point < 1 << bits]
    _compare(made, flips, places, ours[0][0] == 0, (yes, no))


def _words(point: int, count: int) -> _Flip:
    return tuple(point >> 32 * (count - 1 - word) & 0xFFFFFFFF for word in range(count))


def _compare(made: Program, flips: list[_Flip], places: tuple[int, ...], inside: bool, ends: tuple[str, str]) -> None:
    """One word of the address; `flips`: from where on it is inside or outside no more; `inside`: before the first."""
    groups: dict[int, list[_Flip]] = {}
    for flip in flips:
        groups.setdefault(flip[0], []).append(flip[1:])
    made.load_behind(4, places[0])
    _search(made, list(groups.items()), places, inside, ends)


def _search(
    made: Program, groups: list[tuple[int, list[_Flip]]], places: tuple[int, ...], inside: bool, ends: tuple[str, str]
) -> None:
    if not groups:
        made.jump(_end(inside, ends))
        return
    middle = len(groups) // 2
    value, rests = groups[middle]
    before = inside ^ _is_odd(groups[:middle])
    after = before ^ (len(rests) % 2 == 1)
    above, upper = groups[middle + 1 :], made.fresh()
    target = upper if above else _end(after, ends)
    equal = ""
    if any(any(rest) for rest in rests):
        equal = made.fresh()
        made.when(">", value, target)
        made.when("==", value, equal)
    else:
        made.when(">=", value, target)
    _search(made, groups[:middle], places, inside, ends)
    if equal:
        made.label(equal)
        _compare(made, rests, places[1:], before, ends)
    if above:
        made.label(upper)
        _search(made, above, places, after, ends)


def _is_odd(groups: list[tuple[int, list[_Flip]]]) -> bool:
    return sum(len(rests) for _, rests in groups) % 2 == 1


def _end(inside: bool, ends: tuple[str, str]) -> str:
    return ends[0] if inside else ends[1]
