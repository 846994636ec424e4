"""`stopbank zone`: what is protected, from what rate on, and what Stopbank may do there on its own."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from rules.action import Discard, RateLimit
from rules.errors import Problem, Refused
from rules.match import Network, parse_prefix
from rules.zone import DEFAULT_LIMITS, NAME, NAME_REASON, Metric, Mode, Zone
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import refuse, show, warn

app = typer.Typer(help="Zones: whose prefixes are protected, and how.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The zone's name")]


class ModeName(StrEnum):
    """What `--mode` takes."""

    observe = "observe"
    propose = "propose"
    auto = "auto"


@app.command("add")
def add(
    name: Name,
    prefix: Annotated[list[str], typer.Option(help="A protected prefix; may be given several times")],
    mode: Annotated[ModeName, typer.Option(help="What a detection leads to")] = ModeName.observe,
    limit: Annotated[list[str] | None, typer.Option(help="METRIC=RATE a second and host; `packets=50000`")] = None,
    owner: Annotated[str, typer.Option(help="The tenant")] = "operator",
    rate_limit: Annotated[int | None, typer.Option(help="Rate-limit to BYTES/s instead of discarding")] = None,
    blackhole_above: Annotated[
        int | None, typer.Option(help="Opt in to automatic RTBH from this many bit/s on one target")
    ] = None,
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """Adds a zone, or replaces the one of that name; without --limit the defaults count."""
    from stopbank import local, opened

    problems: list[Problem] = []
    prefixes = [_collected(problems, parse_prefix, "prefix", one) for one in prefix]
    limits = [_collected(problems, _limit, one) for one in limit or ()]
    if not NAME.fullmatch(name):
        problems.append(Problem("name", name, NAME_REASON))
    action = _collected(problems, RateLimit, rate_limit) if rate_limit is not None else Discard()
    if problems:
        refuse(Refused.all(problems))
    given = dict(limits)
    try:
        zone = Zone(
            name=name,
            prefixes=tuple(prefixes),
            owner=owner,
            mode=Mode(mode.value),
            limits=tuple(given.items()) if given else DEFAULT_LIMITS,
            action=action,
            blackhole=blackhole_above is not None,
            blackhole_bits_per_second=blackhole_above,
        )
    except Refused as error:
        refuse(error)
    found = loaded(config)
    with opened.store(found) as store:
        others = [one for one in store.zones() if one.name != zone.name and one.owner != zone.owner]
        store.put_zone(zone, opened.actor(), opened.now())
    for other in others:
        if shared := [str(one) for one in zone.prefixes for two in other.prefixes if _meet(one, two)]:
            warn(f"warning: {', '.join(shared)}: zone {other.name} of {other.owner} has it too; each may filter there")
    local.wake(found.paths.state)
    show(None, False, _line(zone))


@app.command("list")
def list_zones(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """All zones."""
    from rules.messages import zone_to_json
    from stopbank import opened

    with opened.store(loaded(config)) as store:
        zones = store.zones()
    show([zone_to_json(one) for one in zones], as_json, "\n".join(map(_line, zones)) or "no zones")


@app.command("remove")
def remove(name: Name, config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Removes a zone; its rules are withdrawn, since nothing allows them any more."""
    from stopbank import local, opened

    found = loaded(config)
    with opened.store(found) as store:
        store.remove_zone(name, opened.actor(), opened.now())
    local.wake(found.paths.state)
    show(None, False, f"removed: {name}")


def _meet(one: Network, two: Network) -> bool:
    return one.version == two.version and one.overlaps(two)


def _limit(given: str) -> tuple[Metric, int]:
    name, equals, rate = given.partition("=")
    known = [metric.value for metric in Metric]
    if not equals or name not in known or not (rate.isdecimal() and len(rate) < 20):
        raise Refused("limit", given, f"write METRIC=RATE with a whole number; metrics: {', '.join(known)}")
    return Metric(name), int(rate)


def _collected(problems: list[Problem], function: Any, *arguments: Any) -> Any:
    """The function's value, or None with its problems added."""
    try:
        return function(*arguments)
    except Refused as error:
        problems.extend(error.problems)
        return None


def _line(zone: Zone) -> str:
    limits = ", ".join(f"{metric.value} {rate:,}" for metric, rate in zone.limits)
    prefixes: tuple[Network, ...] = zone.prefixes
    return f"{zone.name}  {zone.mode.value}  {' '.join(map(str, prefixes))}  limits a second: {limits}"
