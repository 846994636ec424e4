"""`stopbank config check` and `stopbank doctor`: is this machine set up right, and if not, what to do."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from rules.errors import Refused
from stopbank import config as configuration
from stopbank.terminal import REFUSED, refuse, show

config_app = typer.Typer(help="The configuration file.", no_args_is_help=True)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", envvar="STOPBANK_CONFIG", help="The configuration file")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text")]

_COLOURS = {"good": "green", "warning": "yellow", "bad": "red"}


def loaded(path: Path) -> configuration.Config:
    """The configuration, or every problem of it on stderr and exit 2; without a file, the defaults."""
    try:
        if path == configuration.DEFAULT_PATH and not path.exists():
            return configuration.parse("", "defaults", configuration.environment())
        return configuration.load(path)
    except Refused as error:
        refuse(error, code=2)


@config_app.command("check")
def check(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Every problem of the file and its environment overrides, or what it sets up."""
    from stopbank import wiring

    try:
        found = configuration.read(config)
        if problems := [*configuration.problems(found), *wiring.problems(found)]:
            raise Refused.all(problems)
    except Refused as error:
        refuse(error, as_json)
    names = [neighbour.name for neighbour in found.neighbours]
    shown = f"{config}: good; neighbours: {', '.join(names) or 'none'}; state in {found.paths.state}"
    show({"ok": True, "neighbours": names, "state": str(found.paths.state)}, as_json, shown)


def doctor(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Privileges, versions, offloads, clock, database, neighbours, and what to do; exit 1 when something is bad."""
    from stopbank.doctor import Verdict, examine

    checks = list(examine(loaded(config)))
    if as_json:
        document = [
            {"check": one.name, "verdict": one.verdict.value, "found": one.found, "advice": one.advice}
            for one in checks
        ]
        show({"ok": all(one.verdict is not Verdict.BAD for one in checks), "checks": document}, True, "")
    else:
        for one in checks:
            colour = _COLOURS[one.verdict.value]
            advice = f"\n{'':9}→ {one.advice}" if one.advice else ""
            shown = escape(f"{one.name}: {one.found}{advice}")
            # Never wrapped or cut here: what is copied or searched for must stay in one piece.
            Console().print(f"[{colour}]{one.verdict.value:8}[/] {shown}", soft_wrap=True, highlight=False)
    if any(one.verdict is Verdict.BAD for one in checks):
        raise typer.Exit(REFUSED)
