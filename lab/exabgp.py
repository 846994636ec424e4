"""A real ExaBGP whose child only hands commands over: speaks BGP for the lab and tests, without Stopbank's speaker.

Must never be used by the product: it trusts its caller's commands.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import namespaces
from lab.namespaces import Namespace, wait_until
from rules.neighbour import Neighbour, SessionFamily

ENVIRONMENT = {
    "exabgp.api.ack": "true",
    "exabgp.api.cli": "false",
    "exabgp.api.show-routes-format": "v2",
    "exabgp.daemon.user": "root",
    "exabgp.log.level": "INFO",
    "exabgp.reactor.speed": "0.1",
}
"""The dotted form on purpose: ExaBGP 5 ignores the other for some of them."""

_CHILD = """import os, sys, threading
def answers():
    with open(sys.argv[2], "a", buffering=1) as out:
        for line in sys.stdin:
            out.write(line)
# The reader runs first and for ever: a child that stops reading freezes the whole daemon.
threading.Thread(target=answers, daemon=False).start()
def commands():
    # Both ways, so that the pipe never reports its end between two writers.
    with os.fdopen(os.open(sys.argv[1], os.O_RDWR), "r") as source:
        for line in source:
            sys.stdout.write(line)
            sys.stdout.flush()
threading.Thread(target=commands, daemon=True).start()
"""


class ScriptedExaBgp:
    """ExaBGP in a namespace; `send` gives it commands and waits for its answers."""

    def __init__(self, namespace: Namespace, neighbours: Iterable[Neighbour]) -> None:
        self.namespace = namespace
        self.neighbours = tuple(neighbours)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{namespace.name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._answers_seen = 0

    @property
    def log_path(self) -> Path:
        """ExaBGP's log."""
        return self.directory / "log"

    @property
    def answers(self) -> tuple[str, ...]:
        """Every line the child was sent, events included."""
        return tuple((self.directory / "answers").read_text().splitlines())

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the daemon; sessions come up later."""
        commands, answers = self.directory / "commands", self.directory / "answers"
        commands.unlink(missing_ok=True)
        os.mkfifo(commands, 0o600)
        answers.write_text("")
        self._answers_seen = 0
        (self.directory / "child.py").write_text(_CHILD)
        configuration = self.directory / "exabgp.conf"
        configuration.write_text(
            render(self.neighbours, f"{sys.executable} {self.directory / 'child.py'} {commands} {answers}")
        )
        configuration.chmod(0o600)
        executable = Path(sys.executable).with_name("exabgp")
        arguments = self.namespace.command(executable, "server", configuration)
        self._process = namespaces.start(arguments, self.log_path, ENVIRONMENT)

    def send(self, *commands: str, within_seconds: float = 30) -> tuple[str, ...]:
        """The answers, `done` or `error`, in the order of the commands."""
        before = len(self._replies())
        with (self.directory / "commands").open("w") as pipe:
            pipe.write("".join(f"{command}\n" for command in commands))
        wait_until(lambda: len(self._replies()) >= before + len(commands), "ExaBGP does not answer", within_seconds)
        return self._replies()[before:]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon and its child; routers keep what graceful restart lets them."""
        if self._process is not None:
            namespaces.stop(self._process, how)
            self._process = None

    def close(self) -> None:
        """Stop, and remove the run directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _replies(self) -> tuple[str, ...]:
        return tuple(line for line in self.answers if line in ("done", "error"))


def render(neighbours: Iterable[Neighbour], command: str) -> str:
    """exabgp.conf with one scripted process."""
    head = f"process script {{\n  run {command};\n  encoder json;\n}}\n"
    return head + "".join(map(_neighbour, neighbours))


def _neighbour(one: Neighbour) -> str:
    lines = [
        f"router-id {one.router_id};",
        f"local-address {one.local_address};",
        f"local-as {one.local_as};",
        f"peer-as {one.peer_as};",
        f"hold-time {one.hold_time_seconds};",
        f"connect {one.port};",
        "group-updates true;",
        "adj-rib-out true;",
        "family {\n" + "".join(f"    {family.value};\n" for family in SessionFamily if family in one.families) + "  }",
        "api { processes [ script ]; neighbor-changes; }",
    ]
    if one.graceful_restart_seconds:
        lines.append(f"capability {{ graceful-restart {one.graceful_restart_seconds}; }}")
    if one.md5_password:
        lines.append(f'md5-password "{one.md5_password}";')
    if one.gtsm_hops:
        lines += ["outgoing-ttl 255;", f"incoming-ttl {256 - one.gtsm_hops};"]
    return f"neighbor {one.peer_address} {{\n  " + "\n  ".join(lines) + "\n}\n"
