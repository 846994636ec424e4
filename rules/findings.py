"""What checks say about a rule: findings with an id, a severity, the field, why, and the fix.

A finding never decides; `rules.guard.admit` turns errors into `Objected`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How much a finding weighs."""

    ERROR = "error"
    """The rule must not go out."""
    WARNING = "warning"
    """It may, and will probably not do what its author expects."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about a rule."""

    id: str
    """Stable, for tests, translations and documentation: `guard.breadth.floor`."""
    severity: Severity
    field: str
    """The component or setting it is about, as its author writes it: `source-port`."""
    value: str
    """What stands there."""
    reason: str
    """Why that is wrong or worth a look."""
    fix: str
    """What to do about it; empty where nothing is to be done."""

    @property
    def is_error(self) -> bool:
        """Whether it forbids the rule."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        value = f" {self.value}" if self.value else ""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{self.severity.value} [{self.id}] {self.field}{value}: {self.reason}{fix}"


def error(id: str, field: str, value: object, reason: str, fix: str = "") -> Finding:
    """A finding that forbids the rule."""
    return Finding(id, Severity.ERROR, field, str(value), reason, fix)


def warning(id: str, field: str, value: object, reason: str, fix: str = "") -> Finding:
    """A finding that asks for a second look."""
    return Finding(id, Severity.WARNING, field, str(value), reason, fix)


def note(id: str, field: str, value: object, reason: str, fix: str = "") -> Finding:
    """A finding for information."""
    return Finding(id, Severity.NOTE, field, str(value), reason, fix)


class Objected(ValueError):
    """A rule that must not go out, with everything found; the message has one line for each finding."""

    findings: tuple[Finding, ...]
    """At least one is an error; warnings and notes come along."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        if not any(finding.is_error for finding in self.findings):
            raise AssertionError("an objection needs an error")
        super().__init__("\n".join(map(str, self.findings)))
