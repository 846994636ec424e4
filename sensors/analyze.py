"""Offline analysis of a capture file, by the live engine at capture time: what happened, to whom, and which rules
would help.

Nothing is sent anywhere and nothing is announced. A file that can't be read is refused with one clear line.
"""

import time
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path

import numpy as np

from rules.match import Network
from rules.traffic import Detection
from rules.zone import Metric, Zone
from sensors.attack import Attack, moment
from sensors.describe import EVIDENCE_NS
from sensors.engine import Engine
from sensors.findings import Incident, Report
from sensors.floors import CARPETS, FACTOR, least, least_carpet
from sensors.headers import COLUMNS, Column, Kind, Total
from sensors.limits import Measures
from sensors.lingering import Lingering
from sensors.mirrored import is_mirrored
from sensors.pcapfile import CaptureFile, open_capture
from sensors.settings import Detecting, Memory
from sensors.tables import NEXT_TIME
from sensors.walk import NEVER

__all__ = ["Report", "run"]

DETECTING = Detecting(
    tick_seconds=0.02,
    short_seconds=0.02,
    middle_seconds=0.4,
    long_seconds=1.0,
    minimum_packets=200,
    hold_seconds=0.0,
    update_seconds=10.0,
)
"""A capture is often a snippet of milliseconds: one window must do, and people, not routers, read the result."""
MEMORY = Memory(hosts=65_536, recent_packets=1 << 20, normal_packets=1 << 16)
_SECOND = 1_000_000_000
EVERYWHERE: tuple[Network, ...] = tuple(map(ip_network, ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")))
"""What is looked at where nobody says whom to protect."""
_STEP = 200_000_000
"""Between two looks (ns), once a second of traffic is known: verdicts are about a second."""
_QUIET_SECONDS = 0.1
"""Fewer packets in a tick than a host at the lowest limit gets in so long need no look."""

_METRICS: dict[Kind, Metric] = {
    **CARPETS,
    Kind.GRE: Metric.OTHER_PACKETS,
    Kind.ESP: Metric.OTHER_PACKETS,
    Kind.OTHER: Metric.OTHER_PACKETS,
}


Progress = Callable[[int, int], None]
"""Is told how many of a file's bytes are read, and how many there are."""


def run(
    path: str | Path,
    zones: Sequence[Network] = (),
    pps: float | None = None,
    weight: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Analyses a capture file, or `-` for standard input. `zones`: protected prefixes (none: every destination may be
    a target); `pps`: an explicit threshold for unsolicited packets per second to one host, instead of the defaults;
    `weight`: packets that each record stands for; `progress`: called now and then, for files of known size.
    Raises `Refused` when the file can't be read."""
    began = time.perf_counter()
    inside = is_mirrored(path)
    source = open_capture(path, weight, inside=inside)
    try:
        found: dict[Network, Incident] = {}

        def note(detection: Detection, attack: Attack) -> None:
            if detection.state.value == "over":
                found.setdefault(attack.target, Incident(attack)).add(attack)

        whole = (Zone("capture", tuple(zones) or EVERYWHERE),)
        engine = Engine(
            whole,
            note,
            sensor="analyze",
            detecting=DETECTING,
            memory=MEMORY,
            measures=_measures(pps),
            judging=True,
            floor=pps,
        )
        lingering = Lingering(engine.tables, whole)
        first = _drive(engine, source, lingering, progress)
        passed = source.uncounted()
        if inside:
            passed[_INSIDE] = int(engine.tables.totals[Total.RECORDS])
        incidents = sorted([*found.values(), *lingering.incidents], key=lambda incident: -incident.packets)
        if engine.unproposed:
            passed[f"attack of which {engine.unproposed}"] = 1
        totals = dict(zip((total.name.lower() for total in Total), engine.tables.totals.tolist(), strict=True))
        return Report(
            capture=str(path),
            packets=totals["records"],
            duration_seconds=(engine.tables.clock_ns - first) / 1e9 if totals["records"] else 0.0,
            incidents=tuple(incidents),
            counters=totals | _losses(source) | {"suspicions": engine.suspicions},
            seconds=time.perf_counter() - began,
            uncounted=_reasons(source, totals) | passed,
        )
    finally:
        source.close()


def _losses(source: CaptureFile) -> dict[str, int]:
    losses = source.losses()
    return {"damaged_records": losses.damaged, "cut_records": losses.truncated}


_REASONS = {
    Total.NOT_IP: "record without an IP packet (ARP and such)",
    Total.TRUNCATED: "record captured too short",
    Total.MALFORMED: "record with an IP header that makes no sense",
    Total.UNPROTECTED: "packet to destinations outside the zones",
    Total.OVERFLOW: "packet to more hosts than the tables hold",
    Total.BACKWARDS: "record with a time before that of the one before: counted at that one's",
}


_INSIDE = "record of tunnels between a few hosts: what is in those was counted"


def _reasons(source: CaptureFile, totals: dict[str, int]) -> dict[str, int]:
    """What a reader of the report must know about what is not in it; the first word is what is counted, for one."""
    losses = source.losses()
    out = {reason: totals[total.name.lower()] for total, reason in _REASONS.items()}
    out["place where the file makes no sense any more: what follows it was not read"] = losses.damaged
    out["record cut off by the end of the file"] = losses.truncated
    return {reason: count for reason, count in out.items() if count}


def _measures(pps: float | None) -> Measures:
    """One measure for each kind of packet, for hosts at the lowest rate that may be an attack, for prefixes at what
    zones have by themselves; `pps` replaces those of hosts, and then nobody asks for prefixes."""
    kinds = tuple(Kind)
    sums = np.zeros((COLUMNS, len(kinds) + 1))
    limits, wide = np.full((2, 2, len(kinds) + 1), np.inf)
    for number, kind in enumerate(kinds):
        sums[kind, number] = 1
        limits[0, number] = least(kind) if pps is None else pps
        wide[0, number] = least_carpet(kind) if pps is None else np.inf
    sums[Column.PACKETS, -1] = 1
    if pps is not None:
        limits[0, -1] = pps
    names = tuple(_METRICS.get(kind, Metric.TCP_PACKETS).value for kind in kinds)
    factors = np.array([FACTOR, np.inf])
    return Measures((*names, Metric.PACKETS.value), sums, limits, factors, wide=wide)


def _drive(engine: Engine, source: CaptureFile, lingering: Lingering, progress: Progress | None = None) -> int:
    """Feeds the whole capture, ticking at capture time; returns the time of its first packet."""
    tables, fine = engine.tables, int(DETECTING.tick_seconds * 1e9)
    if source.feed(tables, -(1 << 62)).ended:
        return 0
    first = now = begun = looked = int(tables.state[NEXT_TIME])
    engine.start(now)
    seen = 0
    # No host can be above a limit while all of them together are below it.
    enough = engine.least_packets * _QUIET_SECONDS
    size = source.stream.size() if progress else None
    while True:
        step = fine if now - begun < _SECOND else _STEP
        fed = source.feed(tables, min(now + step, NEVER))
        if fed.ended:
            break
        now += step
        lingering.feed(tables, now)
        if progress and size:
            progress(source.stream.position(), size)
        packets = int(tables.totals[Total.PACKETS])
        if packets - seen >= enough or engine.busy:
            engine.tick(now, moment(now), pausing=_silence(engine, now, step) >= EVIDENCE_NS)
            looked, seen = now, packets
        elif now - looked >= _SECOND:
            # Nothing can have happened: windows begin anew.
            engine.start(now)
            begun, looked, seen = now, now, packets
        while (silence := _silence(engine, now, step)) > 0:
            now += silence
            if not engine.busy and now - looked >= _SECOND:
                engine.start(now)
                begun, looked, seen = now, now, packets
            if not engine.busy:
                break
            # What was suspected has its quiet before anything new counts.
            engine.tick(now, moment(now))
            looked = now
    end = max(looked, tables.clock_ns)
    engine.finish(end, moment(end))
    lingering.finish(tables, end)
    return first


def _silence(engine: Engine, now: int, step: int) -> int:
    """For how long (ns) nothing comes; while something is suspected, only until every window is empty."""
    tables = engine.tables
    most = _SECOND if engine.busy and now - tables.clock_ns < 2 * _SECOND else NEVER
    return min(int(tables.state[NEXT_TIME]) - now, most) // step * step
