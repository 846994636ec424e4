"""Rates into records: what each component sends in a step, as entries that the sensor's kernel counts without bytes.

Packets come in small bunches, as senders' windows and interfaces make them: a component is silent until it has so many
to send. That is rougher than any even stream, and most steps touch few components.
"""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.day_events import SOURCES, Event
from lab.day_hosts import FLOATS, TEMPLATES, Components, Population, Template, address, rhythm
from lab.frames import Numbers
from sensors import walk
from sensors.compiled import kernel
from sensors.headers import HEADER, MAPPED
from sensors.tables import Tables

WORDS_OF = NDArray[np.uint64]
"""Entries as the kernel takes them (`sensors.walk.words`)."""
_OUTSIDE = 0xC6120000  # 198.18.0.0, the benchmarking network (RFC 2544)
_EPOCH = 10.0
"""How long a host's mood lasts, in seconds."""
_BUNCHES = {Template.DATA: 32, Template.QUIC: 16, Template.ESP: 16}
_BUNCH = 8
"""Packets of a kind that come at once at least."""


class Usual:
    """Everybody's usual traffic."""

    def __init__(self, people: Population, seed: int) -> None:
        self._people, self._random = people, np.random.default_rng([seed, 5])
        self._senders = _Senders(people.usual, self._random)
        self._mood = np.zeros(len(people.roles))
        self._until, self._means = -np.inf, np.zeros(0)

    def step(self, second: float, seconds: float, now: int) -> WORDS_OF:
        """What comes in so many seconds from that second of the day on, as entries at `now` (ns)."""
        if not self._until - _EPOCH <= second < self._until:
            self._until = (second // _EPOCH + 1) * _EPOCH
            self._means = self._rates(second)
        return self._senders.sent(self._means, seconds, now)

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
        self._times = np.array([(event.begin, event.end, event.growth) for event in events]).reshape(-1, 3)
        parts = np.array([SOURCES if event.is_attack else 1 for event in events], np.int64)
        self._of = np.repeat(np.arange(len(events)), parts)
        self._rates = np.array([event.rate for event in events]) / parts if len(events) else np.zeros(0)
        components = Components(
            np.array([event.host for event in events], np.int64)[self._of],
            np.array([TEMPLATES.index(event.template) for event in events], np.int64)[self._of],
            self._rates[self._of],
        )
        self._senders = _Senders(components, np.random.default_rng([seed, 6]))

    def step(self, second: float, seconds: float, now: int) -> WORDS_OF:
        """As `Usual.step`; an event counts for the part of the step in which it lasts."""
        begin, end, growth = self._times.T
        under_way = np.flatnonzero((begin < second + seconds) & (end > second))
        means = np.zeros(len(begin))
        lasting = np.minimum(end[under_way], second + seconds) - np.maximum(begin[under_way], second)
        grown = (1 + growth[under_way]) ** ((second - begin[under_way]).clip(0) / 60)
        means[under_way] = self._rates[under_way] * lasting * grown
        return self._senders.sent(means[self._of], 1.0, now)


class _Senders:
    """Components with what each has yet to send."""

    def __init__(self, components: Components, random: np.random.Generator) -> None:
        self._given = walk.words(entries(components, random))
        bunches = np.array([_BUNCHES.get(template, _BUNCH) for template in TEMPLATES], float)
        self._bunches = bunches[components.templates]
        self._due = self._bunches * random.random(len(self._bunches))
        self._out = np.zeros_like(self._given)

    def sent(self, means: FLOATS, seconds: float, now: int) -> WORDS_OF:
        """What goes out in a step with these mean rates; good until the next step."""
        found: WORDS_OF = self._out[: _sent(self._given, means, seconds, self._due, self._bunches, now, self._out)]
        return found


@kernel
def _sent(given, means, seconds, due, bunches, now, out):
    """Writes the entries of those that have a bunch together to `out`; how many."""
    many = 0
    for number in range(len(means)):
        due[number] += means[number] * seconds
        if due[number] >= bunches[number]:
            weight = np.uint64(due[number])
            due[number] -= np.float64(weight)
            for word in range(given.shape[1]):
                out[many, word] = given[number, word]
            out[many, 0], out[many, given.shape[1] - 1] = np.uint64(now), weight
            many += 1
    return many


def entries(components: Components, random: np.random.Generator) -> NDArray[Any]:
    """One entry for each component, from an address of its own, without weight and time."""
    count = len(components.hosts)
    out = np.zeros(count, HEADER)
    columns = np.array([template.value for template in TEMPLATES])[components.templates].T
    protocol, source_port, destination_port, flags, length, marks, fragment = columns
    ports: Numbers = random.integers(1024, 61_000, (2, count))
    ported = (protocol == 6) | (protocol == 17)
    out["source_low"] = MAPPED | _OUTSIDE + random.integers(1, 1 << 17, count)
    out["destination_low"] = MAPPED | address(components.hosts)
    out["source_port"] = np.where(ported, np.where(source_port, source_port, ports[0]), 0)
    out["destination_port"] = np.where(ported, np.where(destination_port, destination_port, ports[1]), 0)
    out["protocol"], out["tcp_flags"], out["length"] = protocol, flags, length
    out["marks"], out["fragment"], out["ttl"] = marks, fragment, 57
    out["icmp_type"] = np.where(protocol == 1, 8, 0)
    return out


def count(tables: Tables, given: WORDS_OF) -> None:
    """Into the sensor's tables."""
    if len(given):
        walk.tallies(*tables.arrays, given, 0, walk.NEVER)
