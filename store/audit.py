"""The audit chain: append-only, each row carries the hash of the one before, so that no row changes unseen.

`append` runs inside the caller's transaction: what is not audited has not happened. A denial is audited too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import desc, select
from sqlalchemy.orm import Session

from store import canonical
from store.database import Concern, Database, direct
from store.models import AuditLine, table
from store.records import AuditHead, AuditRow, AuditVerdict

GENESIS = "0" * 64
"""What the first row carries as the hash of the one before."""

_APPEND = table(AuditLine).insert()
_LAST = select(AuditLine.sequence, AuditLine.hash).order_by(desc(AuditLine.sequence)).limit(1)
_PROBLEM_LIMIT = 20
_HEAD = "audit_head"
"""Where a writing session, which lives for one transaction, keeps the end of the chain."""


def append(
    session: Session, *, actor: str, action: str, subject: str, detail: Mapping[str, object], now: datetime
) -> None:
    """One more link; the caller's transaction already holds the write lock, so nobody appends in between."""
    last: AuditHead = session.info.get(_HEAD) or head(session)
    row = AuditRow(
        sequence=last.count + 1,
        at=now.astimezone(UTC),
        actor=actor,
        action=action,
        subject=subject,
        detail=canonical.dumps(detail),
        previous=last.hash,
        hash="",
    )
    row = replace(row, hash=hash_of(row))
    direct(session).execute(_APPEND, asdict(row))
    session.info[_HEAD] = AuditHead(row.sequence, row.hash)


def head(session: Session) -> AuditHead:
    """The end of the chain."""
    row = direct(session).execute(_LAST).one_or_none()
    return AuditHead(0, GENESIS) if row is None else AuditHead(row.sequence, row.hash)


class Audit(Database):
    """Reading, verifying and adding to the audit chain."""

    def audit(self, actor: str, action: str, subject: str, detail: Mapping[str, object], now: datetime) -> None:
        """Records what somebody did outside the database; what is done inside it is audited by its own method."""
        with self.writing(Concern.STATUS) as session:
            append(session, actor=actor, action=action, subject=subject, detail=detail, now=now)

    def audit_head(self) -> AuditHead:
        """The end of the chain, to be kept elsewhere."""
        with self.reading() as session:
            return head(session)

    def audit_rows(self, limit: int = 100, before: int | None = None, subject: str | None = None) -> list[AuditRow]:
        """The newest rows first; `before` is the sequence to go on from."""
        query = select(AuditLine).order_by(desc(AuditLine.sequence)).limit(limit)
        if before is not None:
            query = query.where(AuditLine.sequence < before)
        if subject is not None:
            query = query.where(AuditLine.subject == subject)
        with self.reading() as session:
            return [_record(line, line.hash) for line in session.scalars(query)]

    def verify_audit(self, expected: AuditHead | None = None) -> AuditVerdict:
        """Walks the whole chain; with a head kept elsewhere, a tail that was cut off or rewritten shows too."""
        with self.reading() as session:
            return verified(session, expected)


def verified(session: Session, expected: AuditHead | None) -> AuditVerdict:
    """The verdict on the whole chain of a database."""
    lines = session.scalars(select(AuditLine).order_by(AuditLine.sequence).execution_options(yield_per=1000))
    return verify((_record(line, line.hash) for line in lines), expected)


def verify(rows: Iterator[AuditRow], expected: AuditHead | None) -> AuditVerdict:
    """What is wrong with a chain, given its rows in the order of their sequence."""
    problems: list[str] = []
    broken_at: int | None = None
    last = AuditHead(0, GENESIS)
    seen = expected is None or expected.count == 0
    for row in rows:
        found = list(_link_problems(row, last))
        if found and broken_at is None:
            broken_at = min(row.sequence, last.count + 1)
        problems += found
        last = AuditHead(row.sequence, row.hash)
        if expected is not None and row.sequence == expected.count:
            seen = True
            if row.hash != expected.hash:
                problems.append(f"row {row.sequence} is not the one that was the head: the chain was rewritten")
                broken_at = row.sequence if broken_at is None else broken_at
    if not seen and expected is not None:
        problems.append(f"the chain ends at row {last.count} and once had {expected.count}: its tail was cut off")
        broken_at = last.count + 1 if broken_at is None else broken_at
    if len(problems) > _PROBLEM_LIMIT:
        problems[_PROBLEM_LIMIT:] = [f"and {len(problems) - _PROBLEM_LIMIT} more"]
    return AuditVerdict(last, tuple(problems), broken_at)


def _link_problems(row: AuditRow, last: AuditHead) -> Iterator[str]:
    if row.sequence != last.count + 1:
        yield f"row {last.count + 1} is missing: row {row.sequence} follows row {last.count}"
    if row.previous != last.hash:
        yield f"row {row.sequence} does not follow the row before it"
    if row.hash != hash_of(row):
        yield f"row {row.sequence} was changed"


def hash_of(row: AuditRow) -> str:
    """What a row should carry: SHA-256 over the canonical JSON of everything else in it."""
    return canonical.sha256(
        canonical.dumps(
            {
                "sequence": row.sequence,
                "at": row.at.isoformat(timespec="microseconds"),
                "actor": row.actor,
                "action": row.action,
                "subject": row.subject,
                "detail": row.detail,
                "previous": row.previous,
            }
        )
    )


def _record(line: AuditLine, row_hash: str) -> AuditRow:
    return AuditRow(line.sequence, line.at, line.actor, line.action, line.subject, line.detail, line.previous, row_hash)
