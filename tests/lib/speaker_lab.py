"""The real speaker under the real ExaBGP, in namespaces with real routers."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from pathlib import Path
from typing import Any

from lab import namespaces
from lab.namespaces import Namespace, Port, wait_until
from lab.routers import Bird, Configuration, Frr, GoBgp, Router, Session
from rules.guard import Limits, Origin, Request
from rules.messages import Accepted, StatusQuery, Wake, render_request
from rules.neighbour import Neighbour, SessionFamily
from rules.rule import Blackhole, FlowSpec, Rule, parse
from rules.zone import Zone
from speaker import config_exabgp, killswitch
from speaker.settings import Settings
from store.records import RuleRecord, World
from store.store import Store

CHILD = Path(__file__).with_name("speaker_child.py")
ZONE = Zone("lab", (IPv4Network("203.0.113.0/24"), IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8::/32")))
KINDS: dict[str, type[Router]] = {"bird": Bird, "frr": Frr, "gobgp": GoBgp}


def flowspec(number: int, source_port: int = 53) -> FlowSpec:
    """One of many rules that all routers take."""
    host = IPv4Address("10.0.0.0") + number
    rule = parse(f"match {{ destination {host}/32; protocol =udp; source-port ={source_port}; }} then {{ discard; }}")
    assert isinstance(rule, FlowSpec)
    return rule


def blackhole(number: int) -> Blackhole:
    """One of many blackholes."""
    return Blackhole(IPv4Network((int(IPv4Address("10.1.0.0")) + number, 32)))


@dataclass
class SpeakerLab:
    """ExaBGP with the speaker as its child, a router for each neighbour, and the database between the test and them."""

    namespace: Namespace
    state: Path
    settings: Settings
    routers: dict[str, Router]
    store: Store
    process: "subprocess.Popen[bytes] | None" = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        """Everything ExaBGP and the speaker said."""
        return (self.state / "log").read_text()

    def configure(self, settings: Settings) -> None:
        """What the speaker reads at its next look."""
        self.settings = settings
        draft = self.state / "settings.draft"
        draft.write_bytes(pickle.dumps(settings))
        draft.replace(self.state / "settings")

    def break_configuration(self) -> None:
        """From now on the speaker finds settings that it refuses."""
        (self.state / "settings").write_bytes(b"nonsense")

    def start(self) -> None:
        """Start ExaBGP, which starts the speaker."""
        command = [sys.executable, str(CHILD), str(self.state)]
        config_exabgp.write(self.state / "exabgp.conf", config_exabgp.render(self.settings.neighbours, command))
        variables = {**config_exabgp.environment("root"), **self.environment}
        exabgp = Path(sys.executable).with_name("exabgp")
        arguments = self.namespace.command(exabgp, "server", self.state / "exabgp.conf")
        self.process = namespaces.start(arguments, self.state / "log", variables)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End ExaBGP, and wait until the speaker has followed it."""
        if self.process is not None:
            pid = self.speaker_pid()
            namespaces.stop(self.process, how)
            self.process = None
            wait_until(lambda: not Path(f"/proc/{pid}").exists() or not pid, "the speaker outlives ExaBGP")

    def kill_exabgp(self) -> None:
        """SIGKILL for ExaBGP alone."""
        assert self.process is not None
        os.kill(self.exabgp_pid(), signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def exabgp_pid(self) -> int:
        """The daemon's process, which `ip netns exec` has become."""
        assert self.process is not None
        return self.process.pid

    def speaker_pid(self) -> int:
        """The speaker's process; 0 before its first start."""
        try:
            return int(json.loads((self.state / killswitch.PID).read_text())["pid"])
        except FileNotFoundError:
            return 0

    def ask(self, request: Any, within_seconds: float = 5) -> dict[str, Any] | None:
        """The body of the speaker's answer; None when there is none."""
        answer = killswitch.ask(self.state, render_request(request), within_seconds)
        return dict(answer.body) if isinstance(answer, Accepted) else None

    def status(self) -> dict[str, Any]:
        """What the speaker says about itself; empty when it does not answer."""
        return self.ask(StatusQuery()) or {}

    def neighbour(self, name: str) -> dict[str, Any]:
        """One neighbour of the status."""
        return next((one for one in self.status().get("neighbours", ()) if one["name"] == name), {})

    def wait_up(self, within_seconds: float = 60) -> None:
        """Until every session is up and everything is said."""

        def is_up() -> bool:
            status = self.status()
            return bool(status.get("synced")) and all(one["up"] for one in status["neighbours"])

        wait_until(is_up, f"the sessions do not come up: {self.log[-2000:]}", within_seconds)

    def wait_active(self, count: int, name: str, within_seconds: float = 60) -> None:
        """Until so many rules are active at a neighbour and nothing else stands there."""
        wait_until(
            lambda: (
                {k: v for k, v in self.neighbour(name).get("rules", {"": 1}).items() if v}
                == ({"active": count} if count else {})
            ),
            f"{name} does not get {count} active rules: {self.neighbour(name)} {self.log[-3000:]}",
            within_seconds,
        )

    def world(self) -> World:
        """What the guard is told."""
        return World(self.settings.neighbours, limits=self.settings.limits)

    def want(
        self, *rules: Rule, seconds: float = 3600, origin: Origin = Origin.OPERATOR, wake: bool = True
    ) -> list[RuleRecord]:
        """Save rules as a person would, and wake the speaker."""
        records = []
        for rule in rules:
            now = datetime.now(UTC)
            request = Request(rule, "operator", origin, seconds, is_operator=True, collateral=0.0)
            record, _ = self.store.admit(
                request, self.world(), deadline=now + timedelta(seconds=seconds), actor="test", reason="test", now=now
            )
            records.append(record)
        if wake:
            self.ask(Wake())
        return records

    def withdraw(self, *rules: Rule) -> None:
        """End rules and wake the speaker."""
        for rule in rules:
            self.store.withdraw(rule.id, "test", "test", datetime.now(UTC))
        self.ask(Wake())


def neighbour(kind: str, number: int, **changes: Any) -> Neighbour:
    """How the speaker knows the router of that kind."""
    fields: dict[str, Any] = {
        "name": f"{kind}{number}",
        "peer_address": IPv4Address(f"192.0.2.{4 * number + 1}"),
        "local_address": IPv4Address(f"192.0.2.{4 * number + 2}"),
        "peer_as": 64500,
        "local_as": 64500,
        "router_id": IPv4Address("192.0.2.250"),
        "families": frozenset(SessionFamily),
        "profiles": (kind,),
        "budget": 20_000,
        "next_hop_ipv4": IPv4Address("192.0.2.254"),
        "next_hop_ipv6": IPv6Address("100::1"),
        "hold_time_seconds": 30,
        "graceful_restart_seconds": 60,
    }
    return Neighbour(**fields | changes)


LIMITS = Limits(total_rules=20_000, per_minute=1_000_000, automatic_rules=20_000)


@contextmanager
def speaker_lab(*kinds: str, start: bool = True, neighbours: tuple[Neighbour, ...] = ()) -> Iterator[SpeakerLab]:
    """A lab with one router of each kind; everything is removed at the end."""
    neighbours = neighbours or tuple(neighbour(kind, number) for number, kind in enumerate(kinds))
    with ExitStack() as stack:
        spaces = stack.enter_context(namespaces.namespaces("speaker", *(f"{k}{i}" for i, k in enumerate(kinds))))
        state = Path(tempfile.mkdtemp(prefix=f"{spaces[0].name}-"))
        stack.callback(shutil.rmtree, state, ignore_errors=True)
        routers: dict[str, Router] = {}
        for number, (kind, one, space) in enumerate(zip(kinds, neighbours, spaces[1:], strict=True)):
            ours, theirs = ip_interface(f"{one.local_address}/30"), ip_interface(f"{one.peer_address}/30")
            namespaces.join(Port(spaces[0], f"to{number}", (ours,)), Port(space, "up", (theirs,)))
            configuration = Configuration(IPv4Address(str(one.peer_address)), (Session.facing(one),))
            routers[one.name] = stack.enter_context(KINDS[kind](space, configuration))
        url = f"sqlite:///{state / 'stopbank.db'}"
        store = stack.enter_context(Store.open(url))
        store.put_zone(ZONE, "test", datetime.now(UTC))
        settings = Settings(state, url, neighbours, limits=LIMITS)
        lab = SpeakerLab(spaces[0], state, settings, routers, store)
        lab.configure(settings)
        stack.callback(lab.stop)
        if start:
            lab.start()
        yield lab
