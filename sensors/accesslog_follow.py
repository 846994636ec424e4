"""Follows a growing log file through rotation: each line once, none twice.

Renamed files are read on until their writer has let go of them. A file that was copied and truncated (logrotate's
`copytruncate`) is told by its size and by the last bytes read; what wasn't read yet is looked for in the copy. Only a
file that is truncated before a single byte of it was read loses lines unseen.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST_LINE = 65_536
"""Longer ones are cut: what follows up to the newline is dropped."""
MOST_BYTES = 4 << 20
"""Read at once from one file, so that a backlog never holds up the rest."""
LINGERS_NS = 10_000_000_000
"""How long a renamed file must be silent before it is let go; web servers write on until they reopen their logs."""
_MARK = 64
_OLD_FILES = 4
_COPIES = 16


@dataclass(slots=True)
class _File:
    descriptor: int
    identity: tuple[int, int]
    offset: int = 0
    mark: bytes = b""
    """The last bytes before `offset`."""
    partial: bytes = b""
    """Of a line whose end isn't written yet."""
    skipping: bool = False
    grown_ns: int = 0


class Follower:
    """One log by its name."""

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        """`from_start`: what is there already counts too."""
        self.path = path
        self._from_start = from_start
        self._current: _File | None = None
        self._old: list[_File] = []
        self.rotations = 0
        self.truncations = 0
        self.trouble = ""
        """Why the file can't be opened now; empty when it can."""
        self.copies_missed = 0
        """Truncations whose unread end was not found in any copy; lines may be lost."""

    def close(self) -> None:
        """Lets go of every file."""
        for file in (*self._old, *([self._current] if self._current else [])):
            os.close(file.descriptor)
        self._old, self._current = [], None

    def lines(self, now: int) -> Iterator[bytes]:
        """The complete lines written since the last call, without newlines; `now` in ns never runs backwards."""
        if self._current is not None and self._was_truncated(self._current):
            yield from self._after_truncation(self._current)
        self._notice_rotation(now)
        for file in tuple(self._old):
            yield from self._read(file, now)
            if now - file.grown_ns > LINGERS_NS or len(self._old) > _OLD_FILES:
                yield from self._let_go(file)
        if self._current is not None:
            yield from self._read(self._current, now)
        # Nothing that is there at the first look counts; what a rotation brings does.
        self._from_start = True

    def _notice_rotation(self, now: int) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self.trouble = str(error.strerror)
            return
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            self.trouble = "is no file that can be followed: a folder, a pipe or a device"
            return
        self.trouble = ""
        identity = (status.st_dev, status.st_ino)
        if self._current is not None and self._current.identity == identity:
            os.close(descriptor)
            return
        if self._current is not None:
            self.rotations += 1
            self._current.grown_ns = now
            self._old.append(self._current)
        self._current = _File(descriptor, identity, grown_ns=now)
        if not self._from_start:
            self._skip_to_end(self._current, status.st_size)

    def _skip_to_end(self, file: _File, size: int) -> None:
        file.offset = size
        file.mark = os.pread(file.descriptor, min(_MARK, size), max(0, size - _MARK))
        file.skipping = bool(file.mark) and not file.mark.endswith(b"\n")

    def _was_truncated(self, file: _File) -> bool:
        if os.fstat(file.descriptor).st_size < file.offset:
            return True
        return _mark(file.descriptor, file) != file.mark

    def _after_truncation(self, file: _File) -> Iterator[bytes]:
        """What the copy has beyond what was read, then the file from its start."""
        self.truncations += 1
        copy = self._copy(file)
        if copy is None:
            self.copies_missed += 1
        else:
            rest = _File(copy, file.identity, file.offset, file.mark, file.partial, file.skipping)
            while part := os.pread(copy, MOST_BYTES, rest.offset):
                yield from _split(rest, part)
            # The writer goes on in the middle of a line as little as before.
            if rest.partial and not rest.skipping:
                yield rest.partial
            os.close(copy)
        file.offset, file.mark, file.partial, file.skipping = 0, b"", b"", False

    def _copy(self, file: _File) -> int | None:
        """A file beside it that holds what was read last where it was read: open, or None."""
        names = sorted(self.path.parent.glob(f"{self.path.name}?*"), key=_modified, reverse=True)[:_COPIES]
        for name in names:
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and file.mark and _mark(descriptor, file) == file.mark:
                return descriptor
            os.close(descriptor)
        return None

    def _read(self, file: _File, now: int) -> Iterator[bytes]:
        part = os.pread(file.descriptor, MOST_BYTES, file.offset)
        if part:
            file.grown_ns = now
            yield from _split(file, part)

    def _let_go(self, file: _File) -> Iterator[bytes]:
        self._old.remove(file)
        os.close(file.descriptor)
        if file.partial and not file.skipping:
            yield file.partial


def _mark(descriptor: int, file: _File) -> bytes:
    """What a file has where this one has its mark."""
    return os.pread(descriptor, len(file.mark), file.offset - len(file.mark))


def _split(file: _File, part: bytes) -> Iterator[bytes]:
    """The complete lines that these bytes end; the rest waits."""
    file.offset += len(part)
    file.mark = (file.mark + part)[-_MARK:]
    *lines, rest = (file.partial + part).split(b"\n")
    for line in lines:
        if not file.skipping:
            yield line[:LONGEST_LINE]
        file.skipping = False
    if len(rest) > LONGEST_LINE and not file.skipping:
        yield rest[:LONGEST_LINE]
        file.skipping = True
    file.partial = b"" if file.skipping else rest


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
