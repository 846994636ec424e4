"""Access logs as files, plain, packed or a pipe: the format is told by their first lines, and each request has the time
that its line says.

Memory is bounded whatever a file holds. Lines that are none are counted. A log is in the order of time but for little;
a single line from another time is a damaged one or a request that took long, many in a row are another log's.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rules.errors import Refused
from sensors.accesslog_follow import LONGEST_LINE
from sensors.accesslog_lines import Format, Request, moment, parse
from sensors.stream import PIECE, UNREADABLE, Stream

LATE_SECONDS = 10
"""By so much may a line be older than the newest before it: servers write when a request ends, and some put down when
it began."""
TRIED_LINES = 100
"""By so many lines is the format told."""
_SURE_BACK, _SURE_AHEAD = 64, 8
"""So many lines in a row from earlier, or later, are no accident."""
_NAMES = {
    Format.COMBINED: "combined (nginx, Apache)",
    Format.CADDY: "Caddy's JSON",
    Format.HAPROXY: "HAProxy's HTTP log",
}


@dataclass(frozen=True, slots=True)
class Timed:
    """A request and the second since 1970 that it is counted in."""

    second: int
    request: Request


class LogFile:
    """One log, read once from its beginning."""

    def __init__(self, path: str | Path) -> None:
        """`-`: standard input. Raises `Refused` with one line when it can't be read or has no known format."""
        self.stream = Stream(path, "access_log")
        self._damaged = False
        self._lines = self._split()
        self._first = list(islice(self._lines, TRIED_LINES))
        self.lines = self.bad = self.undated = self.astray = 0
        """Lines; those that are no request; requests without a time, counted at the time of the one before; requests
        of another time than those around them, not counted."""
        self.first_bad = ""
        """The first line that is no request, for people."""
        try:
            self.format = self._told()
        except Refused:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the file."""
        self.stream.close()

    def _told(self) -> Format:
        """The format that most of the first lines have."""
        lines = [line for line in self._first if line.strip()]
        found = {format: sum(_is(format, line) for line in lines) for format in Format}
        best = max(found, key=lambda format: found[format])
        if found[best]:
            return best
        line = lines[0][:120].decode(errors="replace") if lines else ""
        known = ", ".join(_NAMES.values())
        raise Refused(
            "access_log",
            self.stream.path,
            f"has no line in a known format; its first is {line!r}, and known are {known}",
        )

    def _split(self) -> Iterator[bytes]:
        """Lines without their ends; of endless ones the beginning."""
        rest, skipping = b"", False
        while piece := self._read():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not skipping:
                    yield line[:LONGEST_LINE]
                skipping = False
            if len(rest) > LONGEST_LINE and not skipping:
                yield rest[:LONGEST_LINE]
                skipping = True
            rest = b"" if skipping else rest
        if rest:
            yield rest

    def _read(self) -> bytes:
        try:
            return bytes(self.stream.file.read1(PIECE))
        except UNREADABLE:
            self._damaged = True
            return b""

    def requests(self) -> Iterator[Timed]:
        """All of it, nearly in the order of time."""
        held: list[Timed] = []
        newest: int | None = None
        for timed in self._dated():
            if newest is None or abs(timed.second - newest) <= LATE_SECONDS:
                self.astray += len(held)
                held.clear()
                newest = timed.second if newest is None else max(newest, timed.second)
                yield timed
                continue
            # From another time: whose, the next lines tell.
            if held and (held[0].second < newest) != (timed.second < newest):
                self.astray += len(held)
                held.clear()
            held.append(timed)
            if len(held) >= (_SURE_BACK if timed.second < newest else _SURE_AHEAD):
                newest = timed.second
                yield from held
                held.clear()
        if newest is not None and held and held[0].second > newest:
            yield from held
        else:
            self.astray += len(held)

    def _dated(self) -> Iterator[Timed]:
        second: int | None = None
        for request in self._parsed():
            found = moment(request.stamp)
            self.undated += found is None
            second = second if found is None else found
            if second is None:
                self.astray += 1
            else:
                yield Timed(second, request)

    def _parsed(self) -> Iterator[Request]:
        for lines in (self._first, self._lines):
            for line in lines:
                self.lines += 1
                try:
                    yield parse(self.format, line)
                except Refused as refused:
                    self.bad += 1
                    self.first_bad = self.first_bad or str(refused)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about what is not counted."""
        counts = {
            f"of {self.lines:,} lines not read as {_NAMES[self.format]}, the first: {self.first_bad}": self.bad,
            "requests without a time: counted at the time of the one before": self.undated,
            f"requests more than {LATE_SECONDS} s away from those around them: not counted": self.astray,
            "place where the file is damaged: what follows it was not read": int(self._damaged),
        }
        return tuple(f"{self.stream.path}: {count:,} {what}" for what, count in counts.items() if count)


def merged(files: Sequence[LogFile]) -> Iterator[Timed]:
    """The requests of several logs, of one server after the other or of several at a time."""
    return heapq.merge(*(file.requests() for file in files), key=lambda timed: timed.second)


def _is(format: Format, line: bytes) -> bool:
    try:
        parse(format, line)
    except Refused:
        return False
    return True
