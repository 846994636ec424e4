"""The rings of one interface, one for each shard, joined so that the kernel gives each packet to one of them.

packet(7), PACKET_FANOUT: until all have joined and the kernel knows the steering program, nothing is let in, so that
nothing is counted twice or in the wrong shard.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence

from sensors.bpf import packed

# linux/if_packet.h, asm-generic/socket.h
_SOL_PACKET, _FANOUT, _FANOUT_DATA, _ATTACH_FILTER = 263, 18, 22, 26
_BY_PROGRAM, _UNIQUE, _IGNORE_OUTGOING = 6, 0x2000, 0x4000

Steps = Sequence[tuple[int, int, int, int]]
CLOSED: Steps = ((0x06, 0, 0, 0),)
"""A filter that lets nothing in."""


def attach(to: socket.socket, steps: Steps) -> None:
    """A socket's filter, from the next packet on."""
    _give(to, socket.SOL_SOCKET, _ATTACH_FILTER, steps)


def join(sockets: Sequence[socket.socket], keep_outgoing: bool) -> None:
    """Makes one group of sockets that are bound to the same interface; the first is shard 0."""
    kind = _BY_PROGRAM | (0 if keep_outgoing else _IGNORE_OUTGOING)
    sockets[0].setsockopt(_SOL_PACKET, _FANOUT, struct.pack("=I", (kind | _UNIQUE) << 16))
    number = struct.unpack("=I", sockets[0].getsockopt(_SOL_PACKET, _FANOUT, 4))[0] & 0xFFFF
    for other in sockets[1:]:
        other.setsockopt(_SOL_PACKET, _FANOUT, struct.pack("=I", kind << 16 | number))


def steer(member: socket.socket, steps: Steps) -> None:
    """Gives the group of a socket its program, from the next packet on."""
    _give(member, _SOL_PACKET, _FANOUT_DATA, steps)


def _give(to: socket.socket, level: int, option: int, steps: Steps) -> None:
    code = ctypes.create_string_buffer(packed(steps))
    # `struct sock_fprog`, with the padding that the machine gives it.
    to.setsockopt(level, option, struct.pack("HP", len(steps), ctypes.addressof(code)))
