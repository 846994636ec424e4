"""A veth pair or a tunnel of a test's own, and patience."""

import fcntl
import secrets
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

PATIENCE_SECONDS = 20


@contextmanager
def veth() -> Iterator[tuple[str, socket.socket]]:
    """An interface to listen on, and a socket that sends into it."""
    near, far = f"sbt{secrets.token_hex(4)}", f"sbu{secrets.token_hex(4)}"
    subprocess.run(["ip", "link", "add", near, "type", "veth", "peer", "name", far], check=True)
    try:
        for end in (near, far):
            Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").write_text("1")
            subprocess.run(["ip", "link", "set", end, "up"], check=True)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
            sending.bind((far, 0))
            yield near, sending
    finally:
        subprocess.run(["ip", "link", "del", near], check=True)


@contextmanager
def tunnel(kind: int | None = None) -> Iterator[tuple[str, FileIO]]:
    """An interface without a link layer, or one that says to be of a kind (ARPHRD_*), and the file that packets for it
    are written to; skips where there is none."""
    name, device = f"sbt{secrets.token_hex(4)}", Path("/dev/net/tun")
    if not device.exists():
        pytest.skip(f"no {device} here")
    with device.open("r+b", buffering=0) as file:
        # TUNSETIFF with IFF_TUN and IFF_NO_PI (linux/if_tun.h)
        fcntl.ioctl(file, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))
        if kind is not None:
            fcntl.ioctl(file, 0x400454CD, kind)  # TUNSETLINK
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name, file


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, at most for a generous while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)
