"""`stopbank audit`: checkpoints prove later what the chain was, and a broken chain is shown where it breaks."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def kept(run: Run, tmp_path: Path) -> tuple[str, ...]:
    """Three zones, a checkpoint after each, kept elsewhere with the public key; the options that verify them."""
    lines = []
    for name in ("one", "two", "three"):
        run("zone", "add", name, "--prefix", "203.0.113.0/24")
        lines.append(run("audit", "checkpoint").out)
    (tmp_path / "kept").write_text("".join(lines))
    (tmp_path / "key.pem").write_text(run("audit", "public-key").out)
    return ("--checkpoints", "kept", "--public-key", "key.pem")


def forge(tmp_path: Path, *statements: str) -> None:
    """What somebody with the whole database can do."""
    with sqlite3.connect(tmp_path / "state" / "stopbank.db") as database:
        (table,) = database.execute("SELECT tbl_name FROM sqlite_master WHERE name LIKE '%no_update'").fetchone()
        database.execute(f"DROP TRIGGER {table}_no_update")
        database.execute(f"DROP TRIGGER {table}_no_delete")
        for statement in statements:
            database.execute(statement.format(table=table))
    database.close()


def test_a_whole_chain_agrees_with_what_was_kept(run: Run, kept: tuple[str, ...], tmp_path: Path) -> None:
    run("zone", "remove", "one")
    document = json.loads(run("audit", "verify", *kept, "--json").out)
    assert (document["ok"], document["checkpoints"], document["broken_at"]) == (True, 3, None)
    assert (tmp_path / "state" / "audit.key").stat().st_mode & 0o777 == 0o600


def test_a_changed_row_is_shown_with_its_neighbours(run: Run, kept: tuple[str, ...], tmp_path: Path) -> None:
    forge(tmp_path, "UPDATE {table} SET actor = 'mallory' WHERE sequence = 2")
    done = run("audit", "verify", "--json")
    document = json.loads(done.out)
    assert (done.code, document["broken_at"]) == (1, 2)
    assert [one["row"] for one in document["around"]] == [1, 2, 3]
    assert "mallory" in run("audit", "verify").out
    assert run("audit", "checkpoint").code == 1


def test_a_cut_tail_shows_against_a_checkpoint_and_only_so(run: Run, kept: tuple[str, ...], tmp_path: Path) -> None:
    forge(tmp_path, "DELETE FROM {table} WHERE sequence = 3")
    assert run("audit", "verify").code == 0
    done = run("audit", "verify", *kept, "--json")
    assert done.code == 1 and json.loads(done.out)["broken_at"] == 3


def test_a_database_made_anew_shows_against_every_checkpoint(run: Run, kept: tuple[str, ...], tmp_path: Path) -> None:
    for path in (tmp_path / "state").glob("stopbank.db*"):
        path.unlink()
    for name in ("a", "b", "c", "d"):
        run("zone", "add", name, "--prefix", "203.0.113.0/24")
    assert run("audit", "verify").code == 0
    done = run("audit", "verify", *kept, "--json")
    assert done.code == 1 and len(json.loads(done.out)["problems"]) == 3


@pytest.mark.parametrize(
    ("checkpoints", "key"), [("junk", None), ("", None), (None, "junk"), (None, "absent"), ("absent", None)]
)
def test_what_is_no_checkpoint_or_key_is_refused(
    run: Run, kept: tuple[str, ...], tmp_path: Path, checkpoints: str | None, key: str | None
) -> None:
    for name, content in (("kept", checkpoints), ("key.pem", key)):
        if content == "absent":
            (tmp_path / name).unlink()
        elif content is not None:
            (tmp_path / name).write_text(content)
    done = run("audit", "verify", *kept)
    assert done.code == 1 and done.err.startswith("error: ")


def test_a_checkpoint_of_another_key_is_refused(run: Run, kept: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "state" / "audit.key").unlink()
    (tmp_path / "key.pem").write_text(run("audit", "public-key").out)
    done = run("audit", "verify", *kept)
    assert done.code == 1 and "checkpoints[1]" in done.err and "not of this key" in done.err


def test_checkpoints_without_their_key_are_not_believed(run: Run, kept: tuple[str, ...]) -> None:
    done = run("audit", "verify", *kept[:2])
    assert done.code == 1 and "public-key" in done.err


def test_a_key_that_is_none_is_left_alone(run: Run, kept: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "state" / "audit.key").write_text("mine")
    done = run("audit", "checkpoint")
    assert done.code == 2 and "audit.key" in done.err
    assert (tmp_path / "state" / "audit.key").read_text() == "mine"
