"""How long an attack goes unseen: from its first packet to the first confirmed detection, over a limit by 1.2 to 10.

The live engine on a simulated clock, attacks at random phases of its ticks, so that the figures hold on any machine
that keeps up; `detection_latency` has them from a real interface to a real router. Also carpets on all of a /24, weak
and strong ones, and what a train of pulses does to routers.

The peer is FastNetMon's published arithmetic, computed: an average with a time constant of 5 s, as its configuration
is shipped, crosses the limit after -5 s · ln(1 - 1/k) at k times the limit, before its tick of 1 s.
"""

import math
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import numpy as np

from bench.pulses import played
from bench.result import TARGET, Result, percentile
from bench.simulated import live
from lab.packets import Packets, capture, merged
from lab.scenario_floods import MAKERS, amplified
from lab.scenario_normal import normal
from lab.scenario_order import Order, even
from lab.scenario_shapes import SHAPES
from rules.traffic import Detection
from rules.zone import DEFAULT_LIMITS, Metric, Mode, Zone
from sensors.attack import moment

RUNS = 30
PROMISED = {1.2: 1.5, 2.0: 0.5, 3.0: 0.3, 10.0: 0.15}
"""Times the limit -> seconds at the 95th percentile."""
CARPETS = (0.2, 0.9, 1.3, 12.0)
"""How many times its own limit each host of a carpet gets."""
LASTING = {1.2: 2.5, 2.0: 1.0, 3.0: 0.8, 10.0: 0.5}
"""Seconds of attack that are played."""
FASTNETMON = "FastNetMon's average of 5 s, computed"
NETWORK, VICTIM = IPv4Network("203.0.113.0/24"), IPv4Network("203.0.113.7/32")
LIMIT = dict(DEFAULT_LIMITS)[Metric.AMPLIFICATION_PACKETS]
BEGIN_NS = 1_700_000_000_000_000_000
"""When captures begin (`lab.frames.write_pcap`)."""
_QUIET = 1.2


def run() -> Iterator[Result]:
    """Seconds, and for the carpet and the pulses what came of them."""
    with tempfile.TemporaryDirectory(prefix="stopbank-detect-") as directory:
        path = Path(directory, "attack.pcap")
        for factor in PROMISED:
            yield from _level(path, factor)
        for factor in CARPETS:
            yield from carpet(path, factor)
        yield from pulse_train(path)


def _level(path: Path, factor: float) -> Iterator[Result]:
    delays = [one for seed in range(RUNS) if (one := delay(path, factor, seed)) is not None]
    note = f"{len(delays)} of {RUNS} attacks, {factor * LIMIT:,.0f} packets/s against a limit of {LIMIT:,}"
    metric = f"time_to_detect.x{factor:g}"
    yield Result.against(f"{metric}.missed", RUNS - len(delays), "attacks", TARGET, 0, note)
    if not delays:
        return
    middle, worst = percentile(delays, 0.5), percentile(delays, 0.95)
    yield Result.against(f"{metric}.p95", worst, "s", TARGET, PROMISED[factor], note)
    theirs = -5 * math.log(1 - 1 / factor)
    yield Result.against(f"{metric}.p50", middle, "s", FASTNETMON, theirs, note)


def delay(path: Path, factor: float, seed: int) -> float | None:
    """Seconds from an attack's first packet to its first confirmed detection; None: it was never found."""
    random = np.random.default_rng([seed, int(factor * 10)])
    begin = _QUIET + random.uniform(0, 0.2)
    end = begin + LASTING[factor]
    attack = amplified(Order(VICTIM, even(factor * LIMIT, begin, end, random), random), "ntp")
    capture(path, merged([attack, normal(VICTIM, 500, (0.0, end), random)]))
    first = int(attack["time"].min())
    heard: list[Detection] = []
    live(path, (Zone("all", (NETWORK,)),), heard.append, phase=float(random.random()))
    found = [one for one in heard if one.confirmed and one.target == VICTIM]
    return _since_begin(found[0]) - first / 1e9 if found else None


def _since_begin(one: Detection) -> float:
    return one.seen.timestamp() - BEGIN_NS / 1e9


def carpet(path: Path, factor: float) -> Iterator[Result]:
    """Each host of a /24 gets so many times the host's limit."""
    limits = ((Metric.PACKETS, 2_000), (Metric.UDP_PACKETS, 1_000))
    zone = Zone("all", (IPv4Network("203.0.112.0/22"),), limits=limits)
    delays, incidents, rules = [], [], []
    metric, runs = f"time_to_detect.carpet.x{factor:g}", 5 if factor < 2 else 1
    for seed in range(runs):
        random = np.random.default_rng([seed, 24])
        begin = _QUIET + random.uniform(0, 0.2)
        attack = MAKERS["udp_flood"](Order(NETWORK, even(factor * 1_000 * 256, begin, begin + 2.5, random), random))
        heard = _heard(path, [attack, normal(VICTIM, 200, (0.0, begin + 2.5), random)], zone)
        incidents.append(len({one.target for one in heard}))
        covering = [one for one in heard if one.target.prefixlen <= 24]
        if covering:
            delays.append(_since_begin(covering[0]) - int(attack["time"].min()) / 1e9)
            rules.append(len(covering[-1].signatures))
    note = f"found in {len(delays)} of {runs}; each host gets {factor:g} times its limit"
    yield Result.against(f"{metric}.missed", runs - len(delays), "attacks", TARGET, 0, note)
    yield Result.against(f"{metric}.incidents", max(incidents), "incidents", TARGET, 1, note)
    if delays:
        yield Result.against(f"{metric}.max", max(delays), "s", TARGET, 2.0, note)
        yield Result.against(f"{metric}.rules", max(rules), "rules", TARGET, 3, note)


def _heard(path: Path, parts: list[Packets], zone: Zone, phase: float = 0.5) -> list[Detection]:
    heard: list[Detection] = []
    capture(path, merged(parts))
    live(path, (zone,), heard.append, phase=phase)
    return heard


def pulse_train(path: Path, minutes: float = 10) -> Iterator[Result]:
    """Five seconds on, twenty-five off, for ten minutes, then peace."""
    zone = Zone("all", (NETWORK,), mode=Mode.AUTO, limits=((Metric.UDP_PACKETS, 1_000),))
    random = np.random.default_rng(30)
    starts = np.arange(10.0, minutes * 60, 30.0).tolist()
    times = np.concatenate([SHAPES["steady"](2_000, at, at + 5, random) for at in starts])
    attack = amplified(Order(VICTIM, times, random), "ntp")
    peace = minutes * 60 + 700.0
    heard = _heard(path, [attack, normal(VICTIM, 30, (0.0, peace), random)], zone)
    # Sequence numbers and clocks are those of the capture; the incident's life runs on the same clock.
    life = played(heard, zone, moment(BEGIN_NS + int((peace + 900) * 1e9)))
    note = f"{len(starts)} pulses in {minutes:g} min, {len(heard)} messages"
    for name, counts in (("announced", life.announced), ("withdrawn", life.withdrawn)):
        told = f"{note}; {len(counts)} different rules"
        yield Result.against(f"time_to_detect.pulses.{name}", counts.total(), "times", TARGET, 1, told)
    yield Result.against("time_to_detect.pulses.left", life.standing, "rules", TARGET, 0, "after it all")
