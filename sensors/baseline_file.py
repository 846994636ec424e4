"""The learned normal on disk: whole or absent, known by its checksum, keyed by address: a restart loses nothing.

A file that can't be read, is damaged or was written by another version costs the sensor what it had learned and
nothing else (`sensors.baseline_keeper`).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.errors import Refused
from rules.messages_json import dumps, loads
from sensors import files
from sensors.baseline import Baseline
from sensors.baseline_kept import Targets
from sensors.baseline_rhythm import HOURS

MAGIC = b"stopbank learned normal 1\n"
_HEADER_LIMIT = 4_000_000
_DIGEST = hashlib.sha256().digest_size
LARGEST = 4 << 30


@dataclass(frozen=True, slots=True)
class Picture:
    """What was learned, as of one moment: copies, so that it can be written while learning goes on."""

    head: dict[str, Any]
    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def take(cls, baseline: Baseline, zones: tuple[str, ...]) -> "Picture":
        """`zones`: their names, in the order of their numbers."""
        targets, count = baseline.all(), len(zones)
        return cls(
            {"classes": list(baseline.classes), "zones": list(zones), "targets": len(targets)},
            (
                targets.keys.astype("<i8"),
                targets.levels.astype("<u2"),
                targets.ages.astype("<u2"),
                baseline.rhythm.logs[:count].astype("<f4"),
                baseline.rhythm.samples[:count].astype("u1"),
                baseline.typical[:count].astype("<u2"),
            ),
        )

    def content(self) -> bytes:
        """What a file holds: magic, a line of JSON, arrays (little-endian), SHA-256 of all that."""
        body = MAGIC + dumps(self.head) + b"\n" + b"".join(array.tobytes() for array in self.arrays)
        return body + hashlib.sha256(body).digest()


def save(path: Path, picture: Picture) -> None:
    """Keeps what was learned; raises `OSError` when the disk fails, and then the earlier file stays."""
    files.write(path, picture.content())


def load(path: Path, baseline: Baseline, zones: tuple[str, ...]) -> bool:
    """Gives the baseline what an earlier run learned; whether there was anything to give. Raises `Refused` where it
    can't be used: then nothing is changed."""
    try:
        if path.stat().st_size > LARGEST:
            raise Refused("file", path, f"is larger than {LARGEST} bytes")
        restore(path.read_bytes(), baseline, zones)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Refused("file", path, f"can't be read: {error.strerror}") from None
    return True


def restore(raw: bytes, baseline: Baseline, zones: tuple[str, ...]) -> None:
    """The reverse of `Picture.content`, for the classes and zones that are still there by name; anything else raises
    `Refused` and changes nothing."""
    body = raw[:-_DIGEST]
    if not raw.startswith(MAGIC):
        raise Refused("file", repr(raw[: len(MAGIC)]), f"must begin with {MAGIC!r}: another version, or no such file")
    if hashlib.sha256(body).digest() != raw[-_DIGEST:]:
        raise Refused("file", f"{len(raw)} bytes", "is damaged: its checksum is another")
    head, _, rest = body[len(MAGIC) :].partition(b"\n")
    classes, names, count = _described(loads(head, _HEADER_LIMIT))
    kinds, found = len(classes), _Arrays(rest)
    keys = found.next("<i8", count, 2)
    levels, ages = found.next("<u2", count, kinds), found.next("<u2", count)
    logs = found.next("<f4", len(names), HOURS, kinds)
    samples = found.next("u1", len(names), HOURS, kinds)
    typical = found.next("<u2", len(names), kinds)
    found.end()
    if not np.isfinite(logs).all():
        raise Refused("file", "rhythm", "must hold finite numbers")
    here = [at for at, name in enumerate(baseline.classes) if name in classes]
    there = [classes.index(baseline.classes[at]) for at in here]
    mine = np.zeros((count, len(baseline.classes)), np.uint16)
    mine[:, here] = levels[:, there]
    baseline.restore(Targets(keys.astype(np.int64), mine, ages.astype(np.uint16)))
    for number, name in enumerate(zones):
        if name in names:
            old = names.index(name)
            baseline.rhythm.logs[number][:, here] = logs[old][:, there]
            baseline.rhythm.samples[number][:, here] = samples[old][:, there]
            baseline.typical[number, here] = typical[old, there]


def _described(head: object) -> tuple[list[str], list[str], int]:
    match head:
        case {"classes": list(classes), "zones": list(zones), "targets": int(count)} if count >= 0:
            if all(isinstance(name, str) for name in (*classes, *zones)):
                return classes, zones, count
    raise Refused("file", str(head), "must say its classes, zones and targets")


class _Arrays:
    """The arrays of a file, one after the other."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def next(self, kind: str, *shape: int) -> NDArray[Any]:
        """The next one; `Refused` when the file ends before it does."""
        size = int(np.prod(shape, dtype=object)) * np.dtype(kind).itemsize
        begin, self._at = self._at, self._at + size
        if self._at > len(self._raw):
            raise Refused("file", f"{len(self._raw)} bytes", "ends too early")
        return np.frombuffer(self._raw[begin : self._at], kind).reshape(shape)

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._raw):
            raise Refused("file", f"{len(self._raw)} bytes", "goes on too long")
