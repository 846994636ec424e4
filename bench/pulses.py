"""What a train of pulses does to routers: detections go through the incident's life and the policy, on a simulated
clock, and announcements and withdrawals are counted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from rules import policy, quiet
from rules.incident import Incident, Phase, Wanted, merge
from rules.policy import Mitigate
from rules.rule import RuleId
from rules.traffic import Detection
from rules.zone import Zone


class Life:
    """The incidents of one target and the rules they lead to, as the speaker keeps them but without a guard."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._incident: Incident | None = None
        self._held: dict[RuleId, Wanted] = {}
        self.announced: Counter[RuleId] = Counter()
        self.withdrawn: Counter[RuleId] = Counter()

    def hear(self, detection: Detection, now: datetime) -> None:
        """Takes a message at the moment it arrives."""
        self._incident = merge(self._incident, detection, self._zone, now)
        self._act(now)

    def second(self, now: datetime) -> None:
        """Time passes."""
        if self._incident is not None:
            self._incident = quiet.step(self._incident, tuple(self._held.values()), self._zone, now)
            self._act(now)

    def _act(self, now: datetime) -> None:
        assert self._incident is not None
        for lapsed in [one.id for one in self._held.values() if one.deadline <= now]:
            self._withdraw(lapsed)
        held = tuple(self._held.values())
        for renewal in policy.renewals(self._incident, held, self._zone, now):
            self._held[renewal.rule] = replace(self._held[renewal.rule], deadline=renewal.deadline)
        for ending in policy.closing(self._incident, held, self._zone, now):
            self._withdraw(ending.rule)
        if self._incident.phase is Phase.CLOSED:
            return
        decision = policy.decide(self._incident, self._zone, tuple(self._held.values()), now)
        if isinstance(decision, Mitigate):
            deadline = now + timedelta(seconds=decision.lifetime_seconds)
            for rule in decision.rules:
                self._held[rule.id] = Wanted(rule, deadline)
                self.announced[rule.id] += 1
            self._incident = self._incident.with_rules(rule.id for rule in decision.rules)

    def _withdraw(self, rule: RuleId) -> None:
        if self._held.pop(rule, None) is not None:
            self.withdrawn[rule] += 1

    @property
    def standing(self) -> int:
        """Rules that routers hold now."""
        return len(self._held)


def played(detections: Sequence[Detection], zone: Zone, end: datetime) -> Life:
    """The life of a target whose detections arrive at once, seconds ticking until `end`."""
    life, waiting = Life(zone), list(detections)
    now = waiting[0].seen
    while now < end:
        now += timedelta(seconds=1)
        while waiting and waiting[0].seen <= now:
            one = waiting.pop(0)
            life.hear(one, one.seen)
        life.second(now)
    return life
