"""Everything that only SQLite understands: pragmas, how transactions begin, the triggers, the online backup.

The rest of the store is portable SQL; what another engine needs in place of these goes beside this module.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

WRITES = "stopbank_writes"
"""Execution option of connections whose transactions write."""

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # WAL with NORMAL may lose the last commits in a power cut; an audit row must not be lost.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
)


def prepare(engine: Engine, patience_seconds: float) -> None:
    """Sets the pragmas on every connection and takes over the beginning of transactions from the driver."""
    # First, since switching to WAL may already meet another process's lock.
    pragmas = (f"PRAGMA busy_timeout = {int(patience_seconds * 1000)}", *_PRAGMAS)

    def connected(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver begins transactions late and never immediately: with None it leaves that to us.
        connection.isolation_level = None
        with closing(connection.cursor()) as cursor:
            for pragma in pragmas:
                cursor.execute(pragma)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", _begun)


def _begun(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another wrote in between.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def append_only(table: str) -> tuple[str, str]:
    """DDL of the triggers that refuse to change or remove a table's rows."""
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
    )


def backup(source: sqlite3.Connection, target: Path) -> None:
    """A consistent copy while others read and write, as one file that appears complete or not at all."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with closing(sqlite3.connect(unfinished)) as copy:
            unfinished.chmod(0o600)
            source.backup(copy)
            # Without this the copy needs a -wal file beside it as soon as somebody reads it.
            copy.execute("PRAGMA journal_mode = DELETE")
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def integrity_problems(connection: Connection) -> tuple[str, ...]:
    """What SQLite's own check finds wrong with the file and its references; empty when sound."""
    rows = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return tuple(row for row in rows if row != "ok") + tuple(f"dangling reference in {row[0]}" for row in orphans)
