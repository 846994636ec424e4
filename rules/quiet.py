"""When an incident may close: whose word that an attack is over proves it, and how long to wait for the next pulse.

While a rule filters, a sensor behind it sees nothing either way. Its rules stay until their deadline, which is the
probe: if the attack is still there, it is seen again and the next rule lives longer. A sensor before the rules is
believed after a hold-down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rules.incident import PATIENCE, Incident, Part, Patience, Phase, Standing, Wanted
from rules.zone import Zone


@dataclass(frozen=True, slots=True)
class Prospect:
    """When an incident closes, if nothing is heard until then."""

    closes: datetime | None
    """None: not before something changes, such as a rule reaching its deadline."""
    why: str
    """One sentence for the operator."""


def step(
    incident: Incident, held: Sequence[Wanted], zone: Zone, now: datetime, patience: Patience = PATIENCE
) -> Incident:
    """The incident as time passes; call it each second with the rules that are wanted for it."""
    if incident.phase is Phase.CLOSED:
        return incident
    if any(wanted.is_in_force(now) for wanted in held):
        incident = replace(incident, filtered_until=max(now, incident.filtered_until or now))
    outlook = prospect(incident, held, zone, now, patience)
    if outlook.closes is not None and outlook.closes <= now:
        return replace(incident, phase=Phase.CLOSED, closed=now)
    return replace(incident, phase=Phase.OPEN if incident.active(now, patience) else Phase.QUIET)


def prospect(
    incident: Incident, held: Sequence[Wanted], zone: Zone, now: datetime, patience: Patience = PATIENCE
) -> Prospect:
    """When the incident closes and what that hangs on: the last of its sensors' parts to end."""
    # A suspicion of one sensor holds up nothing once another has confirmed.
    parts = tuple(part for part in incident.parts if part.attacks) or incident.parts
    in_force = any(wanted.is_in_force(now) for wanted in held)
    ends = [_end(part, incident, in_force, zone, now, patience) for part in parts]
    unknown = next((end for end in ends if end.closes is None), None)
    return unknown or max(ends, key=lambda end: end.closes or now)


def _end(part: Part, incident: Incident, in_force: bool, zone: Zone, now: datetime, patience: Patience) -> Prospect:
    hold_down = patience.held_down(incident.recurrence)
    seeing_since = max(part.heard, incident.filtered_until or part.heard)
    """A downstream sensor's eyes opened only when the last rule went."""
    match part.standing(now, patience):
        case Standing.ACTIVE:
            return Prospect(None, f"sensor {part.sensor} still sees the attack")
        case Standing.SILENT if in_force:
            return Prospect(None, f"no data from sensor {part.sensor}, so the rules stay until their deadline")
        case Standing.SILENT:
            lifetime = timedelta(seconds=zone.rule_lifetime_seconds)
            waited = max(part.heard + lifetime, seeing_since + hold_down)
            return Prospect(waited, f"no data from sensor {part.sensor} for as long as a rule would have lived")
    quiet = f"quiet for {hold_down.total_seconds():.0f} s"
    if part.is_upstream:
        return Prospect(part.heard + hold_down, f"sensor {part.sensor}, upstream of the rules, says over; {quiet}")
    if not in_force:
        return Prospect(seeing_since + hold_down, f"sensor {part.sensor}, with no rule before it, says over; {quiet}")
    return _end_behind_rules(part, incident, hold_down, now, patience)


def _end_behind_rules(
    part: Part, incident: Incident, hold_down: timedelta, now: datetime, patience: Patience
) -> Prospect:
    """A blinded sensor said over: only one that sees the same traffic from before the rules can bear it out."""
    for other in incident.parts:
        if other.speaks_for(part) and other.standing(now, patience) is Standing.OVER:
            why = f"sensor {other.sensor}, upstream of the rules, bears out sensor {part.sensor}"
            return Prospect(max(part.heard, other.heard) + hold_down, f"{why}; quiet {hold_down.total_seconds():.0f} s")
    why = (
        f"sensor {part.sensor} looks from behind the rules, so its quiet proves nothing; they stay until their deadline"
    )
    return Prospect(None, why)
