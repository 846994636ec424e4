"""A simulated day of a network, through the real detection: which alarms are false, and which attacks are missed.

Counters, not packets: every host's traffic comes as weighted records on a simulated clock. Three seconds of each minute
are played in the sensor's own ticks, with bursts in them; the others in ticks of a second, which are as good for what
lasts longer and blind for what doesn't. The days before are played in large steps, so that the day begins with what a
sensor has learned by then.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

from lab.day_events import DAY, Event, attacks, bursts, ordinary
from lab.day_feed import Extra, Usual, count
from lab.day_hosts import NETWORK, Population, host_at, population
from rules.match import Network
from rules.traffic import Detection, State
from rules.zone import Zone
from sensors.attack import Attack
from sensors.baseline_limits import Learning
from sensors.engine import Engine, zone_measures
from sensors.settings import Detecting, Memory
from sensors.tables import SCREEN_AT

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HISTORY_STEP, FINE_STEP = 300.0, 0.04
FINE_EVERY, FINE_SECONDS = 60.0, 3.0
GRACE = 15.0
"""Seconds after an attack in which an alarm is still its."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate."""

    hosts: int = 10_000
    hours: float = 24.0
    first_hour: float = 0.0
    history_days: float = 7.0
    step: float = 1.0
    seed: int = 1
    fine_every: float = FINE_EVERY
    fine_seconds: float = FINE_SECONDS
    """So much of that time, from its beginning on, is played in the sensor's own ticks."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An incident, and what it stands for."""

    target: Network
    metric: str
    second: float
    """Of the day."""
    causes: tuple[str, ...]
    """What was under way on the target; empty: its usual traffic."""
    is_attack: bool


@dataclass(slots=True)
class Outcome:
    """How the day went."""

    plan: Plan
    alarms: list[Alarm] = field(default_factory=list)
    found: dict[Event, float] = field(default_factory=dict)
    """Attacks with an alarm, and seconds from their beginning to the first."""
    missed: list[Event] = field(default_factory=list)
    """Those that were over before the end."""
    hours: float = 0.0
    """Played so far."""
    suspicions: int = 0
    fine_suspicions: int = 0
    """Of those, in the seconds that were played in the sensor's own ticks."""
    seconds: float = 0.0
    """Of the wall clock."""
    processor_seconds: float = 0.0
    bytes_per_target: float = 0.0
    """What learning takes."""

    @property
    def false_alarms(self) -> Counter[str]:
        """By cause and metric."""
        wrong = (alarm for alarm in self.alarms if not alarm.is_attack)
        return Counter(f"{' + '.join(alarm.causes) or 'usual'}: {alarm.metric}" for alarm in wrong)

    @property
    def suspicions_per_day(self) -> float:
        """Of 10,000 hosts, had all of the day been played in the sensor's own ticks."""
        whole = self.plan.fine_every / self.plan.fine_seconds
        likely = self.suspicions - self.fine_suspicions + self.fine_suspicions * whole
        return likely / max(self.hours, 1e-9) * 24 / self.plan.hosts * 10_000


Hourly = Callable[[Outcome], None]


class _Day:
    def __init__(self, plan: Plan, zone: Zone, learning: Learning) -> None:
        self.plan, self.outcome = plan, Outcome(plan)
        self.people: Population = population(plan.hosts, plan.seed)
        self.events = [*ordinary(self.people, plan.seed), *attacks(self.people, plan.seed)]
        self._usual, self._extra = Usual(self.people, plan.seed), Extra(self.events, plan.seed)
        self._fine: list[Event] = []
        rows = 1 << max(8, (2 * plan.hosts).bit_length())
        # News of what goes on is for people: looking for rules each second would take most of the time.
        seldom = Detecting(update_seconds=3_600)
        sizes = Memory(rows, 131_072, 65_536)
        self.engine = Engine([zone], self._hear, detecting=seldom, memory=sizes, learning=learning)
        # What is near a limit is told by a share of it in each tick, however long that is.
        measures, floors = zone_measures([zone]), self.engine.learned.floors() if self.engine.learned else None
        self._screens = {step: measures.screen(step, floors).reshape(-1) for step in (plan.step, FINE_STEP)}
        self._second = -plan.history_days * DAY + plan.first_hour * 3600
        self._begin = self._second
        self._judging = False

    def run(self, each_hour: Hourly, stop: Callable[[], bool]) -> Outcome:
        began, used = time.perf_counter(), time.process_time()
        self.engine.warm_up()
        self.engine.start(self._now(self._second))
        begin = self.plan.first_hour * 3600
        while self._second < begin and not stop():
            self._step(min(HISTORY_STEP, begin - self._second), [self._usual])
        before, self._judging = self.engine.suspicions, True
        while self._second < begin + self.plan.hours * 3600 and not stop():
            self._fine_second() if self._second % self.plan.fine_every < self.plan.fine_seconds else self._coarse_step()
            self.outcome.suspicions = self.engine.suspicions - before
            self.outcome.hours = (self._second - begin) / 3600
            self.outcome.seconds, self.outcome.processor_seconds = (
                time.perf_counter() - began, time.process_time() - used,
            )  # fmt: skip
            if not self._second % 3600:
                each_hour(self.outcome)
        over = self._second
        self.outcome.missed = [
            event
            for event in self.events
            if event.is_attack and begin <= event.begin and event.end <= over and event not in self.outcome.found
        ]
        if self.engine.learned:
            self.outcome.bytes_per_target = self.engine.learned.parts[0].nbytes / len(self.engine.tables.rows)
        return self.outcome

    def _coarse_step(self) -> None:
        self._screen(self.plan.step)
        rest = self.plan.fine_every - self._second % self.plan.fine_every
        self._step(min(self.plan.step, rest), [self._usual, self._extra])

    def _screen(self, step: float) -> None:
        screen = self._screens[step]
        self.engine.tables.state[SCREEN_AT : SCREEN_AT + len(screen)] = screen

    def _fine_second(self) -> None:
        self._screen(FINE_STEP)
        start, before = round(self._second), self.engine.suspicions
        self._fine = bursts(self.people, start, self.plan.seed)
        short = Extra(self._fine, self.plan.seed)
        for number in range(1, round(1 / FINE_STEP) + 1):
            # From the number, not by adding up: a day of small errors is a second.
            self._step(start + number * FINE_STEP - self._second, [self._usual, self._extra, short])
        self._second = start + 1.0
        self.outcome.fine_suspicions += self.engine.suspicions - before

    def _step(self, seconds: float, sources: Sequence[Usual | Extra]) -> None:
        until = self._second + seconds
        now = self._now(until)
        for source in sources:
            count(self.engine.tables, source.step(self._second, seconds, now))
        self._second = until
        self.engine.tick(now, MONDAY + timedelta(seconds=until))

    def _now(self, second: float) -> int:
        return 1_000_000_000 + round((second - self._begin) * 1e9)

    def _hear(self, detection: Detection, attack: Attack) -> None:
        if detection.state is not State.STARTED or not self._judging:
            return
        near = [event for event in (*self.events, *self._fine) if self._belongs(event, detection.target)]
        guilty = [event for event in near if event.is_attack]
        for event in guilty:
            self.outcome.found.setdefault(event, self._second - event.begin)
        causes = tuple(sorted({event.cause for event in near}))
        alarm = Alarm(detection.target, attack.metric.value, self._second, causes, bool(guilty))
        self.outcome.alarms.append(alarm)

    def _belongs(self, event: Event, target: Network) -> bool:
        if not event.begin <= self._second <= event.end + GRACE:
            return False
        assert isinstance(target, IPv4Network)
        return host_at(int(target[0])) <= event.host <= host_at(int(target[-1]))


def _nothing(outcome: Outcome) -> None:
    pass


def simulate(
    plan: Plan,
    zone: Zone | None = None,
    learning: Learning | None = None,
    *,
    each_hour: Hourly = _nothing,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Plays the day; `zone`, `learning`: others than the defaults; `each_hour`: takes what is known by then; `stop`:
    whether to end now, with what was played so far."""
    return _Day(plan, zone or Zone("day", (NETWORK,)), learning or Learning()).run(each_hour, stop)
