"""Syslog: one RFC 5424 line for each notice, over UDP, TCP or a Unix socket.

TCP syslog has no answers. So a message counts as delivered only when the other side's kernel has acknowledged every
byte and has not hung up; what a receiver loses after that, nobody can know. UDP is sent, no more.
"""

import errno
import fcntl
import select
import socket
import struct
import termios
import time

from worker.delivery import Undelivered
from worker.notice import Notice
from worker.settings import Syslog, Transport

APPLICATION = "stopbank"
LARGEST_DATAGRAM = 8192
"""Receivers must take 480 and should take 2048 bytes (RFC 5426 §3.2); common ones take 8 KiB."""

_ERROR, _WARNING, _NOTICE, _INFO = 3, 4, 5, 6
_SEVERITIES = {
    "rule.refused": _ERROR,
    "incident.opened": _WARNING,
    "rule.announced": _NOTICE,
    "rule.withdrawn": _NOTICE,
    "incident.closed": _NOTICE,
}


def render(notice: Notice, hostname: str, facility: int) -> bytes:
    """The RFC 5424 line, without framing."""
    priority = facility * 8 + _SEVERITIES.get(notice.kind, _INFO)
    at = notice.at.isoformat(timespec="microseconds")
    header = f"<{priority}>1 {at} {_printable(hostname, 255)} {APPLICATION} - {_printable(notice.kind, 32)} -"
    return f"{header} {notice.render()}".encode("ascii")


class SyslogDelivery:
    """Sends lines over one kept socket."""

    def __init__(self, settings: Syslog, hostname: str) -> None:
        self._settings = settings
        self._hostname = hostname
        self._socket: socket.socket | None = None

    def deliver(self, notice: Notice) -> None:
        """Returns once the line is out, over TCP once it is acknowledged."""
        line = render(notice, self._hostname, self._settings.facility)
        try:
            self._send(line)
        except OSError as error:
            self.close()
            is_too_long = error.errno == errno.EMSGSIZE
            raise Undelivered(str(error) or type(error).__name__, is_receiver_down=not is_too_long) from None

    def close(self) -> None:
        """Closes the kept socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, line: bytes) -> None:
        if self._socket is not None and _is_hung_up(self._socket):
            self.close()
        if self._socket is None:
            self._socket = _connected(self._settings)
        if self._socket.type == socket.SOCK_DGRAM:
            self._socket.send(line[:LARGEST_DATAGRAM])
            # On this machine a closed port answers at once; without asking, the next message would get the blame.
            _raise_pending(self._socket)
            return
        framed = line + b"\n" if self._settings.transport is Transport.UNIX else b"%d %s" % (len(line), line)
        self._socket.sendall(framed)
        _await_acknowledged(self._socket, self._settings.timeout_seconds)


def _printable(given: str, longest: int) -> str:
    """PRINTUSASCII without spaces (RFC 5424 §6), or the nil value."""
    return "".join(letter for letter in given if "!" <= letter <= "~")[:longest] or "-"


def _connected(settings: Syslog) -> socket.socket:
    match settings.transport:
        case Transport.TCP:
            return socket.create_connection((settings.host, settings.port), settings.timeout_seconds)
        case Transport.UDP:
            return _connected_udp(settings)
        case Transport.UNIX:
            return _connected_unix(settings)


def _connected_udp(settings: Syslog) -> socket.socket:
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    connection = socket.socket(family, kind, protocol)
    connection.settimeout(settings.timeout_seconds)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _connected_unix(settings: Syslog) -> socket.socket:
    """/dev/log is a datagram socket nearly everywhere, a stream on some."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        connection = socket.socket(socket.AF_UNIX, kind)
        connection.settimeout(settings.timeout_seconds)
        try:
            connection.connect(settings.path)
        except OSError as error:
            connection.close()
            if error.errno != errno.EPROTOTYPE or kind == socket.SOCK_STREAM:
                raise
        else:
            return connection
    raise AssertionError("one of the two kinds connects or raises")


def _is_hung_up(connection: socket.socket) -> bool:
    """Whether the other side closed a stream while nothing was sent."""
    if connection.type != socket.SOCK_STREAM:
        return False
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and _drained_to_the_end(connection)


def _drained_to_the_end(connection: socket.socket) -> bool:
    """Reads away what a receiver says, which has no meaning; True at its end of the stream."""
    try:
        return connection.recv(4096, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def _await_acknowledged(connection: socket.socket, timeout_seconds: float) -> None:
    """Until the other side's kernel has all bytes and the connection stands; raises `OSError`."""
    deadline = time.monotonic() + timeout_seconds
    while _unacknowledged(connection):
        if time.monotonic() > deadline:
            raise TimeoutError("the receiver takes nothing")
        _raise_if_hung_up(connection, 0.01)
    _raise_if_hung_up(connection, 0)


def _unacknowledged(connection: socket.socket) -> int:
    """Bytes sent and not acknowledged (SIOCOUTQ, tcp(7)); of a Unix stream, those not read yet."""
    raw = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    pending: int = struct.unpack("i", raw)[0]
    return pending


def _raise_if_hung_up(connection: socket.socket, wait_seconds: float) -> None:
    readable, _, _ = select.select([connection], [], [], wait_seconds)
    if readable and _drained_to_the_end(connection):
        raise ConnectionResetError("the receiver hung up")
    _raise_pending(connection)


def _raise_pending(connection: socket.socket) -> None:
    number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, "the receiver refused it" if number == errno.ECONNREFUSED else "the connection broke")
