"""How commands speak: results on stdout (text or JSON), everything else on stderr, exit codes that scripts can trust.

0: done. 1: the input was understood and refused. 2: it could not be tried (usage, unreadable file, missing privilege).
"""

import json
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import typer

from rules.errors import Problem, Refused

REFUSED, UNUSABLE = 1, 2


def show(value: Any, as_json: bool, text: str) -> None:
    """The result, as one JSON document or as text."""
    sys.stdout.write((json.dumps(value, default=str) if as_json else text) + "\n")


def warn(message: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(message + "\n")


def fail(message: str, code: int = UNUSABLE) -> NoReturn:
    """One clear line on stderr, then the exit code."""
    warn(f"error: {message}")
    raise typer.Exit(code)


def refuse(error: Refused, as_json: bool = False, code: int = REFUSED) -> NoReturn:
    """Every problem of a refusal, then the exit code."""
    if as_json:
        show({"ok": False, "problems": problems(error.problems)}, True, "")
    else:
        for problem in error.problems:
            warn(f"error: {problem}")
    raise typer.Exit(code)


def problems(given: Iterable[Problem]) -> list[dict[str, str]]:
    """Problems as JSON shows them."""
    return [{"field": one.field, "value": one.value, "reason": one.reason} for one in given]


def argument_or_stdin(given: str) -> str:
    """The argument itself, or standard input for `-`."""
    return sys.stdin.read() if given == "-" else given
