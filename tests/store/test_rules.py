"""Rules in the store: what gets in, what an approval means, how a rule ends, and that no row is trusted."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import StatementError
from stored import LATER, NOW, WORLD, ZONE, admitted, request, rule
from strategies import sensible_rules

from rules import guard
from rules.errors import Refused
from rules.findings import Objected
from rules.guard import Limits, Origin, Request
from rules.rule import Blackhole, FlowSpec, Rule, RuleId, parse
from store.admission import request_of
from store.records import Intent, RuleFilter, World
from store.store import Store
from store.texts import parsed

SECOND = timedelta(seconds=1)
UNKNOWN = RuleId("0" * 20)


def test_an_admitted_rule_is_wanted_and_comes_back_as_it_went_in(store: Store) -> None:
    record, findings = store.admit(request(7), WORLD, deadline=LATER, actor="ann", reason="flood", now=NOW)
    assert store.wanted() == (record,)
    assert store.rule(record.id) == record
    assert record.rule == rule(7)
    assert (record.zone, record.generation, record.intent) == ("campus", 1, Intent.WANTED)
    assert (record.deadline, record.created, record.wanted_since) == (LATER, NOW, NOW)
    assert record.created.tzinfo is UTC
    assert all(not finding.is_error for finding in findings)


@given(sensible_rules())
def test_every_rule_survives_being_stored_as_text(given_rule: Rule) -> None:
    assert parsed(str(given_rule)) == (given_rule, given_rule.id)


def test_moments_given_in_another_time_zone_come_back_in_utc(store: Store) -> None:
    elsewhere = timezone(timedelta(hours=13))
    store.admit(
        request(),
        WORLD,
        deadline=LATER.astimezone(elsewhere),
        actor="ann",
        reason="test",
        now=NOW.astimezone(elsewhere),
    )
    (record,) = store.wanted()
    assert (record.deadline, record.deadline.tzinfo) == (LATER, UTC)
    assert store.verify_audit().is_sound


def test_a_refused_rule_leaves_an_audit_row_and_nothing_else(store: Store) -> None:
    outside = Request(parse("blackhole { prefix 198.51.100.1/32; }"), "operator", Origin.OPERATOR, 60)
    messages = len(store.outbox())
    with pytest.raises(Objected):
        store.admit(outside, WORLD, deadline=NOW + SECOND, actor="eve", reason="test", now=NOW)
    assert store.rules() == ()
    assert len(store.outbox()) == messages
    denial = store.audit_rows(limit=1)[0]
    assert (denial.actor, denial.action, denial.subject) == ("eve", "rule.refused", outside.rule.id)
    assert "198.51.100.1/32" in denial.detail
    assert "findings" in denial.detail


def test_the_guard_sees_zones_and_rules_as_they_are_in_the_same_transaction(store: Store) -> None:
    admitted(store, 1)
    with pytest.raises(Objected, match="already wanted"):
        admitted(store, 1)
    store.remove_zone("campus", "ann", NOW)
    with pytest.raises(Objected):
        admitted(store, 2)
    assert [record.rule for record in store.wanted()] == [rule(1)]


def test_the_guard_counts_what_was_wanted_in_the_last_minute(store: Store) -> None:
    world = World((), limits=Limits(per_minute=2))
    for number in (1, 2):
        store.admit(request(number), world, deadline=LATER, actor="ann", reason="test", now=NOW)
    with pytest.raises(Objected):
        store.admit(request(3), world, deadline=LATER, actor="ann", reason="test", now=NOW + 59 * SECOND)
    store.admit(request(3), world, deadline=LATER, actor="ann", reason="test", now=NOW + 61 * SECOND)


def test_a_dry_run_says_what_the_guard_says_and_records_nothing(store: Store) -> None:
    admitted(store, 1)
    before = store.audit_head(), store.change_counter()
    assert any(finding.is_error for finding in store.objections(request(1), WORLD, NOW))
    assert not any(finding.is_error for finding in store.objections(request(2), WORLD, NOW))
    assert (store.audit_head(), store.change_counter()) == before


def test_a_deadline_beyond_the_lifetime_that_the_guard_judged_is_refused(store: Store) -> None:
    with pytest.raises(Refused, match="deadline"):
        store.admit(request(), WORLD, deadline=LATER + 60 * SECOND, actor="ann", reason="test", now=NOW)
    with pytest.raises(Refused, match="deadline"):
        store.admit(request(), WORLD, deadline=NOW, actor="ann", reason="test", now=NOW)


def test_a_rule_wanted_anew_after_its_end_is_the_next_generation(store: Store) -> None:
    first = admitted(store)
    store.withdraw(first.id, "bob", "over", NOW)
    second = admitted(store)
    assert (first.generation, second.generation) == (1, 2)
    assert first.hash != second.hash
    assert [(one.generation, one.intent, one.ended_why) for one in store.rules()] == [
        (2, Intent.WANTED, None),
        (1, Intent.ENDED, "over"),
    ]
    assert [change.change for change in store.history(first.id)] == ["wanted", "ended", "wanted"]


def test_replacing_openly_ends_the_old_generation_in_the_same_transaction(store: Store) -> None:
    first = admitted(store)
    assert isinstance(first.rule, FlowSpec)
    slower = parse(str(first.rule).replace("discard", "rate-limit 1000000"))
    changed = replace(request(), rule=slower, replaces=first.id)
    second, _ = store.admit(changed, WORLD, deadline=LATER, actor="ann", reason="softer", now=NOW)
    assert (second.id, second.generation) == (first.id, 2)
    assert store.wanted() == (second,)
    broader, _ = store.admit(
        replace(request(2), replaces=first.id), WORLD, deadline=LATER, actor="ann", reason="test", now=NOW
    )
    assert store.wanted() == (broader,)


def test_a_proposal_waits_until_another_person_approves_exactly_what_was_seen(store: Store) -> None:
    proposal = admitted(store, proposed=True)
    assert store.wanted() == ()
    assert store.proposed() == (proposal,)
    with pytest.raises(Refused, match="another person"):
        store.approve(proposal.id, proposal.hash, "ann", NOW)
    with pytest.raises(Refused, match="look at it again"):
        store.approve(proposal.id, "0" * 64, "bob", NOW)
    with pytest.raises(Refused, match="has passed"):
        store.approve(proposal.id, proposal.hash, "bob", LATER)
    assert [row.action for row in store.audit_rows(limit=3)] == ["rule.approval-refused"] * 3
    approved = store.approve(proposal.id, proposal.hash, "bob", NOW, WORLD)
    assert store.wanted() == (approved,)
    assert (approved.approved_by, approved.wanted_since) == ("bob", NOW)
    with pytest.raises(Refused, match="wanted already"):
        store.approve(proposal.id, proposal.hash, "bob", NOW)


def test_an_approval_asks_the_guard_again(store: Store) -> None:
    proposal = admitted(store, proposed=True)
    store.remove_zone("campus", "ann", NOW)
    with pytest.raises(Objected):
        store.approve(proposal.id, proposal.hash, "bob", NOW, WORLD)
    assert store.wanted() == ()


def test_an_approval_of_one_generation_does_not_hold_for_the_next(store: Store) -> None:
    first = admitted(store, proposed=True)
    store.withdraw(first.id, "ann", "changed my mind", NOW)
    second = admitted(store, proposed=True)
    with pytest.raises(Refused, match="look at it again"):
        store.approve(second.id, first.hash, "bob", NOW)


def test_a_rule_takes_the_place_of_its_own_proposal_and_nobody_proposes_it_twice(store: Store) -> None:
    store.put_zone(replace(ZONE, owner="tenant"), "ann", NOW)
    own = request(owner="tenant")
    store.admit(own, WORLD, deadline=LATER, actor="tim", reason="test", now=NOW, proposed=True)
    with pytest.raises(Objected, match=r"store\.duplicate"):
        store.admit(own, WORLD, deadline=LATER, actor="tim", reason="test", now=NOW, proposed=True)
    wanted, _ = store.admit(own, WORLD, deadline=LATER, actor="tim", reason="test", now=NOW)
    assert (store.wanted(), store.proposed()) == ((wanted,), ())


@pytest.mark.parametrize(
    ("origin", "owner", "theirs", "may"),
    [
        (Origin.API, "tenant", "another", False),
        (Origin.API, "tenant", "tenant", True),
        (Origin.OPERATOR, "operator", "another", True),
        (Origin.PLAYBOOK, "tenant", "tenant", False),
    ],
)
def test_replacing_is_for_owners_and_operators_and_the_automation_leaves_peoples_rules_alone(
    store: Store, origin: Origin, owner: str, theirs: str, may: bool
) -> None:
    """The rule replaced is another one: the guard looks at the owner of the same rule only."""
    store.put_zone(replace(ZONE, owner=theirs), "ann", NOW)
    old, _ = store.admit(request(1, owner=theirs), WORLD, deadline=LATER, actor="tim", reason="test", now=NOW)
    store.put_zone(replace(ZONE, owner=owner), "ann", NOW)
    new = replace(request(2, owner, origin), replaces=old.id, collateral=0.0)
    if not may:
        with pytest.raises(Objected, match=r"store\.foreign"):
            store.admit(new, WORLD, deadline=LATER, actor="eve", reason="test", now=NOW)
        assert store.wanted() == (old,)
        return
    record, _ = store.admit(new, WORLD, deadline=LATER, actor="tim", reason="test", now=NOW)
    assert store.wanted() == (record,)


def test_what_the_speaker_asks_of_a_stored_rule_passes_the_guard_again(store: Store) -> None:
    record = admitted(store)
    around = store.surroundings(WORLD, NOW)
    assert not [one for one in guard.objections(request_of(record, NOW), around) if one.is_error]
    store.remove_zone("campus", "ann", NOW)
    around = store.surroundings(WORLD, NOW)
    assert [one for one in guard.objections(request_of(record, NOW), around) if one.is_error]


def test_a_rule_expires_at_its_deadline_and_not_before(store: Store) -> None:
    record = admitted(store)
    assert not store.expire(record.id, LATER - SECOND)
    assert store.expire(record.id, LATER)
    assert not store.expire(record.id, LATER)
    ended = store.rule(record.id)
    assert ended is not None
    assert (ended.intent, ended.ended_why, ended.ended) == (Intent.ENDED, "deadline", LATER)


def test_a_rule_extended_meanwhile_survives_the_expiry_of_its_old_deadline(store: Store) -> None:
    record = admitted(store)
    store.extend(record.id, LATER + SECOND, "ann", "goes on", NOW)
    assert not store.expire(record.id, NOW, seen_deadline=LATER)
    assert store.wanted()[0].deadline == LATER + SECOND
    assert store.expire(record.id, NOW, seen_deadline=LATER + SECOND)


def test_nothing_is_extended_into_the_past_or_beyond_the_limit_or_after_its_end(store: Store) -> None:
    record = admitted(store)
    with pytest.raises(Refused, match="later than now"):
        store.extend(record.id, NOW, "ann", "test", NOW)
    limits = Limits(manual_lifetime_seconds=700)
    with pytest.raises(Refused, match="away"):
        store.extend(record.id, NOW + 800 * SECOND, "ann", "test", NOW, limits)
    store.extend(record.id, NOW + 700 * SECOND, "ann", "test", NOW, limits)
    store.withdraw(record.id, "ann", "", NOW)
    with pytest.raises(Refused, match="not known, or has ended"):
        store.extend(record.id, LATER, "ann", "test", NOW)
    for rule_id in (record.id, UNKNOWN):
        with pytest.raises(Refused, match="not known, or has ended"):
            store.withdraw(rule_id, "ann", "", NOW)


def test_withdrawing_many_ends_exactly_what_fits(store: Store) -> None:
    automatic = replace(request(1), origin=Origin.PLAYBOOK, collateral=0.0)
    store.admit(automatic, WORLD, deadline=LATER, actor="speaker", reason="test", now=NOW)
    manual = admitted(store, 2)
    gone = store.withdraw_many(RuleFilter(automatic=True), "ann", "kill switch", NOW)
    assert gone == (automatic.rule.id,)
    assert store.wanted() == (manual,)
    assert store.withdraw_many(RuleFilter(zone="elsewhere"), "ann", "", NOW) == ()
    assert store.withdraw_many(RuleFilter(), "ann", "all", NOW) == (manual.id,)
    assert store.withdraw_many(RuleFilter(), "ann", "all", NOW) == ()


def test_rules_are_found_by_filter_newest_first(store: Store) -> None:
    records = [admitted(store, number) for number in range(5)]
    store.withdraw(records[0].id, "ann", "", NOW)
    alive = RuleFilter(intents=frozenset({Intent.WANTED, Intent.PROPOSED}))
    assert [one.id for one in store.rules(alive)] == [one.id for one in reversed(records[1:])]
    assert [one.id for one in store.rules(alive, limit=2, offset=1)] == [records[3].id, records[2].id]
    assert store.rules(RuleFilter(owner="nobody")) == ()
    assert [one.id for one in store.rules(RuleFilter(ids=frozenset({records[2].id})))] == [records[2].id]


def test_every_change_of_a_rule_is_audited_and_told_to_the_worker(store: Store) -> None:
    record = admitted(store, proposed=True)
    store.approve(record.id, record.hash, "bob", NOW)
    store.extend(record.id, LATER + SECOND, "ann", "test", NOW)
    store.withdraw(record.id, "ann", "", NOW)
    expected = ["rule.proposed", "rule.approved", "rule.extended", "rule.ended"]
    assert [row.action for row in reversed(store.audit_rows(subject=record.id))] == expected
    assert [message.kind for message in reversed(store.outbox())] == expected
    assert store.verify_audit().is_sound


TAMPERINGS = {
    "text": "match { destination 203.0.0.9/32; } then { discard; }",
    "owner": "eve",
    "zone": "elsewhere",
    "generation": 9,
    "rule_id": "f" * 20,
    "origin": "heaven",
    "hash": "0" * 64,
}


@pytest.mark.parametrize("column", TAMPERINGS)
def test_a_rule_changed_behind_our_back_is_unreadable_and_can_still_be_withdrawn(
    store: Store, path: Path, column: str
) -> None:
    good, bad = admitted(store, 1), admitted(store, 2)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE rules SET {column} = ? WHERE rule_id = ?", (TAMPERINGS[column], bad.id))
    assert store.wanted() == (good,)
    (unreadable,) = store.unreadable()
    assert unreadable.table == "rules"
    assert unreadable.is_wanted
    store.withdraw(RuleId(unreadable.subject), "ann", "broken row", NOW)
    assert store.unreadable() == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_garbage_in_the_text_of_a_rule_never_breaks_reading(store: Store, path: Path, garbage: str) -> None:
    store.withdraw_many(RuleFilter(), "ann", "", NOW)
    bad = admitted(store, 2)
    with closing(sqlite3.connect(path)) as raw, raw:
        storable = garbage.encode(errors="surrogatepass").decode(errors="replace")
        raw.execute("UPDATE rules SET text = ? WHERE rule_id = ? AND intent != 'ended'", (storable, bad.id))
    assert store.wanted() == ()
    assert [one.subject for one in store.unreadable()] == [bad.id]


def test_an_unreadable_zone_protects_nothing_and_is_reported(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("""UPDATE zones SET document = '{"name": "campus"}'""")
    assert store.zones() == ()
    assert [(one.table, one.subject) for one in store.unreadable()] == [("zones", "campus")]
    with pytest.raises(Objected):
        admitted(store)


def test_the_zone_of_a_rule_is_the_narrowest_around_its_target(store: Store) -> None:
    store.put_zone(replace(ZONE, name="lab", prefixes=(ip_network("203.0.1.0/24"),)), "ann", NOW)
    inside, _ = store.admit(
        Request(Blackhole(ip_network("203.0.1.1/32")), "operator", Origin.OPERATOR, 60, is_operator=True),
        WORLD,
        deadline=NOW + SECOND,
        actor="ann",
        reason="test",
        now=NOW,
    )
    assert inside.zone == "lab"
    assert admitted(store, 1).zone == "campus"


def test_a_moment_without_time_zone_is_a_bug_and_nothing_is_written(store: Store) -> None:
    naive = datetime(2026, 3, 1)
    before = store.audit_head()
    with pytest.raises(StatementError, match="has no time zone"):
        store.put_zone(ZONE, "ann", naive)
    assert store.audit_head() == before


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_nothing_gets_in_or_lives_longer_without_a_reason_and_anything_ends_without_one(
    store: Store, reason: str
) -> None:
    with pytest.raises(Refused, match="reason"):
        store.admit(request(), WORLD, deadline=LATER, actor="ann", reason=reason, now=NOW)
    assert store.wanted() == ()
    record, _ = store.admit(request(), WORLD, deadline=LATER, actor="ann", reason="test", now=NOW)
    with pytest.raises(Refused, match="reason"):
        store.extend(record.id, LATER + SECOND, "ann", reason, NOW)
    assert [one.deadline for one in store.wanted()] == [LATER]
    store.withdraw(record.id, "ann", reason, NOW)
    assert store.wanted() == ()
