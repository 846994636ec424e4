"""Lines of web servers' access logs as values: nginx and Apache (combined), Caddy (JSON), HAProxy (HTTP log). Pure.

What clients write into a line (paths, agents, host names) is theirs: it is never taken for structure, and what makes no
sense raises `Refused` and nothing else.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from rules.errors import Refused

LONGEST_HOST = 255
_QUOTED = 120
_STAMP = 64


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
    stamp: str = ""
    """When, as the line says it; `moment` reads it."""


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
    rb'(?:(?P<host>[^\s:\[\]]{1,255}):\d{1,5} )?(?P<source>[0-9A-Fa-f:.]{2,45}) \S+ .{0,256}?'
    rb'\[(?P<stamp>[^\]]{1,64})\] "(?:[^"\\]|\\.)*" (?P<status>\d{3}) (?P<size>\d+|-)(?: |$)',
    re.DOTALL,
)  # fmt: skip
_HAPROXY = re.compile(
    rb"(?P<source>[0-9A-Fa-f:.]{2,45}):\d{1,5} \[(?P<stamp>[^\]]{1,64})\] \S+ \S+ [-+\d/]+ "
    rb"(?P<status>-1|\d{3}) \+?(?P<size>\d+)\s(?:\S+ ){3}[\d/+]+ [\d/]+ (?:\{(?P<host>[^|}]{0,255})[^}]*\} )?"
)


def _combined(line: bytes) -> Request:
    found = _COMBINED.match(line)
    if found is None:
        raise _bad(line, "is no line of the combined log format")
    size = found["size"]
    size = b"0" if size == b"-" else size
    return _request(line, found["source"].decode(), found["status"], found["host"], size, _text(found["stamp"]))


def _haproxy(line: bytes) -> Request:
    # Syslog puts a prefix of its own in front.
    start = line.find(b"]: ") + 3 if b"]: " in line[:300] else 0
    found = _HAPROXY.match(line, start)
    if found is None:
        raise _bad(line, "is no line of HAProxy's HTTP log format")
    source, stamp = found["source"].decode(), _text(found["stamp"])
    return _request(line, source, found["status"], found["host"], found["size"], stamp)


def _caddy(line: bytes) -> Request:
    try:
        members = json.loads(line)
        request = members["request"]
        source, status, size = request.get("client_ip") or request["remote_ip"], members["status"], members["size"]
        host, stamp = request.get("host", ""), members.get("ts", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _bad(line, "is no access log line of Caddy's JSON") from None
    if not (isinstance(source, str) and isinstance(host, str) and type(status) is int and type(size) is int):
        raise _bad(line, "has fields of other types than Caddy's access log")
    stamp = str(stamp)[:_STAMP] if isinstance(stamp, str | float | int) else ""
    return _request(line, source, b"%d" % status, host.encode(errors="replace"), b"%d" % size, stamp)


def _text(part: bytes) -> str:
    return part.decode(errors="replace")


@lru_cache(maxsize=8192)
def _address(source: str) -> IPv4Address | IPv6Address:
    address = ip_address(source)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _request(line: bytes, source: str, status: bytes, host: bytes | None, size: bytes, stamp: str) -> Request:
    try:
        # A zone index (RFC 4007 §11) is the server's own, or whatever a client wrote into a header, and in no rule.
        address = _address(source.partition("%")[0])
    except ValueError:
        raise _bad(line, "has no address where the client's stands; log addresses, not names") from None
    name = (host or b"")[:LONGEST_HOST].decode(errors="replace").lower()
    return Request(address, int(status), name, min(int(size[:19]), 2**62), stamp)


_PARSERS: dict[Format, Callable[[bytes], Request]] = {
    Format.COMBINED: _combined,
    Format.CADDY: _caddy,
    Format.HAPROXY: _haproxy,
}


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK = re.compile(r"(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?: ([+-])(\d{2})(\d{2}))?")
_SECONDS = re.compile(r"\d{1,10}(?:\.\d{1,12})?")


@lru_cache(maxsize=1024)
def moment(stamp: str) -> int | None:
    """The second since 1970 that a stamp names; None where it names none that a clock has shown. Without a time zone,
    as HAProxy writes it, it is taken for UTC."""
    try:
        seconds = _seconds(stamp)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < 1 << 32 else None


def _seconds(stamp: str) -> int:
    if _SECONDS.fullmatch(stamp):
        return int(stamp.partition(".")[0])
    found = _CLOCK.fullmatch(stamp)
    if found is None:
        when = datetime.fromisoformat(stamp)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
    # A leap second has the number of the one before.
    at = datetime(
        int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC
    )
    ahead = (int(hours) * 60 + int(minutes)) * 60 if sign else 0
    return int(at.timestamp()) - (ahead if sign == "+" else -ahead)


def _bad(line: bytes, reason: str) -> Refused:
    return Refused("line", line[:_QUOTED].decode(errors="replace"), reason)
