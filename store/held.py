"""The wanted rules as the guard sees them, kept between transactions: most are the same ones as a moment ago.

Which rules are wanted is asked of the database every time; only values already read and verified are kept.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from rules.guard import ActiveRules, Held
from store import readback
from store.models import RuleRow
from store.records import Intent, RuleRecord

_Key = tuple[int, str]
"""A row's key and hash: together they fix text, owner, zone and generation."""

_CHUNK = 500
"""SQLite takes at most 999 variables in older builds."""


class HeldRules:
    """Safe to use from several threads: each result replaces the kept one as a whole."""

    def __init__(self) -> None:
        self._kept: tuple[dict[_Key, Held | None], ActiveRules] = ({}, ActiveRules())

    def current(self, session: Session) -> ActiveRules:
        """What is wanted in the session's transaction; unreadable rules hold nothing."""
        query = select(RuleRow.key, RuleRow.hash).where(RuleRow.intent == Intent.WANTED.value)
        keys: list[_Key] = [(key, row_hash) for key, row_hash in session.execute(query)]
        known, active = self._kept
        if len(keys) == len(known) and all(key in known for key in keys):
            return active
        fresh = _read(session, [key for key, row_hash in keys if (key, row_hash) not in known])
        held = {key: known[key] if key in known else fresh.get(key) for key in keys}
        active = ActiveRules(one for one in held.values() if one is not None)
        self._kept = held, active
        return active


def _read(session: Session, keys: list[int]) -> dict[_Key, Held]:
    found = {}
    for start in range(0, len(keys), _CHUNK):
        rows = session.scalars(select(RuleRow).where(RuleRow.key.in_(keys[start : start + _CHUNK])))
        for row, record in ((row, readback.rule_record(row)) for row in rows):
            if isinstance(record, RuleRecord):
                found[row.key, row.hash] = Held(record.rule, record.owner, record.origin, record.zone, record.id)
    return found
