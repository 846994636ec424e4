"""Brings a database to the schema of this version, or refuses to touch it."""

import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from store import sqlite
from store.errors import SchemaUnknown, translated

HEAD = "0001"
"""The newest migration."""

_MIGRATIONS = Path(__file__).resolve().parent / "migrations"
_alembic_is_global = threading.Lock()


def upgrade(engine: Engine) -> None:
    """Runs the migrations that are missing, in one transaction; two processes at once are fine."""
    with translated(), engine.connect() as connection:
        if version(connection) == HEAD:
            return
    with translated(), engine.execution_options(**{sqlite.WRITES: True}).begin() as connection:
        found = version(connection)
        if found is None and inspect(connection).get_table_names():
            raise SchemaUnknown("the database has tables, but none of ours; name another file")
        if found != HEAD:
            _migrate(connection, found)


def version(connection: Connection) -> str | None:
    """The migration a database stands at; None for one that has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _migrate(connection: Connection, found: str | None) -> None:
    # Imported here: only the one process that finds an old schema needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaUnknown(f"the database has schema {found}, this version knows up to {HEAD}; use the newer version")
    with _alembic_is_global:
        command.upgrade(config, HEAD)
