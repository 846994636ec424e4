"""What the supervisor says of its programs, in the state directory: for `stopbank status` and the page, which read it.

Must never keep the supervisor from its work: a full disk costs the report, and its readers see that it is old.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import structlog

from stopbank.supervisor import Kept

log = structlog.get_logger()

FILE = "run.json"


def render(programs: Iterable[Kept], now: datetime) -> str:
    """One JSON document."""
    return json.dumps({"at": now.isoformat(), "pid": os.getpid(), "programs": [_plain(one) for one in programs]})


def write(state: Path, programs: Iterable[Kept], now: datetime) -> None:
    """Replaces the file in one step."""
    draft = state / f".{FILE}.draft"
    try:
        draft.write_text(render(programs, now))
        draft.replace(state / FILE)
    except OSError as error:
        log.warning("report cannot be written", why=str(error))


def _plain(one: Kept) -> dict[str, object]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(one).items()}
