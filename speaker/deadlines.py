"""When rules end: a heap of monotonic deadlines, and the alarm clock that wakes the loop for the next one.

APScheduler counts by the wall clock, so it only wakes: what is due is decided by the monotonic clock, and the loop
looks by itself at least every half second. Nothing is kept in a job store: the rules and the journal are the truth.
"""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rules.rule import RuleId

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler


class Deadlines:
    """Monotonic deadlines of rules; one for each."""

    def __init__(self) -> None:
        self._at: dict[RuleId, float] = {}
        self._heap: list[tuple[float, RuleId]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, rule: RuleId, at: float) -> None:
        """Gives or moves a rule's deadline."""
        if self._at.get(rule) != at:
            self._at[rule] = at
            heapq.heappush(self._heap, (at, rule))

    def drop(self, rule: RuleId) -> None:
        """The rule has ended by other means."""
        self._at.pop(rule, None)

    def due(self, now: float) -> tuple[RuleId, ...]:
        """Rules whose deadline is reached, each handed out once."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, rule = heapq.heappop(self._heap)
            if self._at.get(rule) == at:
                del self._at[rule]
                found.append(rule)
        return tuple(found)

    def next(self) -> float | None:
        """The next deadline."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


class AlarmClock:
    """Wakes the loop at the next deadline and periodically, from APScheduler's thread, loaded when it starts."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._scheduler: BackgroundScheduler | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started; until then nobody is woken."""
        return self._scheduler is not None

    def start(self) -> None:
        """Start the scheduler's thread."""
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        executors = {"default": ThreadPoolExecutor(1)}
        self._scheduler = BackgroundScheduler(timezone=UTC, job_defaults=defaults, executors=executors, daemon=True)
        self._scheduler.start()

    def stop(self) -> None:
        """End it; nothing is woken any more."""
        if self._scheduler is None:
            return
        # First, and waiting for the turn under way: a job that comes due while the scheduler stops ends in an error.
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=False)

    def every(self, seconds: float, name: str, check: Callable[[], None]) -> None:
        """Run a check periodically; it must not block."""
        if self._scheduler is not None:
            self._scheduler.add_job(check, "interval", seconds=seconds, id=name, replace_existing=True)

    def in_seconds(self, seconds: float) -> None:
        """Wake the loop that much later; replaces the last such wish."""
        if self._scheduler is not None:
            at = datetime.now(UTC) + timedelta(seconds=max(0.0, seconds))
            self._scheduler.add_job(self._wake, "date", run_date=at, id="deadline", replace_existing=True)
