"""Network namespaces and veth pairs of the lab, made and removed as a unit.

Every namespace is called `sbXXXX-PID-LABEL` (XXXX random, PID its owner), so several labs live side by side and what a
crashed run left behind can be told from what is in use. Must never touch a namespace without that form, nor the
host's own interfaces: veth pairs are made inside the namespaces and vanish with them.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import TypeVar

from lab.inside import call_inside, disable_offloads

PREFIX = "sb"
_NAME = re.compile(r"sb[0-9a-f]{4}-(?P<pid>\d+)-(?P<label>[a-z0-9]+)")
_NAMES = Path("/run/netns")
_LABEL = re.compile(r"[a-z0-9]{1,24}")
_QUIET = ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
_ROUTER = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)

Interface = IPv4Interface | IPv6Interface
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace that exists until the context that made it ends."""

    name: str

    @property
    def path(self) -> Path:
        """The file that stands for it, for setns(2)."""
        return _NAMES / self.name

    @property
    def label(self) -> str:
        """The name its maker gave."""
        return self.name.rsplit("-", 1)[1]

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line that runs `arguments` in here."""
        return ["ip", "netns", "exec", self.name, *map(str, arguments)]

    def run(self, *arguments: str | Path, given: str | None = None, check: bool = True, timeout: float = 30) -> str:
        """What a command prints; raises `CommandFailed` with its error output unless `check` is false."""
        return _run(self.command(*arguments), given, check, timeout)

    def ip(self, *arguments: str) -> str:
        """`ip ARGUMENTS` for this namespace, without a shell or an exec inside."""
        return _run(["ip", "-n", self.name, *arguments], None, True, 30)

    def call(self, function: Callable[[], T]) -> T:
        """The result of a function that runs in a thread inside; sockets it opens stay inside for good."""
        return call_inside(self.path, function)

    def set_kernel(self, *settings: str) -> None:
        """Sysctls, each `name=value`."""
        self.run("sysctl", "-q", "-w", *settings)

    def forward(self) -> None:
        """Make it a router: forwards IPv4 and IPv6, accepts asymmetric paths."""
        self.set_kernel(*_ROUTER)


class CommandFailed(RuntimeError):
    """A command of the lab ended badly; the message holds the command and what it wrote to stderr."""


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a veth pair."""

    namespace: Namespace
    interface: str
    """At most 15 characters, unique in its namespace only."""
    addresses: tuple[Interface, ...] = ()


@contextlib.contextmanager
def namespaces(*labels: str) -> Iterator[tuple[Namespace, ...]]:
    """New namespaces, one for each label, removed at the end together with every process inside."""
    tag = secrets.token_hex(2)
    made: list[Namespace] = []
    try:
        for label in labels:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"a namespace label is 1 to 24 lower-case letters or digits, not {label!r}")
            made.append(_make(Namespace(f"{PREFIX}{tag}-{os.getpid()}-{label}")))
        yield tuple(made)
    finally:
        for namespace in reversed(made):
            remove(namespace)


@contextlib.contextmanager
def namespace(label: str) -> Iterator[Namespace]:
    """One new namespace; see `namespaces`."""
    with namespaces(label) as (made,):
        yield made


def join(left: Port, right: Port, mtu: int = 1500) -> None:
    """A veth pair between two namespaces, up, addressed, without segmentation, checksum or receive offloads."""
    peer = ("peer", "name", right.interface, "netns", right.namespace.name)
    left.namespace.ip("link", "add", "name", left.interface, "mtu", str(mtu), "type", "veth", *peer)
    for port in (left, right):
        port.namespace.ip("link", "set", "dev", port.interface, "mtu", str(mtu))
        for address in port.addresses:
            # Without nodad an IPv6 address can't be bound for about a second.
            extra = ("nodad",) if address.version == 6 else ()
            port.namespace.ip("address", "add", str(address), "dev", port.interface, *extra)
        port.namespace.call(lambda interface=port.interface: disable_offloads(interface))  # type: ignore[misc]
    for port in (left, right):
        port.namespace.ip("link", "set", "dev", port.interface, "up")


@contextlib.contextmanager
def running(arguments: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[int]:
    """A background process (its pid) in a group of its own, which is ended with it; output goes to a file."""
    process = start(arguments, log, environment)
    try:
        yield process.pid
    finally:
        stop(process)


def start(arguments: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start a process as the leader of a session of its own; end it with `stop`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=None if environment is None else {**os.environ, **environment},
        )


def stop(process: "subprocess.Popen[bytes]", how: signal.Signals = signal.SIGTERM, patience_seconds: float = 5) -> None:
    """End a process with its whole group; what does not go in time is killed."""
    _signal_group(process.pid, how)
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def remove(namespace: Namespace) -> None:
    """Kill what runs in a namespace and delete it; one that is gone already is fine."""
    if not _NAME.fullmatch(namespace.name):
        raise ValueError(f"{namespace.name!r} is no namespace of the lab")
    for _ in range(3):
        if not _kill_inside(namespace):
            break
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "delete", namespace.name], capture_output=True, check=False)


def sweep() -> tuple[str, ...]:
    """Remove the lab's namespaces whose owner is dead, and say which; those of living labs stay."""
    names = [path.name for path in _NAMES.iterdir()] if _NAMES.is_dir() else []
    dead = tuple(
        name for name in names if (form := _NAME.fullmatch(name)) and not Path(f"/proc/{form['pid']}").exists()
    )
    for name in dead:
        remove(Namespace(name))
    return dead


def wait_until(claim: Callable[[], bool], what: str, within_seconds: float = 20, step_seconds: float = 0.05) -> float:
    """Ask until the claim holds; the seconds it took, or `TimeoutError` that names `what`."""
    began = time.monotonic()
    while not claim():
        if time.monotonic() - began > within_seconds:
            raise TimeoutError(f"{what}: not within {within_seconds:g} s")
        time.sleep(step_seconds)
    return time.monotonic() - began


def _make(namespace: Namespace) -> Namespace:
    _run(["ip", "netns", "add", namespace.name], None, True, 30)
    try:
        namespace.ip("link", "set", "lo", "up")
        namespace.set_kernel(*_QUIET)
    except BaseException:
        remove(namespace)
        raise
    return namespace


def _kill_inside(namespace: Namespace) -> bool:
    """Whether there was anybody to kill."""
    listed = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in listed.stdout.split() if int(pid) != os.getpid()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _signal_group(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)


def _run(arguments: Sequence[str], given: str | None, check: bool, timeout: float) -> str:
    done = subprocess.run(
        list(arguments),
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise CommandFailed(f"{' '.join(arguments)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
