"""What the enforcer and the sensor of this machine leave in the state directory, for `stopbank status`.

Both work without the speaker and may run under another state directory: what isn't there is not a problem.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

ENFORCE_AGE_SECONDS = 30.0
"""It writes every second, slower only with thousands of rules."""


def enforce(state: Path, now: datetime) -> dict[str, Any] | None:
    """What `stopbank enforce` reports, with `age_seconds` and `problems`; None where it never ran."""
    path = state / "enforce" / "enforce.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        age = (now - datetime.fromisoformat(document["at"])).total_seconds()
        trouble = [f"enforce: {document['trouble']}"] if document["trouble"] else []
        down = [f"enforce: no session with {one['address']}" for one in document["speakers"] if not one["up"]]
        refused = [f"enforce: refused {one['rule']}: {one['reason']}" for one in document["refused"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"problems": [f"enforce: {path} can't be read: {error}"]}
    silent = [f"enforce: its last report is {age:.0f} s old"] if age > ENFORCE_AGE_SECONDS else []
    return document | {"age_seconds": age, "problems": silent or [*trouble, *down, *refused]}


def sensor(state: Path) -> dict[str, Any] | None:
    """What waits for the intake, and the captures kept as evidence: files and bytes; None where no sensor ran."""
    places = {"spool": state / "sensor" / "spool", "evidence": state / "evidence"}
    return {name: _held(place) for name, place in places.items() if place.is_dir()} or None


def _held(directory: Path) -> dict[str, int]:
    sizes = []
    for path in directory.rglob("*"):
        try:
            sizes += [path.stat().st_size] if path.is_file() else []
        except FileNotFoundError:
            # Sent, or removed to make room, since it was listed.
            continue
    return {"files": len(sizes), "bytes": sum(sizes)}


def lines(enforcing: dict[str, Any] | None, watching: dict[str, Any] | None) -> list[str]:
    """The same for people."""
    told = []
    if enforcing is not None and "rules" in enforcing:
        up = sum(one["up"] for one in enforcing["speakers"])
        told.append(
            f"enforce: {len(enforcing['rules'])} rules in nftables, {up} of {len(enforcing['speakers'])} sessions up"
        )
    for name, held in (watching or {}).items():
        told.append(f"sensor of this machine, {name}: {held['files']} files, {held['bytes'] / 1e6:.1f} MB")
    return told
