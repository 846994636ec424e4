"""`stopbank speaker` without the rest of the command line: how the appliance has ExaBGP start its speaker.

ExaBGP's death takes the speaker along, and until a successor speaks routers wait: nothing is loaded here that is not
needed to say the first word. The configuration's library is, and comes in a thread of its own.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from speaker.main import run

if TYPE_CHECKING:
    from speaker.settings import Settings

PROGRAM = (sys.executable, "-P", "-m", "stopbank.speaking")
"""How to start it. Without -P whatever lies in ExaBGP's working directory could stand in for a module of ours."""


def speak(state: Path, config: Path | None) -> None:
    """Be ExaBGP's child until it ends; without a configuration file, the defaults and the environment count."""

    def load() -> "Settings":
        from stopbank import config as configuration
        from stopbank import wiring

        path = config or configuration.DEFAULT_PATH
        if path == configuration.DEFAULT_PATH and not path.exists():
            return wiring.speaker(configuration.parse("", "defaults", configuration.environment()))
        return wiring.speaker(configuration.load(path))

    run(load, state)


def main() -> None:
    """What ExaBGP runs."""
    parser = argparse.ArgumentParser(prog="stopbank speaker", description="The speaker; ExaBGP starts it.")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    given = parser.parse_args()
    speak(given.state, given.config)


if __name__ == "__main__":
    main()
