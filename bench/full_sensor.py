"""The whole sensor process on an interface, as `stopbank sensor run` starts it, against FastNetMon on the same feed.

Detection, rules, evidence and whatever else is on by default run; nothing is linked. 100,000 hosts are made known,
then an attack mix comes as fast as one processor sends it. The consumer has another processor, so that its time is
its own: the kernel's part in handing packets over is the sender's and told as a share of softirqs. Needs root.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bench.fastnetmon import FIRST, TUNED, fastnetmon
from bench.result import TARGET, Result
from lab import sender
from lab.appliance import KERNELS, START_SECONDS, STOPBANK, compile_kernel
from lab.namespaces import Namespace, Port, join, namespaces, running, sweep, wait_until
from lab.sender import BENIGN, POOL, Sent, Stream
from rules.zone import Zone
from sensors import zone_cache
from sensors.top import SOCKET, Document, ask

WANTED, SECONDS = 520_000, 10.0
"""Packets a second that are asked of the sender, and how long."""
PROMISED_RATE, HOSTS = 500_000, 100_000
NETWORK, VICTIM = IPv4Network("10.0.0.0/15"), IPv4Address("10.0.44.7")
MIX = {"syn_flood": 0.4, "udp_amp:dns": 0.1, "udp_amp:ntp": 0.1, "icmp_flood": 0.1}
"""Parts of the feed to one victim; the rest is ordinary traffic to all of the network."""
SENDING, WATCHING = 0, 1
"""Processors."""
TUNED_GOAL, DEFAULT_GOAL, MEMORY_GOAL = 1.0, 0.35, 0.5
"""Of FastNetMon's: processor time when tuned, as shipped, and memory."""
_IDLE_SECONDS = 3.0
_FEED, _WATCH = "feed", "watch"
_NOBODY = "02:00:00:00:00:99"
"""A mirror's frames are for somebody else, so that the kernel drops them behind the consumer."""
_PREFERRED = ("sh", "-c", FIRST + 'exec "$@"', "sh")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a consumer cost."""

    rate: float
    """Packets a second that were sent."""
    sent: int
    nanoseconds: float
    """Of the process, for each packet sent."""
    megabytes: float
    """Resident, all hosts known, after the feed."""
    softirq_percent: float
    """Of the machine's processors."""
    idle_percent: float
    """Of a processor, all hosts known and nothing coming."""
    shown: str = ""
    """The rate that the consumer itself tells of, where it tells."""


def run() -> Iterator[Result]:
    """Our figures, then theirs."""
    if os.geteuid() != 0:
        raise PermissionError("namespaces and packet sockets need root")
    if (os.cpu_count() or 1) <= WATCHING:
        raise OSError("sender and sensor need a processor each")
    sweep()
    with tempfile.TemporaryDirectory(prefix="stopbank-sensor-") as made:
        directory = Path(made)
        ours = yield from _ours(directory)
        for name, changes, goal in (("tuned", TUNED, TUNED_GOAL), ("default", {}, DEFAULT_GOAL)):
            try:
                theirs = _theirs(directory / name, changes)
            except FileNotFoundError as error:
                print(f"no peer: {error}", file=sys.stderr)
                return
            yield from _compared(name, ours, theirs, goal)


def _ours(directory: Path) -> Generator[Result, None, Seen]:
    with _link() as (feed, watch), _sensor(watch, directory) as (pid, numbers):
        before = numbers()
        known = _hosts(feed)
        wait_until(lambda: numbers()["packets_total"] >= before["packets_total"] + known * 0.99, "hosts unseen")
        start = _settled(numbers)
        seen = _fed(feed, pid)
        end = _settled(numbers)
    yield from _own_figures(seen, start, end)
    return seen


def _settled(numbers: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
    """The numbers once two heartbeats in a row, a second or more apart, tell of no new packet."""
    before, last = -1.0, numbers()
    while last["packets_total"] != before:
        before = last["packets_total"]
        time.sleep(2.2)
        last = numbers()
    return last


def _own_figures(seen: Seen, start: Mapping[str, float], end: Mapping[str, float]) -> Iterator[Result]:
    note = f"{seen.sent:,} packets at {seen.rate:,.0f}/s, {end['hosts']:,.0f} hosts known"
    yield Result("full_sensor.rate", seen.rate, "packets/s", TARGET, PROMISED_RATE, seen.rate / PROMISED_RATE,
                 "what the sender reached; 1 or more meets the target")  # fmt: skip
    dropped = end["packets_dropped_total"] - start["packets_dropped_total"]
    yield Result.against("full_sensor.dropped", dropped, "packets", TARGET, 0, note)
    uncounted = abs(seen.sent - (end["packets_total"] - start["packets_total"]))
    yield Result.against("full_sensor.uncounted", uncounted, "packets", TARGET, 0, "sent, against counted")
    found = f"{end['detections_total'] - start['detections_total']:.0f} attacks found"
    late = 1e3 * end["tick_late_seconds_max"]
    yield Result.against("full_sensor.tick_late", late, "ms", TARGET, 40, f"in the last second; {found}")
    yield Result.against("full_sensor.softirq", seen.softirq_percent, "% of all processors", TARGET, 100, note)


def _compared(name: str, ours: Seen, theirs: Seen, goal: float) -> Iterator[Result]:
    note = f"at {ours.rate:,.0f} and {theirs.rate:,.0f} packets/s{theirs.shown}; the goal is {goal:g}"
    yield Result.against(f"full_sensor.cpu_against_{name}", ours.nanoseconds, "ns/packet", f"FastNetMon, {name}",
                         theirs.nanoseconds, note)  # fmt: skip
    yield Result.against(f"full_sensor.idle_against_{name}", ours.idle_percent, "% of a processor",
                         f"FastNetMon, {name}", theirs.idle_percent, f"{HOSTS:,} hosts known, no packets")  # fmt: skip
    yield Result.against(f"full_sensor.memory_against_{name}", ours.megabytes, "MB", f"FastNetMon, {name}",
                         theirs.megabytes, f"resident with {HOSTS:,} hosts; the goal is {MEMORY_GOAL:g}")  # fmt: skip


def _theirs(directory: Path, changes: Mapping[str, str]) -> Seen:
    with _link() as (feed, watch), fastnetmon(watch, _WATCH, NETWORK, directory, WATCHING, changes) as pid:
        wait_until(lambda: _listens(watch), f"FastNetMon takes no packets, see {directory}", 30)
        time.sleep(2)
        _hosts(feed)
        time.sleep(2)
        seen = _fed(feed, pid)
        # The file is rewritten once a second.
        shown = re.search(r"Incoming traffic\s+(\d+) pps", (directory / "shown").read_text())
        return replace(seen, shown=f"; it tells of {int(shown[1]):,}/s" if shown else "; it tells no rate")


def _listens(inside: Namespace) -> bool:
    """Whether somebody has a packet socket in there."""
    return len(inside.run("cat", "/proc/net/packet").splitlines()) > 1


@contextlib.contextmanager
def _link() -> Iterator[tuple[Namespace, Namespace]]:
    with namespaces(_FEED, _WATCH) as (feed, watch):
        for one in (feed, watch):
            # Nobody but the sender says anything.
            one.set_kernel("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        join(Port(feed, _FEED), Port(watch, _WATCH))
        yield feed, watch


@contextlib.contextmanager
def _sensor(inside: Namespace, directory: Path) -> Iterator[tuple[int, Callable[[], Mapping[str, float]]]]:
    """The process with default settings but for interface, processor and zone."""
    state, config = directory / "state", directory / "stopbank.toml"
    own = state / "sensor"
    own.mkdir(parents=True)
    # A process that compiles keeps some 100 MB of the compiler.
    compile_kernel()
    zone_cache.save(own, (Zone("bench", (NETWORK,)),))
    config.write_text(
        f'[paths]\nstate = "{state}"\n[sensor]\nname = "bench"\ninterfaces = ["{_WATCH}"]\ncpus = [{WATCHING}]\n'
        f'kernel_cache = "{KERNELS}"\n'
    )

    def numbers() -> Mapping[str, float]:
        said: Document | None = ask(own / SOCKET)
        return said["numbers"] if said else {}

    log = directory / "sensor.log"
    with running(inside.command(*_PREFERRED, STOPBANK, "sensor", "run", "--config", config), log) as pid:
        try:
            wait_until(lambda: "packets_total" in numbers(), "the sensor does not run", START_SECONDS, 0.25)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{log.read_text()[-2000:]}") from None
        yield pid, numbers


def _hosts(feed: Namespace) -> int:
    """Makes the hosts known with a packet each or two; how many packets that took."""
    # Addresses are drawn: 12 pools hit 102,000 of the 131,000 there are.
    streams = [Stream("udp_flood", NETWORK, POOL // 2, 2.0, seed=number) for number in range(12)]
    return sum(one.packets for one in _sent(feed, streams))


def _sent(feed: Namespace, streams: list[Stream]) -> list[Sent]:
    command = [*_PREFERRED, "taskset", "-c", str(SENDING), *sender.command(feed, _FEED, _NOBODY)]
    done = subprocess.run(
        command, input=sender.plan(streams), capture_output=True, text=True, check=True, timeout=180,
        start_new_session=True,
    )  # fmt: skip
    return sender.results(done.stdout)


def _fed(feed: Namespace, pid: int) -> Seen:
    streams = [Stream(name, IPv4Network(VICTIM), round(WANTED * part), SECONDS) for name, part in MIX.items()]
    streams.append(Stream(BENIGN, NETWORK, round(WANTED * (1 - sum(MIX.values()))), SECONDS))
    begun = _processor_ns(pid)
    time.sleep(_IDLE_SECONDS)
    idle = 100 * (_processor_ns(pid) - begun) / (_IDLE_SECONDS * 1e9)
    cpu, irq, whole = _processor_ns(pid), *_softirq()
    sent = _sent(feed, streams)
    time.sleep(0.2)
    spent, irq_after, whole_after = _processor_ns(pid) - cpu, *_softirq()
    packets = sum(one.packets for one in sent)
    lasted = (max(one.last_ns for one in sent) - min(one.first_ns for one in sent)) / 1e9
    share = 100 * (irq_after - irq) / max(1, whole_after - whole)
    return Seen(packets / lasted, packets, spent / packets, _resident_megabytes(pid), share, idle)


def _processor_ns(pid: int) -> int:
    """User and system time of all threads (proc(5), schedstat)."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _softirq() -> tuple[int, int]:
    """Ticks of the machine in softirqs, and all of them."""
    fields = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return fields[6], sum(fields[:8])


def _resident_megabytes(pid: int) -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
