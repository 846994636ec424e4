"""The engine and its transactions: short ones, each call its own, writers one after the other.

Every writing transaction counts itself, so that a reader polls one number instead of tables.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sqlalchemy import Engine, create_engine, make_url, select, update
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from rules.errors import Refused
from store import sqlite
from store.errors import translated
from store.models import CounterRow


class Concern(Enum):
    """What a writing transaction changes, for readers who wait for changes."""

    INTENTS = "intents"
    """Zones, rules, settings: the speaker reconciles on these."""
    STATUS = "status"
    """Announcements, incidents, sensors, messages: what pages show."""


PATIENCE_SECONDS = 10.0
"""How long a transaction waits for another one's lock."""


def engine_for(url: str, patience_seconds: float = PATIENCE_SECONDS) -> Engine:
    """The engine of a database URL; `Refused` when it isn't one we can use."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Refused("database", url, "must look like sqlite:////var/lib/stopbank/stopbank.db") from None
    if parsed.get_backend_name() != "sqlite":
        raise Refused("database", parsed.render_as_string(), "only sqlite is supported yet")
    if parsed.database in (None, "", ":memory:"):
        raise Refused("database", url, "must name a file: other processes read it too")
    engine = create_engine(parsed, pool_timeout=patience_seconds)
    sqlite.prepare(engine, patience_seconds)
    return engine


class Database:
    """The transactions that everything in the store runs in; safe to use from several threads, not across a fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writers = engine.execution_options(**{sqlite.WRITES: True})

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view; nothing may be changed in it."""
        with translated(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self, concern: Concern) -> Iterator[Session]:
        """Everything or nothing; holds the one write lock from its beginning."""
        with translated(), Session(self._writers, expire_on_commit=False) as session, session.begin():
            # First, so that the lock is held before anything is read.
            session.execute(
                update(CounterRow).where(CounterRow.name == concern.value).values(value=CounterRow.value + 1)
            )
            yield session

    def change_counter(self, concern: Concern | None = None) -> int:
        """A number that grows with every writing transaction, of all or of one concern."""
        with self.reading() as session:
            rows = session.execute(select(CounterRow.name, CounterRow.value)).all()
        return sum(value for name, value in rows if concern is None or name == concern.value)
