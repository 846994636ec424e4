"""What an attack stream of a scenario is to look like beyond its vector: when, where to, from whom, how regular. Pure.

Everything is drawn from one generator, so that a seed fixes every byte.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lab.frames import Numbers
from lab.packets import MAPPED, Packets, blank, drawn
from lab.traffic import ANYWHERE
from rules.match import Family, Network


class Spread(Enum):
    """How many sources."""

    SINGLE = "single"
    FEW = "few"
    BOTNET = "botnet"
    """Some thousand real machines, each with its own distance and sending rate."""
    SPOOFED = "spoofed"
    """Another one for each packet, though all come the same way."""


_NETWORKS = 60
_AT_HOME = 0.6


def outside(family: Family, count: int, random: np.random.Generator) -> NDArray[np.uint64]:
    """Addresses of real machines, be they visitors or bots: most in the networks of a few large access providers, the
    same ones in all scenarios, so that a prefix alone tells nobody apart."""
    out = drawn(ANYWHERE[family], count, random)
    shares = 1 / np.arange(1, _NETWORKS + 1)
    chosen = random.choice(_NETWORKS, count, p=shares / shares.sum())
    # Providers lie at even distances in what is routed: a /16 each, or a /32.
    home = random.random(count) < _AT_HOME
    if family is Family.IPV4:
        base = int(ANYWHERE[family].network_address) + (1 << 29) // _NETWORKS * chosen & ~0xFFFF
        low = base.astype(np.uint64) | out[:, 1] & np.uint64(0xFFFF)
        out[home, 1] = (np.uint64(MAPPED) | low)[home]
    else:
        base = (int(ANYWHERE[family].network_address) >> 96) + (1 << 20) // _NETWORKS * chosen
        high = base.astype(np.uint64) << np.uint64(32) | out[:, 0] & np.uint64(0xFFFFFFFF)
        out[home, 0] = high[home]
    return out


@dataclass(frozen=True, slots=True)
class Order:
    """One stream that is to be made."""

    target: Network
    """One host, or a prefix whose hosts are all hit."""
    times: Numbers
    """When each packet comes, ns since the scenario began."""
    random: np.random.Generator
    spread: Spread = Spread.SPOOFED
    label: int = 0
    hosts: int = 0
    """Of a prefix: hit only so many of its hosts; 0: any of them."""

    @property
    def count(self) -> int:
        """Packets."""
        return len(self.times)

    @property
    def family(self) -> Family:
        """Of the target."""
        return Family.of(self.target)

    def draw(self, low: int, high: int) -> int:
        """One number for the whole stream, from `low` to below `high`."""
        return int(self.random.integers(low, high))

    def pick(self, *choices: int) -> int:
        """One of these for the whole stream."""
        return int(self.random.choice(choices))

    def chance(self, share: float) -> bool:
        """True in so many of the streams."""
        return bool(self.random.random() < share)

    def each(self, low: int, high: int) -> Numbers:
        """A number for each packet, from `low` to below `high`."""
        return self.random.integers(low, high, self.count)

    def ports(self) -> Numbers | int:
        """Source ports as tools make them: all of them, those of clients, or one."""
        ways = (self.each(0, 65536), self.each(1024, 65536), self.each(32768, 61000), self.draw(1024, 65536))
        return ways[self.draw(0, 4)]

    def rows(self, protocol: int, sources: int | None = None) -> Packets:
        """Rows with times, addresses, hop limits and identifications; `sources` overrides the spread's number."""
        out = blank(self.count, self.label)
        out["time"], out["protocol"] = self.times, protocol
        out["datagram"] = self.each(0, 65536)
        known = drawn(self.target, self.hosts, self.random) if self.hosts else None
        destinations = drawn(self.target, self.count, self.random)
        out["destination"] = destinations if known is None else known[self.each(0, self.hosts)]
        out["source"], out["ttl"] = self._sources(sources)
        return out

    def _sources(self, count: int | None) -> tuple[NDArray[np.uint64], Numbers]:
        many = {Spread.SINGLE: 1, Spread.FEW: self.draw(3, 12), Spread.BOTNET: self.draw(800, 4000)}
        pool = many.get(self.spread) if count is None else count
        if pool is None:
            # One machine behind it all sends them: its hop limit, or one drawn for each packet.
            ttls = self.each(30, 250) if self.chance(0.3) else np.full(self.count, self.pick(49, 54, 117, 243))
            return drawn(ANYWHERE[self.family], self.count, self.random), ttls
        known = outside(self.family, pool, self.random)
        # Machines differ in what they can send.
        shares = self.random.pareto(1.5, pool) + 0.2
        chosen = self.random.choice(pool, self.count, p=shares / shares.sum())
        initial = self.random.choice((64, 128, 255), pool, p=(0.6, 0.3, 0.1))
        return known[chosen], (initial - self.random.integers(6, 22, pool))[chosen]


def even(rate: float, begin: float, end: float, random: np.random.Generator) -> Numbers:
    """Times of a steady stream from `begin` to `end` (s) at `rate` packets a second, a little irregular."""
    count = max(1, int(rate * (end - begin)))
    places = (np.arange(count) + random.random(count)) / count
    return ((begin + places * (end - begin)) * 1e9).astype(np.int64)
