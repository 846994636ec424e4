"""Several processes and threads on one database, and one of them killed: never a duplicate, never half a change."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from store_writer import PATIENCE_SECONDS, go, outcomes, ready, writer
from stored import NOW, admitted, rule

from store.store import Store


def assert_whole(store: Store, path: Path) -> None:
    """The audit chain is sound, and every wanted rule has its history, its audit row and its message."""
    assert store.verify_audit().problems == ()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = {
            raw.execute(query).fetchone()[0]
            for query in (
                "SELECT count(*) FROM rules",
                "SELECT count(*) FROM rule_history",
                "SELECT count(*) FROM outbox",
                "SELECT count(*) FROM audit WHERE action = 'rule.wanted'",
            )
        }
    assert len(counts) == 1


def test_several_processes_may_make_the_same_database_at_once(path: Path) -> None:
    with ExitStack() as stack:
        for process in [stack.enter_context(writer(path, str(number), 0, 0)) for number in range(4)]:
            ready(process)
    with Store.open(path) as store:
        assert store.zones() == ()


def test_two_processes_that_want_the_same_rules_get_each_of_them_once(store: Store, path: Path) -> None:
    count = 30
    with writer(path, "left", 0, count) as left, writer(path, "right", 0, count) as right:
        ready(left)
        ready(right)
        with ThreadPoolExecutor(2) as pool:
            said = [line for lines in pool.map(outcomes, (left, right)) for line in lines]
    assert sorted(said) == sorted(
        f"{what} {rule(number).id}" for number in range(count) for what in ("admitted", "refused")
    )
    assert {record.id for record in store.wanted()} == {rule(number).id for number in range(count)}
    assert len(store.wanted()) == count
    assert [row.action for row in store.audit_rows(limit=1000)].count("rule.refused") == count
    assert_whole(store, path)


def test_a_writer_killed_in_the_middle_leaves_whole_changes_only(store: Store, path: Path) -> None:
    for attempt in range(3):
        before = {record.id for record in store.wanted()}
        with writer(path, "victim", attempt * 10_000, 10_000) as process:
            ready(process)
            go(process)
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(5 + attempt)]
            process.kill()
            rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
        told = {line.split()[1] for line in [*said, *rest.splitlines(keepends=True)] if line.endswith("\n")}
        here = {record.id for record in store.wanted()} - before
        assert told <= here
        assert len(here - told) <= 1, "at most the one that was committed and not yet told"
        assert_whole(store, path)
    admitted(store, 50_000)


def test_threads_share_one_store(store: Store, path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: admitted(store, number).id, range(40)))
    assert {record.id for record in store.wanted()} == set(ids)
    assert len(set(ids)) == 40
    assert_whole(store, path)


def test_a_rule_that_another_process_let_in_is_seen_by_the_next_guard(store: Store, path: Path) -> None:
    admitted(store, 1)
    with Store.open(path) as other:
        theirs = admitted(other, 2)
    with pytest.raises(ValueError, match="already wanted"):
        admitted(store, 2)
    with Store.open(path) as other:
        other.withdraw(theirs.id, "bob", "", NOW)
    assert admitted(store, 2).generation == 2
