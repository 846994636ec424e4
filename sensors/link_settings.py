"""What the link is told at start."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the link keeps its things, and how patient it is."""

    directory: Path
    """The sensor's state: identity, cached zones, `spool/`."""
    spool_bytes: int = 32 << 20
    """On disk, and in memory when all of it waits."""
    sync_seconds: float = 0.1
    """How long the speaker has to take a message before the disk is waited for."""
    queue_length: int = 4096
    """Detections between two turns of the link's thread."""
    window: int = 64
    """Messages under way at once, of as many attacks."""
    heartbeat_seconds: float = 1.0
    backoff_seconds: tuple[float, float] = (0.2, 10.0)
    """Between two tries, first and longest; each is made up to half shorter by chance."""
    later_seconds: float = 0.25
    """After the intake put something off."""
    patience_seconds: float = 15.0
    """Without an answer to anything under way, or a pong, the link is dead."""
