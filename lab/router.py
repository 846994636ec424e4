"""What all routers of the lab share: a private run directory, daemons in a namespace, start, stop, kill, restart."""

import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import namespaces
from lab.namespaces import Namespace, wait_until
from lab.session import Configuration, HeldFlowSpec
from rules.match import Family, Network

ROUTING_PROTOCOLS = {"bgp", "bird", "186"}
"""What `ip route` calls routes put there by FRR and BIRD; 186 is FRR's BGP where no name is known."""


class Router(ABC):
    """A routing daemon in a namespace; a context manager that starts it and takes everything away again."""

    def __init__(self, namespace: Namespace, configuration: Configuration) -> None:
        self.namespace = namespace
        self.configuration = configuration
        self.directory = Path(tempfile.mkdtemp(prefix=f"{namespace.name}-"))
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def log_path(self) -> Path:
        """What the daemons wrote, all of them."""
        return self.directory / "log"

    @property
    def log(self) -> str:
        """The log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

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
        """Start the daemons and wait until they take commands; sessions come up later."""
        if self._processes:
            raise RuntimeError(f"{self.namespace.name}: already running")
        self._launch()
        wait_until(self._is_ready, f"{type(self).__name__} in {self.namespace.name} takes no commands", 30)
        self._configure()

    def stop(self) -> None:
        """End the daemons the polite way: they close their sessions, or keep them for a graceful restart."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the daemons as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start; the routing table starts empty."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove the run directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_established(self, within_seconds: float = 30) -> float:
        """Seconds until all sessions were up; `TimeoutError` with the end of the log if they never are."""
        try:
            return wait_until(self.established, "not all sessions are up", within_seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{type(self).__name__}: {error}\n{self.log[-2000:]}") from None

    @property
    def is_whole(self) -> bool:
        """Whether every daemon it started still runs: a rule can kill one (zebra) and leave the session up."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    @abstractmethod
    def established(self) -> bool:
        """Whether every daemon runs and every session is up."""

    @abstractmethod
    def flowspec(self) -> tuple[HeldFlowSpec, ...]:
        """The FlowSpec routes it holds, IPv4 first."""

    @abstractmethod
    def flowspec_text(self, family: Family) -> str:
        """The same as the daemon prints it."""

    def blackholes(self) -> tuple[Network, ...]:
        """Prefixes that the kernel of the namespace drops because BGP said so, sorted."""
        return tuple(sorted(self._kernel_blackholes(4))) + tuple(sorted(self._kernel_blackholes(6)))

    def _require_running(self) -> None:
        """An empty table of a dead router must not pass for a withdrawn rule."""
        if not self.is_whole:
            raise RuntimeError(f"{type(self).__name__} in {self.namespace.name} is not running\n{self.log[-1000:]}")

    @abstractmethod
    def _launch(self) -> None: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def _configure(self) -> None:  # noqa: B027
        """Only some daemons are configured once they run."""

    def _spawn(self, *arguments: str | Path) -> None:
        self._processes.append(namespaces.start(self.namespace.command(*arguments), self.log_path))

    def _write(self, name: str, content: str) -> Path:
        path = self.directory / name
        path.write_text(content)
        return path

    def _ask(self, arguments: Sequence[str | Path], check: bool = True) -> str:
        return self.namespace.run(*arguments, check=check)

    def _end(self, how: signal.Signals) -> None:
        processes, self._processes = self._processes, []
        for process in reversed(processes):
            namespaces.stop(process, how)

    def _kernel_blackholes(self, version: int) -> set[Network]:
        found = set()
        for line in self.namespace.ip(f"-{version}", "route", "show", "type", "blackhole").splitlines():
            words = line.split()
            if words[words.index("proto") + 1] in ROUTING_PROTOCOLS:
                found.add(ip_network(words[1]))
        return found
