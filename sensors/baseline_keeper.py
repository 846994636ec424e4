"""Keeps what a running sensor learned: loads it once the zones are known, saves it every few minutes and at the end.

The capture thread only copies arrays; a thread of its own writes them. A file that can't be used costs what it held
and nothing else: learning starts afresh, and says so.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from rules.errors import Refused
from sensors import baseline_file, files
from sensors.baseline import Baseline
from sensors.baseline_file import Picture
from sensors.learned import LearnedLimits

log = structlog.get_logger("baseline")

PARTS = ("hosts", "prefixes", "zones")
_PATIENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class LearnedStatus:
    """How learning does."""

    targets: int
    """Hosts, prefixes and zones of which something was learned."""
    loaded: int
    """Of those, what the last run had saved."""
    bytes: int
    saved: float | None
    """When it was last saved whole, in monotonic seconds."""
    saves: int
    failures: int
    """Parts that could not be saved."""
    troubles: tuple[str, ...]


class Keeper:
    """Of one run. The capture thread calls `turn` and `stop`; `status` may be asked for by any thread."""

    def __init__(self, directory: Path, save_seconds: float) -> None:
        self._directory, self._every = directory, save_seconds
        self._due: float | None = None
        self._thread: threading.Thread | None = None
        self._saved: float | None = None
        self._loaded = self._saves = self._failures = 0
        self._damaged: list[str] = []
        self._failed: dict[str, str] = {}
        self.status = LearnedStatus(0, 0, 0, None, 0, 0, ())

    def turn(self, learned: LearnedLimits, now: float) -> None:
        """Loads, when zones are known for the first time; saves, when it is time. `now`: monotonic seconds."""
        if self._due is None:
            if learned.zones:
                self._load(learned)
                self._due = now + self._every
        elif now >= self._due and not self._is_writing:
            self._due = now + self._every
            self._thread = threading.Thread(target=self._write, args=(_pictures(learned),), name="learned")
            self._thread.start()
        self._look(learned)

    def stop(self, learned: LearnedLimits) -> None:
        """Saves what there is, and waits for it. What never knew its zones learned nothing, and keeps the old file."""
        if self._thread:
            self._thread.join(_PATIENCE_SECONDS)
        if self._due is not None and not self._is_writing:
            self._write(_pictures(learned))

    @property
    def _is_writing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _look(self, learned: LearnedLimits) -> None:
        self.status = LearnedStatus(
            targets=sum(part.known for part in learned.parts),
            loaded=self._loaded,
            bytes=sum(part.nbytes + part.kept.nbytes for part in learned.parts),
            saved=self._saved,
            saves=self._saves,
            failures=self._failures,
            troubles=(*self._damaged, *self._failed.values()),
        )

    def _load(self, learned: LearnedLimits) -> None:
        for name, part in zip(PARTS, learned.parts, strict=True):
            self._loaded += self._load_part(self._path(name), part, learned.zones)
        log.info("learned normal loaded", targets=self._loaded, directory=str(self._directory))

    def _load_part(self, path: Path, part: Baseline, zones: tuple[str, ...]) -> int:
        try:
            baseline_file.load(path, part, zones)
        except Refused as error:
            self._damaged.append(f"learned normal: {path.name} can't be used, learning started afresh ({error})")
            log.error("learned normal unusable, starting afresh", path=str(path), why=str(error))
        return part.known

    def _write(self, pictures: tuple[Picture, ...]) -> None:
        for name, picture in zip(PARTS, pictures, strict=True):
            path = self._path(name)
            try:
                files.private_directory(self._directory)
                baseline_file.save(path, picture)
            except OSError as error:
                self._failures += 1
                self._failed[name] = f"learned normal: {path.name} not saved: {error.strerror}"
                log.error("learned normal not saved", path=str(path), why=str(error))
            else:
                self._failed.pop(name, None)
        if not self._failed:
            self._saves += 1
            self._saved = time.monotonic()

    def _path(self, name: str) -> Path:
        return self._directory / f"baseline-{name}.bin"


def _pictures(learned: LearnedLimits) -> tuple[Picture, ...]:
    return tuple(Picture.take(part, learned.zones) for part in learned.parts)
