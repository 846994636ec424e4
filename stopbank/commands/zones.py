"""`stopbank zone`: what is protected, from what rate on, and what Stopbank may do there on its own."""

from typing import Annotated

import typer

from rules.errors import Refused
from rules.zone import DEFAULT_LIMITS, Zone
from stopbank import config as configuration
from stopbank.commands import zone_options as options
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import REFUSED, refuse, show

app = typer.Typer(help="Zones: whose prefixes are protected, and how.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The zone's name")]


@app.command()
@options.as_options
def add(
    *,
    name: Name,
    prefix: Annotated[list[str], typer.Option(help="A protected prefix; may be given several times")],
    given: options.Given,
    shared: options.Shared = False,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Adds a zone; what is not given has its default. One --limit takes the place of all default limits."""
    from stopbank import local, opened

    try:
        prefixes, values = options.read(given, prefix)
        limits = values.pop("limits", {})
        total = values.pop("total_limits", {})
        zone = Zone(
            name=name,
            prefixes=prefixes,
            limits=options.merged((), limits) if limits else DEFAULT_LIMITS,
            total_limits=options.merged((), total),
            **values,
        )
        found = loaded(config)
        with opened.store(found) as store:
            store.add_zone(zone, opened.actor(), opened.now(), shared=shared)
    except Refused as error:
        refuse(options.as_typed(error), as_json)
    local.wake(found.paths.state)
    show({"ok": True, "zone": options.document(zone)}, as_json, _line(zone))


@app.command()
@options.as_options
def change(
    *,
    name: Name,
    add_prefix: Annotated[list[str] | None, typer.Option(help="One more protected prefix")] = None,
    remove_prefix: Annotated[list[str] | None, typer.Option(help="A prefix no longer protected")] = None,
    given: options.Changing,
    shared: options.Shared = False,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Changes what is given and nothing else; `--limit METRIC=none` removes a limit."""
    from stopbank import local, opened

    try:
        more, values = options.read(given, add_prefix or ())
        fewer, _ = options.read(options.Given(), remove_prefix or (), leave=True)
        if not (more or fewer or values):
            raise Refused(
                "zone change", name, "is told nothing to change; `stopbank zone change --help` lists what can be"
            )
        found = loaded(config)
        with opened.standing(found) as store:
            zone = store.change_zone(
                name,
                lambda before: options.changed(before, more, fewer, values),
                opened.actor(),
                opened.now(),
                shared=shared,
            )
    except Refused as error:
        refuse(options.as_typed(error), as_json)
    local.wake(found.paths.state)
    show({"ok": True, "zone": options.document(zone)}, as_json, _line(zone))


@app.command("show")
def show_zone(name: Name, config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Everything a zone is set to."""
    from stopbank import opened

    with opened.standing(loaded(config)) as store:
        zone = next((one for one in store.zones() if one.name == name), None)
    if zone is None:
        refuse(Refused("name", name, "is no zone; `stopbank zone list` shows those there are"), as_json)
    show(options.document(zone), as_json, options.described(zone))


@app.command("list")
def list_zones(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """All zones."""
    from stopbank import opened

    with opened.standing(loaded(config)) as store:
        zones = store.zones()
        unreadable = [one for one in store.unreadable() if one.table == "zones"]
    show([options.document(one) for one in zones], as_json, "\n".join(map(_line, zones)) or "no zones")
    if unreadable:
        refuse(Refused.all(options.unreadable(one) for one in unreadable), code=REFUSED)


@app.command("remove")
def remove(name: Name, config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Removes a zone; its rules are withdrawn, since nothing allows them any more."""
    from stopbank import local, opened

    found = loaded(config)
    with opened.standing(found) as store:
        store.remove_zone(name, opened.actor(), opened.now())
    local.wake(found.paths.state)
    show({"ok": True, "name": name}, as_json, f"removed: {name}")


def _line(zone: Zone) -> str:
    limits = ", ".join(f"{metric.value} {rate:,}" for metric, rate in zone.limits)
    return f"{zone.name}  {zone.mode.value}  {' '.join(map(str, zone.prefixes))}  limits a second: {limits}"
