"""How long, how many, how much at risk: lifetimes, budgets, collateral, and what automation may blackhole."""

import math
from collections.abc import Iterator

from rules.findings import Finding, error, warning
from rules.guard_active import ActiveRules
from rules.guard_reach import subject, zones_of
from rules.guard_values import Request, Surroundings
from rules.rule import FlowSpec
from rules.zone import Zone

_NEAR = 0.8
"""Share of a budget from which on it is worth a word."""


def findings(request: Request, surroundings: Surroundings) -> Iterator[Finding]:
    """Everything that is too long, too many or too risky."""
    prefix = subject(request.rule)
    zones = [] if prefix is None else [zone for zone in zones_of(request, surroundings.zones) if zone.holds(prefix)]
    yield from _lifetime(request, surroundings)
    yield from _budgets(request, surroundings, zones)
    if request.origin.is_automatic:
        yield from _automatic(request, zones)


def _lifetime(request: Request, surroundings: Surroundings) -> Iterator[Finding]:
    given, limit = request.lifetime_seconds, surroundings.limits.lifetime_seconds(request.origin)
    if not math.isfinite(given) or given <= 0:
        reason = "a rule needs a lifetime, so that nothing stays for ever"
        yield error("guard.lifetime.missing", "lifetime", given, reason, f"give 1 to {limit} seconds")
    elif given > limit:
        kind = "an automatic rule" if request.origin.is_automatic else "a rule"
        reason = f"is longer than the {limit} s that {kind} may live at a time"
        yield error(
            "guard.lifetime.cap", "lifetime", f"{given:g}", reason, f"give at most {limit} s and extend it later"
        )


def _budgets(request: Request, surroundings: Surroundings, zones: list[Zone]) -> Iterator[Finding]:
    active, limits = surroundings.active, surroundings.limits
    if _is_held(request, active):
        # It has its room already: a budget that was lowered stops new rules and takes none away.
        return
    if surroundings.recent >= limits.per_minute:
        reason = f"announcements in the last minute; the limit is {limits.per_minute}"
        yield error("guard.budget.minute", "rule", surroundings.recent, reason, "wait a minute")
    # A rule that takes another's place needs no room of its own.
    freed = active.get(request.replaces) if request.replaces is not None else None
    freed_automatic = freed is not None and freed.origin.is_automatic
    yield from _budget("total", len(active) - (freed is not None), limits.total_rules, "active rules")
    if not request.origin.is_automatic:
        return
    count = active.count_automatic() - freed_automatic
    yield from _budget("automatic", count, limits.automatic_rules, "active automatic rules")
    for zone in zones:
        in_zone = freed_automatic and freed is not None and freed.zone == zone.name
        count = active.count_automatic(zone.name) - in_zone
        yield from _budget("zone", count, zone.automatic_rules, f"active automatic rules of zone {zone.name}")


def _is_held(request: Request, active: ActiveRules) -> bool:
    """Whether the request only looks again at a rule that is wanted as it is: no new announcement."""
    held = active.get(request.rule.id) if request.replaces == request.rule.id else None
    return held is not None and held.rule == request.rule


def _budget(kind: str, count: int, limit: int, what: str) -> Iterator[Finding]:
    if count >= limit:
        reason = f"{what}: the budget of {limit} is used up"
        yield error(
            f"guard.budget.{kind}", "rule", count, reason, "withdraw rules, aggregate them, or raise the budget"
        )
    elif count + 1 > limit * _NEAR:
        yield warning(f"guard.budget.{kind}-near", "rule", count, f"{what}: the budget of {limit} is nearly used up")


def _automatic(request: Request, zones: list[Zone]) -> Iterator[Finding]:
    if isinstance(request.rule, FlowSpec):
        yield from _collateral(request.collateral, zones, request.person_decides)
        return
    closed = [zone.name for zone in zones if not zone.blackhole]
    if closed or not zones:
        named = ", ".join(closed) or "this prefix"
        reason = f"automatic blackholes are off for {named}"
        fix = "turn blackhole on for the zone, or let a person do it"
        yield error("guard.rtbh.automatic", "prefix", request.rule.prefix, reason, fix)


def _collateral(measured: float | None, zones: list[Zone], person_decides: bool) -> Iterator[Finding]:
    limit = min((zone.collateral_limit for zone in zones), default=0.0)
    if measured is None:
        reason = "was not measured: what normal traffic the rule hits is unknown"
        yield warning("guard.collateral.unknown", "collateral", "", reason, "let a person look")
    elif not measured <= limit:  # NaN is no measurement either
        reason = f"of the target's normal traffic would be hit; the zone allows {limit:.2%}"
        weigh = warning if person_decides else error
        yield weigh("guard.collateral.limit", "collateral", f"{measured:.2%}", reason, "let a person decide")
