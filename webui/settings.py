"""What the pages need to know of this machine."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rules.policy import ALONE


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen and what to read."""

    database_url: str
    state: Path
    """The state directory: the speaker's status and metrics, the kill switch."""
    listen: str = "127.0.0.1"
    port: int = 8080
    alone: timedelta = ALONE
    """How long the machine may act without a person's word."""
