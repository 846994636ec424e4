"""When an attack begins, goes on and ends, for one host at a time. Pure: rates and `now` come in, changes come out.

Two speeds: far above a limit in one short window, or above it for as long as two windows that share no packet, by more
than chance in each; or, by however little, for four long ones. Less is a suspicion, which is counted and never acted
upon. What opened an attack closes it, at a lower level, after a quiet time that grows when attacks come in pulses.
"""

from dataclasses import dataclass, field
from enum import Enum

from sensors.settings import Detecting

MOST_REMEMBERED = 10_000
"""Past attacks kept in mind."""


class Change(Enum):
    """What a step did to a host."""

    NOTHING = "nothing"
    SUSPECTED = "suspected"
    """A limit is crossed; wait for the second window."""
    CLEARED = "cleared"
    """The suspicion did not hold."""
    STARTED = "started"
    ONGOING = "ongoing"
    """Time for an update."""
    OVER = "over"


@dataclass(slots=True)
class Track:
    """What is remembered of one host, while it is suspected or attacked."""

    over_since: dict[tuple[int, int], int] = field(default_factory=dict)
    """Measure and window -> since when it is above its limit there without a pause, ns."""
    opened: int | None = None
    """When the attack was found, ns; None: only suspected."""
    first_over: int = 0
    crossed: set[int] = field(default_factory=set)
    """Every measure that crossed its limit during the attack; all must be quiet for it to end."""
    last_hot: int = 0
    next_update: int = 0
    severity: float = 0.0
    """Of the worst measure, now."""
    worst: int = 0
    """The measure with the highest severity when the attack was found."""
    not_before: int = 0
    """Somebody looked closer and found no attack; look again then."""
    is_acquitted: bool = False
    """The last look that had enough to go by found none."""
    has_waited: bool = False
    """It was above its limit as a part of what others got too: no suspicion of its own."""


class Detector:
    """The tracks of all hosts, by row."""

    def __init__(self, settings: Detecting) -> None:
        self._settings = settings
        # As long as the window, so that two of them share no packet; at its end, ticks may come a little early.
        seconds = (settings.hold_seconds, settings.middle_seconds, settings.long_seconds, 3 * settings.long_seconds)
        self._holds = tuple(int(one * 0.9e9) if settings.hold_seconds else 0 for one in seconds)
        self._past: dict[object, tuple[int, int]] = {}
        self.tracks: dict[int, Track] = {}

    def step(
        self,
        row: int,
        host: object,
        severity: list[float],
        fast: list[float],
        crossed: list[int],
        now: int,
        *,
        waits: bool = False,
    ) -> Change:
        """Takes one reading of a host; `severity` and `fast` are rates over limits, `crossed` says in which windows
        one is crossed, all by measure (`window.Readings`); `waits`: it is no attack of its own for now."""
        track = self.tracks.get(row)
        over = [
            (measure, window)
            for measure, bits in enumerate(crossed)
            if bits
            for window in range(len(self._holds))
            if bits >> window & 1
        ]
        at_once = [measure for measure, value in enumerate(fast) if value >= self._settings.fast_factor]
        if track is None:
            if not over and not at_once:
                return Change.NOTHING
            track = self.tracks[row] = Track(first_over=now)
            first_time = True
        else:
            first_time = False
        track.over_since = {where: track.over_since.get(where, now) for where in over}
        if track.opened is not None:
            return self._attacked(row, host, track, severity, now)
        track.has_waited |= waits
        held = self._held(track, now)
        if (held or at_once) and now >= track.not_before and not waits:
            return self._open(track, held + at_once, severity, fast, now)
        if not over and not at_once:
            del self.tracks[row]
            return Change.NOTHING if track.has_waited else Change.CLEARED
        return Change.SUSPECTED if first_time else Change.NOTHING

    def _held(self, track: Track, now: int) -> list[int]:
        """The measures that were crossed for long enough."""
        return [measure for (measure, window), since in track.over_since.items() if now - since >= self._holds[window]]

    def _open(self, track: Track, measures: list[int], severity: list[float], fast: list[float], now: int) -> Change:
        values = {measure: max(severity[measure], fast[measure]) for measure in measures}
        track.worst = max(values, key=lambda measure: values[measure])
        # A longer window may have told it.
        track.severity = max(1.0, values[track.worst])
        track.opened, track.last_hot, track.is_acquitted = now, now, False
        track.crossed = set(measures)
        track.next_update = now + int(self._settings.update_seconds * 1e9)
        return Change.STARTED

    def _attacked(self, row: int, host: object, track: Track, severity: list[float], now: int) -> Change:
        track.crossed |= set(self._held(track, now))
        track.severity = max(severity[measure] for measure in track.crossed)
        if track.severity >= self._settings.closing_factor:
            track.last_hot = now
        elif now - track.last_hot >= self.quiet_ns(host, now):
            self._remember(host, now)
            del self.tracks[row]
            return Change.OVER
        if now >= track.next_update:
            track.next_update = now + int(self._settings.update_seconds * 1e9)
            return Change.ONGOING
        return Change.NOTHING

    def quiet_ns(self, host: object, now: int) -> int:
        """How long a host must be quiet: doubled for each attack on it that ended not long ago."""
        ended, times = self._past.get(host, (0, 0))
        if times and now - ended > self._settings.memory_seconds * 1e9:
            times = 0
        seconds = min(self._settings.quiet_seconds * 2**times, self._settings.longest_quiet_seconds)
        return int(seconds * 1e9)

    def _remember(self, host: object, now: int) -> None:
        forget = now - int(self._settings.memory_seconds * 1e9)
        ended, times = self._past.pop(host, (0, 0))
        if len(self._past) >= MOST_REMEMBERED:
            # Entries stand in the order in which they were written: the oldest goes.
            del self._past[next(iter(self._past))]
        self._past[host] = (now, min(times + 1, 16) if ended >= forget else 1)

    def reject(self, row: int, until: int, *, acquitted: bool = False) -> None:
        """Somebody looked closer: no attack, or too little to tell by yet if it isn't `acquitted`. The host is looked
        at again at `until` if its rate stays."""
        track = self.tracks[row]
        track.opened, track.crossed, track.not_before, track.is_acquitted = None, set(), until, acquitted

    def forget(self, row: int) -> None:
        """The row belongs to another host now."""
        self.tracks.pop(row, None)
