"""Stopbank's speaking half as a user starts it: `stopbank run` with a configuration file, without sensors and pages."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.network import AUTONOMOUS_SYSTEM, ROUTER_ID, Network
from bench.seed import ZONE
from lab import namespaces
from lab.namespaces import wait_until
from rules.guard import Limits
from rules.messages import Accepted, Kill, KillMode, StatusQuery, Wake, render_request
from rules.neighbour import Neighbour
from speaker import killswitch
from store.records import World
from store.store import Store

STOPBANK = Path(sys.executable).with_name("stopbank")
RULES, PER_MINUTE = 20_000, 1_000_000
PATIENCE_SECONDS = 180
_IDLE_SECONDS, _IDLE_SHARE = 1.5, 0.1
"""It looks at the database once a second: busy for less than a tenth of the time is idle."""


@dataclass(slots=True)
class Rig:
    """One appliance beside the routers of a network."""

    network: Network
    directory: Path
    store: Store
    _process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.directory / "state"

    @property
    def world(self) -> World:
        """What the guard is told when a benchmark admits a rule."""
        return World(self.network.neighbours, limits=Limits(total_rules=RULES, per_minute=PER_MINUTE))

    def log(self) -> str:
        """The end of what Stopbank and ExaBGP wrote."""
        return (self.directory / "log").read_text(errors="replace")[-3000:]

    def start(self) -> None:
        """Start it, and wait until every session is up and everything is said."""
        (self.directory / "stopbank.toml").write_text(_configuration(self.state, self.network.neighbours))
        arguments = self.network.speaker.command(STOPBANK, "run", "--config", self.directory / "stopbank.toml")
        self._process = namespaces.start(arguments, self.directory / "log")
        self.wait(lambda status: status["synced"] and all(one["up"] for one in status["neighbours"]), "is not ready")

    def stop(self) -> None:
        """End it; the routers keep what graceful restart lets them."""
        if self._process is not None:
            namespaces.stop(self._process, patience_seconds=20)
            self._process = None

    def wait(self, claim: Any, what: str, within_seconds: float = PATIENCE_SECONDS) -> float:
        """Until the speaker's status fits; the seconds it took. Each look costs the speaker some milliseconds."""

        def fits() -> bool:
            status = self.status()
            return bool(status) and bool(claim(status))

        try:
            return wait_until(fits, f"Stopbank {what}", within_seconds, 0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.status()}\n{self.log()}") from None

    def wait_active(self, count: int) -> float:
        """Until every neighbour has so many rules and nothing is left to be said."""
        return self.wait(lambda status: is_settled(status, count), f"has no {count} rules everywhere")

    def wait_idle(self) -> None:
        """Until the speaker has nothing to think about: it has read and judged everything there is."""
        spent = [-1.0]

        def is_idle() -> bool:
            spent.append(self._processor_seconds())
            return spent[-1] - spent[-2] < _IDLE_SHARE * _IDLE_SECONDS

        wait_until(is_idle, "the speaker never rests", PATIENCE_SECONDS, _IDLE_SECONDS)

    def _processor_seconds(self) -> float:
        stat = Path(f"/proc/{self.speaker_pid()}/stat").read_text().rpartition(")")[2].split()
        # proc(5): utime and stime in clock ticks.
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def status(self) -> dict[str, Any]:
        """What the speaker says of itself; empty when it does not answer."""
        answer = killswitch.ask(self.state, render_request(StatusQuery()), 5)
        return dict(answer.body) if isinstance(answer, Accepted) else {}

    def wake(self) -> None:
        """What every command that changes something says to the speaker afterwards."""
        killswitch.ask(self.state, render_request(Wake()), 5)

    def switch(self, mode: KillMode) -> None:
        """The kill switch, done when this returns as far as the speaker's own mind goes."""
        killswitch.ask(self.state, render_request(Kill(mode, "bench")), 30)

    def speaker_pid(self) -> int:
        """The speaker's process."""
        return int(json.loads((self.state / killswitch.PID).read_text())["pid"])

    def exabgp_pid(self) -> int:
        """ExaBGP's process, the speaker's parent."""
        # proc(5): after the name in brackets come state and parent.
        stat = Path(f"/proc/{self.speaker_pid()}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])

    def kill_speaker(self) -> int:
        """SIGKILL; the pid that is no more."""
        pid = self.speaker_pid()
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_exabgp(self) -> None:
        """SIGKILL for ExaBGP alone; the supervisor starts it again."""
        os.kill(self.exabgp_pid(), signal.SIGKILL)


@contextmanager
def rig(network: Network) -> Iterator[Rig]:
    """A fresh appliance, started and ready, ended and removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="stopbank-bench-"))
    (directory / "state").mkdir(mode=0o2770)
    try:
        with Store.open(directory / "state" / "stopbank.db") as store:
            store.put_zone(ZONE, "bench", datetime.now(UTC))
            up = Rig(network, directory, store)
            try:
                up.start()
                yield up
            finally:
                up.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def is_settled(status: dict[str, Any], count: int) -> bool:
    """Whether so many rules are active at every neighbour, none in another phase, and no answer is due."""
    held = [{phase: n for phase, n in one["rules"].items() if n} for one in status["neighbours"]]
    expected = {"active": count} if count else {}
    return bool(status["synced"]) and not status["in_flight"] and all(one == expected for one in held)


def _configuration(state: Path, neighbours: tuple[Neighbour, ...]) -> str:
    head = f"""[paths]
state = "{state}"
[speaker]
router_id = "{ROUTER_ID}"
local_as = {AUTONOMOUS_SYSTEM}
total_rules = {RULES}
rules_per_minute = {PER_MINUTE}
[intake]
enabled = false
[web]
enabled = false
[worker]
enabled = false
"""
    return head + "".join(map(_neighbour, neighbours))


def _neighbour(one: Neighbour) -> str:
    families = ", ".join(sorted(f'"{family.value}"' for family in one.families))
    return f"""[[neighbours]]
name = "{one.name}"
peer_address = "{one.peer_address}"
local_address = "{one.local_address}"
peer_as = {one.peer_as}
families = [{families}]
profiles = ["{one.name}"]
budget = {one.budget}
next_hop_ipv4 = "{one.next_hop_ipv4}"
next_hop_ipv6 = "{one.next_hop_ipv6}"
graceful_restart_seconds = {one.graceful_restart_seconds}
"""
