"""Copies of the database, and whether one is worth restoring."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from store import audit, schema, sqlite
from store.database import Database
from store.errors import SchemaUnknown, StoreUnavailable, translated
from store.models import RuleRow
from store.records import AuditHead, AuditVerdict


@dataclass(frozen=True, slots=True)
class BackupVerdict:
    """What a backup holds; good for a restore when there are no problems."""

    schema: str | None
    rules: int
    audit: AuditHead
    problems: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether it may be restored."""
        return not self.problems


class Backup(Database):
    """Backing up while everybody works."""

    def backup(self, target: Path) -> BackupVerdict:
        """Writes a consistent copy to a file, which appears complete or not at all, and checks it."""
        with translated():
            connection = self._engine.raw_connection()
            try:
                source = connection.driver_connection
                if not isinstance(source, sqlite3.Connection):
                    raise StoreUnavailable("only SQLite can be backed up from here; use the engine's own tools")
                sqlite.backup(source, target)
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable(f"backup to {target}: {error}") from error
            finally:
                connection.close()
        return check_backup(target)


def check_backup(path: Path, expected: AuditHead | None = None) -> BackupVerdict:
    """Reads a backup without changing it: is the file sound, the schema known, the audit chain whole?"""
    if not path.is_file():
        raise StoreUnavailable(f"{path} is not there")
    engine = create_engine(f"sqlite:///file:{path.resolve()}?mode=ro&uri=true")
    try:
        with translated(), Session(engine) as session:
            return _checked(session, expected)
    finally:
        engine.dispose()


def _checked(session: Session, expected: AuditHead | None) -> BackupVerdict:
    found = schema.version(session.connection())
    if found is None:
        raise SchemaUnknown("this is no database of Stopbank")
    problems = list(sqlite.integrity_problems(session.connection()))
    if found != schema.HEAD:
        problems.append(f"its schema is {found}, this version's is {schema.HEAD}: open it once to bring it up to date")
        return BackupVerdict(found, 0, AuditHead(0, audit.GENESIS), tuple(problems))
    verdict: AuditVerdict = audit.verified(session, expected)
    rules = session.scalar(select(func.count()).select_from(RuleRow)) or 0
    return BackupVerdict(found, rules, verdict.head, (*problems, *verdict.problems))
