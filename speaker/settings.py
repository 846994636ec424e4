"""What the speaker must be told; `stopbank` makes it from the configuration file."""

from dataclasses import dataclass, field
from pathlib import Path

from rules.errors import Problem, Refused
from rules.guard import Limits
from rules.incident import Patience
from rules.match import Network
from rules.neighbour import Neighbour
from rules.zone import NAME


@dataclass(frozen=True, slots=True)
class Settings:
    """One speaker."""

    state: Path
    """The state directory."""
    database_url: str
    """SQLAlchemy URL."""
    neighbours: tuple[Neighbour, ...]
    name: str = "speaker"
    """Tells the statuses of several speakers apart."""
    protected: tuple[Network, ...] = ()
    infrastructure: tuple[Network, ...] = ()
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    """How long to wait before an incident counts as over (hold-down), and what counts as too old to act on."""

    def __post_init__(self) -> None:
        problems = []
        if not NAME.fullmatch(self.name):
            problems.append(Problem("speaker.name", self.name, "must be 1 to 63 lower-case letters, digits, . _ or -"))
        for field_name in ("name", "peer_address"):
            values = [getattr(one, field_name) for one in self.neighbours]
            problems += [
                Problem(f"neighbours.{field_name}", str(value), "is given to two neighbours")
                for value in dict.fromkeys(values)
                if values.count(value) > 1
            ]
        if problems:
            raise Refused.all(problems)
