"""Generated mixes that are hard to judge, each with what is true about it: attacks that barely cross a limit, two
vectors of nearly the same size, attacks that look like the target's own service, flash crowds, sampled streams, a few
dozen packets.

Pools of packets come from the lab's scenarios, another variant of each family and service for each batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mixes import TARGET, drawn
from numpy.typing import NDArray

from lab.packets import Packets, capture, inside
from lab.responses import RESPONSES
from lab.scenario_floods import MAKERS, amplified
from lab.scenario_normal import EVERYDAY, SERVICES, normal, served
from lab.scenario_order import Order, Spread, even
from lab.scenario_sessions import MAKERS as SESSIONS
from rules.match import Network
from rules.traffic import Vector
from rules.zone import Metric
from sensors import tables, walk
from sensors.classify import METRIC_KINDS
from sensors.harm import FEWEST
from sensors.headers import COLUMNS, MAPPED, Kind
from sensors.pcapfile import open_capture
from sensors.tables import ANY

Random = np.random.Generator
FAMILIES = (*(f"udp_amp:{service}" for service in RESPONSES), *MAKERS, *sorted(set(SESSIONS) - {"http_slow"}))
_POOL = 4_000
_OWN_LIMITS = {
    Kind.SYN: Metric.SYN_PACKETS,
    Kind.UDP: Metric.UDP_PACKETS,
    Kind.AMPLIFICATION: Metric.AMPLIFICATION_PACKETS,
    Kind.ICMP: Metric.ICMP_PACKETS,
    Kind.FRAGMENT: Metric.FRAGMENT_PACKETS,
}


@dataclass(frozen=True, slots=True)
class Mix:
    """What a sensor would look at."""

    situation: str
    sample: ANY
    normal: ANY
    """What the target got before; may be empty."""
    severity: float
    by_bytes: bool
    first: frozenset[Kind]
    """The kinds whose own limit is crossed; empty: a limit on everything."""
    background: NDArray[np.float64] | None
    """For each kind the share that comes anyway, where that is known."""
    truth: Vector | None
    """The vector that makes most of what counts; None: normal traffic that surges."""


def _remembered(rows: Packets, target: Network = TARGET) -> ANY:
    """What of these rows goes to the target, as the kernel remembers it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.pcap"
        capture(path, rows[inside(rows, target)])
        into = tables.make(rows=1024, ring=1 << 15, normal=64)
        source = open_capture(path)
        source.feed(into, walk.NEVER)
        source.close()
    return into.since(0).copy()


@cache
def _attack(family: str, variant: int) -> ANY:
    random = np.random.default_rng([variant, *family.encode()])
    kind, _, service = family.partition(":")
    spread = list(Spread)[int(random.choice(4, p=(0.08, 0.12, 0.35, 0.45)))]
    order = Order(TARGET, even(_POOL, 0.0, 1.0, random), random, spread)
    if service:
        return _remembered(amplified(order, service))
    rows = SESSIONS[kind](order) if kind in SESSIONS else MAKERS[kind](order)
    return _remembered(rows[np.argsort(rows["time"], kind="stable")])


@cache
def _usual(variant: int) -> ANY:
    rows = normal(TARGET, _POOL, (0.0, 3.0), np.random.default_rng([variant, 1]))
    return _remembered(rows[np.argsort(rows["time"], kind="stable")])


@cache
def crowd(service: str, variant: int, target: Network = TARGET) -> ANY:
    """What visitors of one service send."""
    rows = served(SERVICES[service], target, _POOL, (0.0, 1.0), np.random.default_rng([variant, *service.encode()]))
    return _remembered(rows[np.argsort(rows["time"], kind="stable")], target)


def _imitation(variant: int, random: Random) -> tuple[ANY, Vector]:
    """Packets of the target's own service, from forged sources or from a few: an attack, though each looks normal."""
    entries = _usual(variant)
    kind = Kind.ACK if random.random() < 0.5 and (entries["kind"] == Kind.ACK).sum() > 100 else Kind.UDP
    own = entries[entries["kind"] == kind]
    if len(own) < 100:
        return _imitation(variant + 1, random)
    own = drawn(own, _POOL, random)
    count = len(own) if random.random() < 0.7 else int(random.integers(2, 30))
    sources = random.integers(0x01000000, 0xDF000000, count).astype(np.uint64) | np.uint64(MAPPED)
    own["source_low"] = sources[random.integers(0, count, len(own))]
    return own, Vector("ack_flood" if kind == Kind.ACK else "udp_flood")


def hard_mixes(count: int, seed: int, variants: int = 3) -> Iterator[Mix]:
    """Mixes of `variants` pools of each kind that no other seed has."""
    random = np.random.default_rng(seed)
    ways = {"plain": 0.3, "near the limit": 0.2, "two alike": 0.1, "two": 0.1, "imitation": 0.1, "surge": 0.2}
    for situation in random.choice([*ways], count, p=[*ways.values()]).tolist():
        yield _mix(situation, seed * 100 + int(random.integers(variants)), random)


def _mix(situation: str, variant: int, random: Random) -> Mix:
    severity, usual = _strength(situation, random)
    size = int(np.exp(random.uniform(np.log(40), np.log(3_000))))
    ordinary = _usual(variant)
    before, during = ordinary[: len(ordinary) // 2], ordinary[len(ordinary) // 2 :]
    parts, truth = _foreign(situation, variant, during, random)
    by_bytes = bool(random.random() < 0.3)
    first = _own_limit(parts[0][0], random) if not by_bytes else frozenset[Kind]()
    foreign = size * (1 - usual / severity)
    chosen = [_run(pool, round(foreign * share), random) for pool, share in parts]
    sample = np.concatenate([*chosen, _run(during, round(size * usual / severity), random)])
    if truth is None or len(chosen) == 1:
        heaviest = 0
    else:
        heaviest = int(np.argmax([part["length"].sum() if by_bytes else len(part) for part in chosen]))
    if first:
        sample, heaviest = sample[np.isin(sample["kind"], [*first])], 0
    if random.random() < 0.2:
        sample = _sampled(sample, random)
    if len(sample) < 20:
        return _mix(situation, variant, random)
    known = int(np.exp(random.uniform(np.log(FEWEST), np.log(800)))) if random.random() < 0.8 else 0
    background = _background(sample, during, usual / severity * size, random) if random.random() < 0.8 else None
    vector = None if truth is None else truth[heaviest]
    return Mix(situation, sample, drawn(before, known, random), severity, by_bytes, first, background, vector)


def _strength(situation: str, random: Random) -> tuple[float, float]:
    """Times the limit that the whole makes, and that normal traffic makes alone."""
    usual = float(random.uniform(0.05, 0.7))
    if situation == "near the limit":
        return float(random.uniform(1.0, 1.4)), float(random.uniform(0.3, 0.95))
    if situation == "surge":
        return float(np.exp(random.uniform(0.0, np.log(5)))), usual
    return float(np.exp(random.uniform(np.log(1.2), np.log(20)))), usual


def _foreign(
    situation: str, variant: int, during: ANY, random: Random
) -> tuple[list[tuple[ANY, float]], list[Vector] | None]:
    """What comes besides normal traffic, with shares, and its vectors; None: more of the normal."""
    if situation == "surge":
        # A crowd comes for one service, or everybody does more of everything.
        service = str(random.choice([*SERVICES] if random.random() < 0.5 else EVERYDAY))
        pool = during if random.random() < 0.3 else crowd(service, variant)
        return [(pool if len(pool) else during, 1.0)], None
    if situation == "imitation":
        pool, vector = _imitation(variant, random)
        return [(pool, 1.0)], [vector]
    one, other = random.choice(FAMILIES, 2, replace=False).tolist()
    share = {"two alike": random.uniform(0.5, 0.58), "two": random.uniform(0.5, 1.0)}.get(situation, 1.0)
    chosen = [(one, share)] if share == 1.0 else [(one, share), (other, 1 - share)]
    return [(_attack(name, variant), part) for name, part in chosen], [_vector(name) for name, _ in chosen]


def _vector(family: str) -> Vector:
    kind, _, service = family.partition(":")
    return Vector(kind, service or None)


def _own_limit(pool: ANY, random: Random) -> frozenset[Kind]:
    """What the limit on the pool's kind of packets counts, where there is one and it is that which is crossed."""
    kind = Kind(int(np.bincount(pool["kind"]).argmax()))
    return METRIC_KINDS[_OWN_LIMITS[kind]] if kind in _OWN_LIMITS and random.random() < 0.5 else frozenset()


def _run(pool: ANY, count: int, random: Random) -> ANY:
    """Packets that came one after the other, so that connections are whole."""
    begin = int(random.integers(0, max(1, len(pool) - count)))
    return pool[begin : begin + count] if count <= len(pool) else drawn(pool, count, random)


def _sampled(sample: ANY, random: Random) -> ANY:
    """One packet in so many."""
    kept = sample[np.sort(random.choice(len(sample), min(len(sample), int(random.integers(30, 300))), replace=False))]
    kept["weight"] = random.integers(50, 2_000)
    return kept


def _background(sample: ANY, during: ANY, amount: float, random: Random) -> NDArray[np.float64]:
    """What the averages would say that comes anyway, about as right as they are."""
    usual = np.bincount(during["kind"], minlength=COLUMNS)[:COLUMNS] / len(during) * amount * random.uniform(0.7, 1.3)
    now = np.bincount(sample["kind"], minlength=COLUMNS)[:COLUMNS]
    out: NDArray[np.float64] = np.minimum(1.0, usual / np.maximum(now, 1)) * (now > 0)
    return out
