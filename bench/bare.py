"""The peer of the speaker: the same ExaBGP, the same configuration and neighbours, and the simplest script that works.

What it sends is word for word what the speaker would send.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.network import Network
from lab import namespaces
from lab.namespaces import wait_until
from rules.rule import Rule
from speaker import commands, config_exabgp

_CHILD = Path(__file__).with_name("windowed.py")


@dataclass(slots=True)
class Bare:
    """ExaBGP with the windowed script."""

    network: Network
    directory: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self) -> None:
        """Start ExaBGP; sessions come up later."""
        configuration = self.directory / "exabgp.conf"
        child = [sys.executable, str(_CHILD), str(self.directory)]
        config_exabgp.write(configuration, config_exabgp.render(self.network.neighbours, child))
        arguments = self.network.speaker.command(
            *("/usr/bin/env", *(f"{name}={value}" for name, value in config_exabgp.environment("root").items())),
            *(Path(sys.executable).with_name("exabgp"), "server", configuration),
        )
        self._process = namespaces.start(arguments, self.directory / "log")

    def wait_established(self) -> None:
        """Until every router has its session."""
        for router in self.network.routers.values():
            router.wait_established(60)

    def release(self, rules: Sequence[Rule]) -> None:
        """Let the script send these, or make a restarted one send them again."""
        draft = self.directory / "draft"
        draft.write_text("".join(f"{line}\n" for line in self._lines(rules)))
        draft.replace(self.directory / "commands")

    def wait_answered(self) -> None:
        """Until every command has its answer; none may be an error."""
        answered = self.directory / "answered"
        wait_until(answered.exists, "the bare script is not answered", 120, 0.05)
        _, errors = answered.read_text().split()
        if errors != "0":
            raise RuntimeError(f"ExaBGP refused {errors} commands of the bare script")

    def kill(self) -> None:
        """SIGKILL for ExaBGP, and what it has started goes with it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None
            (self.directory / "answered").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            namespaces.stop(self._process)
            self._process = None

    def _lines(self, rules: Sequence[Rule]) -> Iterator[str]:
        neighbours = self.network.neighbours
        peers = [one.peer_address for one in neighbours]
        return (commands.announce([commands.route(rule, neighbours[0])], peers) for rule in rules)


@contextmanager
def bare(network: Network) -> Iterator[Bare]:
    """A bare ExaBGP that is not started yet; ended and removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="stopbank-bare-"))
    up = Bare(network, directory)
    try:
        yield up
    finally:
        up.stop()
        shutil.rmtree(directory, ignore_errors=True)
