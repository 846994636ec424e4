"""The tables. Portable types only; moments are stored in UTC and come back aware."""

from datetime import UTC, datetime
from typing import cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy import text as sql_text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment, stored in UTC; SQLite's driver drops the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a moment without a zone is a bug of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The schema."""

    type_annotation_map = {datetime: UtcDateTime(), dict[str, object]: JSON()}  # noqa: RUF012 (SQLAlchemy's way)


def table(row: type[Base]) -> Table:
    """The table of these rows, for statements past the objects."""
    return cast(Table, row.__table__)


class ZoneRow(Base):
    """A zone, as the JSON of `rules.messages_values.zone_to_json`."""

    __tablename__ = "zones"
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    document: Mapped[dict[str, object]]
    changed: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(255))


class RuleRow(Base):
    """One generation of a rule; at most one of a rule's generations has not ended."""

    __tablename__ = "rules"
    key: Mapped[int] = mapped_column(Integer, primary_key=True)
    rule_id: Mapped[str] = mapped_column(String(20))
    generation: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(String(64))
    owner: Mapped[str] = mapped_column(String(255))
    zone: Mapped[str | None] = mapped_column(String(63))
    origin: Mapped[str] = mapped_column(String(16))
    is_operator: Mapped[bool] = mapped_column(Boolean)
    collateral: Mapped[float | None] = mapped_column(Float)
    intent: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(255))
    wanted_since: Mapped[datetime | None]
    approved_by: Mapped[str | None] = mapped_column(String(255))
    deadline: Mapped[datetime]
    reason: Mapped[str] = mapped_column(Text)
    ended: Mapped[datetime | None]
    ended_why: Mapped[str | None] = mapped_column(Text)
    incident: Mapped[int | None] = mapped_column(ForeignKey("incidents.id"))

    __table_args__ = (
        UniqueConstraint("rule_id", "generation", name="uq_rules_rule_id_generation"),
        Index(
            "ix_rules_alive",
            "rule_id",
            unique=True,
            sqlite_where=sql_text("intent != 'ended'"),
            postgresql_where=sql_text("intent != 'ended'"),
        ),
        Index("ix_rules_intent", "intent"),
        Index("ix_rules_wanted_since", "wanted_since"),
        Index("ix_rules_incident", "incident"),
    )


class RuleHistoryRow(Base):
    """What happened to a rule, append-only: for people; the audit chain is the proof."""

    __tablename__ = "rule_history"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rule_id: Mapped[str] = mapped_column(String(20))
    generation: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(255))
    change: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(Text)
    deadline: Mapped[datetime]

    __table_args__ = (Index("ix_rule_history_rule_id", "rule_id", "generation"),)


class AnnouncementRow(Base):
    """Status of a rule at one neighbour, written by one speaker; outlives the rule's end until forgotten."""

    __tablename__ = "announcements"
    rule_id: Mapped[str] = mapped_column(String(20), primary_key=True)
    neighbour: Mapped[str] = mapped_column(String(63), primary_key=True)
    speaker: Mapped[str] = mapped_column(String(63), primary_key=True)
    phase: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime]
    detail: Mapped[str] = mapped_column(Text)


class IncidentRow(Base):
    """An incident: what is searched for as columns, the rest as a document."""

    __tablename__ = "incidents"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    zone: Mapped[str] = mapped_column(String(63))
    target: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    opened: Mapped[datetime]
    updated: Mapped[datetime]
    closed: Mapped[datetime | None]
    vector: Mapped[str] = mapped_column(String(64))
    severity: Mapped[float] = mapped_column(Float)
    peak_packets_per_second: Mapped[float] = mapped_column(Float)
    peak_bits_per_second: Mapped[float] = mapped_column(Float)
    document: Mapped[dict[str, object]]

    __table_args__ = (Index("ix_incidents_state", "state"), Index("ix_incidents_opened", "opened"))


class DetectionRow(Base):
    """A sensor's message, as JSON; the key makes duplicates visible."""

    __tablename__ = "detections"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    incident: Mapped[int | None] = mapped_column(ForeignKey("incidents.id"))
    sensor: Mapped[str] = mapped_column(String(63))
    attack: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[datetime]
    document: Mapped[dict[str, object]]

    __table_args__ = (
        UniqueConstraint("sensor", "attack", "sequence", name="uq_detections_message"),
        Index("ix_detections_incident", "incident"),
    )


class SensorRow(Base):
    """When a sensor was last heard, and what it said about itself."""

    __tablename__ = "sensors"
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    last_seen: Mapped[datetime]
    statistics: Mapped[dict[str, object]]
    detail: Mapped[str] = mapped_column(Text)


class AuditLine(Base):
    """One link of the audit chain; triggers refuse to change or remove it."""

    __tablename__ = "audit"
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(255))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(255))
    detail: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))

    __table_args__ = (Index("ix_audit_subject", "subject"),)


class OutboxRow(Base):
    """A message for the worker; leased while somebody works on it."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, object]]
    created: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    due: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(Integer)
    last_error: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("ix_outbox_due", "state", "due"),)


class SettingRow(Base):
    """A setting that people change at run time."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    value: Mapped[dict[str, object]]


class CounterRow(Base):
    """Counts writing transactions, so that readers can ask cheaply whether anything changed."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
