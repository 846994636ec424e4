"""What a person must be able to find out later: audit lines, alarms, and how far the audit had come.

Audit lines stand in the journal until the database has them; alarms go to the log and are counted.
"""

from collections.abc import Iterable, Mapping

from speaker import journal, log
from speaker.clock import Clock
from speaker.journal import Contents, Journal, Note
from speaker.latecomer import LateMemory
from speaker.tally import Tally

HEAD_SECONDS = 30.0
"""How often the end of the audit chain is written down."""


class Trail:
    """Audit and alarms of one speaker."""

    def __init__(self, diary: Journal, store: LateMemory, clock: Clock, tally: Tally) -> None:
        self._journal, self._memory, self._clock, self._tally = diary, store, clock, tally
        self._notes = 0
        self._head: tuple[int, str] | None = None
        self._head_at = -1e9
        self._is_compared = False

    def load(self, contents: Contents) -> None:
        """Go on where a predecessor stopped; what it could not write is written now."""
        self._notes, self._head = contents.last_note, contents.audit_head
        if contents.unreadable:
            self.alarm("journal lines could not be read", count=contents.unreadable)
        for note in contents.notes.values():
            self._memory.ask(note)

    def note(self, action: str, subject: str, detail: Mapping[str, object]) -> None:
        """For the audit: in the journal first, then in the database when it can be used."""
        self._notes += 1
        note = Note(self._notes, self._clock.wall(), action, subject, detail)
        self._journal.append([journal.noted(note)])
        self._memory.ask(note)

    def written(self, numbers: Iterable[int]) -> None:
        """The database has these."""
        self._journal.append([journal.written(number) for number in numbers])

    def head(self, head: tuple[int, str]) -> None:
        """The end of the audit chain; one that is shorter than what we have seen means an old copy of the database."""
        if not self._is_compared and self._head is not None and head[0] < self._head[0]:
            detail = {"seen": self._head[0], "found": head[0]}
            self.alarm("the database is older than what this speaker has seen", **detail)
            self.note("audit.behind", "database", detail)
        self._is_compared = True
        now = self._clock.now()
        if head != self._head and now - self._head_at > HEAD_SECONDS:
            self._head, self._head_at = head, now
            self._journal.append([journal.audit_head(*head)])

    def alarm(self, what: str, **detail: object) -> None:
        """Somebody must look."""
        self._tally.alarms += 1
        log.error(what, **detail)
