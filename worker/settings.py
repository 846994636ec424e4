"""What the worker is told: whom to tell, and how patient to be. Never read from the environment here."""

import socket
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from rules.errors import Problem, Refused

SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class Webhook:
    """One receiver of signed HTTP POSTs."""

    url: str
    secret: str = field(repr=False)
    """Key of the HMAC-SHA256 signature, shared with the receiver."""
    timeout_seconds: float = 5
    """For connecting, for sending, and for each wait for the answer."""
    ca_file: Path | None = None
    """Trust these certificates instead of the usual ones."""

    def __post_init__(self) -> None:
        problems = []
        if not _is_web_address(self.url):
            problems.append(Problem("webhook_url", self.url, "must look like https://hooks.example.net/stopbank"))
        if len(self.secret) < SHORTEST_SECRET:
            problems.append(Problem("webhook_secret", "(not shown)", f"needs at least {SHORTEST_SECRET} characters"))
        if not 0 < self.timeout_seconds <= 60:
            problems.append(Problem("webhook_timeout", str(self.timeout_seconds), "must be over 0 and at most 60 s"))
        if problems:
            raise Refused.all(problems)


def _is_web_address(given: str) -> bool:
    try:
        parts = httpx.URL(given)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and 1 <= (parts.port or 443) <= 65535


class Transport(Enum):
    """How syslog messages travel."""

    UDP = "udp"
    """RFC 5426: nobody notices a loss."""
    TCP = "tcp"
    """RFC 6587, octet counting."""
    UNIX = "unix"
    """A local socket, datagram or stream."""


@dataclass(frozen=True, slots=True)
class Syslog:
    """One receiver of RFC 5424 messages."""

    transport: Transport
    host: str = ""
    port: int = 514
    path: str = ""
    """Of the Unix socket."""
    facility: int = 16
    """local0 (RFC 5424 §6.2.1)."""
    timeout_seconds: float = 5

    @classmethod
    def parse(cls, given: str) -> "Syslog":
        """`udp://host:514`, `tcp://host:514` or `unix:///dev/log`."""
        try:
            parts = urlsplit(given)
            transport, port = Transport(parts.scheme), parts.port or 514
        except ValueError:
            transport, port, parts = Transport.UDP, 514, urlsplit("")
        is_local = transport is Transport.UNIX
        if not (parts.path if is_local else parts.hostname) or (parts.path.strip("/") and not is_local):
            raise Refused("syslog", given, "must look like udp://host:514, tcp://host:514 or unix:///dev/log")
        return cls(transport, host=parts.hostname or "", port=port, path=parts.path if is_local else "")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of the worker's settings."""

    webhook: Webhook | None = None
    syslog: Syslog | None = None
    state: Path | None = None
    """Where `worker.prom` is written; nowhere unless given."""
    hostname: str = field(default_factory=socket.gethostname)
    """As it appears in syslog."""
    muted: frozenset[str] = frozenset({"rule.extended"})
    """Kinds that nobody is told of: renewals come every minute of an attack."""
    poll_seconds: float = 0.5
    """How often to look for new messages."""
    first_retry_seconds: float = 1
    """Doubled with each failure."""
    longest_retry_seconds: float = 60
    give_up_seconds: float = 86_400
    """A message that could not be delivered for this long is given up, visibly."""
    keep_seconds: float = 7 * 86_400
    """Delivered and given up messages are removed after this."""
