"""The world failing: a locked, full, corrupt or missing database is `StoreUnavailable`, and nothing is half done."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from stored import NOW, ZONE, admitted

from store.errors import StoreUnavailable
from store.store import Store


def test_a_database_that_stays_locked_is_unavailable_and_nothing_has_happened(store: Store, path: Path) -> None:
    before = store.audit_head()
    with Store.open(path, patience_seconds=0.2) as impatient:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                admitted(impatient)
            assert impatient.wanted() == (), "reading goes on while another writes"
        assert store.audit_head() == before
        admitted(impatient)
    assert len(store.wanted()) == 1


def test_a_failure_in_the_last_step_of_a_change_undoes_the_first(store: Store, path: Path) -> None:
    before = store.audit_head(), store.change_counter()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TRIGGER broken BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'broken'); END")
    with pytest.raises(IntegrityError, match="broken"):
        admitted(store)
    assert (store.rules(), store.outbox()) == ((), ())
    assert (store.audit_head(), store.change_counter()) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.peer
def test_a_full_disk_is_unavailable_and_everything_before_is_kept(small_disk: Path) -> None:
    with Store.open(small_disk / "a.db") as store:
        store.put_zone(ZONE, "ann", NOW)
        admitted(store)
        (small_disk / "filler").write_bytes(bytes(_free(small_disk)))
        before = store.audit_head()
        with pytest.raises(StoreUnavailable, match=r"full|disk I/O"):
            for number in range(1000):
                before = store.audit_head()
                store.audit("ann", "test", str(number), {"filler": "x" * 5000}, NOW)
        assert store.audit_head() == before
        assert store.verify_audit().is_sound
        assert len(store.wanted()) == 1
        (small_disk / "filler").unlink()
        store.audit("ann", "test", "after", {}, NOW)
        assert store.verify_audit().is_sound


def _free(path: Path) -> int:
    import os

    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def test_a_file_that_is_no_database_is_unavailable(path: Path) -> None:
    path.write_bytes(b"nothing like a database " * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store.open(path)


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        Store.open(tmp_path / "nowhere" / "a.db")


def test_a_database_damaged_while_open_is_unavailable(store: Store, path: Path) -> None:
    for number in range(200):
        store.audit("ann", "test", str(number), {"filler": "x" * 500}, NOW)
    store.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))
    with pytest.raises(StoreUnavailable, match="malformed"):
        store.verify_audit()
