"""The conversation with ExaBGP: commands out as the window has room, each answer tied to its command, doubt cleared by
asking anew.

Whatever is in flight when the speaker loses track is void: it resynchronises, and the ledger starts from what is there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rules.neighbour import Address, SessionFamily
from speaker import commands
from speaker.orders import Command
from speaker.pipe import Window, Writer
from speaker.reconcile import Ledger
from speaker.replies import Done, Error, Reply
from speaker.resync import Listing, Resync, Stage

ANSWER_SECONDS = 30.0
"""ExaBGP answers a command within milliseconds, and `clear adj-rib out` of 10,000 routes within ten seconds."""
RESYNC_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """An `announce eor` in flight."""

    peer: Address
    family: SessionFamily


@dataclass(frozen=True, slots=True)
class Clear:
    """A `clear adj-rib out` in flight."""

    peers: tuple[Address, ...]
    """Nobody: everybody."""


@dataclass(frozen=True, slots=True)
class Look:
    """A `show neighbor json` in flight, apart from a resynchronisation."""


Ticket = Command | EndOfRib | Clear | Look


class Talk:
    """One conversation, as long as ExaBGP lives."""

    def __init__(self, writer: Writer, ledger: Ledger, listed: Callable[[Listing], None]) -> None:
        self._writer, self._ledger, self._listed = writer, ledger, listed
        self._window: Window[Ticket] = Window()
        self._resync: Resync | None = None
        self._resync_at = 0.0
        self._clears: list[Clear] = []
        self.resyncs = 0
        self.discarded = 0
        """Answers that belonged to a predecessor or to nobody."""
        self.lost = 0
        """Commands that were never answered."""
        self.refused = 0
        self.answered = 0

    @property
    def is_synced(self) -> bool:
        """Whether we know what ExaBGP holds."""
        return self._resync is None

    @property
    def in_flight(self) -> int:
        """Commands without an answer."""
        return len(self._window)

    def resync(self, now: float) -> None:
        """Ask ExaBGP what it holds; until then nothing else is said."""
        self._ledger.is_paused = True
        self.lost += len(self._window.abandon())
        self._resync, self._resync_at = Resync(), now
        self.resyncs += 1
        self._writer.write(*self._resync.first())

    def clear(self, peers: tuple[Address, ...], now: float) -> None:
        """Withdraw everything, from these or from everybody, then look what is left. Nothing else is said before."""
        self._ledger.is_paused = True
        self._clears.append(Clear(peers))
        self.pump(now)

    def end_of_rib(self, peer: Address, family: SessionFamily, now: float) -> None:
        """End the initial update of one family."""
        self._send(commands.end_of_rib(peer, family), EndOfRib(peer, family), now)

    def look(self, now: float) -> None:
        """Ask ExaBGP which neighbours it has; `Neighbours` comes before the `done`."""
        self._send(commands.SHOW_NEIGHBOURS, Look(), now)

    def shut_down(self) -> None:
        """Have ExaBGP end."""
        self._writer.write(commands.SHUTDOWN)

    def pump(self, now: float) -> int:
        """Send what there is to say, as far as the window has room; how many commands."""
        if self._resync is not None:
            return 0
        if self._clears:
            clear = self._clears.pop(0)
            self._send(commands.clear(clear.peers), clear, now)
            return 1
        if not self._window.is_half_empty():
            # The answers still due wake us again: what waits goes out in company.
            return 0
        lines = []
        while self._window.has_room() and (command := self._ledger.next_command(now)) is not None:
            self._window.sent(command, len(command.line) + 1, now)
            lines.append(command.line)
        if lines:
            self._writer.write(*lines)
        return len(lines)

    def has_room(self) -> bool:
        """Whether another command may go out now."""
        return self._resync is None and self._window.has_room()

    def take(self, reply: Reply, now: float) -> Ticket | None:
        """One reply; gives the command that this answers with `error`, where somebody else must know."""
        if self._resync is not None:
            self._continue(self._resync, reply, now)
            return None
        if not isinstance(reply, Done | Error):
            return None
        ticket = self._window.answered()
        accepted = isinstance(reply, Done)
        self.answered += 1
        self.refused += not accepted
        match ticket:
            case None:
                self.discarded += 1
            case Look():
                # What it asked for came before.
                return None
            case Command():
                self._ledger.answered(ticket, accepted, now)
            case Clear():
                # What is left is what we then withdraw one by one.
                if not self._clears:
                    self.resync(now)
            case EndOfRib():
                return None if accepted else ticket
        return None

    def tick(self, now: float) -> str:
        """Time passes; says what went wrong, if something did."""
        if self._resync is not None:
            if now - self._resync_at > RESYNC_SECONDS:
                self.resync(now)
                return f"ExaBGP has not listed its routes for {RESYNC_SECONDS:.0f} s; asking again"
        elif self._window.waiting_seconds(now) > ANSWER_SECONDS:
            self.resync(now)
            return f"ExaBGP has not answered for {ANSWER_SECONDS:.0f} s; asking what it holds"
        return ""

    def _send(self, line: str, ticket: Ticket, now: float) -> None:
        self._window.sent(ticket, len(line) + 1, now)
        self._writer.write(line)

    def _continue(self, resync: Resync, reply: Reply, now: float) -> None:
        line = resync.take(reply)
        if line is not None:
            self._writer.write(line)
        if resync.stage is Stage.FINISHED:
            self.discarded += resync.discarded
            self._resync = None
            if self._clears:
                self.pump(now)
            else:
                self._listed(resync.listing)
