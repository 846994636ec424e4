"""Rates into records: what each component sends in a step, as entries that the sensor's kernel counts without bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.day_events import SOURCES, Event
from lab.day_hosts import FLOATS, TEMPLATES, Components, Population, address, rhythm
from lab.frames import Numbers
from sensors import walk
from sensors.headers import HEADER, MAPPED, WORDS
from sensors.tables import Tables

ENTRIES = NDArray[Any]
_OUTSIDE = 0xC6120000  # 198.18.0.0, the benchmarking network (RFC 2544)
_EPOCH = 10.0
"""How long a host's mood lasts, in seconds."""


class Usual:
    """Everybody's usual traffic."""

    def __init__(self, people: Population, seed: int) -> None:
        self._people, self._random = people, np.random.default_rng([seed, 5])
        self._entries = entries(people.usual, self._random)
        self._mood = np.zeros(len(people.roles))
        self._until, self._means = -np.inf, np.zeros(0)

    def step(self, second: float, seconds: float, now: int) -> ENTRIES:
        """What comes in so many seconds from that second of the day on, as entries at `now` (ns)."""
        if not self._until - _EPOCH <= second < self._until:
            self._until = (second // _EPOCH + 1) * _EPOCH
            self._means = self._rates(second)
        return _weighed(self._entries, self._means * seconds, now, self._random)

    def _rates(self, second: float) -> FLOATS:
        usual, random = self._people.usual, self._random
        # Neighbouring moods are alike: half of one is gone after a minute and a half. Players and lines are limited in
        # number, so moods have an end; what goes far beyond them is an event and has a name.
        self._mood = 0.93 * self._mood + random.normal(0, 0.45 * (1 - 0.93**2) ** 0.5, len(self._mood))
        share = rhythm(second / 3600 % 24)[self._people.roles] * np.exp(self._mood.clip(-1.5, 0.9) - 0.1)
        rates: FLOATS = usual.rates * share[usual.hosts]
        return rates


class Extra:
    """What events add."""

    def __init__(self, events: Sequence[Event], seed: int) -> None:
        self._random = np.random.default_rng([seed, 6])
        self._times = np.array([(event.begin, event.end, event.growth) for event in events]).reshape(-1, 3)
        parts = np.array([SOURCES if event.is_attack else 1 for event in events], np.int64)
        self._of = np.repeat(np.arange(len(events)), parts)
        self._rates = np.array([event.rate for event in events]) / parts if len(events) else np.zeros(0)
        components = Components(
            np.array([events[at].host for at in self._of.tolist()], np.int64),
            np.array([TEMPLATES.index(events[at].template) for at in self._of.tolist()], np.int64),
            self._rates[self._of],
        )
        self._entries = entries(components, self._random)

    def step(self, second: float, seconds: float, now: int) -> ENTRIES:
        """As `Usual.step`; an event counts for the part of the step in which it lasts."""
        begin, end, growth = self._times.T
        lasting = np.minimum(end, second + seconds) - np.maximum(begin, second)
        under_way = lasting > 0
        if not under_way.any():
            return self._entries[:0]
        rates = np.where(under_way, self._rates * lasting * (1 + growth) ** ((second - begin).clip(0) / 60), 0)
        chosen = under_way[self._of]
        return _weighed(self._entries[chosen], rates[self._of[chosen]], now, self._random)


def entries(components: Components, random: np.random.Generator) -> ENTRIES:
    """One entry for each component, from an address of its own, without weight and time."""
    count = len(components.hosts)
    out = np.zeros(count, HEADER)
    columns = np.array([template.value for template in TEMPLATES])[components.templates].T
    protocol, source_port, destination_port, flags, length, marks, fragment = columns
    ports: Numbers = random.integers(1024, 61_000, (2, count))
    ported = (protocol == 6) | (protocol == 17)
    out["source_low"] = MAPPED | _OUTSIDE + random.integers(1, 1 << 17, count)
    out["destination_low"] = [MAPPED | address(host) for host in components.hosts.tolist()]
    out["source_port"] = np.where(ported, np.where(source_port, source_port, ports[0]), 0)
    out["destination_port"] = np.where(ported, np.where(destination_port, destination_port, ports[1]), 0)
    out["protocol"], out["tcp_flags"], out["length"] = protocol, flags, length
    out["marks"], out["fragment"], out["ttl"] = marks, fragment, 57
    out["icmp_type"] = np.where(protocol == 1, 8, 0)
    return out


def _weighed(given: ENTRIES, means: FLOATS, now: int, random: np.random.Generator) -> ENTRIES:
    weights = np.floor(means + random.random(len(means)))
    out = given[weights > 0]
    out["weight"], out["time"] = weights[weights > 0], now
    return out


def count(tables: Tables, given: ENTRIES) -> None:
    """Into the sensor's tables."""
    words = np.ascontiguousarray(given).view(np.uint64).reshape(-1, WORDS)
    if len(words):
        walk.tallies(*tables.arrays, words, 0, walk.NEVER)
