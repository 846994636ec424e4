"""The options of `stopbank zone add` and `zone change`: from what people type to a zone's fields."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from rules.action import Discard, RateLimit
from rules.errors import Problem, Refused
from rules.match import Network, parse_prefix
from rules.messages import zone_to_json
from rules.special import reach_problems
from rules.zone import Metric, Mode, Zone
from stopbank import durations

if TYPE_CHECKING:
    from store.records import UnreadableRecord

Limits = tuple[tuple[Metric, int], ...]
Changes = Mapping[Metric, int | None]
"""None removes the limit."""


class ModeName(StrEnum):
    """What `--mode` takes."""

    observe = "observe"
    propose = "propose"
    auto = "auto"


ModeOption = Annotated[ModeName | None, typer.Option("--mode", help="What a detection leads to; at first `observe`")]
Limit = Annotated[list[str] | None, typer.Option(help="METRIC=RATE a second and host; `packets=100000`")]
TotalLimit = Annotated[list[str] | None, typer.Option(help="METRIC=RATE a second for the zone as a whole")]
PrefixFactor = Annotated[
    float | None, typer.Option(help="How many times the host limits a whole /24 or /48 may get; 1 to 256")
]
Learned = Annotated[
    bool | None, typer.Option("--learned/--not-learned", help="Judge by what was learned as normal, too")
]
Owner = Annotated[str | None, typer.Option(help="The tenant; `operator` unless given")]
RateLimiting = Annotated[int | None, typer.Option(help="Rate-limit to BYTES/s instead of discarding")]
BlackholeAbove = Annotated[int | None, typer.Option(help="Opt in to automatic RTBH from this many bit/s on one target")]
RuleLifetime = Annotated[
    str | None, typer.Option(help="How long an automatic rule lives after the last sign of the attack: 90s, 10m")
]
CollateralLimit = Annotated[
    float | None, typer.Option(help="Share of normal traffic, 0 to 1, above which an automatic rule waits for a person")
]
AutomaticRules = Annotated[int | None, typer.Option(help="How many automatic rules may stand here at once")]
Discarding = Annotated[bool, typer.Option("--discard", help="Discard instead of rate-limiting")]
NoBlackhole = Annotated[bool, typer.Option("--no-blackhole", help="No automatic RTBH any more")]
Shared = Annotated[bool, typer.Option("--shared", help="Other owners' zones have these addresses too, and may")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was typed, an option for each field; None where nothing was."""

    mode: ModeOption = None
    limit: Limit = None
    total_limit: TotalLimit = None
    prefix_factor: PrefixFactor = None
    learned: Learned = None
    owner: Owner = None
    rate_limit: RateLimiting = None
    blackhole_above: BlackholeAbove = None
    rule_lifetime: RuleLifetime = None
    collateral_limit: CollateralLimit = None
    automatic_rules: AutomaticRules = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changing(Given):
    """The same for a zone that stands: what was set can be taken back."""

    discard: Discarding = False
    no_blackhole: NoBlackhole = False


def as_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of its parameter `given`, in that place: typer knows no other way to
    share a list of options between commands."""
    signature = inspect.signature(command)
    kind = signature.parameters["given"].annotation
    hints = get_type_hints(kind, include_extras=True)
    own = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(kind)
    ]

    @wraps(command)
    def run(**arguments: Any) -> None:
        given = kind(**{one.name: arguments.pop(one.name) for one in own})
        command(**arguments, given=given)

    parameters = [
        shown.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in signature.parameters.values()
        for shown in (own if one.name == "given" else (one,))
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def read(given: Given, prefixes: Iterable[str], *, leave: bool = False) -> tuple[tuple[Network, ...], dict[str, Any]]:
    """The prefixes, and those fields of `Zone` that were given (limits as `Changes`); raises `Refused` with all.
    `leave`: the prefixes leave the zone, so whatever they are is no problem."""
    problems: list[Problem] = []

    def collected(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Refused as error:
            problems.extend(error.problems)

    found = tuple(collected(parse_prefix, "prefix", one) for one in prefixes)
    problems += [] if leave else reach_problems(one for one in found if one is not None)
    values: dict[str, Any] = {
        name: value
        for name in ("prefix_factor", "learned", "owner", "collateral_limit", "automatic_rules")
        if (value := getattr(given, name)) is not None
    }
    if given.mode is not None:
        values["mode"] = Mode(given.mode.value)
    for name, texts in (("limit", given.limit), ("total_limit", given.total_limit)):
        if texts:
            values[f"{name}s"] = collected(_limits, name.replace("_", "-"), texts)
    if given.rule_lifetime is not None:
        values["rule_lifetime_seconds"] = collected(_seconds, given.rule_lifetime)
    values |= collected(_action, given) or {}
    values |= collected(_blackhole, given) or {}
    if problems:
        raise Refused.all(problems)
    return found, values


def _seconds(text: str) -> int:
    return int(durations.parse("rule-lifetime", text).total_seconds())


def _action(given: Given) -> dict[str, Any]:
    discard = isinstance(given, Changing) and given.discard
    if discard and given.rate_limit is not None:
        raise Refused("rate-limit", given.rate_limit, "does not go with --discard; choose one")
    if given.rate_limit is not None:
        return {"action": RateLimit(given.rate_limit)}
    return {"action": Discard()} if discard else {}


def _blackhole(given: Given) -> dict[str, Any]:
    no_blackhole = isinstance(given, Changing) and given.no_blackhole
    if no_blackhole and given.blackhole_above is not None:
        raise Refused("blackhole-above", given.blackhole_above, "does not go with --no-blackhole; choose one")
    if given.blackhole_above is not None:
        return {"blackhole": True, "blackhole_bits_per_second": given.blackhole_above}
    return {"blackhole": False, "blackhole_bits_per_second": None} if no_blackhole else {}


def _limits(field: str, texts: Iterable[str]) -> Changes:
    known = [metric.value for metric in Metric]
    problems: list[Problem] = []
    found: dict[Metric, int | None] = {}
    for text in texts:
        name, _, rate = text.partition("=")
        if name not in known or not (rate == "none" or (rate.isdecimal() and len(rate) < 20)):
            reason = f"write METRIC=RATE with a whole number, or METRIC=none; metrics: {', '.join(known)}"
            problems.append(Problem(field, text, reason))
        elif Metric(name) in found:
            problems.append(Problem(field, text, f"{name} is given twice"))
        else:
            found[Metric(name)] = None if rate == "none" else int(rate)
    if problems:
        raise Refused.all(problems)
    return found


def merged(before: Limits, changes: Changes) -> Limits:
    """The limits after the changes."""
    after: dict[Metric, int | None] = {**dict(before), **changes}
    return tuple((metric, rate) for metric, rate in after.items() if rate is not None)


def changed(before: Zone, more: tuple[Network, ...], fewer: tuple[Network, ...], values: Mapping[str, Any]) -> Zone:
    """The zone after the changes; raises `Refused`, also for a prefix that isn't there to be removed."""
    if absent := [one for one in fewer if one not in before.prefixes]:
        raise Refused.all(Problem("remove-prefix", str(one), "is none of the zone's prefixes") for one in absent)
    limits = {
        name: merged(getattr(before, name), values[name]) for name in ("limits", "total_limits") if name in values
    }
    prefixes = tuple(dict.fromkeys(one for one in (*before.prefixes, *more) if one not in fewer))
    return replace(before, prefixes=prefixes, **(dict(values) | limits))


def document(zone: Zone) -> dict[str, Any]:
    """A zone as JSON shows it."""
    return dict(zone_to_json(zone))


def described(zone: Zone) -> str:
    """A zone for people, a line for each setting."""
    action = str(zone.action).removeprefix("then ").strip("{ };")
    above = "off" if not zone.blackhole else f"from {zone.blackhole_bits_per_second:,} bit/s on one target"
    settings = {
        "zone": zone.name,
        "prefixes": " ".join(map(str, zone.prefixes)),
        "owner": zone.owner,
        "mode": zone.mode.value,
        "limits a host and second": _described(zone.limits),
        "limits a zone and second": _described(zone.total_limits),
        "prefix factor": f"{zone.prefix_factor:g}",
        "learned": "yes" if zone.learned else "no",
        "action": action,
        "automatic rules": f"at most {zone.automatic_rules}, {zone.rule_lifetime_seconds} s each",
        "collateral limit": f"{zone.collateral_limit:.2%}",
        "automatic blackholes": above,
    }
    return "\n".join(f"{name:26}{value}" for name, value in settings.items())


def _described(limits: Limits) -> str:
    return ", ".join(f"{metric.value} {rate:,}" for metric, rate in limits) or "none"


_TYPED = {
    "prefixes": "prefix",
    "rule_lifetime_seconds": "rule-lifetime",
    "blackhole_bits_per_second": "blackhole-above",
}
"""Fields of a zone whose option has another name."""


def as_typed(error: Refused) -> Refused:
    """The same with fields named as the options are: what a person reads is what he can correct."""
    return Refused.all(Problem(_option(one.field), one.value, one.reason) for one in error.problems)


def _option(field: str) -> str:
    for name, option in (("limits.", "limit"), ("total_limits.", "total-limit")):
        if field.startswith(name):
            return f"{option} {field.removeprefix(name)}"
    return _TYPED.get(field, field.replace("_", "-"))


def unreadable(record: "UnreadableRecord") -> Problem:
    """A zone's row that can't be read, as a problem."""
    return Problem("zone", record.subject, f"can't be read: {record.problem}")
