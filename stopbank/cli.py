"""The `stopbank` command. Only wiring: each group of commands lives in `stopbank.commands` and is imported with it."""

import sys

import typer

from rules.errors import Refused
from rules.findings import Objected
from stopbank.commands import (
    audit,
    enrolment,
    keep,
    laboratory,
    machine,
    operate,
    processes,
    sensors,
    status,
    watching,
    zones,
)
from stopbank.commands import rules as rules_commands
from stopbank.logs import to_stderr
from stopbank.terminal import REFUSED, UNUSABLE, tell, warn

app = typer.Typer(
    name="stopbank",
    help="Open, self-hosted DDoS defence: sensors, FlowSpec and RTBH, with a guard that comes first.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(rules_commands.app, name="rules")
app.add_typer(zones.app, name="zone")
app.add_typer(watching.app, name="sensor")
app.add_typer(machine.config_app, name="config")
app.add_typer(audit.app, name="audit")
for command in (
    processes.run,
    processes.stop,
    processes.reload,
    status.status,
    processes.kill,
    sensors.analyze,
    sensors.enforce,
    machine.doctor,
    keep.backup,
    keep.restore,
    laboratory.demo,
    laboratory.lab,
    laboratory.bench,
):
    app.command()(command)
for hidden in (processes.speaker, processes.intake, processes.web, processes.worker):
    app.command(hidden=True)(hidden)

OURS = {"rules", "store", "sensors", "intake", "speaker", "worker", "webui", "stopbank", "lab", "bench"}

__all__ = ["app", "enrolment", "main", "operate"]


def main() -> None:
    """Entry point; what no command dealt with itself ends in clear lines, not in a traceback."""
    to_stderr()
    try:
        app()
    except (Refused, Objected) as error:
        # A command's own `--json` is not known here; nothing else of ours is spelled so.
        tell(error, "--json" in sys.argv)
        sys.exit(REFUSED)
    except UnicodeError:
        warn("error: what was given is not UTF-8 text")
        sys.exit(REFUSED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OURS:
            raise
        warn(f"error: {error.name} is not installed here: pip install 'stopbank[controller]' or 'stopbank[sensor]'")
        sys.exit(UNUSABLE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(REFUSED)
    except OSError as error:
        warn(f"error: {error.filename or 'system'}: {error.strerror or error}")
        sys.exit(UNUSABLE)


if __name__ == "__main__":
    main()
