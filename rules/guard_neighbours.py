"""Whether one neighbour may be told a rule: family, prefixes it is permitted, scope, budget, and what it can hold."""

from collections.abc import Iterator

from rules import platforms
from rules.findings import Finding, error, warning
from rules.match import Family, Network, OffsetPrefix
from rules.neighbour import Neighbour, Role, SessionFamily
from rules.rule import Blackhole, Rule, Scope

_NEAR = 0.8
"""Share of a budget from which on it is worth a word."""
_NAMED = 5
"""How many neighbours a finding explains."""

_FLOW = {Family.IPV4: SessionFamily.IPV4_FLOW, Family.IPV6: SessionFamily.IPV6_FLOW}
_UNICAST = {4: SessionFamily.IPV4_UNICAST, 6: SessionFamily.IPV6_UNICAST}


def session_family(rule: Rule) -> SessionFamily:
    """The address family a rule travels in."""
    return _UNICAST[rule.prefix.version] if isinstance(rule, Blackhole) else _FLOW[rule.match.ip_family]


def findings(rule: Rule, neighbour: Neighbour, held_there: int) -> Iterator[Finding]:
    """Everything that keeps the rule from this neighbour, or makes it useless there."""
    family = session_family(rule)
    if family not in neighbour.families:
        reason = f"{neighbour.name} has no session for it"
        yield error("guard.neighbour.family", "neighbour", family.value, reason, f"add {family.value} to the session")
    yield from _permitted(rule, neighbour)
    if isinstance(rule, Blackhole) and rule.scope is Scope.LOCAL and neighbour.role is Role.UPSTREAM:
        reason = f"a local blackhole is not for the upstream {neighbour.name}"
        yield error("guard.neighbour.scope", "scope", rule.scope.value, reason, "use scope upstream")
    yield from _budget(neighbour, held_there)
    yield from platforms.findings(rule, platforms.intersect(neighbour.profiles))


def everywhere(rule: Rule, neighbours: tuple[Neighbour, ...]) -> Iterator[Finding]:
    """Who can't take a rule, and whether anybody can; nothing where there are no neighbours to ask."""
    refusing = {one.name: [found for found in findings(rule, one, 0) if found.is_error] for one in neighbours}
    if not neighbours:
        return
    left_out = {name: errors[0].reason for name, errors in refusing.items() if errors}
    why = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:_NAMED])
    if len(left_out) == len(refusing):
        fix = "change the rule, or the neighbours' families, permitted prefixes or profiles"
        yield error("guard.neighbour.none", "neighbour", "", f"nobody can take this rule: {why}", fix)
    elif left_out:
        yield warning("guard.neighbour.left-out", "neighbour", ", ".join(left_out), f"will not get this rule: {why}")
    upstreams = [one for one in neighbours if one.role is Role.UPSTREAM and one.name not in left_out]
    if isinstance(rule, Blackhole) and rule.scope is Scope.UPSTREAM and not upstreams:
        reason = "no upstream takes it, so it would only work at home"
        yield error("guard.rtbh.no-upstream", "scope", rule.scope.value, reason, "use scope local, or add the upstream")


def _permitted(rule: Rule, neighbour: Neighbour) -> Iterator[Finding]:
    if not neighbour.permitted:
        return
    target = rule.target
    field = "prefix" if isinstance(rule, Blackhole) else "destination"
    if target is None or isinstance(target, OffsetPrefix) or not _inside(target, neighbour.permitted):
        allowed = ", ".join(map(str, neighbour.permitted))
        reason = f"{neighbour.name} takes rules inside {allowed} only"
        yield error("guard.neighbour.permitted", field, target or "", reason, "leave this neighbour out")


def _inside(target: Network, permitted: tuple[Network, ...]) -> bool:
    return any(own.version == target.version and target.subnet_of(own) for own in permitted)  # type: ignore[arg-type]


def _budget(neighbour: Neighbour, held_there: int) -> Iterator[Finding]:
    if held_there >= neighbour.budget:
        reason = f"{neighbour.name} holds {held_there} rules, and its routers have room for {neighbour.budget}"
        fix = "withdraw rules there, or raise its budget if the routers can take it"
        yield error("guard.neighbour.budget", "neighbour", neighbour.name, reason, fix)
    elif held_there + 1 > neighbour.budget * _NEAR:
        reason = f"{neighbour.name} holds {held_there} rules of {neighbour.budget}"
        yield warning("guard.neighbour.budget-near", "neighbour", neighbour.name, reason)
