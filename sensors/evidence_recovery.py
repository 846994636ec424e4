"""Finishes the captures that a sensor which was killed left unfinished.

A disk that fails, or is full, costs the one capture it failed at: that one waits for the next start, the others go on.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sensors import files
from sensors.evidence_file import UNFINISHED, moment
from sensors.evidence_records import HEADER, digest, look, put_in_order


@dataclass(slots=True)
class Recovery:
    """What became of them."""

    whole: int = 0
    """Finished, as far as they went."""
    lost: int = 0
    """Those that make no sense are removed; those at which the disk failed stay for the next start."""
    trouble: str = ""
    """Of the last one that could not be finished, or not put in the order of time; empty when there is none."""


def recover(directory: Path) -> Recovery:
    """Finish what can be finished, remove what nothing can be made of.

    An `OSError` of one file is told, not raised; one of the directory is raised.
    """
    done, waiting = Recovery(), set[Path]()
    for part in sorted(directory.glob(f".*.pcap{UNFINISHED}")):
        attack = part.name.removeprefix(".").removesuffix(f".pcap{UNFINISHED}")
        draft = directory / f".{attack}.json{UNFINISHED}"
        try:
            _finish(part, draft, directory / f"{attack}.pcap", done)
        except OSError as error:
            waiting |= {part, draft}
            done.lost += 1
            done.trouble = f"{error.filename or part}: {error.strerror}"
    done.lost += _remove_leftovers(directory, waiting)
    return done


def _finish(part: Path, draft: Path, path: Path, done: Recovery) -> None:
    """Cuts off what is no whole record, puts the rest in order where that can be done, and describes it."""
    description, found = _drafted(draft), look(part)
    if description is None or found.end < HEADER.size:
        done.lost += 1
        return
    # In its place, and it only gets smaller: a full disk has room for that.
    with part.open("r+b") as file:
        file.truncate(found.end)
        os.fsync(file.fileno())
    unordered = "" if found.ordered else put_in_order(part)
    description |= {
        "file": path.name,
        "sha256": digest(part).hexdigest(),
        "bytes": found.end,
        "packets": found.packets,
        "first_packet": moment(found.first_ns),
        "last_packet": moment(found.last_ns),
        "truncated": True,
        "interrupted": True,
        "in_order": not unordered,
    }
    part.replace(path)
    try:
        files.write(path.with_suffix(".json"), json.dumps(description, indent=2).encode() + b"\n")
    except OSError:
        path.with_suffix(".json").unlink(missing_ok=True)
        path.replace(part)
        raise
    done.whole += 1
    if unordered:
        done.trouble = f"{path}: not in the order of time: {unordered}"


def _drafted(draft: Path) -> dict[str, object] | None:
    """The description that was begun with the capture; None when there is none that makes sense."""
    try:
        found = json.loads(draft.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _remove_leftovers(directory: Path, waiting: set[Path]) -> int:
    """Removes what has no description, and drafts; how many captures went. What can't be removed stays."""
    gone = 0
    for path in directory.glob("*.pcap"):
        if not path.with_suffix(".json").exists():
            # Renamed, and killed before it was described.
            with suppress(OSError):
                path.unlink(missing_ok=True)
            gone += 1
    for path in directory.glob(".*"):
        # Drafts, and what `files.write` was about to put in the place of a file.
        if path not in waiting and path.is_file() and (".pcap." in path.name or ".json." in path.name):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return gone
