"""The rules that shall be announced, read often and parsed once: every column of every row is compared each time.

Which rows there are, and what stands in them, is asked of the database every time. Only the value that was made of a
row is kept, and it is used for a row that is the same in every column; so a row that somebody changed is read anew.
"""

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from store import readback
from store.models import RuleRow
from store.records import Intent, RuleRecord

_Raw = tuple[Any, ...]
"""A row as the driver gives it."""

_CHUNK = 500
"""SQLite takes at most 999 variables in older builds."""

_table = cast(Table, RuleRow.__table__)
_COLUMNS = ", ".join(column.name for column in _table.columns)
_KEY = list(_table.columns.keys()).index("key")
_QUERY = f"SELECT {_COLUMNS} FROM {_table.name} WHERE intent = '{Intent.WANTED.value}' ORDER BY key"


class WantedRules:
    """Safe to use from several threads: each result replaces the kept one as a whole."""

    def __init__(self) -> None:
        self._kept: dict[_Raw, RuleRecord | None] = {}

    def current(self, session: Session) -> tuple[RuleRecord, ...]:
        """What is wanted in the session's transaction, oldest first; unreadable rules are not in it."""
        session.flush()
        rows = [tuple(row) for row in session.connection().exec_driver_sql(_QUERY)]
        known = self._kept
        fresh = _read(session, [row[_KEY] for row in rows if row not in known])
        kept = {row: known[row] if row in known else fresh.get(row[_KEY]) for row in rows}
        self._kept = kept
        return tuple(record for record in kept.values() if record is not None)


def _read(session: Session, keys: list[int]) -> dict[int, RuleRecord]:
    """Through the types and checks of `store.readback`, in the same transaction."""
    found = {}
    for start in range(0, len(keys), _CHUNK):
        for row in _rows(session, keys[start : start + _CHUNK]):
            record = readback.rule_record(row)
            if isinstance(record, RuleRecord):
                found[row.key] = record
    return found


def _rows(session: Session, keys: list[int]) -> Iterable[RuleRow]:
    return session.scalars(select(RuleRow).where(RuleRow.key.in_(keys)).execution_options(populate_existing=True))
