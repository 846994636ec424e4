"""How commands speak: results on stdout (text or JSON), everything else on stderr, exit codes that scripts can trust.

0: done. 1: the input was understood and refused. 2: it could not be tried (usage, unreadable file, missing privilege).
"""

import json
import sys
from typing import Any, NoReturn

import typer

from rules.errors import Problem, Refused
from rules.findings import Finding, Objected, Severity

REFUSED, UNUSABLE = 1, 2


def show(value: Any, as_json: bool, text: str) -> None:
    """The result, as one JSON document or as text."""
    sys.stdout.write((json.dumps(value, default=str) if as_json else printable(text)) + "\n")


def warn(message: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(printable(message) + "\n")


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor or colour it: rows may be anybody's writing."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def fail(message: str, code: int = UNUSABLE) -> NoReturn:
    """One clear line on stderr, then the exit code."""
    warn(f"error: {message}")
    raise typer.Exit(code)


def refuse(error: Refused | Objected, as_json: bool = False, code: int = REFUSED) -> NoReturn:
    """Everything that speaks against the input, then the exit code."""
    tell(error, as_json)
    raise typer.Exit(code)


def tell(error: Refused | Objected, as_json: bool) -> None:
    """Everything that speaks against the input: JSON on stdout, or a line each on stderr."""
    if as_json:
        show(refusal(error), True, "")
    elif isinstance(error, Objected):
        sys.stderr.writelines(f"{printable(str(finding))}\n" for finding in error.findings)
    else:
        sys.stderr.writelines(f"error: {printable(str(problem))}\n" for problem in error.problems)


def refusal(error: Refused | Objected) -> dict[str, Any]:
    """The one JSON form of "no", whether the input was wrong or the guard objects."""
    if isinstance(error, Objected):
        return {"ok": False, "findings": [finding_json(one) for one in error.findings]}
    return {"ok": False, "findings": [finding_json(_finding(one)) for one in error.problems]}


def finding_json(finding: Finding) -> dict[str, str]:
    """A finding as JSON shows it."""
    return {
        "id": finding.id,
        "severity": finding.severity.value,
        "field": finding.field,
        "value": finding.value,
        "reason": finding.reason,
        "fix": finding.fix,
    }


def _finding(problem: Problem) -> Finding:
    return Finding("input", Severity.ERROR, problem.field, problem.value, problem.reason, "")


def argument_or_stdin(given: str) -> str:
    """The argument itself, or standard input for `-`."""
    return sys.stdin.read() if given == "-" else given
