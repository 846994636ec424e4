"""What ExaBGP starts in tests: the speaker with settings from a file that a test can change."""

import os
import pickle
import signal
import sys
import time
from pathlib import Path

from rules.errors import Refused
from speaker import commands, pipe
from speaker.main import run
from speaker.settings import Settings

STATE = Path(sys.argv[1])


def load() -> Settings:
    """The settings of the file; `Refused` when they are nonsense."""
    raw = (STATE / "settings").read_bytes()
    if raw == b"nonsense":
        raise Refused("settings", "nonsense", "is not what we want")
    settings: Settings = pickle.loads(raw)
    return settings


class Busy(pipe.Writer):
    """A machine so busy that the speaker gets no turn between two questions, for as long as the test says."""

    def write(self, *lines: str) -> None:
        while commands.SHOW_ROUTES in lines and (STATE / "busy").exists():
            (STATE / "busy-now").touch()
            time.sleep(0.01)
        super().write(*lines)


class Mortal(pipe.Reader):
    """Dies at the first route that it is told, when the test says so; its successor lives."""

    def _take(self, line: bytes) -> None:
        if b'"route"' in line and (STATE / "mortal").exists():
            (STATE / "mortal").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        super()._take(line)


if __name__ == "__main__":
    pipe.Writer, pipe.Reader = Busy, Mortal  # type: ignore[misc]
    run(load, STATE)
