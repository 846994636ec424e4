"""Packets of the lab's attacks and of its normal traffic, as the kernel remembers them."""

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


def drawn(of: ANY, count: int, random: np.random.Generator) -> ANY:
    """So many of them by chance, in their order."""
    return of[np.sort(random.choice(len(of), count, replace=count > len(of)))]
