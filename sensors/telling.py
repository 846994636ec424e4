"""Messages about attacks, at their turn: who waits, how closely each attack is looked at before, how much work a tick
may take for it.

A new attack goes first and is never kept waiting for what is only news of a known one.
"""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime

from rules.match import Network
from rules.traffic import Detection, State, Vantage
from rules.zone import Metric
from sensors.attack import Attack
from sensors.covering import Covering
from sensors.describe import Describer
from sensors.detect import Detector
from sensors.headers import Kind
from sensors.pace import Pace
from sensors.settings import Detecting
from sensors.sources import Sources
from sensors.tables import ATTACKED, PINNED, Tables
from sensors.usual import Usual

Emit = Callable[[Detection, Attack], None]
"""Takes each message, and the attack as the engine keeps it; must not block."""

SPOKEN_PER_TICK, SEARCHED_PER_TICK, DESCRIBED_PER_TICK = 16, 2, 65_536
"""Messages, searches for new rules and packets classified in one tick, so that a thousand targets at once never hold up
the capture. A new attack beyond the searches is told with a glance's vectors and rules, and looked at again later."""
_CONVERSING = frozenset({Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN})
"""Kinds that whoever has a connection sends, too: of them an attack's sources are not told apart in a capture."""


class Telling:
    """The attacks under way, and who waits to be told of."""

    def __init__(
        self,
        emit: Emit,
        describer: Describer,
        detector: Detector,
        covering: Covering,
        usual: Usual,
        sources: Sources,
        settings: Detecting,
        *,
        sensor: str,
        vantage: Vantage,
        judging: bool,
    ) -> None:
        """The engine's parts, and its settings."""
        self._emit, self._describer, self._detector, self._covering = emit, describer, detector, covering
        self._usual, self._sources, self._settings = usual, sources, settings
        self._sensor, self._vantage, self._judging = sensor, vantage, judging
        self._waiting: deque[tuple[int, State]] = deque()
        self._pace = Pace()
        self.attacks: dict[int, Attack] = {}
        """Under way, by row."""

    def note(self, row: int, state: State) -> None:
        """Something is to be told. A new attack waits for nobody: the rest is news of what is known."""
        (self._waiting.appendleft if state is State.STARTED else self._waiting.append)((row, state))

    def end(self, rows: Iterable[int], tables: Tables, names: tuple[str, ...], now: int, seen: datetime | None) -> None:
        """These attacks are over, at once."""
        for row in rows:
            self._detector.forget(row)
            self._waiting = deque(item for item in self._waiting if item[0] != row)
            self._waiting.appendleft((row, State.OVER))
        while rows and seen and self._waiting and self._waiting[0][1] is State.OVER:
            self.speak(tables, names, now, seen)

    def finish(self, tables: Tables, names: tuple[str, ...], now: int, seen: datetime) -> None:
        """The end of a capture: tells all that waits, then that every attack is over."""
        while self._waiting:
            self.speak(tables, names, now, seen)
        self._waiting.extend((row, State.OVER) for row in self.attacks)
        while self._waiting:
            self.speak(tables, names, now, seen)

    def speak(self, tables: Tables, names: tuple[str, ...], now: int, seen: datetime) -> None:
        """Tells as much as a tick may. `names`: of the measures; `now` in ns; `seen` goes into the messages."""
        describer = self._describer
        searches, packets = describer.searches + SEARCHED_PER_TICK, describer.packets + DESCRIBED_PER_TICK
        for _ in range(min(len(self._waiting), SPOKEN_PER_TICK)):
            is_much = describer.searches >= searches or describer.packets >= packets
            if is_much and self._waiting[0][1] is not State.STARTED and not self._judging:
                return
            row, state = self._waiting.popleft()
            attack = self.attacks.get(row)
            if attack is None:
                continue
            self._describe(row, state, attack, tables, names, now, is_much)
            if attack.is_rough and state is State.STARTED:
                self._waiting.append((row, State.ONGOING))
            self._emit(attack.detection(self._sensor, self._vantage, state, seen), attack)
            if state is State.OVER:
                tables.rows[row, PINNED] &= ~ATTACKED
                self._sources.close(row)
                self._pace.forget(row)
                del self.attacks[row]

    def _describe(
        self, row: int, state: State, attack: Attack, tables: Tables, names: tuple[str, ...], now: int, is_much: bool
    ) -> None:
        if self._judging and state is State.STARTED:
            # Who looks at a capture waits for the end, where all of it is described.
            return
        silent = tables.clock_ns - attack.last_ns > self._settings.long_seconds * 1e9
        if silent and attack.picture.vectors and not self._judging:
            # Between pulses what is remembered fades, and other traffic must not be taken for the attack.
            return
        track = self._detector.tracks.get(row)
        crossed = frozenset({Metric(names[measure]) for measure in track.crossed} if track else {attack.metric})
        # A pulse is described without the pause before it.
        crossing = min(track.over_since.values(), default=now) if track else now
        since = tables.clock_ns - (now - crossing) - int(self._settings.short_seconds * 1e9)
        usual, inside = self._usual.rates(row), self._reported(row, attack)
        if self._judging:
            self._describer.describe(tables, attack, crossed, usual, inside, since)
            if attack.counted and attack.kinds.isdisjoint(_CONVERSING) and not attack.has_sessions:
                # What is described is a part of much.
                self._sources.open(tables, row, attack.target, attack.counted, attack.first_ns)
                attack.sources = max(attack.sources, self._sources.count(row))
            return
        if attack.is_rough and not self._pace.can(now):
            return
        if attack.is_rough or self._pace.is_due(
            row, crossed, attack.severity, now, lambda: self._describer.look(tables, attack)
        ):
            packets, is_glance = self._describer.packets, is_much or not self._pace.can(now)
            self._describer.describe(tables, attack, crossed, usual, inside, since, glance=is_glance)
            look = self._describer.look(tables, attack)
            self._pace.described(row, crossed, self._describer.packets - packets, now, look)
        if attack.counted:
            self._sources.open(tables, row, attack.target, attack.counted, attack.first_ns)
            attack.sources = self._sources.count(row) or attack.sources

    def _reported(self, row: int, attack: Attack) -> list[Network]:
        """What inside an attack's target has an attack of its own."""
        if attack.target.prefixlen == attack.target.max_prefixlen:
            return []
        return [
            other.target
            for other_row, other in self.attacks.items()
            if other_row != row and row in self._covering.above(other_row)
        ]
