"""Rows back into values. A row is never trusted: what doesn't parse, or doesn't fit its id or hash, is unreadable."""

import json
from functools import lru_cache

from rules.errors import Refused
from rules.guard import Origin
from rules.lifecycle import Phase
from rules.messages_values import zone_from_json
from rules.rule import RuleId
from rules.zone import Zone
from store import canonical
from store.models import AnnouncementRow, RuleRow, ZoneRow
from store.records import AnnouncementRecord, Intent, RuleRecord, UnreadableRecord
from store.texts import parsed


def rule_record(row: RuleRow) -> RuleRecord | UnreadableRecord:
    """The record of a row."""
    try:
        return _rule_record(row)
    except (ValueError, TypeError) as error:
        is_wanted = row.intent != Intent.ENDED.value
        return UnreadableRecord("rules", row.rule_id, row.text, str(error), is_wanted)


def _rule_record(row: RuleRow) -> RuleRecord:
    rule, rule_id = parsed(row.text)
    if rule_id != row.rule_id:
        raise Refused("rule_id", row.rule_id, f"is not the id of its text, which is {rule_id}")
    if row.hash != canonical.rule_hash(row.text, row.owner, row.zone, row.generation):
        raise Refused("hash", row.hash, "does not fit the row: text, owner, zone or generation was changed")
    return RuleRecord(
        id=rule_id,
        rule=rule,
        generation=row.generation,
        owner=row.owner,
        zone=row.zone,
        origin=Origin(row.origin),
        intent=Intent(row.intent),
        created=row.created,
        deadline=row.deadline,
        reason=row.reason,
        ended_why=row.ended_why,
        incident=row.incident,
        created_by=row.created_by,
        approved_by=row.approved_by,
        hash=row.hash,
        is_operator=row.is_operator,
        collateral=row.collateral,
        wanted_since=row.wanted_since,
        ended=row.ended,
    )


def zone(row: ZoneRow) -> Zone | UnreadableRecord:
    """The zone of a row."""
    try:
        found = _zone(json.dumps(row.document))
        if found.name != row.name:
            raise Refused("name", found.name, f"stands in the row of zone {row.name}")
    except ValueError as error:
        return UnreadableRecord("zones", row.name, str(row.document), str(error), is_wanted=True)
    return found


@lru_cache(maxsize=1024)
def _zone(document: str) -> Zone:
    """Kept by its whole text: every decision looks at all zones, and they hardly ever change."""
    return zone_from_json(json.loads(document))


def announcement(row: AnnouncementRow) -> AnnouncementRecord | UnreadableRecord:
    """The announcement of a row."""
    try:
        phase = Phase(row.phase)
    except ValueError as error:
        subject = f"{row.rule_id} at {row.neighbour}"
        return UnreadableRecord("announcements", subject, row.phase, str(error), is_wanted=True)
    return AnnouncementRecord(RuleId(row.rule_id), row.neighbour, row.speaker, phase, row.since, row.detail)
