"""How a new rule gets along with those already wanted: the same key, an order that makes one useless, blackholes.

Only looks at rules whose destination meets; the rest cannot matter.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from rules.findings import Finding, error, note, warning
from rules.guard_active import ActiveRules, Held
from rules.guard_values import Request
from rules.match import Network, OffsetPrefix
from rules.relations import Relation, compare, prepared
from rules.rule import Blackhole, FlowSpec

_NAMED = 3
"""How many rules a finding names; the rest is counted."""


def findings(request: Request, active: ActiveRules) -> Iterator[Finding]:
    """Everything between the request and the rules that are wanted."""
    own = request.rule.id
    if (held := active.get(own)) is not None:
        yield from _same_key(request, held)
    others = [one for one in active.related(request.rule) if one.id not in (own, request.replaces)]
    if isinstance(request.rule, FlowSpec):
        yield from _among_flowspec(request.rule, others, active)
        yield from _below_blackholes(request.rule, others)
    else:
        yield from _above_flowspec(request.rule, others)


# ------------------------------------------------------------------------------------------------------- the same key


def _same_key(request: Request, held: Held) -> Iterator[Finding]:
    """The NLRI, or the blackhole prefix, is the key: a second rule replaces the first at the router."""
    foreign = held.owner != request.owner
    if foreign and not (request.is_operator and request.replaces == held.id):
        reason = f"is held by {held.owner}, and a router has one rule for it"
        yield error(
            "guard.interaction.foreign", "match", held.id, reason, "ask its owner, or an operator to replace it"
        )
    elif request.replaces != held.id:
        same = _does(held) == _does_request(request)
        id = "guard.interaction.duplicate" if same else "guard.interaction.action"
        reason = f"is already wanted, to {_does(held)}"
        fix = "extend it instead" if same else "replace it openly, or withdraw it first"
        yield error(id, "match", held.id, reason, fix)
    elif foreign or _does(held) != _does_request(request):
        reason = f"replaces {held.owner}'s rule that says: {_does(held)}"
        say = warning if foreign else note
        yield say("guard.interaction.replaces", "match", held.id, reason)


def _does(held: Held) -> str:
    rule = held.rule
    return f"blackhole with scope {rule.scope.value}" if isinstance(rule, Blackhole) else str(rule.action)


def _does_request(request: Request) -> str:
    return _does(Held(request.rule, request.owner, request.origin, id=request.rule.id))


# ------------------------------------------------------------------------------------------------------ order, overlap

_SAYS: dict[tuple[Relation, bool], tuple[str, Callable[..., Finding], str, str]] = {
    (Relation.SHADOWED, False): (
        "shadowed", warning, "does nothing: {} go first and take all of its packets, with another action",
        "withdraw those, or narrow them",
    ),
    (Relation.SHADOWED, True): ("redundant", note, "adds nothing: {} take all of its packets already", ""),
    (Relation.EXCEPTION, False): (
        "exception", warning, "goes first inside the wider {}, which have another action", "make sure it is meant so",
    ),
    (Relation.EXCEPTION, True): ("subsumed", note, "adds nothing: the wider {} do the same to its packets", ""),
    (Relation.SHADOWS, False): (
        "shadows", warning, "goes first and takes all packets of {}, which have another action",
        "narrow it, or withdraw those",
    ),
    (Relation.SHADOWS, True): ("shadows-same", note, "makes {} superfluous", "withdraw those to save entries"),
    (Relation.EXCEPTED, False): (
        "excepted", warning, "leaves part of its packets to {}, which go first with another action",
        "make sure it is meant so",
    ),
    (Relation.EXCEPTED, True): ("subsumes", note, "does all that {} do", "withdraw those to save entries"),
    (Relation.OVERLAPS, False): (
        "overlaps", warning, "shares packets with {}, which have another action; the first in RFC 8955 order gets them",
        "make the two disjoint",
    ),
}  # fmt: skip
"""By relation and whether the actions are equal: id, severity, reason, fix."""


def _among_flowspec(rule: FlowSpec, others: list[Held], active: ActiveRules) -> Iterator[Finding]:
    found: dict[tuple[Relation, bool], list[Held]] = defaultdict(list)
    own = None
    for held in others:
        if isinstance(held.rule, FlowSpec):
            # Most rules meet no other, and what comparing needs is dear.
            own = own or prepared(rule.match)
            seen = compare(own, active.prepared(held, held.rule.match))
            found[seen, held.rule.action == rule.action].append(held)
    for key, (id, say, reason, fix) in _SAYS.items():
        if held_there := found.get(key):
            names = _names(held_there)
            yield say(f"guard.interaction.{id}", "match", rule.id, reason.format(names), fix)


def _names(held: list[Held]) -> str:
    named = ", ".join(f"{one.id} ({one.owner}: {one.rule})" for one in held[:_NAMED])
    return named if len(held) <= _NAMED else f"{named} and {len(held) - _NAMED} more"


# --------------------------------------------------------------------------------------------------------- blackholes


def _holds(outer: Network, inner: object) -> bool:
    if inner is None or isinstance(inner, OffsetPrefix):
        return False
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[attr-defined,no-any-return]


def _below_blackholes(rule: FlowSpec, others: list[Held]) -> Iterator[Finding]:
    blackholes = [held for held in others if isinstance(held.rule, Blackhole)]
    above = [held for held in blackholes if _holds(held.rule.target, rule.target)]  # type: ignore[arg-type]
    if above:
        reason = f"does nothing while a blackhole drops everything to its destination: {_names(above)}"
        yield warning("guard.interaction.blackhole", "destination", rule.target, reason, "withdraw the blackhole first")
    inside = [held for held in blackholes if held not in above]
    if inside:
        reason = f"holds blackholed addresses: {_names(inside)}; where they come from another AS, routers may find the "
        reason += "FlowSpec rule invalid (RFC 8955 §6)"
        yield warning(
            "guard.interaction.blackhole-inside", "destination", rule.target, reason, "check it at the router"
        )


def _above_flowspec(rule: Blackhole, others: list[Held]) -> Iterator[Finding]:
    useless = [held for held in others if isinstance(held.rule, FlowSpec) and _holds(rule.prefix, held.rule.target)]
    if useless:
        reason = f"makes FlowSpec rules useless, since nothing reaches their destination: {_names(useless)}"
        yield warning(
            "guard.interaction.blackhole", "prefix", rule.prefix, reason, "withdraw those, or keep them alone"
        )
    around = [held for held in others if isinstance(held.rule, FlowSpec) and held not in useless and held.rule.target]
    if around:
        reason = (
            f"lies inside FlowSpec destinations: {_names(around)}; routers may find those rules invalid (RFC 8955 §6)"
        )
        yield warning("guard.interaction.blackhole-inside", "prefix", rule.prefix, reason, "check it at the router")
    nested = [held for held in others if isinstance(held.rule, Blackhole)]
    if nested:
        reason = f"overlaps other blackholes: {_names(nested)}"
        yield note("guard.interaction.blackhole-nested", "prefix", rule.prefix, reason)
