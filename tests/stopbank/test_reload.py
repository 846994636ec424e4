"""A reload starts anew what its section concerns, leaves the rest alone, and takes no bad file."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stopbank import appliance, config
from stopbank.supervisor import Program, Supervisor

NAMES = ("exabgp", "intake", "web", "worker")
RECORD = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
time.sleep(600)
"""


class Recorded(Supervisor):
    """Harmless programs in the place of ours: each writes its number into a file of its name."""

    def __init__(self, directory: Path, names: tuple[str, ...] = NAMES) -> None:
        self.directory = directory
        super().__init__(self.harmless(names))

    def harmless(self, names: tuple[str, ...]) -> tuple[Program, ...]:
        return tuple(Program(name, (sys.executable, "-c", RECORD, str(self.directory / name))) for name in names)

    def replace(self, programs: Sequence[Program], anew: frozenset[str]) -> None:
        super().replace(self.harmless(tuple(one.name for one in programs)), anew)

    def starts(self, name: str) -> int:
        path = self.directory / name
        return len(path.read_text().split()) if path.exists() else 0

    def settle(self, claim: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not claim():
            assert time.monotonic() < deadline
            self.step(time.monotonic())
            time.sleep(0.02)


def write(path: Path, state: Path, **sections: str) -> config.Config:
    body = "".join(f"[{name}]\n{text}\n" for name, text in sections.items())
    path.write_text(f"[paths]\nstate = {json.dumps(str(state))}\n{body}")
    return config.load(path, {})


def test_only_what_a_changed_section_concerns_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOPBANK_PATHS__STATE", raising=False)
    path, state = tmp_path / "stopbank.toml", tmp_path / "state"
    before = write(path, state, worker='syslog = "udp://127.0.0.1:514"')
    (tmp_path / "starts").mkdir()
    supervisor = Recorded(tmp_path / "starts")
    reload = appliance.Reloading(before, path)
    try:
        supervisor.settle(lambda: all(supervisor.starts(name) == 1 for name in NAMES))
        write(path, state, worker='syslog = "udp://127.0.0.1:515"')
        reload(supervisor)
        supervisor.settle(lambda: supervisor.starts("worker") == 2)
        write(path, state, worker='syslog = "udp://127.0.0.1:515"', web="enabled = false")
        reload(supervisor)
        assert not supervisor.signal("web", 0) and supervisor.signal("intake", 0)
        write(path, state, worker="enabled = false")
        reload(supervisor)
        supervisor.settle(lambda: supervisor.starts("web") == 2)
        assert not supervisor.signal("worker", 0)
        assert (supervisor.starts("exabgp"), supervisor.starts("intake")) == (1, 1)
        assert (state / "exabgp.conf").exists()
    finally:
        supervisor.end()


@pytest.mark.parametrize("text", ["[web\n", '[worker]\nsyslog = "nowhere"\n', '[paths]\nstate = "elsewhere"\n'])
def test_a_file_that_cannot_be_taken_up_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.delenv("STOPBANK_PATHS__STATE", raising=False)
    path = tmp_path / "stopbank.toml"
    before = write(path, tmp_path / "state")
    path.write_text(text)
    supervisor = Recorded(tmp_path, ("web",))
    try:
        supervisor.settle(lambda: supervisor.starts("web") == 1)
        appliance.Reloading(before, path)(supervisor)
        assert supervisor.signal("web", 0)
        assert not (tmp_path / "state").exists() and not (tmp_path / "elsewhere").exists()
    finally:
        supervisor.end()
    assert supervisor.starts("web") == 1
