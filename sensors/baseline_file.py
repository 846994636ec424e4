"""The learned normal on disk: whole or absent, known by its checksum, keyed by address: a restart loses nothing.

A file that can't be read, is damaged or was written by another version costs the sensor what it had learned and
nothing else: it starts afresh and says so.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from rules.errors import Refused
from rules.messages_json import dumps, loads
from sensors import files
from sensors.baseline import Baseline
from sensors.baseline_kept import Targets
from sensors.baseline_rhythm import HOURS

log = structlog.get_logger("baseline")

MAGIC = b"stopbank learned normal 1\n"
_HEADER_LIMIT = 4_000_000
_DIGEST = hashlib.sha256().digest_size
LARGEST = 4 << 30


def save(path: Path, baseline: Baseline, zones: tuple[str, ...]) -> None:
    """Keeps what was learned; `zones`: their names, in the order of their numbers. When the disk is full, the earlier
    file stays and the sensor goes on."""
    try:
        files.write(path, content(baseline, zones))
    except OSError as error:
        log.error("learned_normal_not_kept", path=str(path), why=str(error))


def load(path: Path, baseline: Baseline, zones: tuple[str, ...]) -> bool:
    """Gives the baseline what an earlier run learned; whether there was anything to give."""
    try:
        if path.stat().st_size > LARGEST:
            raise Refused("file", path, f"is larger than {LARGEST} bytes")
        restore(path.read_bytes(), baseline, zones)
    except FileNotFoundError:
        return False
    except (OSError, Refused) as error:
        log.error("learned_normal_unreadable_starting_afresh", path=str(path), why=str(error))
        return False
    return True


def content(baseline: Baseline, zones: tuple[str, ...]) -> bytes:
    """What a file holds: magic, a line of JSON, arrays (little-endian), SHA-256 of all that."""
    targets, count = baseline.all(), len(zones)
    head = {"classes": list(baseline.classes), "zones": list(zones), "targets": len(targets)}
    parts: tuple[tuple[NDArray[Any], str], ...] = (
        (targets.keys, "<i8"),
        (targets.levels, "<u2"),
        (targets.ages, "<u2"),
        (baseline.rhythm.logs[:count], "<f4"),
        (baseline.rhythm.samples[:count], "u1"),
        (baseline.typical[:count], "<u2"),
    )
    body = MAGIC + dumps(head) + b"\n" + b"".join(part.astype(kind).tobytes() for part, kind in parts)
    return body + hashlib.sha256(body).digest()


def restore(raw: bytes, baseline: Baseline, zones: tuple[str, ...]) -> None:
    """The reverse of `content`, for the classes and zones that are still there by name; anything else raises
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
