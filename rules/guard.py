"""What must be right before a rule may go out: the one door that people, the API and the automation go through.

Reports everything at once and decides by errors alone. It does not know zone modes, approvals or the kill switch, and
never makes a refused rule wider.
"""

from rules import guard_interaction, guard_limits, guard_neighbours, guard_reach, guard_semantics, guard_whole
from rules.findings import Finding, Objected, Severity
from rules.guard_active import ActiveRules, Held, Origin
from rules.guard_values import Limits, Request, Surroundings
from rules.neighbour import Neighbour
from rules.rule import FlowSpec, Rule

__all__ = [
    "ActiveRules",
    "Finding",
    "Held",
    "Limits",
    "Objected",
    "Origin",
    "Request",
    "Severity",
    "Surroundings",
    "admit",
    "for_neighbour",
    "objections",
]

_WEIGHT = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def objections(request: Request, surroundings: Surroundings) -> tuple[Finding, ...]:
    """Everything there is to say about a request, errors first; one error is enough for it not to go out."""
    found = [*guard_reach.findings(request, surroundings)]
    if isinstance(request.rule, FlowSpec):
        found += guard_semantics.findings(request.rule, surroundings.limits)
    found += guard_whole.findings(request, surroundings)
    found += guard_interaction.findings(request, surroundings.active)
    found += guard_limits.findings(request, surroundings)
    found += guard_neighbours.everywhere(request.rule, surroundings.neighbours)
    return tuple(sorted(found, key=lambda finding: _WEIGHT[finding.severity]))


def admit(request: Request, surroundings: Surroundings) -> tuple[Finding, ...]:
    """The warnings and notes about a request that may go out; raises `Objected`, with everything, where it may not."""
    found = objections(request, surroundings)
    if any(finding.is_error for finding in found):
        raise Objected(found)
    return found


def for_neighbour(rule: Rule, neighbour: Neighbour, held_there: int) -> tuple[Finding, ...]:
    """Everything about one rule at one neighbour that holds `held_there` rules now; an error keeps it from there."""
    return tuple(guard_neighbours.findings(rule, neighbour, held_there))
