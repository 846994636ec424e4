"""One capture file of an attack, from its first byte to its checksum.

It is written under a name that begins with a dot, and gets its own name when it is whole, in the order of time and on
disk; one that can't be put in order (too large, a full disk) says so in its description. That (JSON) comes after the
capture: who finds a description finds what it describes.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rules.traffic import Detection
from sensors import files
from sensors.evidence_records import HEADER, LONGEST, digest, look, put_in_order
from sensors.evidence_ring import Selection
from sensors.framing import RAW_LINKTYPE

_MAGIC = 0xA1B23C4D
"""A capture file with nanoseconds (libpcap's pcap-savefile(5)), in this machine's byte order."""
UNFINISHED = ".part"


@dataclass(slots=True)
class EvidenceFile:
    """Raises `OSError` when the disk fails; `discard` then leaves nothing behind."""

    directory: Path
    detection: Detection
    """What it was opened for."""
    link: int | None
    """Link type of every packet; None: packets come without their link layer."""
    packets: int = 0
    size: int = 0
    first_ns: int = 0
    last_ns: int = 0
    matching: int = 0
    """Packets that could have been written."""
    one_of: int = 1
    unordered: str = ""
    """Why its packets could not be put in the order of time; empty when they are."""
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _descriptor: int = -1

    def __post_init__(self) -> None:
        files.private_directory(self.directory)
        self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        number = RAW_LINKTYPE if self.link is None else self.link
        try:
            # For whoever finds the file when this process is gone.
            self._draft.write_text(json.dumps(self._describe(self.detection, True, True)))
            self._write(HEADER.pack(_MAGIC, 2, 4, 0, 0, LONGEST, number))
        except OSError:
            self.discard()
            raise

    @property
    def attack(self) -> str:
        """The attack's id."""
        return self.detection.attack

    @property
    def _draft(self) -> Path:
        return self.directory / f".{self.attack}.json{UNFINISHED}"

    @property
    def _part(self) -> Path:
        return self.directory / f".{self.attack}.pcap{UNFINISHED}"

    @property
    def path(self) -> Path:
        """Where the capture will be."""
        return self.directory / f"{self.attack}.pcap"

    def _write(self, content: bytes) -> None:
        self._digest.update(content)
        self.size += len(content)
        view = memoryview(content)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def add(self, selections: Iterable[Selection], most_bytes: int) -> bool:
        """Append packets; False when the next ones would make the file too large."""
        for one in selections:
            self.matching += one.matching
            if self.size + len(one.content) > most_bytes:
                return False
            self._write(one.content)
            if one.packets:
                self.first_ns = min(self.first_ns or one.first_ns, one.first_ns)
                self.last_ns = max(self.last_ns, one.last_ns)
                self.one_of = max(self.one_of, one.one_of)
            self.packets += one.packets
        return True

    def finish(self, detection: Detection, *, truncated: bool, interrupted: bool) -> Path:
        """Make it whole: in order, on disk, under its own name, described. Gives the description's path."""
        if not self._put_in_order():
            os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._part.replace(self.path)
        description = self.path.with_suffix(".json")
        content = json.dumps(self._describe(detection, truncated, interrupted), indent=2)
        files.write(description, content.encode() + b"\n")
        self._draft.unlink(missing_ok=True)
        return description

    def _put_in_order(self) -> bool:
        """Whether another file, on disk, took its place. One that can't be sorted stays as it is, and says so."""
        try:
            if look(self._part).ordered:
                return False
        except OSError as error:
            self.unordered = error.strerror or str(error)
            return False
        self.unordered = put_in_order(self._part)
        if self.unordered:
            return False
        self._digest = digest(self._part)
        return True

    def _describe(self, detection: Detection, truncated: bool, interrupted: bool) -> dict[str, object]:
        return {
            "attack": self.attack,
            "sensor": detection.sensor,
            "zone": detection.zone,
            "target": str(detection.target),
            "vector": str(detection.vector),
            "attack_first_seen": detection.first_seen.isoformat(),
            "file": self.path.name,
            "sha256": self._digest.hexdigest(),
            "bytes": self.size,
            "packets": self.packets,
            "packets_matching": self.matching,
            "first_packet": moment(self.first_ns),
            "last_packet": moment(self.last_ns),
            "truncated": truncated,
            "interrupted": interrupted,
            "in_order": not self.unordered,
            "remembered_one_of": self.one_of,
            "without_link_layer": self.link is None,
        }

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        # The description first: who finds one finds what it describes.
        for path in (self.path.with_suffix(".json"), self._part, self._draft, self.path):
            # What can't be removed is found again at the next start.
            with suppress(OSError):
                path.unlink(missing_ok=True)


def moment(nanoseconds: int) -> str | None:
    """A packet's time in a description; None without packets."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat() if nanoseconds else None


def make_room(directory: Path, total_bytes: int) -> int:
    """Remove the oldest captures until all together fit; how many went."""
    sizes = _captures(directory)
    left = sum(status.st_size for status in sizes.values())
    gone = 0
    for path in sorted(sizes, key=lambda one: sizes[one].st_mtime_ns):
        if left <= total_bytes:
            break
        left -= sizes[path].st_size
        _remove(path)
        gone += 1
    return gone


def remove_old(directory: Path, before: datetime) -> int:
    """Remove the captures that were finished before then; how many went."""
    old = [path for path, status in _captures(directory).items() if status.st_mtime < before.timestamp()]
    for path in old:
        _remove(path)
    return len(old)


def _captures(directory: Path) -> dict[Path, os.stat_result]:
    found = {}
    for path in directory.glob("*.pcap"):
        # Somebody may have taken it away meanwhile.
        with suppress(FileNotFoundError):
            found[path] = path.stat()
    return found


def _remove(path: Path) -> None:
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
