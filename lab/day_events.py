"""What happens to hosts in a simulated day: the peaks of ordinary life, and attacks. Each has a name, so that a false
alarm can be traced to its cause. Pure, from a seed.

Speeds are those of access lines up to 500 Mbit/s: full-size TCP at that speed is 43,000 packets/s, below the default
limits of 100,000 packets/s and 1 Gbit/s. A network with faster lines needs higher limits.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from lab.day_hosts import PER_NETWORK, TEMPLATES, Population, Role, Template, lengths

HOUR, DAY = 3600.0, 86_400.0
SOURCES = 64
"""From how many addresses an attack comes."""


@dataclass(frozen=True, slots=True)
class Event:
    """More packets of one kind for one host, for a while."""

    cause: str
    host: int
    begin: float
    """Seconds of the day."""
    end: float
    template: Template
    rate: float
    """Packets per second, at the beginning."""
    is_attack: bool = False
    growth: float = 0.0
    """Per minute: 0.01 is a percent."""


class _Calendar:
    """Draws hosts, moments and lengths."""

    def __init__(self, people: Population, seed: int) -> None:
        self.people, self.random = people, np.random.default_rng([seed, 2])

    def times(self, role: Role, per_day: float) -> Iterator[tuple[int, float]]:
        """Host and moment of something that happens to each host of a role so often a day, most of it by day."""
        hosts = self.people.of(role)
        for host in self.random.choice(hosts, self.random.poisson(per_day * len(hosts))) if len(hosts) else ():
            yield int(host), float(self.random.normal(17, 4.5) % 24 * HOUR)

    def between(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def line_rate(self, host: int, template: Template, most: float = 500e6) -> float:
        """Packets of that kind that fill a host's line, or so many bit/s."""
        return float(min(self.people.lines[host], most)) / 8 / float(lengths()[TEMPLATES.index(template)])


def ordinary(people: Population, seed: int) -> list[Event]:
    """A day without attacks; moments within 24 hours."""
    make = _Calendar(people, seed)
    own = [*_of_subscribers(make), *_releases(make)]
    return [*_within_lines(own, people), *_of_servers(make), *_of_everybody(make)]


def _of_subscribers(make: _Calendar) -> Iterator[Event]:
    for host, at in make.times(Role.SUBSCRIBER, 0.03):
        yield Event("speed test", host, at, at + 15, Template.DATA, make.line_rate(host, Template.DATA))
        # The second half sends: an acknowledgement for every second packet comes back.
        rate = make.line_rate(host, Template.DATA) / 2
        yield Event("speed test, sending", host, at + 15, at + 30, Template.ACKS, rate)
    for host, at in make.times(Role.SUBSCRIBER, 0.3):
        rate = make.line_rate(host, Template.DATA) * make.between(0.3, 0.95)
        yield Event("download", host, at, at + make.between(10, 600), Template.DATA, rate)
    for host, at in make.times(Role.SUBSCRIBER, 0.3):
        # Senders of QUIC pace themselves, and receivers' windows hold them back on fast lines.
        rate = make.line_rate(host, Template.QUIC, 150e6) * make.between(0.3, 1)
        yield Event("download over QUIC", host, at, at + make.between(3, 120), Template.QUIC, rate)
    for host, at in make.times(Role.SUBSCRIBER, 0.1):
        rate = make.line_rate(host, Template.DATA) / 2 * make.between(0.2, 0.9)
        yield Event("upload", host, at, at + make.between(10, 300), Template.ACKS, rate)
    for host, at in make.times(Role.SUBSCRIBER, 0.05):
        yield Event("video call", host, at, at + make.between(300, 3600), Template.MEDIA, make.between(150, 800))


def _within_lines(events: Iterable[Event], people: Population) -> Iterator[Event]:
    """No subscriber gets more at a time than the line carries, nor sends more: who comes later takes what is left."""
    taken: dict[tuple[int, bool], list[tuple[Event, float]]] = defaultdict(list)
    for event in sorted(events, key=lambda one: one.begin):
        # An acknowledgement stands for two packets of the other direction.
        sends = event.template is Template.ACKS
        length = 2 * Template.DATA.value[4] if sends else event.template.value[4]
        others = taken[event.host, sends]
        used = sum(bits for other, bits in others if other.end > event.begin)
        rate = min(event.rate, (float(people.lines[event.host]) - used) / 8 / length)
        if rate > 0:
            others.append((event, rate * 8 * length))
            yield replace(event, rate=rate)


def _releases(make: _Calendar) -> Iterator[Event]:
    """At 19:00 a game comes out: three in a hundred subscribers download it as fast as they can, which doubles the
    network's evening peak."""
    hosts = make.people.of(Role.SUBSCRIBER)
    for host in hosts[make.random.random(len(hosts)) < 0.03].tolist():
        begin = 19 * HOUR + float(make.random.exponential(1800))
        rate = make.line_rate(host, Template.DATA) * make.between(0.6, 0.95)
        seconds = min(60e9 * 8 / (rate * 8 * 1460), 2 * HOUR)
        yield Event("game release", host, begin, min(begin + seconds, DAY), Template.DATA, rate)


def _of_servers(make: _Calendar) -> Iterator[Event]:
    usual = make.people.usual
    for role, name in ((Role.WEB, "flash crowd"), (Role.GAME, "tournament")):
        for host, at in make.times(role, 0.05):
            until = at + make.between(600, 3600)
            for number in np.flatnonzero(usual.hosts == host).tolist():
                # Four times more makes it five times the usual.
                template, rate = TEMPLATES[usual.templates[number]], float(usual.rates[number]) * 4
                yield Event(name, host, at, until, template, rate)
    for host in make.people.of(Role.WEB)[::4].tolist():
        begin = make.between(1, 4) * HOUR
        rate = make.between(50e6, 450e6) / 8 / 1460
        yield Event("backup", host, begin, begin + make.between(300, 2400), Template.DATA, rate)
    for host, at in make.times(Role.WEB, 0.05):
        yield Event("restart: refused connections", host, at, at + make.between(1, 5), Template.RST, 1_500)
        yield Event("restart: reconnections", host, at, at + make.between(1, 5), Template.SYN, 1_500)
    for host, at in make.times(Role.RESOLVER, 0.5):
        yield Event("cold cache", host, at, at + 60, Template.DNS, 1_500)
    for host, at in make.times(Role.GATEWAY, 0.3):
        rate = make.between(20e6, 180e6) / 8 / 1400
        yield Event("bulk through a tunnel", host, at, at + make.between(30, 1200), Template.ESP, rate)
    for host, at in make.times(Role.CONFERENCE, 0.5):
        yield Event("webinar", host, at, at + make.between(1200, 5400), Template.MEDIA, make.between(500, 6_000))


def _of_everybody(make: _Calendar) -> Iterator[Event]:
    count = len(make.people.roles)
    for _ in range(1 + count // 100):
        host, at = int(make.random.integers(count)), make.between(0, DAY - 60)
        yield Event("port scan", host, at, at + make.between(5, 60), Template.SYN, make.between(100, 1_500))
    for host in make.random.choice(count, 1 + count // 200, replace=False).tolist():
        at = make.between(0, DAY - 60)
        yield Event("ping of a monitor gone wild", host, at, at + 30, Template.PING, make.between(50, 500))
    for _ in range(6):
        # A scan of the whole network reaches everybody for a few seconds.
        at, first = make.between(0, DAY - 60), int(make.random.integers(max(1, count // PER_NETWORK)))
        for host in range(first * PER_NETWORK, min(count, (first + 1) * PER_NETWORK)):
            yield Event("sweep", host, at, at + 5, Template.SYN, 20)


def attacks(people: Population, seed: int) -> list[Event]:
    """Attacks below every static limit, each on a host of its own, and one above from the very start."""
    random = np.random.default_rng([seed, 3])
    usual = np.bincount(people.usual.hosts, people.usual.rates, len(people.roles))
    quiet = random.permutation(people.of(Role.SUBSCRIBER)[usual[people.of(Role.SUBSCRIBER)] < 300])
    web = people.of(Role.WEB)
    busy = web[np.argsort(-usual[web])]
    hosts = iter(quiet.tolist())
    steps = (
        ("SYN flood", Template.SYN, 9_000), ("UDP flood", Template.FLOOD, 25_000), ("ping flood", Template.PING, 3_000),
        ("fragments", Template.FRAGMENT, 4_000), ("amplification", Template.AMPLIFIED, 8_000),
        ("odd flags", Template.ODD_TCP, 2_000), ("SYN-ACK reflection", Template.SYN_ACK, 9_000),
    )  # fmt: skip
    out = []
    for hour in (4.5, 13.2, 20.4):
        for name, template, rate in steps:
            begin = hour * HOUR + float(random.uniform(0, 900))
            out.append(Event(f"step: {name}", next(hosts), begin, begin + 60, template, rate, is_attack=True))
    out += [
        Event("slow ramp", next(hosts), 2 * HOUR, 14 * HOUR, Template.FLOOD, 100, is_attack=True, growth=0.01),
        Event("in the daily peak", int(busy[0]), 14 * HOUR, 14 * HOUR + 120, Template.SYN, 9_000, is_attack=True),
        Event("in the evening", int(busy[1]), 20 * HOUR, 20 * HOUR + 120, Template.SYN, 9_000, is_attack=True),
        Event("no history", len(people.roles), 9 * HOUR, 9 * HOUR + 60, Template.SYN, 9_000, is_attack=True),
        Event("from the start, above a limit", next(hosts), 0, HOUR, Template.SYN, 15_000, is_attack=True),
    ]
    return out


def bursts(people: Population, second: float, seed: int, share: float = 0.05) -> list[Event]:
    """Within one second: pieces of video and pages at the speed of the line, some megabytes each, and some herds of
    connections."""
    random = np.random.default_rng([seed, int(second), 4])
    out = []
    for host in people.of(Role.SUBSCRIBER)[random.random((people.roles == 0).sum()) < share].tolist():
        quick = random.random() < 0.4
        template = Template.QUIC if quick else Template.DATA
        speed = min(float(people.lines[host]), 250e6 if quick else 500e6)
        size = min(1.5e6 * float(random.lognormal(0, 0.8)), 8e6)
        begin = second + float(random.uniform(0, 0.6))
        rate = speed / 8 / float(lengths()[TEMPLATES.index(template)])
        name = "video burst over QUIC" if quick else "video burst"
        out.append(Event(name, host, begin, begin + min(size * 8 / speed, 0.4), template, rate))
    for host in people.of(Role.WEB)[random.random((people.roles == 1).sum()) < share / 10].tolist():
        begin = second + float(random.uniform(0, 0.6))
        out.append(Event("herd", host, begin, begin + 0.1, Template.SYN, float(random.uniform(500, 2_500))))
    return out
