"""`stopbank doctor`: looks at this machine and says what would keep Stopbank from working, and what to do about it.

Changes nothing. A check that can't be made says so; it never counts as passed.
"""

import ctypes
import importlib.metadata
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from rules.counted import counted
from rules.errors import Refused
from rules.neighbour import Neighbour
from stopbank import config as configuration

if TYPE_CHECKING:
    from store.records import AuditVerdict

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
MINIMUM_FREE_BYTES = 500_000_000
STATUS_AGE_SECONDS = 10.0
_LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path, unix(7)."""
_TIME_ERROR = 5
"""adjtimex's answer for a clock that nothing disciplines."""
_ETHTOOL_GGRO, _ETHTOOL_GTSO, _SIOCETHTOOL = 0x2B, 0x1E, 0x8946


class Verdict(Enum):
    """How a check ended."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do; empty when all is well."""


def examine(config: configuration.Config) -> Iterator[Check]:
    """Every check, in the order people fix things."""
    yield _python()
    yield _exabgp()
    yield _capability(
        "packet capture", CAP_NET_RAW, "the sensor needs CAP_NET_RAW: run it as root or by its systemd unit"
    )
    yield _capability("nftables", CAP_NET_ADMIN, "only `stopbank enforce` needs CAP_NET_ADMIN: run that as root")
    yield _program("nft", "apt install nftables (only for `stopbank enforce`)")
    yield _clock()
    yield from _state_directory(config.paths.state)
    yield from _settings(config)
    yield from _database(config)
    for interface in config.sensor.interfaces:
        yield from _interface(interface)
    if config.sensor.interfaces:
        yield _sensor(config)
    yield from _neighbours(config)


def _settings(config: configuration.Config) -> Iterator[Check]:
    from stopbank import wiring

    try:
        wiring.check(config)
    except Refused as error:
        yield Check("settings", Verdict.BAD, str(error), "correct the configuration: stopbank config check")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Check(
        "python", Verdict.GOOD if good else Verdict.BAD, version, "" if good else "Python 3.11 or newer is needed"
    )


def _exabgp() -> Check:
    try:
        version = importlib.metadata.version("exabgp")
    except importlib.metadata.PackageNotFoundError:
        return Check(
            "exabgp", Verdict.WARNING, "not installed", "a speaker needs it: pip install 'stopbank[controller]'"
        )
    parts = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    if (5, 0, 15) <= parts < (6,):
        return Check("exabgp", Verdict.GOOD, version)
    return Check("exabgp", Verdict.BAD, version, "5.0.15 or a later 5.x is needed: older ones accept an empty match")


def _capability(name: str, number: int, advice: str) -> Check:
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    held = bool(effective >> number & 1)
    return Check(
        name,
        Verdict.GOOD if held else Verdict.WARNING,
        "permitted" if held else "not permitted",
        "" if held else advice,
    )


def _program(name: str, advice: str) -> Check:
    path = shutil.which(name)
    return Check(name, Verdict.GOOD if path else Verdict.WARNING, path or "not found", "" if path else advice)


def _clock() -> Check:
    """Asks the kernel whether something disciplines the clock (adjtimex(2), read-only)."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(256))
    if state < 0:
        return Check("clock", Verdict.WARNING, "the kernel did not answer", "check by hand: timedatectl")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if state == _TIME_ERROR:
        advice = "messages older than 10 s are never acted on: run chrony or systemd-timesyncd here and on the sensors"
        return Check("clock", Verdict.WARNING, f"{now}, not synchronised", advice)
    return Check("clock", Verdict.GOOD, f"{now}, synchronised")


def _state_directory(path: Path) -> Iterator[Check]:
    name = "state directory"
    existing = next(one for one in (path, *path.resolve().parents) if one.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Check(
            name,
            Verdict.BAD,
            f"{path}: not writable",
            f"create it for the user Stopbank runs as: install -d -m 2770 {path}",
        )
        return
    yield Check(name, Verdict.GOOD, f"{path}{'' if path.exists() else ' (will be created)'}")
    free = shutil.disk_usage(existing).free
    good = free >= MINIMUM_FREE_BYTES
    advice = "" if good else "make room: with a full disk no new rule is accepted"
    yield Check("disk", Verdict.GOOD if good else Verdict.BAD, f"{free / 1e9:.1f} GB free", advice)
    socket_path = os.fsencode(path.resolve() / "speaker.sock")
    if len(socket_path) > _LONGEST_SOCKET:
        advice = f"name a shorter one: {counted(len(socket_path) - _LONGEST_SOCKET, 'byte')} less"
        yield Check(name, Verdict.BAD, f"{path}: too long for the speaker's socket", advice)
    yield from _kill_switch(path)


def _kill_switch(state: Path) -> Iterator[Check]:
    try:
        thrown = (state / "kill.json").read_text().strip()[:200]
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        thrown = f"can't be read, which counts as freeze: {error}"
    yield Check("kill switch", Verdict.WARNING, thrown, "nothing new is announced until `stopbank kill normal`")


def _database(config: configuration.Config) -> Iterator[Check]:
    url = config.database_url
    try:
        from store.errors import SchemaUnknown, StoreUnavailable
        from store.store import Store
    except ImportError:
        yield Check(
            "database",
            Verdict.WARNING,
            "not examined",
            "install stopbank[controller] on the machine that runs the speaker",
        )
        return
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.exists():
        if path.parent.exists() or path.parent == config.paths.state.resolve():
            yield Check("database", Verdict.GOOD, "will be created")
        else:
            yield Check("database", Verdict.BAD, f"{path.parent} does not exist", "correct paths.database")
        return
    try:
        with Store.open(url) as store:
            verdict = store.verify_audit()
    except (StoreUnavailable, SchemaUnknown, Refused) as error:
        yield Check(
            "database", Verdict.BAD, str(error), "restore a backup (`stopbank restore`), or correct paths.database"
        )
        return
    yield Check("database", Verdict.GOOD, "opens, schema is current")
    advice = (
        ""
        if verdict.is_sound
        else "somebody changed the audit table: compare with a backup and the exported checkpoints"
    )
    yield Check("audit chain", Verdict.GOOD if verdict.is_sound else Verdict.BAD, _chain(verdict), advice)


def _chain(verdict: "AuditVerdict") -> str:
    return "; ".join(verdict.problems[:3]) or f"{counted(verdict.head.count, 'entry', 'entries')}, unbroken"


def _sensor(config: configuration.Config) -> Check:
    """What the running sensor says is wrong: filters that hide everything, clocks, disks, interfaces that are gone."""
    from sensors.top import SOCKET, ask
    from stopbank import wiring

    shown = ask(wiring.sensor_directory(config) / SOCKET)
    if shown is None:
        return Check("sensor", Verdict.WARNING, "does not run, or may not be asked", "start it: stopbank sensor run")
    packets = sum(one["packets_per_second"] for one in shown["interfaces"])
    advice = "; ".join(shown["troubles"])
    return Check("sensor", Verdict.WARNING if advice else Verdict.GOOD, f"{packets:,} packets/s", advice)


def _interface(name: str) -> Iterator[Check]:
    label = f"interface {name}"
    if name not in {one for _, one in socket.if_nameindex()}:
        yield Check(
            label, Verdict.BAD, "does not exist", f"set sensor.interfaces; this machine has {_interface_names()}"
        )
        return
    flags = int((Path("/sys/class/net") / name / "flags").read_text(), 16)
    up = bool(flags & 1)
    yield Check(
        label, Verdict.GOOD if up else Verdict.BAD, "up" if up else "down", "" if up else f"ip link set {name} up"
    )
    on = [word for word, command in (("gro", _ETHTOOL_GGRO), ("tso", _ETHTOOL_GTSO)) if _offload(name, command)]
    if on:
        command = f"ethtool -K {name} {' '.join(f'{word} off' for word in on)}"
        advice = f"harmless, as packets are counted by segment size; for exact lengths: {command}"
        yield Check(f"{label} offloads", Verdict.WARNING, ", ".join(on) + " on", advice)


def _interface_names() -> str:
    return ", ".join(name for _, name in socket.if_nameindex())


def _offload(name: str, command: int) -> bool:
    """One offload's state by the ethtool ioctl; an interface that can't say counts as off."""
    import fcntl

    value = bytearray(struct.pack("II", command, 0))
    buffer = (ctypes.c_char * len(value)).from_buffer(value)
    request = struct.pack("16sP", name.encode(), ctypes.addressof(buffer)) + bytes(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCETHTOOL, request)
        except OSError:
            return False
    return bool(struct.unpack("II", bytes(value))[1])


def _neighbours(config: configuration.Config) -> Iterator[Check]:
    try:
        found = configuration.neighbours(config)
    except Refused as error:
        yield Check("neighbours", Verdict.BAD, str(error), "correct the configuration: stopbank config check")
        return
    if not found:
        yield Check("neighbours", Verdict.WARNING, "none configured", "add [[neighbours]] to announce anything")
        return
    own = _own_addresses()
    sessions = _sessions(config.paths.state)
    for neighbour in found:
        yield _neighbour(neighbour, own, sessions)


def _neighbour(neighbour: Neighbour, own: frozenset[str], sessions: dict[str, str] | None) -> Check:
    label = f"neighbour {neighbour.name}"
    if not own:
        return Check(label, Verdict.WARNING, "this machine's addresses are unknown", "apt install iproute2")
    if str(neighbour.local_address) not in own:
        return Check(
            label, Verdict.BAD, f"{neighbour.local_address} is no address of this machine", "correct local_address"
        )
    if sessions is None:
        return Check(label, Verdict.WARNING, "the speaker does not report", "start it: stopbank run")
    state = sessions.get(neighbour.name, "unknown to the speaker")
    good = state == "up"
    advice = "" if good else "check addresses, AS numbers, password and the router's log; a firewall must pass TCP/179"
    return Check(label, Verdict.GOOD if good else Verdict.BAD, state, advice)


def _own_addresses() -> frozenset[str]:
    """Empty when the machine doesn't tell."""
    try:
        done = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    if done.returncode:
        return frozenset()
    return frozenset(
        one["local"] for link in json.loads(done.stdout) for one in link.get("addr_info", ()) if "local" in one
    )


def _sessions(state: Path) -> dict[str, str] | None:
    """Session states from the speaker's status file; None when it is absent, unreadable, old or the last."""
    try:
        document = json.loads((state / "status.json").read_text())
        age = (datetime.now(UTC) - datetime.fromisoformat(document["at"])).total_seconds()
        if age > STATUS_AGE_SECONDS or document.get("ended") is True:
            return None
        return {one["name"]: "up" if one["up"] else str(one["reason"] or "down") for one in document["neighbours"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
