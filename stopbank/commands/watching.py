"""`stopbank sensor run|enroll`: the sensor of this machine."""

from typing import Annotated

import typer

from rules.errors import Refused
from stopbank import config as configuration
from stopbank.commands.machine import ConfigPath, loaded
from stopbank.terminal import REFUSED, fail, refuse, show

app = typer.Typer(help="Sensors: watch packets, report attacks.", no_args_is_help=True)


@app.command()
def enroll(
    token: Annotated[str, typer.Argument(help="What `stopbank sensor token` printed")],
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """Trades a token for this sensor's certificate; afterwards `stopbank sensor run` is known to the intake."""
    from rules.messages_enrolment import EnrolmentToken
    from sensors.enroll import EnrolmentFailed, enrol
    from stopbank import wiring

    directory = wiring.sensor_directory(loaded(config))
    try:
        identity = enrol(EnrolmentToken.parse(token), directory)
    except Refused as error:
        refuse(error)
    except EnrolmentFailed as error:
        fail(str(error), REFUSED)
    except OSError as error:
        fail(f"{directory}: {error.strerror}")
    show(None, False, f"enrolled as {identity.name}")


@app.command()
def run(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Watches this machine's interfaces until SIGTERM; needs CAP_NET_RAW, and no network to detect."""
    from sensors.live import run as run_sensor
    from stopbank import wiring

    found = loaded(config)
    try:
        run_sensor(wiring.sensor(found, ()), wiring.link(found))
    except Refused as error:
        refuse(error, code=2)
    except PermissionError:
        fail("packet sockets need CAP_NET_RAW: run this as root or by its systemd unit")
    except OSError as error:
        fail(f"{error.filename or 'sensor'}: {error.strerror}")
