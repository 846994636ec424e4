"""`stopbank status` tells of enforcer, sensor and worker of this machine, and of none where there is none."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sensors import enforce_status
from sensors.enforce_tables import Tables
from stopbank import beside
from stopbank.config import Config, parse

Run = Callable[..., Any]
NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def written(state: Path, at: datetime, trouble: str = "") -> None:
    """What an enforcer without speakers writes."""
    (state / "enforce").mkdir(parents=True, exist_ok=True)
    enforce_status.write(state / "enforce", enforce_status.render(Tables((), (), 10), {}, trouble, 0.0, at))


def settings(state: Path, text: str = "") -> Config:
    return parse(f'[paths]\nstate = "{state}"\n{text}', "test", {})


def problems(told: Any) -> list[str]:
    assert told is not None
    found: list[str] = told["problems"]
    return found


def test_nothing_is_told_of_what_is_not_there(tmp_path: Path) -> None:
    config = settings(tmp_path)
    assert beside.enforce(config, NOW) is None and beside.sensor(config) is None and beside.worker(config, NOW) is None


def test_what_is_set_up_here_and_does_not_run_is_a_trouble_with_advice(tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        '[enforce]\nlocal_address = "192.0.2.1"\n[sensor]\ninterfaces = ["eth1"]\n[worker]\nsyslog = "udp://[::1]:514"',
    )
    assert "stopbank enforce" in problems(beside.enforce(config, NOW))[0]
    assert "sensor enroll" in problems(beside.sensor(config))[0]
    assert "stopbank run" in problems(beside.worker(config, NOW))[0]
    (tmp_path / "sensor").mkdir()
    (tmp_path / "sensor" / "intake.json").write_text("{}")
    assert "stopbank sensor run" in problems(beside.sensor(config))[0]


def test_what_the_enforcer_writes_is_read_and_its_silence_noticed(tmp_path: Path) -> None:
    config = settings(tmp_path)
    written(tmp_path, NOW)
    assert problems(beside.enforce(config, NOW)) == []
    assert "60 s old" in problems(beside.enforce(config, NOW + timedelta(seconds=60)))[0]
    written(tmp_path, NOW, "no CAP_NET_ADMIN")
    assert problems(beside.enforce(config, NOW)) == ["Enforcer: no CAP_NET_ADMIN. Look at its log."]


def test_a_report_that_is_none_is_a_problem_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "enforce").mkdir()
    for text in ("", "[]", "{}", '{"at": 3}', '{"at": "2030-01-01T12:00:00", "trouble": ""}'):
        (tmp_path / "enforce" / "enforce.json").write_text(text)
        assert "can't be read" in problems(beside.enforce(settings(tmp_path), NOW))[0]


def test_a_worker_that_tells_nobody_is_a_trouble(tmp_path: Path) -> None:
    config = settings(tmp_path, '[worker]\nsyslog = "udp://[::1]:514"')
    stamp = NOW.timestamp()
    lines = f"# HELP x\nstopbank_worker_written_timestamp_seconds {stamp}\n"
    (tmp_path / "worker.prom").write_text(lines)
    assert problems(beside.worker(config, NOW)) == []
    assert "silent for 90 s" in problems(beside.worker(config, NOW + timedelta(seconds=90)))[0]
    lines += 'stopbank_delivery_oldest_seconds{channel="a"} 0\nstopbank_delivery_oldest_seconds{channel="b"} 400\n'
    (tmp_path / "worker.prom").write_text(lines + 'stopbank_deliveries_given_up_total{channel="b"} 2\n')
    waiting, lost = problems(beside.worker(config, NOW))
    assert "400 s" in waiting and "2 notices" in lost
    for broken in (b"", b"\xff", b"stopbank_worker_written_timestamp_seconds x\n"):
        (tmp_path / "worker.prom").write_bytes(broken)
        assert len(problems(beside.worker(config, NOW))) == 1
