"""Stopbank itself in the lab, started as a user would: `run`, `sensor run`, `enforce` and `web`, from TOML files."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.namespaces import Namespace, start, stop, wait_until
from lab.topology import ENFORCER, LOCAL_AS, MIRROR, PROTECTED, Lab
from rules.neighbour import Neighbour

STOPBANK = Path(sys.executable).parent / "stopbank"
KERNELS = Path.home() / ".cache" / "stopbank" / "kernels"
"""Where labs keep the compiled packet kernel from one to the next."""
ENFORCE_PORT, INTAKE_PORT = 1790, 8443
START_SECONDS = 300
"""The sensor compiles its kernel first, unless `compile_kernel` did: a minute on two idle cores, more on busy ones."""
_LOCAL = "10.64.0.1"


class CommandFailed(RuntimeError):
    """A `stopbank` command ended badly; the message holds what it wrote."""


@dataclass(slots=True)
class Appliance:
    """One Stopbank in the lab, and the enforcer on its edge."""

    lab: Lab
    limits: tuple[str, ...]
    """As `stopbank zone add --limit` takes them."""
    mode: str = "auto"
    web_port: int = field(default_factory=lambda: _free_port())
    _processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def state(self) -> Path:
        """The appliance's state directory."""
        return self.lab.directory / "stopbank"

    @property
    def config(self) -> Path:
        """The appliance's configuration file."""
        return self.lab.directory / "stopbank.toml"

    @property
    def database_url(self) -> str:
        """The appliance's database."""
        return f"sqlite:///{self.state / 'stopbank.db'}"

    @property
    def url(self) -> str:
        """The read-only page."""
        return f"http://127.0.0.1:{self.web_port}/"

    def logs(self, lines: int = 12) -> str:
        """The end of every log, for a person who must find out what went wrong."""
        ends = (path.read_text(errors="replace").splitlines()[-lines:] for path in self._logs())
        return "\n".join(f"── {path.name}\n" + "\n".join(end) for path, end in zip(self._logs(), ends, strict=True))

    def _logs(self) -> list[Path]:
        return sorted(self.lab.directory.glob("*.log"))

    def command(self, *arguments: str, check: bool = True) -> str:
        """What `stopbank ARGUMENTS` prints with the appliance's configuration."""
        argv = [str(STOPBANK), *arguments, "--config", str(self.config)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode:
            raise CommandFailed(f"stopbank {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The document of `stopbank status --json`."""
        printed = self.command("status", "--json", check=False)
        document: dict[str, Any] = json.loads(printed) if printed.strip() else {}
        return document

    def start(self) -> None:
        """Everything, and waits until sessions are up and the sensor is heard."""
        self._configure()
        prefixes = [word for prefix in PROTECTED for word in ("--prefix", str(prefix))]
        limits = [word for limit in self.limits for word in ("--limit", limit)]
        self.command("zone", "add", "demo", "--mode", self.mode, *prefixes, *limits)
        self._spawn("enforce", self.lab.edge, "enforce", config=self._edge_config)
        self._spawn("run", self.lab.stopbank, "run")
        self._spawn("web", None, "web")
        token = self.command("sensor", "token", "demo").strip()
        wait_until(self._intake_listens, "the intake does not listen", START_SECONDS)
        enrol = self.lab.stopbank.command(STOPBANK, "sensor", "enroll", token, "--config", self.config)
        subprocess.run(enrol, check=True, capture_output=True, timeout=60)
        self._spawn("sensor", self.lab.stopbank, "sensor", "run")
        try:
            wait_until(self._is_ready, "sessions and sensor are not all up", START_SECONDS, 0.25)
        except TimeoutError as error:
            raise CommandFailed(f"{error}\n{self.logs()}") from None

    def end(self) -> None:
        """Withdraws everything, verifies, stops; what doesn't end is killed."""
        try:
            if self._processes:
                self.command("stop", "--withdraw", check=False)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends every process, withdrawn or not."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                stop(process)
        self._processes.clear()

    def _is_ready(self) -> bool:
        status = self.status()
        neighbours, sensors = (status.get("speaker") or {}).get("neighbours", []), status.get("sensors", [])
        expected = len(self.lab.neighbours) + 1
        return (
            len(neighbours) == expected
            and all(one["up"] for one in neighbours)
            and any(one["alive"] for one in sensors)
        )

    def _intake_listens(self) -> bool:
        listening = self.lab.stopbank.run("ss", "-Hltn", "sport", "=", f":{INTAKE_PORT}")
        return bool(listening.strip())

    def _spawn(self, name: str, where: Namespace | None, *arguments: str, config: Path | None = None) -> None:
        argv = [str(STOPBANK), *arguments, "--config", str(config or self.config)]
        log = self.lab.directory / f"{name}.log"
        self._processes.append(start(where.command(*argv) if where else argv, log))

    @property
    def _edge_config(self) -> Path:
        return self.lab.directory / "edge.toml"

    def _configure(self) -> None:
        neighbours = "".join(map(_neighbour, self.lab.neighbours))
        self.config.write_text(
            _APPLIANCE.format(state=self.state, local_as=LOCAL_AS, web_port=self.web_port, intake_port=INTAKE_PORT)
            + neighbours
            + _ENFORCING_NEIGHBOUR.format(address=ENFORCER, port=ENFORCE_PORT, local_as=LOCAL_AS)
        )
        self._edge_config.write_text(
            _EDGE.format(
                state=self.lab.directory / "edge",
                address=ENFORCER,
                port=ENFORCE_PORT,
                local_as=LOCAL_AS,
                speaker=_LOCAL,
            )
        )
        self.config.chmod(0o600)


def compile_kernel() -> None:
    """Compiles the packet kernel unless an earlier lab did; says on stderr how it goes. Raises `CommandFailed`."""
    done = subprocess.run([str(STOPBANK), "sensor", "compile", "--cache", str(KERNELS)], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise CommandFailed(f"the packet kernel could not be compiled into {KERNELS}")


@contextlib.contextmanager
def appliance(lab: Lab, limits: tuple[str, ...], mode: str = "auto") -> Iterator[Appliance]:
    """A running appliance; everything is withdrawn and stopped at the end."""
    up = Appliance(lab, limits, mode)
    try:
        up.start()
        yield up
        up.end()
    finally:
        up.kill()


def _neighbour(one: Neighbour) -> str:
    families = ", ".join(f'"{family.value}"' for family in sorted(one.families, key=lambda family: family.value))
    return f"""
[[neighbours]]
name = "{one.name}"
peer_address = "{one.peer_address}"
local_address = "{one.local_address}"
peer_as = {one.peer_as}
families = [{families}]
profiles = ["{one.name}"]
budget = 6000
next_hop_ipv4 = "{one.next_hop_ipv4}"
next_hop_ipv6 = "{one.next_hop_ipv6}"
gtsm_hops = {one.gtsm_hops}
graceful_restart_seconds = {one.graceful_restart_seconds}
md5_password = "{one.md5_password}"
"""


_APPLIANCE = """
[paths]
state = "{state}"
[speaker]
router_id = "10.64.0.1"
local_as = {local_as}
infrastructure = ["10.64.0.0/16"]
rules_per_minute = 100000
total_rules = 10000
[intake]
listen = "127.0.0.1"
port = {intake_port}
public_name = "127.0.0.1"
[web]
enabled = false
port = {web_port}
[sensor]
name = "demo"
"""
_APPLIANCE += f'kernel_cache = "{KERNELS}"\n'
_APPLIANCE += f'interfaces = ["{MIRROR}"]\nvantage = "upstream"\n'

_ENFORCING_NEIGHBOUR = """
[[neighbours]]
name = "enforcer"
peer_address = "{address}"
local_address = "10.64.0.1"
peer_as = {local_as}
port = {port}
profiles = ["generic"]
budget = 6000
"""

_EDGE = """
[paths]
state = "{state}"
[enforce]
local_address = "{address}"
local_as = {local_as}
router_id = "{address}"
port = {port}
protected = ["10.64.0.0/16"]
speakers = [{{ address = "{speaker}", remote_as = {local_as} }}]
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def monotonic_of(wall_seconds: float) -> float:
    """A wall-clock moment of this machine on the monotonic clock, in seconds; good to a fraction of a millisecond."""
    return wall_seconds - time.time() + time.monotonic()
