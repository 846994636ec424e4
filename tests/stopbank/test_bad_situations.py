"""Every command in every bad situation: an exit code that means something, clear lines, never a traceback."""

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from stopbank.cli import app

Run = Callable[..., Any]
RULE = "match { destination 203.0.113.7/32; protocol =udp; source-port =53; } then { discard; }"

COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("rules", "check"): (RULE,),
    ("rules", "add"): (RULE, "--reason", "x"),
    ("rules", "list"): (),
    ("rules", "approve"): ("0" * 20, "--hash", "x"),
    ("rules", "extend"): ("0" * 20, "--reason", "x"),
    ("rules", "withdraw"): ("0" * 20, "--reason", "x"),
    ("zone", "add"): ("web", "--prefix", "203.0.113.0/24"),
    ("zone", "change"): ("web", "--mode", "auto"),
    ("zone", "show"): ("web",),
    ("zone", "list"): (),
    ("zone", "remove"): ("web",),
    ("sensor", "token"): ("edge",),
    ("sensor", "revoke"): ("edge",),
    ("sensor", "list"): (),
    ("sensor", "enroll"): ("nonsense",),
    ("config", "check"): (),
    ("audit", "verify"): (),
    ("audit", "checkpoint"): (),
    ("audit", "public-key"): (),
    ("run",): (),
    ("stop",): (),
    ("reload",): (),
    ("status",): (),
    ("kill",): ("freeze",),
    ("doctor",): (),
    ("backup",): ("copy.db",),
    ("restore",): ("absent.db",),
    ("intake",): (),
    ("worker",): (),
    ("web",): (),
    ("enforce",): (),
    ("sensor", "run"): (),
}
"""What reads the configuration, with arguments that are good in themselves."""
ELSEWHERE = {
    ("rules", "decode"), ("rules", "encode"), ("rules", "render"), ("analyze",), ("demo",), ("lab",), ("bench",),
    ("speaker",),
}  # fmt: skip
"""What reads none; the speaker waits for a good one, as its own tests show."""
LASTING = {("run",), ("intake",), ("worker",), ("web",), ("enforce",), ("sensor", "run")}
WITHOUT_DATABASE = {
    ("config", "check"), ("sensor", "token"), ("sensor", "revoke"), ("sensor", "list"), ("sensor", "enroll"),
    ("stop",), ("reload",), ("kill",), ("enforce",), ("sensor", "run"), ("run",), ("restore",), ("audit", "public-key"),
}  # fmt: skip
PATIENCE_SECONDS = 20


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """What should refuse to start and starts is ended, and fails the test."""

    def too_long(*_: object) -> None:
        raise AssertionError("it started, or waits for something that won't come")

    previous = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


IDS = [" ".join(words) for words in COMMANDS]


def names(command: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from names(below, (*above, name))
        else:
            yield (*above, name)


def test_every_command_is_tried_here_or_needs_no_configuration() -> None:
    known = set(COMMANDS) | ELSEWHERE
    # Every new command joins the table; the sensor has some that read nothing.
    assert {one for one in names(typer.main.get_command(app)) if one[0] != "sensor"} <= known
    assert known - set(names(typer.main.get_command(app))) == set()


def clear(done: Any) -> None:
    """What is said on stderr is clear; a command that could not be tried says nothing on stdout."""
    assert done.code in (0, 1, 2), done
    assert "Traceback" not in done.err + done.out
    if done.code == 2:
        assert done.out == "" and done.err.startswith("error: "), done
        assert all(line.startswith("error: ") for line in done.err.splitlines()), done


def asked(run: Run, words: tuple[str, ...], *options: str) -> Any:
    done = run(*words, *COMMANDS[words], *options)
    clear(done)
    return done


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
def test_a_configuration_that_is_none(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = 1 if words == ("config", "check") else 2
    for content in (b"[web\n", b"\xff", b"[web]\nprot = 1\nport = 'x'\n"):
        (tmp_path / "bad.toml").write_bytes(content)
        assert asked(run, words, "--config", "bad.toml").code == refused
    assert asked(run, words, "--config", "absent.toml").code == refused
    assert asked(run, words, "--config", ".").code == refused


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
@pytest.mark.parametrize("state", ["/proc/stopbank", "a file", "a file/below", "x" * 300, "a\0b"])
def test_a_state_directory_that_cannot_be(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], state: str
) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "stopbank.toml").write_text(f"[paths]\nstate = {json.dumps(state)}\n")
    monkeypatch.delenv("STOPBANK_PATHS__STATE")
    done = asked(run, words)
    assert done.code != 0 or words in {("config", "check"), ("sensor", "list"), ("doctor",)}, done


@pytest.mark.parametrize("words", [one for one in COMMANDS if one not in WITHOUT_DATABASE], ids=" ".join)
@pytest.mark.parametrize("kind", ["junk", "foreign", "newer", "directory"])
def test_a_database_that_cannot_be_used(run: Run, tmp_path: Path, words: tuple[str, ...], kind: str) -> None:
    path = tmp_path / "state" / "stopbank.db"
    path.parent.mkdir()
    if kind == "directory":
        path.mkdir()
    elif kind == "junk":
        path.write_bytes(b"no database" * 1000)
    else:
        with sqlite3.connect(path) as database:
            database.execute(
                "CREATE TABLE alembic_version (version_num TEXT)" if kind == "newer" else "CREATE TABLE t (a)"
            )
            if kind == "newer":
                database.execute("INSERT INTO alembic_version VALUES ('9999')")
        database.close()
    done = asked(run, words)
    assert done.code == (1 if words == ("doctor",) else 2), done
    assert "database" in done.err + done.out


@pytest.mark.parametrize("words", [one for one in COMMANDS if one not in WITHOUT_DATABASE], ids=" ".join)
@pytest.mark.parametrize("url", ["nonsense", "postgresql://h/d", "sqlite:////proc/none/db", "mysql+nothing://x"])
def test_a_database_address_that_leads_nowhere(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], url: str
) -> None:
    monkeypatch.setenv("STOPBANK_PATHS__DATABASE", url)
    assert asked(run, words).code in (1, 2)


@pytest.mark.parametrize("words", [one for one in COMMANDS if one not in LASTING], ids=" ".join)
def test_nothing_runs_and_nothing_was_set_up(run: Run, words: tuple[str, ...]) -> None:
    done = asked(run, words)
    if words[0] in ("backup", "audit") and words[-1] != "public-key":
        assert done.code == 2 and "does not exist" in done.err


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ('[worker]\nsyslog = "nowhere"', "syslog"),
        ('[worker]\nwebhook_url = "ftp://x"\nwebhook_secret = "short"\nsyslog = "tcp:/x"', "worker.webhook_url"),
        ('[enforce]\nlocal_as = 1', "enforce.local_address"),
        ('[sensor]\ninterfaces = ["eth1"]\nfanout = 2\nmemory_megabytes = 207', "sensor.memory_megabytes"),
    ],
)  # fmt: skip
def test_what_a_part_could_not_start_with_is_found_beforehand(
    run: Run, tmp_path: Path, section: str, field: str
) -> None:
    (tmp_path / "stopbank.toml").write_text(section)
    for words, code in ((("config", "check"), 1), (("run",), 2), (("reload",), 2), (("doctor",), 1)):
        done = run(*words)
        clear(done)
        assert done.code == code and field in done.err + done.out


def test_the_advice_of_the_doctor_is_not_cut(run: Run, tmp_path: Path) -> None:
    name = "e" * 60
    (tmp_path / "stopbank.toml").write_text(f'[sensor]\ninterfaces = ["{name}"]\n')
    out = run("doctor").out
    assert name in out and "…" not in out
    assert any("messages older" in line or "set sensor.interfaces" in line for line in out.splitlines())
