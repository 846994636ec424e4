"""The outbox: messages that must leave the machine, written in the transaction they tell of.

A message is leased, never just handed out: a worker that dies leaves it to the next one, so it may arrive twice.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from store.database import Concern, Database, direct
from store.models import OutboxRow, table
from store.records import OutboxRecord, OutboxState

_ADD = table(OutboxRow).insert()
_OPEN = (OutboxState.WAITING.value, OutboxState.TAKEN.value)


def add(session: Session, kind: str, payload: Mapping[str, object], now: datetime) -> None:
    """One message more, in the caller's transaction."""
    direct(session).execute(_ADD, _waiting(kind, payload, now))


def add_many(session: Session, kind: str, payloads: Iterable[Mapping[str, object]], now: datetime) -> None:
    """Many of one kind: in one statement, since objects for each would take longer than what they tell of."""
    if rows := [_waiting(kind, payload, now) for payload in payloads]:
        session.execute(insert(OutboxRow), rows)


def _waiting(kind: str, payload: Mapping[str, object], now: datetime) -> dict[str, Any]:
    return {
        "kind": kind,
        "payload": dict(payload),
        "created": now,
        "state": OutboxState.WAITING.value,
        "due": now,
        "attempts": 0,
        "last_error": "",
    }


class Outbox(Database):
    """The outbox table."""

    def outbox_add(self, kind: str, payload: Mapping[str, object], now: datetime) -> None:
        """One message more."""
        with self.writing(Concern.STATUS) as session:
            add(session, kind, payload, now)

    def outbox_take(self, limit: int, now: datetime, lease_seconds: float = 60) -> tuple[OutboxRecord, ...]:
        """The oldest messages that are due, now leased to the caller; whose lease has run out counts as due."""
        with self.writing(Concern.STATUS) as session:
            query = (
                select(OutboxRow)
                .where(OutboxRow.state.in_(_OPEN), OutboxRow.due <= now)
                .order_by(OutboxRow.due, OutboxRow.id)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            rows = session.scalars(query).all()
            for row in rows:
                row.state = OutboxState.TAKEN.value
                row.attempts += 1
                row.due = now + timedelta(seconds=lease_seconds)
            return tuple(_record(row) for row in rows)

    def outbox_done(self, number: int) -> None:
        """It has arrived."""
        self._set(number, state=OutboxState.DONE)

    def outbox_failed(self, number: int, why: str, retry_at: datetime | None) -> None:
        """It has not arrived; None as the next time gives it up."""
        self._set(number, OutboxState.DEAD if retry_at is None else OutboxState.WAITING, why, retry_at)

    def outbox(self, state: OutboxState | None = None, limit: int = 100) -> tuple[OutboxRecord, ...]:
        """The newest messages, newest first."""
        query = select(OutboxRow).order_by(OutboxRow.id.desc()).limit(limit)
        if state is not None:
            query = query.where(OutboxRow.state == state.value)
        with self.reading() as session:
            return tuple(_record(row) for row in session.scalars(query))

    def outbox_counts(self) -> dict[OutboxState, int]:
        """How many messages stand where."""
        with self.reading() as session:
            rows = session.execute(select(OutboxRow.state, func.count()).group_by(OutboxRow.state)).all()
        counted = {name: count for name, count in rows}  # noqa: C416 (rows are no pairs to the type checker)
        return {state: counted.get(state.value, 0) for state in OutboxState}

    def outbox_forget(self, before: datetime) -> int:
        """Retention: removes finished messages created before a moment; says how many."""
        finished = OutboxRow.state.not_in(_OPEN) & (OutboxRow.created < before)
        with self.writing(Concern.STATUS) as session:
            return len(session.scalars(delete(OutboxRow).where(finished).returning(OutboxRow.id)).all())

    def _set(self, number: int, state: OutboxState, why: str = "", due: datetime | None = None) -> None:
        with self.writing(Concern.STATUS) as session:
            row = session.get(OutboxRow, number)
            if row is not None:
                row.state = state.value
                row.last_error = why
                row.due = row.due if due is None else due


def _record(row: OutboxRow) -> OutboxRecord:
    return OutboxRecord(
        id=row.id,
        kind=row.kind,
        payload=row.payload,
        created=row.created,
        state=OutboxState(row.state),
        due=row.due,
        attempts=row.attempts,
        last_error=row.last_error,
    )
