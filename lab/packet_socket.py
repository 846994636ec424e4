"""Frames out of an interface: AF_PACKET past the queueing discipline, many frames for each call."""

import ctypes
import socket
from collections.abc import Sequence

import numpy as np

from lab.frames import Frames

MOST = 256
"""Frames of one pool in one call."""
_SOL_PACKET, _PACKET_QDISC_BYPASS, _SYS_SENDMMSG = 263, 20, 307
_MESSAGE = np.dtype(
    [
        ("name", "u8"), ("name_length", "u4"), ("pad", "u4"), ("vectors", "u8"), ("vector_count", "u8"),
        ("control", "u8"), ("control_length", "u8"), ("flags", "i4"), ("pad2", "u4"), ("sent", "u4"), ("pad3", "u4"),
    ]
)  # fmt: skip
"""struct mmsghdr on 64-bit Linux."""
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])


class _Messages:
    """Frames as an array of mmsghdr, ready for the system call."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        count, stride = frames.block.shape
        self._vectors = np.zeros(count, _VECTOR)
        self._vectors["base"] = frames.block.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(stride)
        self._vectors["length"] = frames.lengths
        self._messages = np.zeros(count, _MESSAGE)
        offsets = np.arange(count, dtype=np.uint64) * np.uint64(_VECTOR.itemsize)
        self._messages["vectors"], self._messages["vector_count"] = self._vectors.ctypes.data + offsets, 1

    def address(self, first: int) -> ctypes.c_void_p:
        """Of a frame's message."""
        return ctypes.c_void_p(self._messages.ctypes.data + first * _MESSAGE.itemsize)


class PacketSocket:
    """Pools of frames, ready to be sent out of an interface of the current namespace."""

    def __init__(self, pools: Sequence[Frames], interface: str) -> None:
        self._messages = [_Messages(pool) for pool in pools]
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._out.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        self._out.bind((interface, 0))

    def hand(self, parts: Sequence[tuple[int, int, int]]) -> list[int]:
        """Sends some frames of several pools: pool, first frame, how many. How many of each went."""
        return [self._burst(self._messages[pool], first, min(count, MOST)) for pool, first, count in parts]

    def _burst(self, messages: _Messages, first: int, count: int) -> int:
        done: int = self._libc.syscall(_SYS_SENDMMSG, self._out.fileno(), messages.address(first), count, 0)
        # ENOBUFS: the device's ring is full; the frames stay due.
        return max(done, 0)

    def close(self) -> None:
        """Closes the socket."""
        self._out.close()
