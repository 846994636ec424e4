"""How the speaker stands with its surroundings, in plain values: kept by the loop, read by whoever reports."""

from dataclasses import dataclass

from rules.neighbour import Address
from rules.zone import Zone
from speaker.settings import Settings

UNREAD = "no settings yet"
UNASKED = "not asked yet"


@dataclass(slots=True)
class Health:
    """Of one speaker."""

    settings: Settings | None = None
    """The last that were good."""
    configuration: str = UNREAD
    """What is wrong with the newest; empty: nothing."""
    database: str = UNASKED
    """Why it can't be used; empty: it can."""
    journal: str = ""
    """Why it can't be written; empty: it can."""
    clock: str = ""
    """What a clock that was set back does; empty: nothing."""
    is_informed: bool = False
    """The database has told what it wants, or was waited for long enough."""
    zones: tuple[Zone, ...] = ()
    """As the database last had them, perhaps for a predecessor."""
    holding: frozenset[Address] = frozenset()
    """Neighbours that ExaBGP held routes for when it last listed them."""
