"""Rates, as plain state machines: no clock, `now` is an argument in seconds that never run backwards."""

from dataclasses import dataclass, field

from rules.match import Network


@dataclass(slots=True)
class TokenBucket:
    """So many per second on average, and so many at once after a pause."""

    per_second: float
    burst: float
    _tokens: float = field(init=False)
    _at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> float:
        """Take one; gives the seconds to wait before using it, 0 within the rate."""
        if self._at is not None:
            self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.per_second)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self.per_second)


@dataclass(slots=True)
class TargetWindow:
    """Distinct targets within the last minute."""

    limit: int
    window_seconds: float = 60.0
    _last: dict[Network, float] = field(init=False, default_factory=dict)
    """Oldest first, because a target is put behind the others when it is named again."""

    def admits(self, target: Network, now: float) -> bool:
        """Whether the target is known or there is room for one more; if so it counts from now on."""
        for old in list(self._last):
            if now - self._last[old] < self.window_seconds:
                break
            del self._last[old]
        if target not in self._last and len(self._last) >= self.limit:
            return False
        self._last.pop(target, None)
        self._last[target] = now
        return True
