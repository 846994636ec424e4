"""What the loop counts as it goes, in plain numbers; `speaker.status` makes metrics of them."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Since the start of this speaker."""

    alarms: int = 0
    """Times something needed a person."""
    expired: int = 0
    """Rules that reached their deadline."""
    lateness: list[float] = field(default_factory=list)
    """Of these, seconds behind the deadline; those that no metric has yet."""
    flaps: Counter[str] = field(default_factory=Counter)
    """Neighbour's name -> sessions lost."""
    inbound: Counter[str] = field(default_factory=Counter)
    """Neighbour's name -> times it announced something to us."""
