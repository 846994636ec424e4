"""Receivers of notices for tests: a web server and syslog listeners on loopback that can be down, slow or moody."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for a condition; fails when it doesn't come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class HttpReceiver:
    """Keeps what is posted to it."""

    port: int = field(default_factory=free_port)
    tls: ssl.SSLContext | None = None
    statuses: list[int] = field(default_factory=list)
    """Answers to give, one after the other; then 204."""
    status_of: Callable[[bytes], int] | None = None
    """Chooses the answer by the body instead."""
    answering: threading.Event = field(default_factory=threading.Event)
    """Cleared, it reads the request and says nothing."""
    posted: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    accepted: list[bytes] = field(default_factory=list)
    """Bodies answered with 2xx, in order."""
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"

    def start(self) -> "HttpReceiver":
        """Listens."""
        self.answering.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up is part of the tests."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        if self.tls is not None:
            # The handshake belongs to the connection's own thread, or a refused certificate would stop the server.
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Goes away; its port stays free for a later start."""
        self.answering.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.posted.append((dict(handler.headers.items()), body))
        self.answering.wait(30)
        chosen = self.status_of(body) if self.status_of else self.statuses.pop(0) if self.statuses else 204
        if 200 <= chosen < 300:
            self.accepted.append(body)
        handler.send_response(chosen)
        if chosen in (301, 302, 307):
            handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
        handler.send_header("Content-Length", "0")
        # Otherwise a stopped server would live on in kept connections.
        handler.send_header("Connection", "close")
        handler.end_headers()


class DatagramReceiver:
    """Keeps datagrams, over UDP or a Unix socket."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self._socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(0.05)
        self.lines: list[bytes] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self.lines.append(self._socket.recv(65536))
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Goes away."""
        self._stopping.set()
        self._thread.join()
        self._socket.close()


class StreamReceiver:
    """Keeps octet-counted messages over TCP, or lines over a Unix stream socket."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self._is_local = isinstance(address, str)
        self._listener = socket.socket(socket.AF_UNIX if self._is_local else socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(address)
        self._listener.listen()
        self._listener.settimeout(0.05)
        self._connections: list[socket.socket] = []
        self.lines: list[bytes] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        unread = b""
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
                connection.settimeout(0.05)
                self._connections.append(connection)
            except TimeoutError:
                pass
            for connection in self._connections:
                try:
                    unread += connection.recv(65536)
                except (TimeoutError, ConnectionResetError):
                    continue
            unread = self._cut(unread)

    def _cut(self, unread: bytes) -> bytes:
        while unread:
            if self._is_local:
                line, newline, rest = unread.partition(b"\n")
                if not newline:
                    return unread
            else:
                length, space, rest = unread.partition(b" ")
                if not space or len(rest) < int(length):
                    return unread
                line, rest = rest[: int(length)], rest[int(length) :]
            self.lines.append(line)
            unread = rest
        return unread

    def stop(self) -> None:
        """Goes away, and with it every connection."""
        self._stopping.set()
        self._thread.join()
        for connection in (*self._connections, self._listener):
            connection.close()


def self_signed(folder: Path, *, valid: bool = True) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 (expired unless valid) and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    start = now - timedelta(days=1 if valid else 10)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=5))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "receiver.crt", folder / "receiver.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
