"""Who runs and takes no connections is told of; who does, or has only just started, is not."""

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stopbank import doors, runfile
from stopbank.config import Config, parse
from stopbank.supervisor import Kept

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def settings(state: Path, port: int) -> Config:
    return parse(f'[paths]\nstate = "{state}"\n[intake]\nport = {port}\n', "test", {})


def running(state: Path, seconds: float) -> None:
    kept = Kept("intake", os.getpid(), NOW - timedelta(seconds=seconds), 0, None, None)
    runfile.write(state, [kept, Kept("worker", None, None, 0, None, None)], NOW)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_intake_is_open_as_long_as_it_listens(tmp_path: Path, address: str) -> None:
    running(tmp_path, doors.STARTING_SECONDS + 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        config = settings(tmp_path, server.getsockname()[1])
        assert [*doors.problems(config)] == []
    (line,) = doors.problems(config)
    assert line.startswith("Intake: ") and str(config.intake.port) in line


def test_what_has_just_started_or_is_not_run_here_is_no_problem(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = settings(tmp_path, server.getsockname()[1])
    assert [*doors.problems(config)] == []
    running(tmp_path, doors.STARTING_SECONDS - 1)
    assert [*doors.problems(config)] == []
