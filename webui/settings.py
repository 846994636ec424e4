"""What the pages need to know of this machine."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen and what to read."""

    database_url: str
    state: Path
    """The state directory: the speaker's status and metrics, the kill switch."""
    listen: str = "127.0.0.1"
    port: int = 8080
