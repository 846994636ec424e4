"""The database thread, loaded beside everything else: its libraries are most of a speaker's start, and a successor that
has a journal needs no database to begin.

Loses nothing: what is asked of it meanwhile waits in order.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rules.rule import RuleId
from speaker import log
from speaker.clock import Clock
from speaker.exchange import Away, Configured, Report, Request, ToLoop
from speaker.wishes import Remembered

if TYPE_CHECKING:
    from speaker.memory import Memory

RETRY_SECONDS = 1.0


class LateMemory:
    """Stands for `speaker.memory.Memory`, loaded while the loop goes on."""

    def __init__(self, clock: Clock, tell: Callable[[ToLoop], None]) -> None:
        self._clock, self._tell = clock, tell
        self._changing = threading.Lock()
        self._waiting: list[Request] = []
        self._memory: Memory | None = None
        self._remembered: tuple[int, Mapping[RuleId, Remembered]] = (0, {})
        self._is_at_leisure = self._is_ending = False
        self._is_loading = False
        self._thread = threading.Thread(target=self._load, name="memory-loader", daemon=True)

    def remember(self, audit_entries: int, wishes: Mapping[RuleId, Remembered]) -> None:
        """As `Memory.remember`. Call before the first request."""
        self._remembered = (audit_entries, wishes)

    def at_leisure(self) -> None:
        """As `Memory.at_leisure`."""
        with self._changing:
            self._is_at_leisure = True
            if self._memory is not None:
                self._memory.at_leisure()

    def stop(self) -> None:
        """As `Memory.stop`; one that is not loaded yet never starts."""
        with self._changing:
            self._is_ending = True
        if self._memory is not None:
            self._memory.stop()

    def ask(self, request: Request) -> None:
        """Hand over work; never blocks for long. With the settings, or the first who waits for an
        answer, it begins to load."""
        with self._changing:
            if isinstance(request, Configured | Report) and not self._is_loading:
                self._is_loading = True
                self._thread.start()
            if self._memory is None:
                self._waiting.append(request)
            else:
                self._memory.ask(request)

    def _load(self) -> None:
        while not self._is_ending:
            try:
                from speaker.memory import Memory
            except Exception as error:  # noqa: BLE001 - told, and tried again
                # A damaged installation (half a file, one that can't be read) must not cost the withdrawals: journal,
                # deadlines and kill switch go on, and somebody hears of it. And threads that import at once may find
                # each other's modules half made; the next attempt finds them.
                log.exception("the database can't be used")
                self._tell(Away(f"its library can't be loaded: {error}"))
                time.sleep(RETRY_SECONDS)
            else:
                self._begin(Memory(self._clock, self._tell))
                return

    def _begin(self, memory: "Memory") -> None:
        memory.remember(*self._remembered)
        with self._changing:
            if self._is_ending:
                return
            memory.start()
            for request in self._waiting:
                memory.ask(request)
            self._waiting.clear()
            if self._is_at_leisure:
                memory.at_leisure()
            self._memory = memory
