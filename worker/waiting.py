"""What one channel still has to deliver, in which order, and when to try again. Pure: times are monotonic seconds.

Notices of one subject stay in line. A failure of the receiver itself pauses the channel; a refusal of one notice
holds up its subject only.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait after failures, in seconds."""

    first: float
    longest: float

    def after(self, failures: int) -> float:
        """The wait after that many failures in a row."""
        return min(self.first * 2.0 ** min(failures - 1, 32), self.longest)


@dataclass(slots=True)
class _Line:
    numbers: list[int] = field(default_factory=list)
    """A heap: the oldest first."""
    failures: int = 0
    due: float = 0


class Waiting:
    """The notices of one channel, by the number of their outbox row, which grows with time."""

    def __init__(self, back_off: BackOff) -> None:
        self._back_off = back_off
        self._lines: dict[str, _Line] = {}
        self._subjects: dict[int, str] = {}
        self._failures = 0
        self._paused_until = 0.0

    def __len__(self) -> int:
        return len(self._subjects)

    def __contains__(self, number: int) -> bool:
        return number in self._subjects

    def add(self, number: int, subject: str) -> None:
        """One notice more; one that waits already is not added again."""
        if number not in self._subjects:
            self._subjects[number] = subject
            heappush(self._lines.setdefault(subject, _Line()).numbers, number)

    def next(self, now: float) -> int | None:
        """The oldest notice that may be tried now and is the first of its line."""
        if now < self._paused_until:
            return None
        return min((line.numbers[0] for line in self._lines.values() if line.due <= now), default=None)

    def wait_seconds(self, now: float) -> float | None:
        """How long until `next` may change by itself; None when it won't."""
        if not self._lines:
            return None
        return max(0.0, self._paused_until - now, min(line.due for line in self._lines.values()) - now)

    def settled(self, number: int) -> None:
        """Delivered, or given up: the next of its line follows."""
        line = self._drop(number)
        line.failures, line.due = 0, 0

    def answered(self) -> None:
        """The receiver is there."""
        self._failures, self._paused_until = 0, 0

    def receiver_failed(self, now: float) -> float:
        """Nothing goes there for a while; says how long."""
        self._failures += 1
        wait = self._back_off.after(self._failures)
        self._paused_until = now + wait
        return wait

    def refused(self, number: int, now: float) -> float:
        """This notice was not taken; says how long its line waits."""
        line = self._lines[self._subjects[number]]
        line.failures += 1
        wait = self._back_off.after(line.failures)
        line.due = now + wait
        return wait

    def _drop(self, number: int) -> _Line:
        subject = self._subjects.pop(number)
        line = self._lines[subject]
        if line.numbers[0] == number:
            heappop(line.numbers)
        else:
            line.numbers = sorted(set(line.numbers) - {number})
        if not line.numbers:
            del self._lines[subject]
        return line
