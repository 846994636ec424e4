"""Generated mixes of attacks and normal traffic as remembered packets, each with what is true about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lab.benign import benign
from lab.frames import Frames, write_pcap
from lab.traffic import attack, kinds
from rules.match import Network
from rules.traffic import Vector
from sensors import tables, walk
from sensors.pcapfile import open_capture
from sensors.tables import ANY

TARGET = ip_network("203.0.113.7/32")
POOL = 6_000


@dataclass(frozen=True, slots=True)
class Mix:
    """What a sensor would look at."""

    sample: ANY
    normal: ANY
    """What the target got before; may be empty."""
    severity: float
    by_bytes: bool
    truth: Vector | None
    """The vector that makes most of what counts; None: normal traffic that surges."""


def remembered(frames: Frames, pps: float = 20_000) -> ANY:
    """Frames as the kernel remembers them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "frames.pcap"
        write_pcap(path, frames.paced(pps))
        into = tables.make(rows=1024, ring=1 << 15, normal=64)
        source = open_capture(path)
        source.feed(into, walk.NEVER)
        source.close()
    return into.since(0).copy()


@cache
def pool(vector: Vector | None, target: Network = TARGET, seed: int = 1) -> ANY:
    """Packets of one vector, or normal ones."""
    frames = benign(target, 2 * POOL, seed) if vector is None else attack(vector, target, POOL, seed)
    return remembered(frames)


def vectors() -> list[Vector]:
    """What mixes are made of: everything of IPv4 towards one host."""
    return [vector for vector in kinds() if vector.kind not in ("carpet_bombing", "icmpv6_flood")]


def mixes(count: int, seed: int) -> Iterator[Mix]:
    """Three quarters attacks, of one vector or two, over normal traffic; one quarter surges of normal traffic."""
    random = np.random.default_rng(seed)
    known = vectors()
    for _ in range(count):
        size = int(np.exp(random.uniform(np.log(40), np.log(3_000))))
        usual = _drawn(pool(None)[:POOL], int(random.integers(30, 800)) if random.random() < 0.8 else 0, random)
        if random.random() < 0.25:
            severity = float(np.exp(random.uniform(0.05, np.log(4))))
            yield Mix(_drawn(pool(None)[POOL:], size, random), usual, severity, False, None)
            continue
        yield _attack(known, size, usual, random)


def _attack(known: list[Vector], size: int, usual: ANY, random: np.random.Generator) -> Mix:
    severity = float(np.exp(random.uniform(np.log(1.3), np.log(30))))
    one, other = (known[at] for at in random.choice(len(known), 2, replace=False))
    share = random.uniform(0.5, 1.0) if random.random() < 0.6 else 1.0
    foreign = 1 - random.uniform(0.1, 0.9) / severity
    amounts = random.multinomial(size, [foreign * share, foreign * (1 - share), 1 - foreign])
    pools = (pool(one), pool(other), pool(None)[POOL:])
    sample = np.concatenate([_drawn(of, int(amount), random) for of, amount in zip(pools, amounts, strict=True)])
    by_bytes = bool(random.random() < 0.3)
    weights = [part * (float(of["length"].mean()) if by_bytes else 1.0) for part, of in
               ((share, pools[0]), (1 - share, pools[1]))]  # fmt: skip
    return Mix(sample, usual, severity, by_bytes, one if weights[0] >= weights[1] else other)


def _drawn(of: ANY, count: int, random: np.random.Generator) -> ANY:
    return of[np.sort(random.choice(len(of), count, replace=count > len(of)))]
