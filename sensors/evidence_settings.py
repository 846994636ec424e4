"""What the evidence recorder is told at start."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """How much is remembered, and how much of an attack goes to disk."""

    directory: Path
    """Finished captures, each with its description beside it."""
    memory_megabytes: int = 16
    """Bytes of recent packets kept in memory."""
    before_seconds: float = 10.0
    """How far before the attack a capture begins, as far as memory reaches."""
    after_seconds: float = 60.0
    """How long after the attack's start a capture goes on, at most."""
    packets: int = 100_000
    """Of one attack."""
    file_bytes: int = 32 << 20
    """Of one attack."""
    total_bytes: int = 1 << 30
    """Of all captures together; the oldest go."""
    keep_seconds: float | None = None
    """How old captures may become; None: as old as there is room for."""
    least_free_bytes: int = 512 << 20
    """Nothing is written to a disk with less room, so that the spool finds some."""
    at_once: int = 32
    """Attacks recorded at the same time; more are counted, not recorded."""
