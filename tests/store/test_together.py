"""Several calls as one transaction, and what is kept between transactions against what stands in the rows."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import LATER, NOW, WORLD, ZONE, admitted, request, rule

from rules.errors import Refused
from rules.findings import Objected
from store.database import Concern
from store.store import Store


class Stop(RuntimeError):
    """Ends a transaction in its middle."""


def test_calls_together_are_one_transaction_that_others_see_at_its_end(store: Store, path: Path) -> None:
    with Store.open(path) as other:
        with store.together():
            one = admitted(store, 1)
            assert store.wanted() == (one,), "its own thread sees it at once"
            admitted(store, 2)
            assert other.wanted() == ()
        assert len(other.wanted()) == 2
    assert store.verify_audit().is_sound


def test_what_is_raised_through_the_end_undoes_everything(store: Store) -> None:
    before = store.audit_head(), store.change_counter()
    with pytest.raises(Stop), store.together():
        admitted(store, 1)
        raise Stop
    assert (store.audit_head(), store.change_counter()) == before
    assert store.wanted() == ()
    admitted(store, 2)
    assert store.verify_audit().is_sound


def test_a_refused_call_undoes_itself_alone_and_the_audit_stays_sound(store: Store) -> None:
    with store.together():
        one = admitted(store, 1)
        with pytest.raises(Objected):
            admitted(store, 1)
        with pytest.raises(Refused):
            store.withdraw(rule(9).id, "ann", "test", NOW)
        with pytest.raises(Refused):
            # Refused in the middle: the rule's row and audit line are there already.
            store.admit(request(3), WORLD, deadline=LATER, actor="ann", reason="test", now=NOW, incident=77)
        two = admitted(store, 2)
    assert store.wanted() == (one, two)
    assert store.verify_audit().is_sound
    assert [row.action for row in store.audit_rows()].count("rule.refused") == 1


def test_an_inner_call_that_fails_after_its_audit_line_leaves_no_gap(store: Store) -> None:
    with store.together():
        with pytest.raises(Stop), store.writing(Concern.INTENTS):
            store.audit("ann", "undone", "x", {}, NOW)
            raise Stop
        store.audit("ann", "done", "x", {}, NOW)
    assert store.verify_audit().is_sound
    assert "undone" not in [row.action for row in store.audit_rows()]


EDITS = (
    "text = replace(text, '=53', '=54')",
    "text = text || ' '",
    "hash = 'x'",
    "rule_id = 'x' || key",
    "generation = generation + 1",
    "owner = 'eve'",
    "zone = NULL",
    "origin = 'sensor'",
    "origin = 'nobody'",
    "is_operator = 1 - is_operator",
    "collateral = 0.5",
    "intent = 'ended'",
    "intent = 'proposed'",
    "approved_by = 'eve'",
    "deadline = '2031-01-01 00:00:00.000000'",
    "reason = 'other'",
)


@given(st.lists(st.tuples(st.sampled_from(EDITS), st.integers(1, 5)), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_no_change_of_a_row_hides_behind_what_was_read_before(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "db"
    with Store.open(path) as store:
        store.put_zone(ZONE, "ann", NOW)
        for number in range(1, 6):
            admitted(store, number)
        assert len(store.wanted()) == 5
        for edit, key in edits:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(f"UPDATE rules SET {edit} WHERE key = ?", (key,))
            with Store.open(path) as fresh:
                assert store.wanted() == fresh.wanted()


def test_the_guard_meets_every_rule_that_came_and_none_that_went(store: Store, path: Path) -> None:
    for number in range(1, 16):
        admitted(store, number)
        if number % 3 == 0:
            store.withdraw(rule(number - 1).id, "ann", "test", NOW)
        with Store.open(path) as fresh:
            ours, theirs = (one.surroundings(WORLD, NOW).active for one in (store, fresh))
        assert set(ours) == set(theirs)
        assert len(ours) == len(theirs) == len(store.wanted())
        assert set(ours.related(rule(number))) == set(theirs.related(rule(number)))
