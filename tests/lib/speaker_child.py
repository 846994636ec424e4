"""What ExaBGP starts in tests: the speaker with settings from a file that a test can change."""

import pickle
import sys
from pathlib import Path

from rules.errors import Refused
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


if __name__ == "__main__":
    run(load, STATE)
