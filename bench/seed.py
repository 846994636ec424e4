"""Many rules brought into a database in one transaction, with history, audit and outbox as `store.admission` does it.

The guard is not asked here, where it isn't what is measured; the speaker asks it before it announces anything.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

from rules.guard import Origin
from rules.rule import Blackhole, FlowSpec, Rule
from rules.text import parse_flowspec
from rules.zone import Zone
from store import canonical
from store.database import Concern
from store.models import RuleRow
from store.records import Intent
from store.rules import note
from store.store import Store

ZONE = Zone("bench", (IPv4Network("10.0.0.0/8"), IPv4Network("203.0.113.0/24")))
ACTOR = "bench"
LIFETIME = timedelta(hours=1)


def flowspecs(count: int, first: int = 0) -> tuple[FlowSpec, ...]:
    """So many rules for hosts of their own, which every router takes."""
    base = IPv4Address("10.0.0.0")
    return tuple(
        parse_flowspec(
            f"match {{ destination {base + number}/32; protocol =udp; source-port =53; }} then {{ discard; }}"
        )
        for number in range(first, first + count)
    )


def blackholes(count: int) -> tuple[Blackhole, ...]:
    """So many blackholes for hosts that no FlowSpec rule names."""
    return tuple(Blackhole(IPv4Network((int(IPv4Address("10.128.0.0")) + number, 32))) for number in range(count))


def seed(store: Store, rules: Sequence[Rule], deadlines: Sequence[datetime] = ()) -> None:
    """Makes all of them wanted; when this returns they are committed. Without deadlines, each lives for an hour."""
    now = datetime.now(UTC)
    with store.writing(Concern.INTENTS) as session:
        for number, rule in enumerate(rules):
            row = _row(rule, deadlines[number] if deadlines else now + LIFETIME, now)
            session.add(row)
            note(session, row, change=Intent.WANTED.value, actor=ACTOR, detail="", now=now)


def _row(rule: Rule, deadline: datetime, now: datetime) -> RuleRow:
    text = str(rule)
    return RuleRow(
        rule_id=rule.id,
        generation=1,
        text=text,
        hash=canonical.rule_hash(text, ACTOR, ZONE.name, 1),
        owner=ACTOR,
        zone=ZONE.name,
        origin=Origin.OPERATOR.value,
        is_operator=True,
        intent=Intent.WANTED.value,
        wanted_since=now,
        deadline=deadline,
        created=now,
        created_by=ACTOR,
        reason=ACTOR,
    )
