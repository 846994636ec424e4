"""Time as the speaker sees it: a clock that nobody can set for deadlines, the wall clock for what people read."""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

LONGEST_SECONDS = 86_400.0
"""No rule may live longer at a time (`rules.guard_values.Limits`)."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since boot, suspension included: no clock step moves it, and it is the same for all processes."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def boot(self) -> str:
        """Which boot `now` counts from."""
        return _boot_id()


@cache
def _boot_id() -> str:
    """No process outlives its boot: read once, since it is asked for with every deadline."""
    return _BOOT_ID.read_text().strip()


@dataclass(frozen=True, slots=True)
class Moment:
    """One deadline on both clocks; as long as the machine is not rebooted, the monotonic one counts."""

    wall: datetime
    boot: str
    monotonic: float

    @classmethod
    def of(cls, wall: datetime, clock: Clock) -> "Moment":
        """A deadline given by the wall, tied to the monotonic clock now and for good."""
        left = (wall - clock.wall()).total_seconds()
        return cls(wall, clock.boot(), clock.now() + left)

    def loaded(self, clock: Clock) -> "Moment":
        """The same deadline in this process: after a reboot the wall clock is all there is."""
        if self.boot == clock.boot():
            return self
        tied = Moment.of(self.wall, clock)
        # A wall clock that lost years over the reboot must not let a rule live for years.
        return replace(tied, monotonic=min(tied.monotonic, clock.now() + LONGEST_SECONDS))

    def shown(self, clock: Clock) -> datetime:
        """When that will be by the wall clock as it stands."""
        return clock.wall() + timedelta(seconds=self.monotonic - clock.now())
