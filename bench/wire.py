"""When an UPDATE with a rule leaves for a router, seen on the wire itself: packets are copied, never touched."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType
from typing import Self

from lab.namespaces import Namespace
from rules.neighbour import Address
from sensors.enforce_update import Announced, heard

_BGP = 179
_ETH_P_ALL, _ETH_P_IP = 0x0003, b"\x08\x00"
_SO_TIMESTAMPNS = 35
_LEAST = 54
"""Bytes of Ethernet, IPv4 and TCP without options."""
_MARKER, _HEADER, _UPDATE = b"\xff" * 16, 19, 2
"""RFC 4271 §4.1."""


class Wire:
    """Watches one interface of a namespace for FlowSpec rules to one router; a context manager."""

    def __init__(self, namespace: Namespace, interface: str, router: IPv4Address) -> None:
        self._router = router
        self._news = threading.Condition()
        self._stop = threading.Event()
        self.sent: dict[str, float] = {}
        """The address a rule protects -> when the first UPDATE with one left, on the monotonic clock."""
        self._socket = namespace.call(lambda: _capture(interface))
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(10)
        self._socket.close()

    def wait(self, known: int, seconds: float) -> None:
        """Until more than so many were seen, or the time is over."""
        with self._news:
            self._news.wait_for(lambda: len(self.sent) > known, seconds)

    def _watch(self) -> None:
        clock = time.time() - time.monotonic()
        while not self._stop.is_set():
            try:
                frame, extras, _, _ = self._socket.recvmsg(1 << 16, 64)
            except TimeoutError:
                continue
            seconds, nanoseconds = struct.unpack("qq", extras[0][2])
            for target in targets(frame, self._router):
                with self._news:
                    self.sent.setdefault(target, seconds + nanoseconds / 1e9 - clock)
                    self._news.notify_all()


def targets(frame: bytes, router: IPv4Address) -> Iterator[str]:
    """The addresses that the rules in a frame protect, when it goes to the router over BGP."""
    if (
        len(frame) < _LEAST
        or frame[12:14] != _ETH_P_IP
        or frame[23] != socket.IPPROTO_TCP
        or frame[30:34] != router.packed
    ):
        return
    tcp = frame[14 + (frame[14] & 15) * 4 : 14 + int.from_bytes(frame[16:18], "big")]
    if len(tcp) >= 20 and _BGP in (int.from_bytes(tcp[:2], "big"), int.from_bytes(tcp[2:4], "big")):
        yield from _announced(tcp[(tcp[12] >> 4) * 4 :], router)


def _announced(stream: bytes, router: Address) -> Iterator[str]:
    # A message begins where the segment does: the sender writes one at a time, and each is small.
    while stream.startswith(_MARKER) and len(stream) >= _HEADER:
        length = int.from_bytes(stream[16:18], "big")
        message, stream = stream[:length], stream[max(length, _HEADER) :]
        if message[18] != _UPDATE or len(message) < length:
            continue
        for said in heard(router, message[_HEADER:]).said:
            if isinstance(said, Announced) and isinstance(said.match.destination, IPv4Network):
                yield str(said.match.destination.network_address)


def _capture(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.settimeout(0.1)
    made.bind((interface, _ETH_P_ALL))
    return made
