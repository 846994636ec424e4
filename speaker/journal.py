"""What this speaker announced, to whom and until when, on its own disk: it carries expiry when the database is away.

Lines are appended and fsynced by a thread of its own, many at a time, so a slow disk delays announcements (which wait
for their line) and never a withdrawal. A torn last line is what a crash leaves, and is passed over.
"""

import contextlib
import json
import math
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from rules.errors import Refused
from rules.guard import Origin
from rules.messages_values import zone_from_json, zone_to_json
from rules.neighbour import Address
from rules.rule import RuleId
from rules.zone import Zone
from speaker.clock import Moment
from speaker.wishes import Remembered, Wish
from store.texts import parsed

COMPACT_AFTER = 20_000
"""Lines beyond what a fresh journal would have."""
COMPACT_FACTOR, COMPACT_SLACK = 2, 1_000
"""At start, so many times what counts, and some more."""


@dataclass(frozen=True, slots=True)
class Note:
    """An audit line that the database has not taken yet."""

    number: int
    at: datetime
    action: str
    subject: str
    detail: Mapping[str, object]


@dataclass(slots=True)
class Contents:
    """What a journal says."""

    wishes: dict[RuleId, Remembered] = field(default_factory=dict)
    zones: tuple[Zone, ...] = ()
    """As the database last had them."""
    notes: dict[int, Note] = field(default_factory=dict)
    quarantine: dict[tuple[Address, RuleId], str] = field(default_factory=dict)
    """Neighbour and rule -> why."""
    audit_head: tuple[int, str] | None = None
    """The last audit count and hash seen: a database restored from an old copy is behind it."""
    lines: int = 0
    unreadable: int = 0
    is_torn: bool = False
    """The last line has no end."""
    last_note: int = 0


Entry = dict[str, Any]


def wanted(wish: Wish) -> Entry:
    """The line for a rule that may be announced from now on."""
    return _wanted(Remembered.of(wish))


def _wanted(wish: Remembered) -> Entry:
    return {
        "is": "wanted",
        "id": wish.id,
        "rule": wish.text,
        "until": wish.deadline.wall.isoformat(),
        "boot": wish.deadline.boot,
        "monotonic": wish.deadline.monotonic,
        "origin": wish.origin.value,
        "generation": wish.generation,
        "owner": wish.owner,
        "zone": wish.zone,
        "peers": list(wish.peers),
        "operator": wish.is_operator,
        "collateral": wish.collateral,
        "person_decides": wish.person_decides,
    }


def ended(rule: RuleId) -> Entry:
    """The line for a rule that must not be announced any more."""
    return {"is": "ended", "id": rule}


def noted(note: Note) -> Entry:
    """The line for something to be audited."""
    return {
        "is": "note",
        "number": note.number,
        "at": note.at.isoformat(),
        "action": note.action,
        "subject": note.subject,
        "detail": dict(note.detail),
    }


def written(number: int) -> Entry:
    """The line for a note that the database has taken."""
    return {"is": "written", "number": number}


def quarantined(peer: Address, rule: RuleId, why: str) -> Entry:
    """The line for a rule that resets a neighbour's session; an empty reason lifts it."""
    return {"is": "quarantined", "peer": str(peer), "id": rule, "why": why}


def zones(known: Iterable[Zone]) -> Entry:
    """The line for what the database says of zones: what the guard needs while it is away."""
    return {"is": "zones", "zones": [zone_to_json(zone) for zone in known]}


def audit_head(count: int, hash: str) -> Entry:
    """The line for the end of the audit chain as last seen."""
    return {"is": "head", "count": count, "hash": hash}


def read(path: Path) -> Contents:
    """Everything a journal says; lines that can't be read are counted, not fatal. No file is an empty journal."""
    contents = Contents()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return contents
    contents.is_torn = bool(raw) and not raw.endswith(b"\n")
    for line in raw.split(b"\n"):
        if not line:
            continue
        contents.lines += 1
        try:
            _apply(contents, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, Refused):
            contents.unreadable += 1
    return contents


def _apply(contents: Contents, entry: Entry) -> None:
    match entry["is"]:
        case "wanted":
            wish = _remembered(entry)
            contents.wishes[wish.id] = wish
        case "ended":
            contents.wishes.pop(RuleId(entry["id"]), None)
        case "note":
            at = datetime.fromisoformat(entry["at"])
            number = int(entry["number"])
            contents.notes[number] = Note(number, at, entry["action"], entry["subject"], dict(entry["detail"]))
            contents.last_note = max(contents.last_note, number)
        case "written":
            contents.notes.pop(int(entry["number"]), None)
            contents.last_note = max(contents.last_note, int(entry["number"]))
        case "quarantined":
            key = (ip_address(entry["peer"]), RuleId(entry["id"]))
            if entry["why"]:
                contents.quarantine[key] = str(entry["why"])
            else:
                contents.quarantine.pop(key, None)
        case "zones":
            contents.zones = tuple(map(zone_from_json, entry["zones"]))
        case "head":
            contents.audit_head = (int(entry["count"]), str(entry["hash"]))
        case _:
            raise ValueError(entry["is"])


def _remembered(entry: Entry) -> Remembered:
    wall = datetime.fromisoformat(entry["until"])
    if wall.tzinfo is None:
        raise ValueError("a deadline without a time zone")
    if not math.isfinite(float(entry["monotonic"])):
        raise ValueError("a deadline that never comes")
    collateral = entry.get("collateral")
    return Remembered(
        # Lines written before there was an id have none.
        id=RuleId(str(entry["id"])) if "id" in entry else parsed(entry["rule"])[1],
        text=str(entry["rule"]),
        deadline=Moment(wall, str(entry["boot"]), float(entry["monotonic"])),
        origin=Origin(entry["origin"]),
        generation=int(entry["generation"]),
        owner=str(entry["owner"]),
        zone=entry["zone"],
        peers=tuple(map(str, entry["peers"])),
        is_operator=entry.get("operator") is True,
        collateral=None if collateral is None else float(collateral),
        person_decides=entry.get("person_decides") is True,
    )


def fresh(contents: Contents) -> Iterable[Entry]:
    """The lines of a journal that says only what still counts."""
    if contents.audit_head:
        yield audit_head(*contents.audit_head)
    if contents.zones:
        yield zones(contents.zones)
    yield from map(_wanted, contents.wishes.values())
    yield from map(noted, contents.notes.values())
    yield from (quarantined(peer, rule, why) for (peer, rule), why in contents.quarantine.items())
    if contents.last_note and contents.last_note not in contents.notes:
        yield written(contents.last_note)


class Journal:
    """The writing thread. `append` hands over lines for a ticket; `synced` tells up to which ticket all is on disk."""

    def __init__(self, path: Path, synced: Callable[[int], None], failed: Callable[[OSError], None]) -> None:
        self._path, self._synced, self._failed = path, synced, failed
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._ticket = 0
        self._lines = 0
        self._lines_kept = 0
        self._is_torn = False
        """What is written next must end a line that has no end."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._closing = threading.Event()
        self.fsyncs = 0

    def open(self) -> Contents:
        """Read what is there, rewrite it where much of it no longer counts, and start the thread.

        Raises `OSError` where it can't be read. One that can't be written, on a full disk, still says what ends when.
        """
        contents = read(self._path)
        self._lines, self._lines_kept = contents.lines, len(contents.wishes) + len(contents.notes)
        is_whole = contents.lines and not (contents.unreadable or contents.is_torn)
        if not is_whole or contents.lines > COMPACT_FACTOR * self._lines_kept + COMPACT_SLACK:
            self._is_torn = contents.is_torn
            self._rewrite(contents)
        self._thread.start()
        return contents

    def append(self, entries: Iterable[Entry]) -> int:
        """Hand over lines; never blocks."""
        self._ticket += 1
        self._queue.put((self._ticket, b"".join(map(_bytes, entries))))
        return self._ticket

    def close(self) -> None:
        """Write what was handed over, and end."""
        self._closing.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _rewrite(self, contents: Contents | None = None) -> None:
        """With only what still counts; a disk without room for that keeps the longer one."""
        draft = self._path.with_name(f".{self._path.name}.draft")
        try:
            lines = [_bytes(entry) for entry in fresh(contents or read(self._path))]
            with draft.open("wb") as file:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            _sync_directory(self._path.parent)
        except OSError as error:
            self._failed(error)
            with contextlib.suppress(OSError):
                # It would hold the room that the next line needs.
                draft.unlink()
            self._lines_kept = self._lines
        else:
            self._lines = self._lines_kept = len(lines)
            self._is_torn = False

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            given = [one for one in batch if one is not None]
            if given:
                self._persist(b"".join(data for _, data in given))
                self._synced(given[-1][0])
            if None in batch:
                return

    def _persist(self, data: bytes) -> None:
        """Until it is on disk, or the speaker ends: nothing may overtake it."""
        while True:
            try:
                with self._path.open("ab") as file:
                    # An attempt that failed half-way must not swallow the next line.
                    file.write(b"\n" + data if self._is_torn else data)
                    file.flush()
                    os.fsync(file.fileno())
                self._is_torn = False
                self.fsyncs += 1
            except OSError as error:
                self._is_torn = True
                self._failed(error)
                if self._closing.wait(1.0):
                    return
            else:
                break
        self._lines += data.count(b"\n")
        if self._lines > self._lines_kept + COMPACT_AFTER:
            self._rewrite()


def _bytes(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
