"""Frames that an interface receives without a wire: a BPF program writes each into a live frame of BPF_PROG_TEST_RUN.

For whoever listens it is as if a driver had handed them up: taps see them, nobody can lose one on the way, and it
takes a third of the time of sending through a veth pair. Needs root and Linux 5.18 or later. Must never be used in the
host's own namespace: while it lasts, the loopback there has a program that looks at all packets, and lets them pass.
"""

import contextlib
import mmap
import os
import socket
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from lab.ebpf import LiveRun, Program, array_map, attach_xdp, load_xdp
from lab.frames import ETHERNET_BYTES, Frames

Places = NDArray[np.uint64]
"""Where a frame begins among the bytes of all, and its length in the lowest bits."""

MOST = 4096
"""Frames in one call."""
_LENGTH_BITS = 11
_LONGEST = (1 << _LENGTH_BITS) - 1
_COUNTER, _PLACES = 0, 8
_BYTES = _PLACES + 8 * MOST
"""In the map's value: how many frames were written, the places of the next in order; from here on the bytes of all."""
_ADJUST_TAIL, _STORE_BYTES = 65, 190
"""bpf_xdp_adjust_tail, bpf_xdp_store_bytes (linux/bpf.h)."""
_DROP, _PASS = 1, 2
_INGRESS = 12
"""Of `ingress_ifindex` in struct xdp_md."""


class NoLiveFrames(OSError):
    """The kernel or our rights don't allow it; the message holds what it said. No frame was received."""


class LiveFrames:
    """Pools of frames, ready to be received on an interface of the current namespace. Raises `NoLiveFrames`."""

    def __init__(self, pools: Sequence[Frames], interface: str) -> None:
        lengths = [pool.lengths for pool in pools]
        longest, shortest = max(int(one.max()) for one in lengths), min(int(one.min()) for one in lengths)
        if longest > _LONGEST or shortest < ETHERNET_BYTES:
            raise ValueError(f"frames of {shortest} to {longest} bytes: {ETHERNET_BYTES} to {_LONGEST} can be written")
        sizes = [int(one.sum()) for one in lengths]
        begins = [*accumulate(sizes, initial=0)]
        self._places = [_places(one, begin) for one, begin in zip(lengths, begins, strict=False)]
        with _refusals(), contextlib.ExitStack() as opened:
            # The longest is room behind the last: the verifier wants every frame to have that much.
            memory = array_map(_BYTES + begins[-1] + longest)
            opened.callback(os.close, memory)
            self._share(memory, [_bytes(pool) for pool in pools])
            ours = socket.if_nametoindex(interface)
            program = load_xdp(_program(memory, ours, longest, begins[-1]))
            opened.callback(os.close, program)
            # Unless a program is in use already, the kernel takes 20 ms to get ready for it in each call.
            opened.callback(os.close, attach_xdp(program, socket.if_nametoindex("lo")))
            self._run = LiveRun(program, ours, longest)
            self._order[0] = 0
            self._run(1)
            self._opened = opened.pop_all()

    def _share(self, memory: int, contents: Sequence[NDArray[np.uint8]]) -> None:
        size = _BYTES + sum(map(len, contents))
        shared = np.frombuffer(mmap.mmap(memory, size), np.uint8)
        self._counter = shared[_COUNTER:_PLACES].view(np.uint64)
        self._order = shared[_PLACES:_BYTES].view(np.uint64)
        np.concatenate(contents, out=shared[_BYTES:])

    def hand(self, parts: Sequence[tuple[int, int, int]]) -> list[int]:
        """Receives some frames of several pools, mixed evenly: pool, first frame, how many. How many of each went."""
        counts = [count for _, _, count in parts]
        whose = np.repeat(np.arange(len(parts)), counts)
        when = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
        turns = np.argsort(when, kind="stable")[:MOST]
        places = np.concatenate([self._places[pool][first : first + count] for pool, first, count in parts])
        self._order[: len(turns)] = places[turns]
        self._counter[0] = 0
        with contextlib.suppress(InterruptedError):
            self._run(len(turns))
        done = np.bincount(whose[turns[: int(self._counter[0])]], minlength=len(parts))
        return [int(one) for one in done]

    def close(self) -> None:
        """Gives back what the kernel holds."""
        self._opened.close()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoLiveFrames(error.errno, error.strerror) from error


def _places(lengths: NDArray[np.int64], begin: int) -> Places:
    begins = begin + np.cumsum(lengths) - lengths
    places: Places = (begins << _LENGTH_BITS | lengths).astype(np.uint64)
    return places


def _bytes(pool: Frames) -> NDArray[np.uint8]:
    return pool.block[np.arange(pool.block.shape[1]) < pool.lengths[:, None]]


def _program(memory: int, interface: int, longest: int, total: int) -> Program:
    """Writes the next frame in order and shortens to it; what comes to other interfaces passes."""
    frame, order, begin, length = 6, 7, 8, 9
    code = Program()
    code.copy(frame, 1)
    code.load(4, 1, frame, _INGRESS)
    code.when(1, "!=", interface, "pass")
    code.point(order, memory, _COUNTER)
    code.load(8, 1, order)
    code.keep_bits(1, MOST - 1)
    code.shift_left(1, 3)
    code.add_register(order, 1)
    code.load(8, begin, order, _PLACES)
    code.copy(length, begin)
    code.keep_bits(length, _LONGEST)
    code.shift_right(begin, _LENGTH_BITS)
    # All of them hold: the verifier is told so. A place of length 0 is how we ask whether all this works.
    code.when(length, "<", ETHERNET_BYTES, "drop")
    code.when(length, ">", longest, "drop")
    code.when(begin, ">", total, "drop")
    code.copy(1, frame)
    code.copy(2, length)
    code.add(2, -longest)
    code.call(_ADJUST_TAIL)
    code.when(0, "!=", 0, "drop")
    code.point(3, memory, _BYTES)
    code.add_register(3, begin)
    code.copy(1, frame)
    code.put(2, 0)
    code.copy(4, length)
    code.call(_STORE_BYTES)
    code.when(0, "!=", 0, "drop")
    code.point(1, memory, _COUNTER)
    code.load(8, 2, 1)
    code.add(2, 1)
    code.store(8, 1, 2)
    code.label("pass")
    code.give(_PASS)
    code.label("drop")
    code.give(_DROP)
    return code
