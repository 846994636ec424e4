"""The `stopbank` command. Only wiring: each group of commands lives in `stopbank.commands` and is imported with it."""

import sys

import typer

from rules.errors import Refused
from stopbank.commands import enrolment, keep, laboratory, machine, operate, processes, sensors, watching, zones
from stopbank.commands import rules as rules_commands
from stopbank.logs import to_stderr
from stopbank.terminal import REFUSED, warn

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
app.add_typer(keep.audit_app, name="audit")
for command in (
    processes.run,
    processes.stop,
    processes.status,
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

__all__ = ["app", "enrolment", "main", "operate"]


def main() -> None:
    """Entry point; what no command dealt with itself ends in clear lines, not in a traceback."""
    to_stderr()
    try:
        app()
    except Refused as error:
        for problem in error.problems:
            warn(f"error: {problem}")
        sys.exit(REFUSED)
    except UnicodeError:
        warn("error: what was given is not UTF-8 text")
        sys.exit(REFUSED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
