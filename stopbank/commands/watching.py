"""`stopbank sensor run|compile|enroll|top`: the sensor of this machine."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from rules.errors import Refused
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import REFUSED, fail, refuse, show

MOST_TOKEN = 4_096
"""Characters; more are no token."""

app = typer.Typer(help="Sensors: watch packets, report attacks.", no_args_is_help=True)


@app.command()
def enroll(
    token: Annotated[str, typer.Argument(help="What `stopbank sensor token` printed; `-` reads a line of it")],
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Trades a token for this sensor's certificate; afterwards `stopbank sensor run` is known to the intake."""
    from rules.messages_enrolment import EnrolmentToken
    from sensors.enroll import EnrolmentFailed, enrol
    from stopbank import wiring

    found = loaded(config)
    directory = wiring.sensor_directory(found)
    try:
        # On the command line it would stand in the list of processes and in the shell's history.
        given = sys.stdin.readline(MOST_TOKEN).strip() if token == "-" else token
        identity = enrol(EnrolmentToken.parse(given), directory, found.sensor.name)
    except Refused as error:
        refuse(error, as_json)
    except EnrolmentFailed as error:
        fail(str(error), REFUSED)
    except OSError as error:
        fail(f"{directory}: {error.strerror}")
    document = {"name": identity.name, "intake": f"{identity.host}:{identity.port}", "directory": str(directory)}
    show(document, as_json, f"enrolled as {identity.name}")


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
    except OSError as error:
        fail(f"{error.filename or 'sensor'}: {error.strerror}")


@app.command("compile")
def compile_command(
    cache: Annotated[
        Path | None, typer.Option(help="Where to, instead of where this configuration's sensor keeps it")
    ] = None,
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """Compiles the packet kernel into the sensor's cache, so that `run` starts at once. Quick when it is there."""
    from sensors.live import COMPILING, compile_kernel
    from sensors.signals import interruptible
    from stopbank import wiring

    where = cache.resolve() if cache else wiring.kernel_cache(loaded(config))

    def say(seconds: float) -> None:
        typer.echo(f"{COMPILING}: {seconds:.0f} s so far", err=True)

    try:
        with interruptible():
            took = compile_kernel(where, say)
    except OSError as error:
        fail(f"{error.filename or where}: {error.strerror}")
    show(None, False, f"the packet kernel is in {where} ({took:.1f} s)")


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end")] = False,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """What the sensor of this machine sees now: interfaces, top targets, attacks. Exit 1 when none runs."""
    from sensors.top import SOCKET, ask, plain
    from stopbank import wiring

    path = wiring.sensor_directory(loaded(config)) / SOCKET
    shown = ask(path)
    if shown is None:
        fail(_silent(path), REFUSED)
    if once or as_json or not sys.stdout.isatty():
        show(shown, as_json, plain(shown))
        return
    _draw(path)


def _silent(path: Path) -> str:
    """Why nobody answers there."""
    try:
        path.stat()
    except FileNotFoundError:
        return f"no sensor runs here, or it still starts: there is no {path}"
    except OSError as error:
        return f"{path}: {error.strerror}: ask as root, or as the user that the sensor runs as"
    if not os.access(path, os.W_OK):
        return f"{path}: Permission denied: ask as root, or as the user that the sensor runs as"
    return f"no sensor runs here: nobody answers at {path}"


def _draw(path: Path) -> None:
    """Until Ctrl-C, or the sensor ends."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from sensors.top import ask, render

    with Live(Text(""), console=Console(), screen=True, auto_refresh=False) as screen:
        try:
            while True:
                shown = ask(path)
                page = render(shown) if shown else Text(f"{_silent(path)}; waiting for it", style="red")
                screen.update(page, refresh=True)
                time.sleep(1)
        except KeyboardInterrupt:
            return
