"""What the commands of an operator start from: the configuration, the store, the guard's view of the world."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rules.findings import Finding, Objected
from stopbank import wiring
from stopbank.config import Config, environment, neighbours
from stopbank.terminal import REFUSED, UNUSABLE, fail, show, warn
from store.errors import StoreUnavailable
from store.records import World
from store.store import Store


def world(config: Config) -> World:
    """What the guard must know besides the database."""
    return World(neighbours(config), config.speaker.protected, config.speaker.infrastructure, wiring.limits(config))


@contextmanager
def store(config: Config) -> Iterator[Store]:
    """The open database; one that doesn't answer ends the command with a clear line and exit 2."""
    try:
        config.paths.state.mkdir(mode=0o2770, parents=True, exist_ok=True)
        with Store.open(config.database_url) as opened:
            yield opened
    except StoreUnavailable as error:
        fail(f"database: {error}", UNUSABLE)
    except OSError as error:
        fail(f"paths.state: {config.paths.state}: {error.strerror}", UNUSABLE)


def actor() -> str:
    """Who the audit names: the person at this terminal, also behind sudo."""
    return f"cli:{environment().get('SUDO_USER') or getpass.getuser()}"


def now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)


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


def show_findings(findings: tuple[Finding, ...]) -> None:
    """Findings for people, on stderr."""
    for finding in findings:
        warn(str(finding))


def objected(error: Objected, as_json: bool) -> None:
    """Everything the guard found; the caller exits with `REFUSED`."""
    if as_json:
        show({"ok": False, "findings": [finding_json(one) for one in error.findings]}, True, "")
    else:
        show_findings(error.findings)


__all__ = ["REFUSED", "actor", "finding_json", "now", "objected", "show_findings", "store", "world"]
