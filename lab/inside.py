"""Working inside a network namespace from this very process: one thread enters it, does its job and ends.

Must never be called for work that outlives the function: the thread is the only thing that moves. Sockets keep the
namespace they were opened in.
"""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
# linux/ethtool.h: each "set" command takes a u32 command and a u32 value.
_SET_RX_CHECKSUM, _SET_TX_CHECKSUM, _SET_SCATTER_GATHER = 0x15, 0x17, 0x19
_SET_TSO, _SET_GSO, _SET_GRO = 0x1F, 0x24, 0x2C


def call_inside(path: Path, function: Callable[[], T]) -> T:
    """The function's result, or its exception, from a thread that has entered the namespace at `path`."""
    with ThreadPoolExecutor(1, thread_name_prefix=path.name) as pool:
        return pool.submit(_enter_and_call, path, function).result()


def disable_offloads(interface: str) -> None:
    """Make the interface carry frames as they would be on a wire: real checksums, no 64 kB segments."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (_SET_GRO, _SET_TSO, _SET_GSO, _SET_TX_CHECKSUM, _SET_SCATTER_GATHER):
            _ethtool(control, interface, command)


def _enter_and_call(path: Path, function: Callable[[], T]) -> T:
    _enter(path)
    return function()


def _enter(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))


def _ethtool(control: socket.socket, interface: str, command: int) -> None:
    value = ctypes.create_string_buffer(struct.pack("II", command, 0), 8)
    request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
    fcntl.ioctl(control.fileno(), _SIOCETHTOOL, request)
