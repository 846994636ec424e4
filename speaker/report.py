"""The speaker's report on itself in the state directory: for pages and doctor, which must not ask it questions."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from speaker import log
from speaker.health import UNASKED

FILE = "status.json"


def write(state: Path, status: Mapping[str, object], now: datetime) -> None:
    """Replaces the file in one step; a full disk costs the report, and its readers see that it is old."""
    draft = state / f".{FILE}.draft"
    try:
        draft.write_text(json.dumps(document(status, now)))
        draft.replace(state / FILE)
    except OSError as error:
        log.warning("report cannot be written", why=str(error))


def document(status: Mapping[str, object], now: datetime) -> dict[str, object]:
    """A status with when it was so, and what is wrong."""
    return {"at": now.isoformat(), "problems": problems(status), **status}


def problems(status: Mapping[str, object]) -> list[str]:
    """What a person should know, in sentences."""
    found = []
    if not status.get("configured"):
        found.append(f"The speaker has no valid configuration and announces nothing new: {status.get('problem')}")
    elif status.get("problem"):
        found.append(f"The new configuration is not in force: {status['problem']}")
    if status.get("database") == UNASKED:
        found.append("The speaker has just started and is opening the database; nothing new is announced yet.")
    elif status.get("database") != "up":
        found.append(f"The speaker can't use the database; nothing new is announced: {status.get('database')}")
    if status.get("journal") != "up":
        found.append(f"The speaker can't write its journal: {status.get('journal')}")
    if status.get("clock"):
        found.append(str(status["clock"]))
    if not status.get("synced"):
        found.append("The speaker is still finding out what ExaBGP holds.")
    return found
