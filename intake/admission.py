"""Whether a sensor's detection is passed on: who may speak of what, and when.

Pure. What to do about a detection is not its matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network

from intake.limits import TargetWindow
from intake.replay import ReplayMemory
from intake.settings import Limits
from rules.errors import Problem
from rules.messages_link import Reason
from rules.traffic import Detection, State
from rules.zone import Zone

EVERY_ZONE = "*"
"""In a sensor's binding: all zones, also those made later."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate belongs to."""

    name: str
    zones: frozenset[str]
    """Names of the zones it may speak of; `EVERY_ZONE` for all."""

    def is_bound_to(self, zone: str) -> bool:
        """Whether the sensor may speak of the zone."""
        return EVERY_ZONE in self.zones or zone in self.zones

    def watched(self, zones: tuple[Zone, ...]) -> tuple[Zone, ...]:
        """Those of the zones that it may speak of."""
        return tuple(zone for zone in zones if self.is_bound_to(zone.name))


@dataclass(frozen=True, slots=True)
class Passed:
    """To the speaker with it."""

    is_history: bool
    """Too old to act on."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Passed on before: acknowledged and dropped."""


@dataclass(frozen=True, slots=True)
class Turned:
    """Not to be passed on, now or ever."""

    reason: Reason
    problem: Problem


Verdict = Passed | Duplicate | Turned


def admit(
    detection: Detection,
    identity: Identity,
    zones: Mapping[str, Zone],
    seen: ReplayMemory,
    targets: TargetWindow,
    limits: Limits,
    now: datetime,
    monotonic: float,
) -> Verdict:
    """What becomes of a detection; only `targets` changes, and only when it is passed on to be acted upon."""
    if turned := _overreach(detection, identity, zones):
        return turned
    if seen.has(detection.attack, detection.sequence):
        return Duplicate()
    age = (now - detection.seen).total_seconds()
    if age < -limits.future_seconds:
        reason = f"lies {-age:.1f} s ahead of the intake's clock; set the sensor's clock"
        return _turned(Reason.FUTURE, "seen", detection.seen.isoformat(), reason)
    if age > limits.stale_seconds:
        return Passed(is_history=True)
    # The end of an attack only ever lifts something, so it is let through.
    if detection.state is not State.OVER and not targets.admits(detection.target, monotonic):
        reason = f"more than {limits.targets_per_minute} targets in a minute"
        return _turned(Reason.TOO_MANY_TARGETS, "target", str(detection.target), reason)
    return Passed(is_history=False)


def _overreach(detection: Detection, identity: Identity, zones: Mapping[str, Zone]) -> Turned | None:
    """What the sensor has no right to say."""
    if detection.sensor != identity.name:
        reason = f"the certificate belongs to {identity.name!r}"
        return _turned(Reason.WRONG_SENSOR, "sensor", detection.sensor, reason)
    zone = zones.get(detection.zone)
    if zone is None or not identity.is_bound_to(detection.zone):
        reason = "is no zone of this sensor; it was enrolled for others"
        return _turned(Reason.FOREIGN_ZONE, "zone", detection.zone, reason)
    if not zone.holds(detection.target):
        reason = f"does not lie wholly inside zone {zone.name!r}"
        return _turned(Reason.FOREIGN_TARGET, "target", str(detection.target), reason)
    for index, signature in enumerate(detection.signatures):
        destination = signature.match.destination
        if not isinstance(destination, IPv4Network | IPv6Network) or not zone.holds(destination):
            field, reason = f"signatures[{index}]", f"its destination does not lie wholly inside zone {zone.name!r}"
            return _turned(Reason.FOREIGN_SIGNATURE, field, str(signature.match), reason)
    return None


def _turned(reason: Reason, field: str, value: str, why: str) -> Turned:
    return Turned(reason, Problem(f"detection.{field}", value, why))
