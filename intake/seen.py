"""What was passed on, kept across a restart: one appended line for each detection the speaker took.

Not fsynced: a crash of the process loses nothing, a power failure at most the last second, and the speaker tells
duplicates too. It must never grow beyond what the windows in it need: it is rewritten at start and now and then.
"""

import re
from pathlib import Path
from typing import BinaryIO

from intake import files
from intake.replay import ReplayMemory, ReplayWindow

_LINE = re.compile(r"([a-z0-9][a-z0-9._-]{0,62}) ([A-Za-z0-9._-]{1,64}) (\d{1,17}) ([0-9a-f]{1,256})", re.ASCII)
_REWRITE_LINES = 100_000


class Seen:
    """The replay memories of all sensors, and their file."""

    def __init__(self, path: Path, attacks_per_sensor: int) -> None:
        self._path, self._limit = path, attacks_per_sensor
        self._memories: dict[str, ReplayMemory] = {}
        for line in _lines(path):
            # A torn or damaged line forgets one message, which the speaker then tells as a duplicate.
            if parts := _LINE.fullmatch(line):
                sensor, attack, highest, bits = parts.groups()
                self.of(sensor).add(attack, ReplayWindow(int(highest), int(bits, 16) | 1))
        self._file: BinaryIO = self._rewritten()

    def of(self, sensor: str) -> ReplayMemory:
        """The memory of one sensor."""
        return self._memories.setdefault(sensor, ReplayMemory(self._limit))

    def add(self, sensor: str, attack: str, sequence: int) -> None:
        """The speaker took this one."""
        self.of(sensor).add(attack, ReplayWindow(sequence))
        self._file.write(_render(sensor, attack, ReplayWindow(sequence)))
        self._lines += 1
        if self._lines > _REWRITE_LINES:
            self._file.close()
            self._file = self._rewritten()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rewritten(self) -> BinaryIO:
        lines = [
            _render(sensor, attack, window) for sensor, memory in self._memories.items() for attack, window in memory
        ]
        files.write(self._path, b"".join(lines))
        self._lines = 0
        return self._path.open("ab", buffering=0)


def _render(sensor: str, attack: str, window: ReplayWindow) -> bytes:
    return f"{sensor} {attack} {window.highest} {window.bits:x}\n".encode()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("ascii", "replace").split("\n")
    except FileNotFoundError:
        return []
