"""`stopbank sensor token|list|revoke`: who may report, said on the machine of the intake."""

from typing import Annotated

import typer

from rules.errors import Refused
from stopbank import config as configuration
from stopbank.commands.machine import ConfigPath, loaded
from stopbank.commands.watching import app
from stopbank.terminal import fail, refuse, show


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="The new sensor's name")],
    zone: Annotated[list[str] | None, typer.Option(help="A zone it may speak of; without any: all zones")] = None,
    valid: Annotated[str, typer.Option(help="How long the token may be used: 90s, 30m, 6h, 1d")] = "1h",
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """A single-use enrolment token, on the machine of the intake; it holds a secret and is shown once."""
    from intake.authority import Authority
    from intake.registry import Registry
    from stopbank import durations, opened, wiring

    settings = wiring.intake(loaded(config))
    try:
        now = opened.now()
        expires = now + durations.parse("valid", valid)
        authority = Authority.open(settings.directory, now)
        address = (settings.public_name, settings.port)
        made = Registry(settings.directory).create_token(name, zone or ["*"], address, authority.fingerprint, expires)
    except Refused as error:
        refuse(error)
    except OSError as error:
        fail(f"{settings.directory}: {error.strerror}")
    show(None, False, str(made))


@app.command()
def revoke(name: Annotated[str, typer.Argument()], config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Shuts a sensor out at once, on the machine of the intake."""
    from intake.registry import Registry
    from stopbank import opened, wiring

    try:
        Registry(wiring.intake(loaded(config)).directory).revoke(name, opened.now())
    except Refused as error:
        refuse(error)
    show(None, False, f"revoked: {name}")


@app.command("list")
def list_sensors(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Enrolled sensors and their zones, on the machine of the intake."""
    from intake.registry import Registry
    from stopbank import wiring

    found = Registry(wiring.intake(loaded(config)).directory).sensors()
    lines = [f"{one.name}  zones {' '.join(one.zones)}  certificate until {one.not_after:%Y-%m-%d}" for one in found]
    show(None, False, "\n".join(lines) or "no sensors enrolled")
