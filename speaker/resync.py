"""Finding out what ExaBGP holds: at start, after a lost answer, and whenever in doubt.

`reset` drops our unfinished commands; everything that comes before the answer to `version` belongs to our predecessor;
then ExaBGP lists its neighbours and its routes. A state machine: it names commands, takes replies, and sends nothing.
"""

from dataclasses import dataclass, field
from enum import Enum

from rules.neighbour import Address
from speaker import commands
from speaker.commands import Route
from speaker.fitness import Key
from speaker.replies import AdjRibRoute, Done, Error, Neighbours, Reply, UnreadableRoute, Version


class Stage(Enum):
    """Where the handshake stands."""

    GREETING = "greeting"
    """Waiting for the line `exabgp …`."""
    GREETED = "greeted"
    """Waiting for the `done` behind it."""
    NEIGHBOURS = "neighbours"
    ROUTES = "routes"
    FINISHED = "finished"


@dataclass(slots=True)
class Listing:
    """What ExaBGP holds."""

    version: str = ""
    neighbours: Neighbours | None = None
    routes: list[AdjRibRoute] = field(default_factory=list)
    unreadable: list[UnreadableRoute] = field(default_factory=list)

    @property
    def peers(self) -> frozenset[Address]:
        """Who is to be told something."""
        return frozenset([*(one.peer for one in self.routes), *(one.peer for one in self.unreadable)])


class Resync:
    """One handshake."""

    def __init__(self) -> None:
        self.stage = Stage.GREETING
        self.listing = Listing()
        self.discarded = 0
        """Answers of our predecessor's."""

    @staticmethod
    def first() -> tuple[str, ...]:
        """The lines to send at once; `reset` has no answer."""
        return (commands.RESET, commands.VERSION)

    def take(self, reply: Reply) -> str | None:
        """One reply; gives the next line to send, if there is one."""
        match self.stage, reply:
            case _, Version(text=text):
                # Also in a later stage: an answer to an earlier handshake's question would have come before.
                self.stage, self.listing = Stage.GREETED, Listing(version=text)
            case Stage.GREETING, Done() | Error():
                self.discarded += 1
            case Stage.GREETED, Done():
                self.stage = Stage.NEIGHBOURS
                return commands.SHOW_NEIGHBOURS
            case Stage.NEIGHBOURS, Neighbours():
                self.listing.neighbours = reply
            case Stage.NEIGHBOURS, Done() | Error():
                self.stage = Stage.ROUTES
                return commands.SHOW_ROUTES
            case Stage.ROUTES, AdjRibRoute():
                self.listing.routes.append(reply)
            case Stage.ROUTES, UnreadableRoute():
                self.listing.unreadable.append(reply)
            case Stage.ROUTES, Done() | Error():
                self.stage = Stage.FINISHED
        return None


Listed = dict[Key, tuple[Route, bool]]
"""Each route, and whether it was read exactly."""


def listed(listing: Listing) -> Listed:
    """Routes by peer and rule; of an ambiguous one every reading, as withdrawing what isn't there is harmless."""
    found: Listed = {}
    for route in listing.routes:
        for candidate in route.candidates:
            found[route.peer, candidate.rule.id] = (candidate, route.exact)
    return found
