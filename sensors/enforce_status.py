"""`enforce.json`: what is enforced, what it met, and what was refused; written for people and for `stopbank status`."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rules.nft import Tally
from rules.rule import RuleId
from sensors.enforce_tables import Rejected, Tables

FILE = "enforce.json"


def render(
    tables: Tables, tallies: Mapping[RuleId, Tally], trouble: str, load_seconds: float, now: datetime
) -> dict[str, object]:
    """The status as JSON values; `trouble` says why the kernel does not hold what it should, empty when it does."""
    enforced = {rule.id: rule for rule in tables.enforced()}
    return {
        "at": now.isoformat(),
        "pid": os.getpid(),
        "trouble": trouble,
        "last_load_seconds": round(load_seconds, 4),
        "speakers": [
            {"address": str(address), "up": session.is_up, "rules": len(session.held)}
            for address, session in tables.sessions.items()
        ],
        "rules": [
            {"id": rule.id, "rule": str(rule.rule), **asdict(tallies.get(rule.id, Tally()))}
            for rule in enforced.values()
        ],
        "refused": [{"speaker": str(address), **_rejected(one)} for address, one in tables.rejected()],
        "counters": asdict(tables.counts),
    }


def _rejected(one: Rejected) -> dict[str, str]:
    return {"rule": one.text, "reason": one.reason}


def write(directory: Path, status: Mapping[str, object]) -> None:
    """Replace the file in one step; a reader never sees half of it."""
    draft = directory / f".{FILE}.{os.getpid()}"
    draft.write_text(json.dumps(status, indent=1) + "\n")
    draft.replace(directory / FILE)
