"""Lines of web servers' access logs as values: nginx and Apache (combined), Caddy (JSON), HAProxy (HTTP log). Pure.

What clients write into a line (paths, agents, host names) is theirs: it is never taken for structure, and what makes no
sense raises `Refused` and nothing else.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from rules.errors import Refused

LONGEST_HOST = 255
_QUOTED = 120


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as far as it matters here."""

    source: IPv4Address | IPv6Address
    status: int
    """What was answered; HAProxy writes -1 where nothing was."""
    host: str = ""
    """The site asked for, lower case; empty where the format doesn't tell."""
    size: int = 0
    """Bytes answered."""


class Format(Enum):
    """How lines are written."""

    COMBINED = "combined"
    """nginx's and Apache's default, also Apache's `vhost_combined`, also without referrer and agent."""
    CADDY = "caddy"
    HAPROXY = "haproxy"


def parse(format: Format, line: bytes) -> Request:
    """The request of one line without its newline."""
    return _PARSERS[format](line)


_COMBINED = re.compile(
    rb'(?:(?P<host>[^\s:\[\]]{1,255}):\d{1,5} )?(?P<source>[0-9A-Fa-f:.]{2,45}) \S+ .{0,256}?\[[^\]]{1,64}\] '
    rb'"(?:[^"\\]|\\.)*" (?P<status>\d{3}) (?P<size>\d+|-)(?: |$)',
    re.DOTALL,
)  # fmt: skip
_HAPROXY = re.compile(
    rb"(?P<source>[0-9A-Fa-f:.]{2,45}):\d{1,5} \[[^\]]{1,64}\] \S+ \S+ [-+\d/]+ (?P<status>-1|\d{3}) \+?(?P<size>\d+)"
    rb"\s(?:\S+ ){3}[\d/+]+ [\d/]+ (?:\{(?P<host>[^|}]{0,255})[^}]*\} )?"
)


def _combined(line: bytes) -> Request:
    found = _COMBINED.match(line)
    if found is None:
        raise _bad(line, "is no line of the combined log format")
    size = found["size"]
    return _request(line, found["source"].decode(), found["status"], found["host"], b"0" if size == b"-" else size)


def _haproxy(line: bytes) -> Request:
    # Syslog puts a prefix of its own in front.
    start = line.find(b"]: ") + 3 if b"]: " in line[:300] else 0
    found = _HAPROXY.match(line, start)
    if found is None:
        raise _bad(line, "is no line of HAProxy's HTTP log format")
    return _request(line, found["source"].decode(), found["status"], found["host"], found["size"])


def _caddy(line: bytes) -> Request:
    try:
        members = json.loads(line)
        request = members["request"]
        source, status, size = request.get("client_ip") or request["remote_ip"], members["status"], members["size"]
        host = request.get("host", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _bad(line, "is no access log line of Caddy's JSON") from None
    if not (isinstance(source, str) and isinstance(host, str) and type(status) is int and type(size) is int):
        raise _bad(line, "has fields of other types than Caddy's access log")
    return _request(line, source, b"%d" % status, host.encode(errors="replace"), b"%d" % size)


def _request(line: bytes, source: str, status: bytes, host: bytes | None, size: bytes) -> Request:
    try:
        address = ip_address(source)
    except ValueError:
        raise _bad(line, "has no address where the client's stands; log addresses, not names") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    name = (host or b"")[:LONGEST_HOST].decode(errors="replace").lower()
    return Request(address, int(status), name, min(int(size[:19]), 2**62))


_PARSERS: dict[Format, Callable[[bytes], Request]] = {
    Format.COMBINED: _combined,
    Format.CADDY: _caddy,
    Format.HAPROXY: _haproxy,
}


def _bad(line: bytes, reason: str) -> Refused:
    return Refused("line", line[:_QUOTED].decode(errors="replace"), reason)
