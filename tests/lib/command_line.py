"""Whether a `stopbank` command line would be understood, without running it."""

from collections.abc import Sequence
from typing import Any

import typer

from stopbank.cli import app


def resolve(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command the words name and the rest; raises `AssertionError` for a command there isn't."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest:
        name = rest.pop(0)
        assert name in command.commands, f"there is no command `stopbank {' '.join(words)}`: {name} is unknown"
        command = command.commands[name]
    return command, rest


def parse_command(words: Sequence[str]) -> None:
    """Parses a whole command line as the program would; raises what it would complain about."""
    command, rest = resolve(words)
    assert not hasattr(command, "commands"), f"`stopbank {' '.join(words)}` only shows help"
    command.make_context(" ".join(words), rest)


def unknown_options(words: Sequence[str]) -> list[str]:
    """Options among the words that the command they name doesn't have."""
    command, rest = resolve(words)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }
    return [word for word in rest if word.startswith("-") and word != "-" and word not in known]
