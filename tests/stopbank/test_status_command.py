"""`stopbank status` is honest: each trouble in a line with what to do, exit 1; and commands that read make nothing."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sensors import enforce_status
from sensors.enforce_tables import Tables
from store.records import SensorRecord
from store.store import Store

Run = Callable[..., Any]
READERS = [
    ("rules", "list"), ("rules", "check", "match { destination 203.0.113.7/32; protocol =udp; } then { discard; }"),
    ("rules", "approve", "0" * 20, "--hash", "x"), ("rules", "extend", "0" * 20, "--reason", "x"),
    ("rules", "withdraw", "0" * 20, "--reason", "x"), ("zone", "list"), ("zone", "show", "web"),
    ("zone", "change", "web", "--mode", "auto"), ("zone", "remove", "web"), ("status",), ("audit", "verify"),
    ("audit", "checkpoint"), ("audit", "public-key"), ("backup", "copy.db"), ("sensor", "list"), ("sensor", "tokens"),
    ("sensor", "revoke", "edge"), ("sensor", "bind", "edge", "--zone", "*"),
    ("sensor", "token", "edge", "--zone", "web"),
]  # fmt: skip
"""What reads, or changes what must be there already."""


def reported(state: Path, *neighbours: dict[str, Any]) -> None:
    state.mkdir(exist_ok=True)
    document = {"at": datetime.now(UTC).isoformat(), "problems": [], "neighbours": neighbours}
    (state / "status.json").write_text(json.dumps(document))


@pytest.fixture
def state(run: Run, tmp_path: Path) -> Path:
    """A database with one zone, and a speaker that reports."""
    assert run("zone", "add", "web", "--prefix", "203.0.113.0/24").code == 0
    reported(tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_what_reads_makes_nothing_and_says_that_there_is_none(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.code == 2 and done.out == "" and "does not exist" in done.err, done
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("state")
def test_when_all_is_well_it_says_so(run: Run) -> None:
    done = run("status")
    assert (done.code, done.out.splitlines()[0]) == (0, "nothing is wrong"), done


def test_a_session_that_is_down_is_a_trouble(run: Run, state: Path) -> None:
    reported(state, {"name": "edge1", "up": True}, {"name": "edge2", "up": False, "reason": "peer reset"})
    done = run("status")
    (line,) = [one for one in done.out.splitlines() if one.startswith("problem: ")]
    assert done.code == 1 and "edge2" in line and "peer reset" in line and "stopbank doctor" in line


def test_a_thrown_kill_switch_is_a_trouble(run: Run, state: Path) -> None:
    (state / "kill.json").write_text('{"mode": "freeze"}')
    done = run("status")
    assert done.code == 1 and "stopbank kill normal" in done.out


def test_a_sensor_that_fell_silent_is_a_trouble_until_it_is_revoked(run: Run, state: Path) -> None:
    token = run("sensor", "token", "east")
    assert token.code == 0
    with Store.open(state / "stopbank.db") as store:
        store.save_sensor_seen(SensorRecord("east", datetime(2020, 1, 1, tzinfo=UTC)))
    done = run("status")
    assert done.code == 1 and "Sensor east: silent" in done.out
    assert run("sensor", "revoke", "east").code == 0
    assert run("status").code == 0


def test_a_lost_database_hides_nothing_of_the_speaker(run: Run, state: Path) -> None:
    reported(state, {"name": "edge1", "up": False})
    for content in (None, b"junk" * 1000):
        for path in state.glob("stopbank.db*"):
            path.unlink()
        if content is not None:
            (state / "stopbank.db").write_bytes(content)
        done = run("status")
        assert done.code == 1 and "The database can't be used" in done.out and "edge1" in done.out, done
        assert (state / "stopbank.db").exists() == (content is not None)


def test_the_status_shows_sessions_spool_and_evidence(run: Run, state: Path) -> None:
    (state / "enforce").mkdir()
    document = enforce_status.render(Tables((), (), 10), {}, "nft says no", 0.0, datetime.now(UTC))
    enforce_status.write(state / "enforce", document)
    for name, size in (("sensor/spool", 1_500_000), ("evidence", 10)):
        (state / name).mkdir(parents=True)
        (state / name / "one").write_bytes(bytes(size))
    done = run("status")
    assert done.code == 1 and "problem: Enforcer: nft says no" in done.out
    assert "enforce: 0 rules in nftables, 0 of 0 sessions up" in done.out
    assert "spool: 1 file, 1.5 MB" in done.out and "evidence: 1 file," in done.out


def test_nothing_of_the_database_changes_when_it_is_read(run: Run, state: Path) -> None:
    def counters() -> list[tuple[Any, ...]]:
        with sqlite3.connect(state / "stopbank.db") as database:
            found = database.execute("SELECT name, value FROM counters ORDER BY name").fetchall()
        database.close()
        return found

    before = counters()
    for words in (("status",), ("rules", "list"), ("zone", "list"), ("audit", "verify")):
        assert run(*words).code == 0
    assert counters() == before


ADD = "match { destination 203.0.113.7/32; protocol =udp; source-port =53; } then { discard; }"
HOSTILE = ("over\n2030-01-01 forged line", "\x1b[2J", "a\rb", "\x00", "bell\x07", "line\u2028", "x\x9b31m")


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("text", HOSTILE)
def test_text_that_would_move_a_terminal_is_refused_and_never_printed(run: Run, text: str) -> None:
    for words in (
        ("--reason", text),
        ("--reason", "x", "--owner", text),
        ("--reason", "x", "--owner", text, "--as-operator"),
    ):
        done = run("rules", "add", ADD, *words)
        assert done.code == 1 and text not in done.err + done.out
        assert ("one line" if words[1] == text else "printable") in done.err
    for words in (("extend", "0" * 20), ("withdraw", "0" * 20)):
        assert run("rules", *words, "--reason", text).code == 1
    done = run("zone", "show", text)
    assert done.code == 1 and text not in done.err
    assert json.loads(run("rules", "list", "--json").out) == []


def test_the_name_of_whoever_types_holds_no_control_characters(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ann\n\x1b[2Jroot")
    assert run("zone", "change", "web", "--mode", "propose").code == 0
    with Store.open(state / "stopbank.db") as store:
        (newest,) = store.audit_rows(limit=1)
    assert newest.actor.isprintable() and newest.actor.startswith("cli:ann")


@pytest.mark.usefixtures("state")
def test_an_extension_is_told_all_its_problems_at_once(run: Run) -> None:
    done = run("rules", "extend", "0" * 20, "--for", "9x", "--reason", " ")
    assert done.code == 1 and [line.split(":")[1].strip() for line in done.err.splitlines()] == ["reason", "for"]
