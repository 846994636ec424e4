"""Backups: taken while others write, complete or absent, and checked before anybody relies on them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_writer import go, ready, writer
from stored import NOW, ZONE, admitted

from store.backup import check_backup
from store.errors import SchemaUnknown, StoreUnavailable
from store.records import AuditHead
from store.store import Store


def test_a_backup_holds_everything_and_opens_as_a_store(store: Store, tmp_path: Path) -> None:
    record = admitted(store)
    copy = tmp_path / "copy.db"
    verdict = store.backup(copy)
    assert verdict.is_sound
    assert (verdict.rules, verdict.audit) == (1, store.audit_head())
    assert [file.name for file in tmp_path.glob("*copy*")] == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    with Store.open(copy) as restored:
        assert restored.wanted() == (record,)
        assert restored.zones() == (ZONE,)
        assert restored.verify_audit(verdict.audit).is_sound


def test_a_backup_replaces_the_one_before(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    store.backup(copy)
    admitted(store)
    assert store.backup(copy).rules == 1


def test_a_backup_that_fails_leaves_the_one_before_and_no_rubbish(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        store.backup(tmp_path / "nowhere" / "copy.db")
    occupied = tmp_path / "folder"
    (occupied / "inside").mkdir(parents=True)
    with pytest.raises(StoreUnavailable):
        store.backup(occupied)
    assert sorted(file.name for file in tmp_path.iterdir() if "part" in file.name) == []


def test_a_damaged_backup_is_not_sound(store: Store, tmp_path: Path) -> None:
    for number in range(200):
        store.audit("ann", "test", str(number), {"filler": "x" * 500}, NOW)
    copy = tmp_path / "copy.db"
    store.backup(copy)
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreUnavailable):
        check_backup(copy)
    copy.write_bytes(b"no database at all")
    with pytest.raises(StoreUnavailable):
        check_backup(copy)
    with pytest.raises(StoreUnavailable, match="not there"):
        check_backup(tmp_path / "nowhere.db")


def test_a_backup_older_than_a_head_kept_elsewhere_says_so(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    store.backup(copy)
    admitted(store)
    (problem,) = check_backup(copy, store.audit_head()).problems
    assert "cut off" in problem
    assert not check_backup(copy, AuditHead(1, "0" * 64)).is_sound


def test_a_backup_of_another_schema_or_of_somebody_else_says_so(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    store.backup(copy)
    with closing(sqlite3.connect(copy)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '0000'")
    (problem,) = check_backup(copy).problems
    assert "schema is 0000" in problem
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as raw, raw:
        raw.execute("CREATE TABLE theirs (a)")
    with pytest.raises(SchemaUnknown):
        check_backup(tmp_path / "theirs.db")


def test_a_backup_taken_while_another_process_writes_is_consistent(store: Store, path: Path, tmp_path: Path) -> None:
    with writer(path, "busy", 0, 10_000) as process:
        ready(process)
        go(process)
        assert process.stdout is not None
        for number in range(3):
            process.stdout.readline()
            verdict = store.backup(tmp_path / f"{number}.db")
            assert verdict.problems == ()
            assert verdict.rules >= number + 1
