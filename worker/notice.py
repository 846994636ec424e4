"""A notice: one thing that happened, on its way to one channel. Pure.

The outbox holds what happened once; the worker copies it for each channel, so that channels fail on their own. A copy
remembers its original, whose number and time make the idempotency key: a notice may arrive twice, never unnoticed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from store.records import OutboxRecord

VERSION = 1
"""Of the form of a notice as receivers see it."""


class ChannelName(Enum):
    """Where notices go; the value is the outbox kind of its copies."""

    WEBHOOK = "to.webhook"
    SYSLOG = "to.syslog"

    @classmethod
    def of(cls, kind: str) -> "ChannelName | None":
        """The channel whose copy this is; None for an original."""
        return next((channel for channel in cls if channel.value == kind), None)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a channel delivers."""

    number: int
    """The original's number in the outbox."""
    kind: str
    """`rule.wanted`, `incident.opened`, …"""
    at: datetime
    body: Mapping[str, object]
    """The original's payload."""

    @property
    def subject(self) -> str:
        """What it is about, `rule:1f3a…`; notices of one subject arrive in order."""
        family = self.kind.partition(".")[0]
        return f"{family}:{self.body['id']}" if "id" in self.body else family

    @property
    def key(self) -> str:
        """Equal for every delivery of this notice, and for no other, also after the database was made anew."""
        return f"{self.number}-{int(self.at.timestamp() * 1_000_000)}"

    def render(self) -> str:
        """One line of ASCII JSON, the same for every attempt: control characters can't break a log line."""
        document = {
            "version": VERSION,
            "id": self.key,
            "kind": self.kind,
            "subject": self.subject,
            "at": self.at.isoformat(),
            "body": self.body,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def to_payload(self) -> dict[str, object]:
        """As the outbox keeps a copy."""
        return {"number": self.number, "kind": self.kind, "at": self.at.isoformat(), "body": dict(self.body)}


def original(record: OutboxRecord) -> Notice:
    """The notice of an original outbox message."""
    return Notice(record.id, record.kind, record.created, record.payload)


def copy(record: OutboxRecord) -> Notice | None:
    """The notice of a channel's copy; None when the row is not what this worker writes."""
    match record.payload:
        case {"number": int(number), "kind": str(kind), "at": str(at), "body": dict(body)}:
            try:
                return Notice(number, kind, datetime.fromisoformat(at), body)
            except ValueError:
                return None
        case _:
            return None
