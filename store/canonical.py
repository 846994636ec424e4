"""JSON in the one form that hashes are taken over, and the hashes themselves."""

import hashlib
import json
from collections.abc import Mapping


def dumps(value: Mapping[str, object]) -> str:
    """Keys sorted, no spaces, ASCII only, no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def rule_hash(text: str, owner: str, zone: str | None, generation: int) -> str:
    """What an approval is bound to: who approves a rule has seen exactly this."""
    return sha256(dumps({"generation": generation, "owner": owner, "rule": text, "zone": zone}))
