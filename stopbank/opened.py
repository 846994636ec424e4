"""What the commands of an operator start from: the configuration, the store, the guard's view of the world."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stopbank import wiring
from stopbank.config import Config, environment, neighbours
from stopbank.terminal import fail, printable
from store.errors import SchemaUnknown, StoreUnavailable
from store.records import World
from store.store import Store


class Unopened(Exception):
    """The database is not there, or can't be used; the message says which and why."""


def world(config: Config) -> World:
    """What the guard must know besides the database."""
    return World(neighbours(config), config.speaker.protected, config.speaker.infrastructure, wiring.limits(config))


@contextmanager
def store(config: Config) -> Iterator[Store]:
    """The open database, made where there is none; one that can't be used ends the command, exit 2."""
    try:
        config.paths.state.mkdir(mode=0o2770, parents=True, exist_ok=True)
    except OSError as error:
        fail(f"paths.state: {config.paths.state}: {error.strerror}")
    try:
        with Store.open(config.database_url) as opened:
            yield opened
    except (StoreUnavailable, SchemaUnknown) as error:
        fail(f"database: {error}")


@contextmanager
def standing(config: Config) -> Iterator[Store]:
    """The database that is there; for commands that read, or change what must be there. Makes nothing: exit 2."""
    try:
        with existing(config) as opened:
            yield opened
    except Unopened as error:
        fail(f"database: {error}")


@contextmanager
def existing(config: Config) -> Iterator[Store]:
    """The database that is there; raises `Unopened` where there is none, or it can't be used."""
    path = sqlite_path(config)
    if path is not None and not path.exists():
        raise Unopened(f"{path} does not exist: nothing was set up with this configuration")
    try:
        with Store.open(config.database_url) as opened:
            yield opened
    except (StoreUnavailable, SchemaUnknown) as error:
        raise Unopened(str(error)) from error


def sqlite_path(config: Config) -> Path | None:
    """The database's file; None for another engine."""
    scheme, separator, path = config.database_url.partition("sqlite:///")
    return Path(path) if separator and not scheme else None


def actor() -> str:
    """Who the audit names: the person at this terminal, also behind sudo."""
    name = environment().get("SUDO_USER") or _user()
    return f"cli:{' '.join(printable(name).split())[:100]}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A process may run under a number that no file gives a name to.
        return f"uid {os.getuid()}"


def now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)
