"""What ExaBGP starts in tests: the speaker with settings from a file that a test can change."""

import pickle
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


if __name__ == "__main__":
    pipe.Writer = Busy  # type: ignore[misc]
    run(load, STATE)
