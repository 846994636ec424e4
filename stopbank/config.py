"""The one configuration file: what a machine needs (neighbours, addresses, paths). Zones live in the database instead.

Reads file and environment once and gives typed models; `stopbank.wiring` turns them into each folder's own settings. An
unknown key is an error that names it; every problem is reported at once.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rules.errors import Problem, Refused
from rules.neighbour import Neighbour
from stopbank import config_speaker
from stopbank.config_parts import Enforce, Intake, Paths, Web, Worker
from stopbank.config_sensor import Sensor
from stopbank.config_speaker import NeighbourSection, Speaker
from stopbank.config_values import Section

DEFAULT_PATH = Path("stopbank.toml")
ENVIRONMENT_PREFIX = "STOPBANK_"
"""`STOPBANK_WEB__PORT=9000` overrides `port` in `[web]`; the value is read as TOML, else taken as text."""
NOT_SETTINGS = {"STOPBANK_CONFIG", "STOPBANK_DATA", "STOPBANK_GOLDEN"}


class Config(Section):
    """The whole file."""

    paths: Paths = Paths()
    speaker: Speaker = Speaker()
    neighbours: tuple[NeighbourSection, ...] = ()
    intake: Intake = Intake()
    web: Web = Web()
    worker: Worker = Worker()
    sensor: Sensor = Sensor()
    enforce: Enforce = Enforce()

    @property
    def database_url(self) -> str:
        """The configured database, or SQLite in the state directory."""
        return self.paths.database or f"sqlite:///{self.paths.state.resolve() / 'stopbank.db'}"


def environment() -> Mapping[str, str]:
    """This process's environment: the only place it is read."""
    return os.environ


def load(path: Path, variables: Mapping[str, str] | None = None) -> Config:
    """File and environment as a `Config`; raises `Refused` with every problem. `variables` replaces the environment."""
    return _sound(read(path, variables))


def parse(text: str, origin: str, variables: Mapping[str, str] | None = None) -> Config:
    """The `Config` of a TOML text; `origin` names it in errors."""
    return _sound(typed(text, origin, variables))


def _sound(config: Config) -> Config:
    if found := problems(config):
        raise Refused.all(found)
    return config


def read(path: Path, variables: Mapping[str, str] | None = None) -> Config:
    """As `load`, each value looked at for itself: `problems` says which don't go together."""
    try:
        text = path.read_text()
    except OSError as error:
        raise Refused("config", path, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused("config", path, "is not UTF-8 text") from None
    return typed(text, str(path), environment() if variables is None else variables)


def typed(text: str, origin: str, variables: Mapping[str, str] | None = None) -> Config:
    """As `parse`, each value looked at for itself."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Besides what is no TOML: numbers and nestings beyond what Python reads.
        raise Refused("config", origin, f"is not TOML: {error}") from None
    _override(tree, variables or {})
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise Refused.all(_problem(entry) for entry in error.errors()) from None


def problems(config: Config) -> list[Problem]:
    """What doesn't go together."""
    found: list[Problem] = []
    try:
        neighbours(config)
    except Refused as error:
        found += error.problems
    if bool(config.worker.webhook_url) != bool(config.worker.webhook_secret):
        reason = "webhook_url and webhook_secret go together: receivers must verify"
        found.append(Problem("worker.webhook_secret", "", reason))
    return found


def neighbours(config: Config) -> tuple[Neighbour, ...]:
    """The neighbours as values; raises `Refused` with the problems of all of them."""
    return config_speaker.neighbours(config.neighbours, config.speaker)


def _override(tree: dict[str, Any], variables: Mapping[str, str]) -> None:
    """Puts `STOPBANK_SECTION__KEY` into the tree; unknown sections are left for the validation to name."""
    for variable, text in sorted(variables.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if not key:
            raise Refused(variable, text, "is no setting; write STOPBANK_SECTION__KEY, such as STOPBANK_WEB__PORT")
        target = tree.setdefault(section, {})
        if not isinstance(target, dict):
            raise Refused(variable, text, f"{section} can only be set in the file")
        target[key] = _toml_value(text)


_WORDS = {
    "int_": "must be a whole number",
    "float_": "must be a number",
    "bool_": "must be true or false",
    "string_type": "must be text, in quotes",
    "literal_error": "must be {expected}",
    "less_than_equal": "must be at most {le}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "greater_than": "must be more than {gt}",
}
"""By how the type of pydantic's error begins; the first that fits."""


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _problem(entry: Any) -> Problem:
    path = ""
    for part in entry["loc"]:
        # The names of union members in a location are pydantic's, not the user's.
        if isinstance(part, str) and part.startswith("function-"):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    if entry["type"] == "extra_forbidden":
        return Problem(path, "", "is unknown; see stopbank.toml.example for what there is")
    if entry["type"] == "missing":
        return Problem(path, "", "is missing")
    given = entry["input"]
    # A whole table may hold a password.
    is_hidden = "password" in path or "secret" in path or isinstance(given, dict | list)
    value = "(not shown)" if is_hidden else str(given)
    return Problem(path, value, _reason(entry, path, value))


def _reason(entry: Any, path: str, value: str) -> str:
    """What would be right, in words of the file; pydantic's, where there are none."""
    kind, bounds = str(entry["type"]), entry.get("ctx", {})
    if kind in ("tuple_type", "list_type", "set_type"):
        # Whoever gives one thing means a list of it.
        return f"must be a list: [{json.dumps(value)}]" if isinstance(entry["input"], str) else "must be a list"
    if kind in ("model_type", "dict_type"):
        return f"must be a table: [{path}], with lines below it"
    for start, words in _WORDS.items():
        if kind.startswith(start):
            return words.format(**bounds)
    reason = str(entry["msg"]).removeprefix("Value error, ")
    return reason[:1].lower() + reason[1:]
