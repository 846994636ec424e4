"""The engine and its transactions: short ones, each call its own, writers one after the other.

Every writing transaction counts itself, so that a reader polls one number instead of tables.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sqlalchemy import Connection, Engine, create_engine, make_url
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


_table = CounterRow.__tablename__
_COUNTING = {one: f"UPDATE {_table} SET value = value + 1 WHERE name = '{one.value}'" for one in Concern}
_COUNTERS = f"SELECT name, value FROM {_table}"
_COUNTED = "counted"
"""Where a writing session, which lives for one transaction, keeps which counters it has moved."""

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
        self._joined = threading.local()
        """`session`: the transaction of this thread that everything joins; see `together`."""

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view; nothing may be changed in it."""
        if (outer := self._outer()) is not None:
            with translated():
                outer.flush()
                yield outer
            return
        with translated(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self, concern: Concern) -> Iterator[Session]:
        """Everything or nothing; holds the one write lock from its beginning."""
        if (outer := self._outer()) is not None:
            with self._part_of(outer, concern):
                yield outer
            return
        with translated(), Session(self._writers, expire_on_commit=False) as session, session.begin():
            # First, so that the lock is held before anything is read.
            _count(session, concern)
            yield session

    @contextmanager
    def together(self) -> Iterator[None]:
        """Every call of this thread until the end is part of one transaction, on disk when this ends: one wait for it.

        A call that raises undoes itself alone. What is raised through the end undoes everything; so whatever is told
        to others, or remembered, must wait for the end. Must not be nested.
        """
        with self.writing(Concern.STATUS) as session:
            self._joined.session = session
            try:
                yield
            finally:
                del self._joined.session

    def _outer(self) -> Session | None:
        return getattr(self._joined, "session", None)

    @contextmanager
    def _part_of(self, outer: Session, concern: Concern) -> Iterator[None]:
        try:
            with translated(), outer.begin_nested():
                _count(outer, concern)
                yield
        except BaseException:
            # What is kept for the transaction, such as the end of the audit chain, may tell of what is undone.
            outer.info.clear()
            raise

    def change_counter(self, concern: Concern | None = None) -> int:
        """A number that grows with every writing transaction, of all or of one concern."""
        with self.reading() as session:
            counters = direct(session).exec_driver_sql(_COUNTERS).all()
        return sum(value for name, value in counters if concern is None or name == concern.value)


def direct(session: Session) -> Connection:
    """The transaction past its objects, for rows that nobody keeps: a fifth of the time. What objects hold is written
    first, so both see the same."""
    session.flush()
    return session.connection()


def _count(session: Session, concern: Concern) -> None:
    """Once in a transaction is enough."""
    counted: frozenset[Concern] = session.info.get(_COUNTED, frozenset())
    if concern in counted:
        return
    session.info[_COUNTED] = counted | {concern}
    direct(session).exec_driver_sql(_COUNTING[concern])
