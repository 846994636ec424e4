"""Programs in classic BPF (linux/filter.h), written with labels instead of distances.

Jumps only go forward, at most 255 instructions in a condition; farther ones take a detour that is put in where it is
needed. Opens nothing.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

LONGEST = 4096
"""Instructions that the kernel takes (BPF_MAXINSNS)."""
LINK_LAYER, NETWORK, PACKET_TYPE = 0xFFE00000, 0xFFF00000, 0xFFFFF004
"""As addresses: what lies from the header of the link layer, and from that of IP on, wherever the packet's data begin;
whether it comes or goes (SKF_LL_OFF, SKF_NET_OFF, SKF_AD_OFF + SKF_AD_PKTTYPE)."""
OUTGOING = 4
"""Of `PACKET_TYPE`."""

_LOAD, _LOAD_MEMORY_X, _STORE = 0x00, 0x61, 0x02
_ABSOLUTE, _INDIRECT = 0x20, 0x40
_SIZES = {4: 0x00, 2: 0x08, 1: 0x10}
_ADD, _MODULO, _SHIFT_RIGHT, _ADD_X = 0x04, 0x94, 0x74, 0x0C
_A_TO_X, _X_TO_A, _SET_X, _RETURN, _RETURN_A, _JUMP = 0x07, 0x87, 0x01, 0x06, 0x16, 0x05
_CONDITIONS = {"==": 0x15, ">": 0x25, ">=": 0x35, "&": 0x45}
_FAR = 255


@dataclass(frozen=True, slots=True)
class _Step:
    code: int
    value: int = 0
    to: str = ""
    """Of a jump: where to, if the condition holds."""


class Program:
    """One under construction. A is the accumulator, X the index."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._labels: dict[str, int] = {}
        self._names = 0

    def fresh(self) -> str:
        """A label that nobody has."""
        self._names += 1
        return f"_{self._names}"

    def label(self, name: str) -> None:
        """The next instruction is called so."""
        self._labels[name] = len(self._steps)

    def load(self, size: int, at: int) -> None:
        """A: so many bytes at an address."""
        self._add(_LOAD | _ABSOLUTE | _SIZES[size], at)

    def load_behind(self, size: int, at: int) -> None:
        """A: so many bytes, X and so far on."""
        self._add(_LOAD | _INDIRECT | _SIZES[size], at)

    def keep(self, place: int) -> None:
        """Puts A into one of sixteen places."""
        self._add(_STORE, place)

    def recall_x(self, place: int) -> None:
        """X: what was put there."""
        self._add(_LOAD_MEMORY_X, place)

    def set_x(self, value: int) -> None:
        """X: a number."""
        self._add(_SET_X, value)

    def advance(self, by: int) -> None:
        """X: so much more; takes A for it."""
        self._add(_X_TO_A)
        self._add(_ADD, by)
        self._add(_A_TO_X)

    def add_x(self) -> None:
        """A: more by X."""
        self._add(_ADD_X)

    def modulo(self, value: int) -> None:
        """A: what is left of it."""
        self._add(_MODULO, value)

    def shift_right(self, bits: int) -> None:
        """A: its upper bits."""
        self._add(_SHIFT_RIGHT, bits)

    def when(self, condition: str, value: int, to: str) -> None:
        """Goes on there if A `==`, `>` or `>=` the value, or has one of its bits (`&`); else with what follows."""
        self._add(_CONDITIONS[condition], value, to)

    def jump(self, to: str) -> None:
        """Goes on there."""
        self._add(_JUMP, 0, to)

    def give(self, value: int) -> None:
        """The result is a number."""
        self._add(_RETURN, value)

    def give_a(self) -> None:
        """The result is A."""
        self._add(_RETURN_A)

    def _add(self, code: int, value: int = 0, to: str = "") -> None:
        self._steps.append(_Step(code, value & 0xFFFFFFFF, to))

    def steps(self) -> list[tuple[int, int, int, int]]:
        """Code, jump if true, jump if false, and value of each instruction."""
        targets = [self._labels[step.to] if step.to else number + 1 for number, step in enumerate(self._steps)]
        if any(target <= number for number, target in enumerate(targets)):
            raise ValueError("a program that jumps back")
        lengths = [1] * len(targets)
        places = [*accumulate(lengths, initial=0)]
        found = True
        while found:
            found = False
            for number, target in enumerate(targets):
                is_far = places[target] - places[number] - 1 > _FAR and self._steps[number].code != _JUMP
                if is_far and lengths[number] == 1:
                    lengths[number], found = 2, True
            places = [*accumulate(lengths, initial=0)]
        return [
            one
            for number, step in enumerate(self._steps)
            for one in _made(step, places[targets[number]] - places[number] - 1, lengths[number] > 1)
        ]


def _made(step: _Step, distance: int, is_far: bool) -> list[tuple[int, int, int, int]]:
    if not step.to:
        return [(step.code, 0, 0, step.value)]
    if step.code == _JUMP:
        return [(step.code, 0, 0, distance)]
    if is_far:
        return [(step.code, 0, 1, step.value), (_JUMP, 0, 0, distance - 1)]
    return [(step.code, distance, 0, step.value)]


def packed(steps: Sequence[tuple[int, int, int, int]]) -> bytes:
    """As `struct sock_filter`, one behind the other."""
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
