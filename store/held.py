"""The wanted rules as the guard sees them, kept between transactions: most are the same ones as a moment ago.

Which rules are wanted is asked of the database every time; only values already read and verified are kept.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from rules.guard import ActiveRules, Held
from store import readback
from store.models import RuleRow
from store.records import Intent, RuleRecord
from store.wanted import WantedRules

_Key = tuple[int, str]
"""A row's key and hash: together they fix text, owner, zone and generation."""

_FEW = 500
"""Of more rules than this, everything is read. SQLite takes at most 999 variables in older builds."""

_QUERY = f"SELECT key, hash FROM {RuleRow.__tablename__} WHERE intent = '{Intent.WANTED.value}'"


class HeldRules:
    """Safe to use from several threads: each result replaces the kept one as a whole."""

    def __init__(self, wanted: WantedRules) -> None:
        self._wanted = wanted
        self._kept: tuple[dict[_Key, Held | None], ActiveRules] = ({}, ActiveRules())

    def current(self, session: Session) -> ActiveRules:
        """What is wanted in the session's transaction; unreadable rules hold nothing."""
        session.flush()
        keys: set[_Key] = {(row[0], row[1]) for row in session.connection().exec_driver_sql(_QUERY)}
        known, active = self._kept
        missing = keys - known.keys()
        gone = known.keys() - keys
        if not missing and not gone:
            return active
        fresh = self._read(session, missing)
        removed = [held for key in gone if (held := known[key]) is not None]
        active = active.changed((held for held in fresh.values() if held is not None), removed)
        self._kept = {key: held for key, held in known.items() if key not in gone} | fresh, active
        return active

    def _read(self, session: Session, keys: set[_Key]) -> dict[_Key, Held | None]:
        found: dict[_Key, Held | None] = dict.fromkeys(keys)
        if len(keys) > _FEW:
            records = self._wanted.current(session)
            by_hash = {record.hash: record for record in records}
            return {key: _held(by_hash[key[1]]) if key[1] in by_hash else None for key in keys}
        for row in session.scalars(select(RuleRow).where(RuleRow.key.in_(key for key, _ in keys))):
            record = readback.rule_record(row)
            if isinstance(record, RuleRecord):
                found[row.key, row.hash] = _held(record)
        return found


def _held(record: RuleRecord) -> Held:
    return Held(record.rule, record.owner, record.origin, record.zone, record.id)
