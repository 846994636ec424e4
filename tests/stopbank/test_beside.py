"""`stopbank status` tells of the enforcer and the sensor of this machine, and of neither where there is none."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sensors import enforce_status
from sensors.enforce_tables import Tables
from stopbank import beside

Run = Callable[..., Any]
NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def written(state: Path, at: datetime, trouble: str = "") -> None:
    """What an enforcer without speakers writes."""
    (state / "enforce").mkdir(parents=True, exist_ok=True)
    enforce_status.write(state / "enforce", enforce_status.render(Tables((), (), 10), {}, trouble, 0.0, at))


def test_nothing_is_told_of_what_is_not_there(tmp_path: Path, run: Run) -> None:
    assert beside.enforce(tmp_path, NOW) is None and beside.sensor(tmp_path) is None
    document = json.loads(run("status", "--json").out)
    assert (document["enforce"], document["sensor"]) == (None, None)


def test_what_the_enforcer_writes_is_read_and_its_silence_noticed(tmp_path: Path) -> None:
    written(tmp_path, NOW)
    told = beside.enforce(tmp_path, NOW)
    assert told is not None and told["problems"] == []
    late = beside.enforce(tmp_path, NOW + timedelta(seconds=60))
    assert late is not None and "60 s old" in late["problems"][0]
    written(tmp_path, NOW, "no CAP_NET_ADMIN")
    told = beside.enforce(tmp_path, NOW)
    assert told is not None and told["problems"] == ["enforce: no CAP_NET_ADMIN"]


def test_a_report_that_is_none_is_a_problem_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "enforce").mkdir()
    for text in ("", "[]", "{}", '{"at": 3}', '{"at": "2030-01-01T12:00:00", "trouble": ""}'):
        (tmp_path / "enforce" / "enforce.json").write_text(text)
        told = beside.enforce(tmp_path, NOW)
        assert told is not None and "can't be read" in told["problems"][0]


def test_the_status_shows_sessions_spool_and_evidence(tmp_path: Path, run: Run) -> None:
    state = tmp_path / "state"
    written(state, datetime.now(UTC), "nft says no")
    for name, size in (("sensor/spool", 1_500_000), ("evidence", 10)):
        (state / name).mkdir(parents=True)
        (state / name / "one").write_bytes(bytes(size))
    done = run("status")
    assert done.code == 1 and "problem: enforce: nft says no" in done.out
    assert "enforce: 0 rules in nftables, 0 of 0 sessions up" in done.out
    assert "spool: 1 files, 1.5 MB" in done.out and "evidence: 1 files" in done.out
