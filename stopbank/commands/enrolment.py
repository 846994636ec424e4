"""`stopbank sensor token|tokens|list|bind|revoke`: who may report, said on the machine of the intake."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from rules.errors import Problem, Refused
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.commands.watching import app
from stopbank.terminal import fail, refuse, show

if TYPE_CHECKING:
    from intake.registry import Registry

EVERY_ZONE = "*"


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="The new sensor's name")],
    zone: Annotated[list[str] | None, typer.Option(help="A zone it may speak of; without any: all zones")] = None,
    valid: Annotated[str, typer.Option(help="How long the token may be used: 90s, 30m, 6h, 1d")] = "1h",
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """A single-use enrolment token, on the machine of the intake; it holds a secret and is shown once."""
    from intake.authority import Authority
    from intake.registry import Registry
    from stopbank import durations, opened, wiring

    found = loaded(config)
    settings = wiring.intake(found)
    try:
        _known(found, zone or [])
        now = opened.now()
        expires = now + durations.parse("valid", valid)
        authority = Authority.open(settings.directory, now)
        address = (settings.public_name, settings.port)
        made = Registry(settings.directory).create_token(
            name, zone or [EVERY_ZONE], address, authority.fingerprint, expires
        )
    except Refused as error:
        refuse(error, as_json)
    except OSError as error:
        fail(f"{settings.directory}: {error.strerror}")
    document = {"sensor": name, "zones": zone or [EVERY_ZONE], "expires": expires.isoformat(), "token": str(made)}
    show(document, as_json, str(made))


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="An enrolled sensor, or one with open tokens")],
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Shuts a sensor out at once, voids its open tokens and forgets when it was heard; on the machine of the intake."""
    from stopbank import opened

    found = loaded(config)
    try:
        _registry(found).revoke(name, opened.now())
    except Refused as error:
        refuse(error, as_json)
    # Else its silence would count as a trouble for ever. Where the database is elsewhere, there is nothing to forget.
    with contextlib.suppress(opened.Unopened), opened.existing(found) as store:
        store.forget_sensor(name)
    show({"ok": True, "revoked": name}, as_json, f"revoked: {name}")


@app.command("list")
def list_sensors(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Enrolled sensors and their zones, on the machine of the intake."""
    found = _registry(loaded(config)).sensors()
    lines = [f"{one.name}  zones {' '.join(one.zones)}  certificate until {one.not_after:%Y-%m-%d}" for one in found]
    document = [
        {"name": one.name, "zones": list(one.zones), "not_after": one.not_after.isoformat()} for one in found
    ]  # fmt: skip
    show(document, as_json, "\n".join(lines) or "no sensors enrolled")


@app.command()
def tokens(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Enrolment tokens that were made and not used, on the machine of the intake; never their secrets."""
    from stopbank import opened

    found, now = _registry(loaded(config)).tokens(), opened.now()
    lines = [
        f"{one.sensor}  zones {' '.join(one.zones)}  "
        + ("expired" if one.expires <= now else f"until {one.expires:%Y-%m-%d %H:%M} UTC")
        for one in found
    ]
    document = [
        {"sensor": one.sensor, "zones": list(one.zones), "expires": one.expires.isoformat()} for one in found
    ]  # fmt: skip
    show(document, as_json, "\n".join(lines) or "no open tokens")


@app.command()
def bind(
    name: Annotated[str, typer.Argument(help="An enrolled sensor")],
    zone: Annotated[list[str], typer.Option(help="A zone it may speak of from now on; `*`: all zones")],
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Which zones a sensor may speak of, in the place of those before; on the machine of the intake."""
    found = loaded(config)
    try:
        _known(found, zone)
        _registry(found).bind(name, zone)
    except Refused as error:
        refuse(error, as_json)
    except OSError as error:
        fail(f"{error.filename or 'intake'}: {error.strerror}")
    zones = sorted(set(zone))
    show({"name": name, "zones": zones}, as_json, f"{name}: zones {' '.join(zones)}")


def _registry(found: configuration.Config) -> "Registry":
    """Who was let in; where nobody ever was, the command ends and nothing is made."""
    from intake.registry import Registry
    from stopbank import wiring

    directory = wiring.intake(found).directory
    if not directory.is_dir():
        fail(
            f"{directory} does not exist: no sensor was let in here yet; `stopbank sensor token NAME` is the beginning"
        )
    return Registry(directory)


def _known(found: configuration.Config, names: list[str]) -> None:
    """Raises `Refused` with every name that is no zone; `*` stands for all."""
    from stopbank import opened

    if not set(names) - {EVERY_ZONE}:
        return
    with opened.standing(found) as store:
        there = [zone.name for zone in store.zones()]
    reason = f"is no zone; there are {', '.join(there)}" if there else "is no zone; add it first: stopbank zone add"
    if problems := [Problem("zone", name, reason) for name in names if name not in (EVERY_ZONE, *there)]:
        raise Refused.all(problems)
