"""The whole sensor process on an interface, as `stopbank sensor run` starts it, against FastNetMon on the same feed.

Detection, rules, evidence and whatever else is on by default run; nothing is linked. All are started once and 100,000
hosts made known to each; then an attack mix comes to one after the other (`bench.turns`), in rounds. A ratio is the
median of the rounds' ratios. Needs root.
"""

import contextlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bench.fastnetmon import TUNED, fastnetmon
from bench.result import TARGET, Result
from bench.turns import (
    BEGINNING_SECONDS,
    PREFERRED,
    SENDING,
    WATCH,
    WATCHING,
    Consumer,
    Link,
    Turn,
    link,
    processor_ns,
    resident_megabytes,
    rounds,
    to_nobody,
)
from lab.appliance import KERNELS, START_SECONDS, STOPBANK, compile_kernel
from lab.namespaces import Namespace, running, sweep, wait_until
from lab.sender import BENIGN, POOL, Stream
from rules.zone import Zone
from sensors import zone_cache
from sensors.top import SOCKET, Document, ask

WANTED, SECONDS, ROUNDS = 520_000, 5.0, 5
"""Packets a second that are asked of the sender, how long a feed is, and how many each gets."""
PROMISED_RATE, HOSTS = 500_000, 100_000
NETWORK, FIRST_VICTIM = IPv4Network("10.0.0.0/15"), IPv4Address("10.0.44.7")
MIX = {"syn_flood": 0.4, "udp_amp:dns": 0.1, "udp_amp:ntp": 0.1, "icmp_flood": 0.1}
"""Parts of the feed to one victim; the rest is ordinary traffic to all of the network."""
OURS = "ours"
PEERS: Mapping[str, tuple[Mapping[str, str], float]] = {"tuned": (TUNED, 1.0), "default": ({}, 0.35)}
"""How FastNetMon is configured, and the most of its processor time that we may take."""
MEMORY_GOAL = 0.5
_IDLE_SECONDS = 3.0

Numbers = Mapping[str, float]


@dataclass(slots=True)
class Seen:
    """What a consumer cost."""

    turns: list[Turn] = field(default_factory=list)
    megabytes: float = 0.0
    """Resident, all hosts known, after the feeds."""
    idle_percent: float = 0.0
    """Of a processor, all hosts known and nothing coming."""
    shown: str = ""
    """The rate that the consumer itself tells of, where it tells."""


@dataclass(frozen=True, slots=True)
class Ours:
    """What the sensor says of itself."""

    start: Numbers
    end: Numbers
    late_seconds: float
    """The latest tick of the last second of any feed."""


def run() -> Iterator[Result]:
    """Our figures, then how they compare with theirs."""
    if os.geteuid() != 0:
        raise PermissionError("namespaces and packet sockets need root")
    if (os.cpu_count() or 1) <= max(SENDING, WATCHING):
        raise OSError("sender and sensor need a processor each")
    sweep()
    with contextlib.ExitStack() as up:
        directory = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="stopbank-sensor-")))
        ours, numbers = up.enter_context(_sensor(up.enter_context(link()), directory))
        consumers = [ours]
        try:
            for name, (changes, _) in PEERS.items():
                consumers.append(up.enter_context(_peer(name, directory / name, changes)))
        except FileNotFoundError as error:
            print(f"no peer: {error}", file=sys.stderr)
        for one in consumers:
            _make_known(one.link)
        seen, said = _measured(consumers, numbers, directory)
        nobody = to_nobody(feed(0, SECONDS / 2), 3)
        yield from _own_figures(seen[OURS].turns, said, nobody)
        for one in consumers[1:]:
            yield from compared(one.name, seen[OURS], seen[one.name])


def feed(number: int, seconds: float = SECONDS) -> list[Stream]:
    """Each round has another victim, so that each feed is the beginning of an attack."""
    victim = IPv4Network(FIRST_VICTIM + number)
    some = [Stream(name, victim, round(WANTED * part), seconds) for name, part in MIX.items()]
    return [*some, Stream(BENIGN, NETWORK, round(WANTED * (1 - sum(MIX.values()))), seconds)]


def _make_known(to: Link) -> None:
    # Addresses are drawn: 12 pools hit 102,000 of the 131,000 there are.
    to.send([Stream("udp_flood", NETWORK, POOL // 2, 2.0, seed=number) for number in range(12)])


def _measured(
    consumers: Sequence[Consumer], numbers: Callable[[], Numbers], directory: Path
) -> tuple[Mapping[str, Seen], Ours]:
    start, late = _settled(numbers), 0.0
    seen: dict[str, Seen] = defaultdict(Seen)
    for one, percent in zip(consumers, _idle([one.pid for one in consumers]), strict=True):
        seen[one.name].idle_percent = percent
    for _, one, turn in rounds(consumers, feed, ROUNDS):
        seen[one.name].turns.append(turn)
        if one.name == OURS:
            late = max(late, numbers()["tick_late_seconds_max"])
        else:
            seen[one.name].shown = _shown(directory / one.name / "shown")
    for one in consumers:
        seen[one.name].megabytes = resident_megabytes(one.pid)
    return seen, Ours(start, _settled(numbers), late)


def _idle(pids: Sequence[int]) -> list[float]:
    """Percent of a processor, all at the same time."""
    begun = [processor_ns(pid) for pid in pids]
    time.sleep(_IDLE_SECONDS)
    return [100 * (processor_ns(pid) - before) / (_IDLE_SECONDS * 1e9) for pid, before in zip(pids, begun, strict=True)]


def _settled(numbers: Callable[[], Numbers]) -> Numbers:
    """The numbers once two heartbeats in a row, a second or more apart, tell of no new packet."""
    before, last = -1.0, numbers()
    while last["packets_total"] != before:
        before = last["packets_total"]
        time.sleep(2.2)
        last = numbers()
    return last


def _own_figures(turns: Sequence[Turn], said: Ours, nobody: float) -> Iterator[Result]:
    start, end = said.start, said.end
    rate, sent = statistics.median(one.rate for one in turns), sum(one.sent for one in turns)
    note = f"{sent:,} packets at {rate:,.0f}/s, {end['hosts']:,.0f} hosts known"
    yield Result("full_sensor.rate", rate, "packets/s", TARGET, PROMISED_RATE, rate / PROMISED_RATE,
                 "what the sender reached; 1 or more meets the target")  # fmt: skip
    dropped = end["packets_dropped_total"] - start["packets_dropped_total"]
    yield Result.against("full_sensor.dropped", dropped, "packets", TARGET, 0, note)
    uncounted = abs(sent - (end["packets_total"] - start["packets_total"]))
    yield Result.against("full_sensor.uncounted", uncounted, "packets", TARGET, 0, "sent, against counted")
    found = f"{end['detections_total'] - start['detections_total']:.0f} attacks found"
    yield Result.against("full_sensor.tick_late", 1e3 * said.late_seconds, "ms", TARGET, 40,
                         f"in the last second of each feed; {found}")  # fmt: skip
    took = statistics.median(one.kernel_nanoseconds for one in turns)
    share = 100 * took * rate / 1e9 / (os.cpu_count() or 1)
    note = f"a driver's and the kernel's part, by the sender: {took:.0f} ns/packet, {nobody:.0f} when nobody listens"
    yield Result.against("full_sensor.softirq", share, "% of all processors", TARGET, 100, note)


def compared(name: str, ours: Seen, theirs: Seen) -> Iterator[Result]:
    """Our figures over theirs."""
    peer, pairs = f"FastNetMon, {name}", list(zip(ours.turns, theirs.turns, strict=True))
    ratios = [mine.nanoseconds / other.nanoseconds for mine, other in pairs]
    steady = statistics.median(mine.steady_nanoseconds / other.steady_nanoseconds for mine, other in pairs)
    kernel = statistics.median(mine.kernel_nanoseconds - other.kernel_nanoseconds for mine, other in pairs)
    note = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds; {steady:.2f} without the first"
    note += f" {BEGINNING_SECONDS:g} s; in the kernel {kernel:+.0f} ns; {theirs.shown}; the goal is {PEERS[name][1]:g}"
    yield Result(f"full_sensor.cpu_against_{name}", _cost(ours), "ns/packet", peer, _cost(theirs),
                 statistics.median(ratios), note)  # fmt: skip
    yield Result.against(f"full_sensor.idle_against_{name}", ours.idle_percent, "% of a processor", peer,
                         theirs.idle_percent, f"{HOSTS:,} hosts known, no packets")  # fmt: skip
    yield Result.against(f"full_sensor.memory_against_{name}", ours.megabytes, "MB", peer, theirs.megabytes,
                         f"resident with {HOSTS:,} hosts; the goal is {MEMORY_GOAL:g}")  # fmt: skip


def _cost(seen: Seen) -> float:
    return statistics.median(one.nanoseconds for one in seen.turns)


@contextlib.contextmanager
def _peer(name: str, directory: Path, changes: Mapping[str, str]) -> Iterator[Consumer]:
    with link() as to, fastnetmon(to.watch, WATCH, NETWORK, directory, WATCHING, changes) as pid:
        wait_until(lambda: _listens(to.watch), f"FastNetMon takes no packets, see {directory}", 30)
        yield Consumer(name, pid, to)


def _listens(inside: Namespace) -> bool:
    """Whether somebody has a packet socket in there."""
    return len(inside.run("cat", "/proc/net/packet").splitlines()) > 1


def _shown(path: Path) -> str:
    """The rate that FastNetMon itself tells of; the file is rewritten once a second."""
    found = re.search(r"Incoming traffic\s+(\d+) pps", path.read_text())
    return f"it tells of {int(found[1]):,}/s" if found else "it tells no rate"


@contextlib.contextmanager
def _sensor(to: Link, directory: Path) -> Iterator[tuple[Consumer, Callable[[], Numbers]]]:
    """The process with default settings but for interface, processor and zone."""
    state, config = directory / "state", directory / "stopbank.toml"
    own = state / "sensor"
    own.mkdir(parents=True)
    # A process that compiles keeps some 100 MB of the compiler.
    compile_kernel()
    zone_cache.save(own, (Zone("bench", (NETWORK,)),))
    config.write_text(
        f'[paths]\nstate = "{state}"\n[sensor]\nname = "bench"\ninterfaces = ["{WATCH}"]\ncpus = [{WATCHING}]\n'
        f'kernel_cache = "{KERNELS}"\n'
    )

    def numbers() -> Numbers:
        said: Document | None = ask(own / SOCKET)
        return said["numbers"] if said else {}

    log = directory / "sensor.log"
    with running(to.watch.command(*PREFERRED, STOPBANK, "sensor", "run", "--config", config), log) as pid:
        try:
            wait_until(lambda: "packets_total" in numbers(), "the sensor does not run", START_SECONDS, 0.25)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{log.read_text()[-2000:]}") from None
        yield Consumer(OURS, pid, to), numbers
