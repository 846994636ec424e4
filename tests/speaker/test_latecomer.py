"""The database thread that is loaded late: whatever keeps it from being loaded is told, and tried again."""

import queue
import sys
from pathlib import Path
from types import ModuleType

import pytest
from speaker_lab import LIMITS, neighbour

from speaker import latecomer
from speaker.clock import Clock
from speaker.exchange import Away, Configured, Known, ToLoop
from speaker.latecomer import LateMemory
from speaker.settings import Settings

PATIENCE = 20.0


class Damaged(ModuleType):
    """A module that can't be used."""

    def __init__(self, error: Exception) -> None:
        super().__init__("speaker.memory")
        self._error = error

    def __getattr__(self, name: str) -> object:
        raise self._error


@pytest.mark.parametrize("error", [ImportError("no such library"), OSError("unreadable"), SyntaxError("half a file")])
def test_a_library_that_cannot_be_loaded_is_told_and_tried_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latecomer, "RETRY_SECONDS", 0.01)
    told: queue.SimpleQueue[ToLoop] = queue.SimpleQueue()
    memory = LateMemory(Clock(), told.put)
    with monkeypatch.context() as damaged:
        damaged.setitem(sys.modules, "speaker.memory", Damaged(error))
        neighbours = (neighbour("bird", 0),)
        memory.ask(Configured(Settings(tmp_path, f"sqlite:///{tmp_path}/a.db", neighbours, limits=LIMITS)))
        away = told.get(timeout=PATIENCE)
        assert isinstance(away, Away) and str(error) in away.why
    try:
        while not isinstance(told.get(timeout=PATIENCE), Known):
            pass
    finally:
        memory.stop()
