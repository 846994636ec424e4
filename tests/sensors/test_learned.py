"""What a whole sensor learns: through counters, rows and zones, over simulated days."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors import walk
from sensors.attack import Attack
from sensors.baseline_keeper import Keeper
from sensors.baseline_limits import Learning
from sensors.engine import Engine
from sensors.headers import HEADER, Column
from sensors.learned import frozen
from sensors.settings import Memory
from sensors.tables import PARENT, key

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = 3_600.0
SYN, UDP, BULK = (6, 2, 60), (17, 0, 400), (6, 16, 1_400)
"""Protocol, TCP flags and length."""
Rates = dict[str, dict[tuple[int, int, int], float]]
HERE, THERE = Zone("here", (ip_network("198.51.100.0/24"),)), Zone("there", (ip_network("203.0.113.0/24"),))
SIX = Zone("six", (ip_network("2001:db8::/32"),))
CALM: Rates = {f"198.51.100.{number}": {SYN: 10.0, UDP: 50.0, BULK: 400.0} for number in range(1, 31)}

CALM_SIX: Rates = {f"2001:db8:{number}::7": {SYN: 10.0, UDP: 50.0} for number in range(1, 26)}


class Network:
    """A sensor with counters that are filled at given rates, on a simulated clock."""

    def __init__(self, *zones: Zone) -> None:
        self.heard: list[tuple[float, Detection]] = []
        self.engine = Engine(zones, self._hear, memory=Memory(1_024, 1_024, 1_024), learning=Learning())
        self.second, self.when = 0.0, MONDAY
        assert self.engine.learned
        self.learned = self.engine.learned
        self.engine.start(0)

    def _hear(self, detection: Detection, attack: Attack) -> None:
        if detection.state is State.STARTED:
            self.heard.append((self.second, detection))

    def play(self, seconds: float, rates: Rates, step: float = 1.0) -> None:
        """So long at these packets per second, by address and kind; from a few sources each."""
        kinds = [(to, kind, rate) for to, given in rates.items() for kind, rate in given.items()]
        entries = np.zeros(len(kinds), HEADER)
        for number, (to, (protocol, flags, length), rate) in enumerate(kinds):
            high, low = key(ip_network(to))
            source_high, source_low = key(ip_network("2001:db9::1" if ":" in to else "192.0.2.1"))
            entries[number]["destination_high"], entries[number]["destination_low"] = high, low
            entries[number]["source_high"], entries[number]["source_low"] = source_high, source_low + number
            entries[number]["protocol"], entries[number]["tcp_flags"] = protocol, flags
            entries[number]["length"], entries[number]["weight"] = length, round(rate * step)
            entries[number]["destination_port"], entries[number]["source_port"] = 443, 2_000 + number
        for _ in range(round(seconds / step)):
            self.second += step
            self.when += timedelta(seconds=step)
            entries["time"] = self.now
            walk.tallies(*self.engine.tables.arrays, walk.words(entries), 0, walk.NEVER)
            self.engine.tick(self.now, self.when)

    def write(self, directory: Path) -> None:
        """As a sensor that ends."""
        keeper = Keeper(directory, 300)
        keeper.turn(self.learned, 0.0)
        keeper.stop(self.learned)

    def read(self, directory: Path) -> "Network":
        """As a sensor that begins; some seconds later it knows whom it sees."""
        Keeper(directory, 300).turn(self.learned, 0.0)
        self.when = MONDAY + timedelta(hours=30)
        self.play(20, CALM | CALM_SIX)
        return self

    @property
    def now(self) -> int:
        return round(self.second * 1e9)

    def targets(self, since: float = 0.0) -> list[str]:
        """What was found under attack."""
        return [str(detection.target) for second, detection in self.heard if second >= since]

    def row(self, address: str) -> int:
        rows = self.engine.tables.rows[: self.engine.tables.used]
        return next(row for row in range(len(rows)) if str(self.engine.tables.host(row)).split("/")[0] == address)

    def limit(self, address: str, metric: Metric = Metric.SYN_PACKETS) -> float:
        found = self.learned.limits(np.array([self.row(address)]), self.when)
        return float(found[0, list(Metric).index(metric)])


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a sensor wrote down after thirty calm hours."""
    network = Network(HERE, SIX)
    network.play(30 * HOUR, CALM | CALM_SIX, step=300)
    assert not network.heard
    directory = tmp_path_factory.mktemp("learned")
    network.write(directory)
    return directory


@pytest.mark.parametrize("zones", [(THERE, HERE), (HERE, THERE), (HERE,), (THERE,)])
def test_other_zones_teach_no_wild_rates(zones: tuple[Zone, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(HERE)
    network.play(60, CALM)
    observe, seen = network.learned.observe, list[float]()

    def spy(rows: NDArray[np.int64], rates: NDArray[np.float64], *others: Any) -> None:
        seen.extend(rates[:, Column.PACKETS].tolist())
        observe(rows, rates, *others)

    monkeypatch.setattr(network.learned, "observe", spy)
    network.engine.protect(zones)
    network.play(60, CALM)
    assert seen and max(seen) < 30 * 460 * 1.2
    assert not network.heard


def test_zones_learn_on_after_a_change() -> None:
    network = Network(HERE)
    network.play(60, CALM)
    network.engine.protect((THERE, HERE))
    network.play(60, CALM)
    row = network.engine._covering.first_zone + 1
    assert network.engine._habits.usual.rates(row)[Column.PACKETS] == pytest.approx(30 * 460, rel=0.1)


def test_prefixes_and_hosts_keep_what_was_learned_when_zones_change() -> None:
    network = Network(HERE)
    network.play(3 * HOUR, CALM, step=120)
    before = [part.all() for part in network.learned.parts]
    network.engine.protect((THERE, HERE))
    network.play(60, CALM)
    after = [part.all() for part in network.learned.parts]
    for old, new in zip(before, after, strict=True):
        known = {tuple(one): age for one, age in zip(old.keys.tolist(), old.ages.tolist(), strict=True)}
        found = {tuple(one): age for one, age in zip(new.keys.tolist(), new.ages.tolist(), strict=True)}
        assert len(found) == len(new)
        assert known and all(found.get(one, 0) >= age for one, age in known.items())


def test_hosts_that_move_to_another_zone_keep_their_limits(grown: Path) -> None:
    network = Network(HERE).read(grown)
    assert network.limit("198.51.100.1") == pytest.approx(3_000, rel=0.01)
    moved = Zone("moved", (ip_network("198.51.100.0/27"),))
    network.engine.protect((moved, HERE))
    network.play(30, CALM)
    assert network.limit("198.51.100.1") == pytest.approx(3_000, rel=0.01)
    network.play(10, {**CALM, "198.51.100.1": {SYN: 9_000.0}})
    assert network.targets() == ["198.51.100.1/32"]
    assert network.heard[-1][1].zone == "moved"


def test_a_removed_zone_is_judged_no_more_and_finds_its_levels_when_it_returns(grown: Path) -> None:
    network = Network(HERE, THERE).read(grown)
    network.engine.protect((THERE,))
    network.play(30, {**CALM, "198.51.100.1": {SYN: 9_000.0}})
    assert not network.heard
    network.engine.protect((THERE, HERE))
    network.play(60, CALM)
    assert network.limit("198.51.100.1") == pytest.approx(3_000, rel=0.01)


@pytest.mark.parametrize("kind, rate, limit", [(SYN, 9_000.0, 3_000), (UDP, 30_000.0, 24_000)])
def test_an_attack_from_the_first_second_is_forgotten_and_found_when_it_returns(
    kind: tuple[int, int, int], rate: float, limit: int
) -> None:
    network = Network(HERE)
    attacked = {**CALM, "198.51.100.1": {SYN: 10.0, UDP: 50.0, BULK: 400.0} | {kind: rate}}
    network.play(600, attacked, step=30)
    network.play(5_400 - 600, CALM, step=30)
    metric = Metric.SYN_PACKETS if kind == SYN else Metric.UDP_PACKETS
    assert network.limit("198.51.100.1", metric) == pytest.approx(limit, rel=0.01)
    begin = network.second
    network.play(10, attacked)
    assert network.targets(begin) == ["198.51.100.1/32"]


def test_an_attack_that_never_ends_is_no_attack_for_ever(grown: Path) -> None:
    network = Network(HERE).read(grown)
    attacked = {**CALM, "198.51.100.1": {UDP: 30_000.0}}
    network.play(60, attacked)
    assert network.targets() == ["198.51.100.1/32"]
    network.play(26 * HOUR, attacked, step=600)
    assert not network.engine.attacks


def test_an_attack_from_the_first_second_that_never_ends_is_no_attack_for_ever() -> None:
    network = Network(HERE)
    network.play(50 * HOUR, {**CALM, "198.51.100.1": {UDP: 30_000.0}}, step=600)
    assert not network.engine.attacks


def test_a_ramp_of_half_a_day_is_found_below_the_static_limit(grown: Path) -> None:
    network = Network(HERE).read(grown)
    rate = 500.0
    while rate < 9_900 and not network.heard:
        network.play(HOUR, {**CALM, "198.51.100.1": {SYN: rate}}, step=300)
        rate *= 2 ** (1 / 3)
    assert network.targets() == ["198.51.100.1/32"]
    assert rate < 6_000


@pytest.mark.parametrize("hours", [-30, -1, 1, 24 * 40])
def test_a_clock_that_is_set_changes_no_limit_for_long_and_alarms_nobody(hours: int, grown: Path) -> None:
    network = Network(HERE).read(grown)
    network.when += timedelta(hours=hours)
    network.play(90, CALM)
    assert network.limit("198.51.100.1") == pytest.approx(3_000, rel=0.01)
    assert not network.heard
    network.play(5, {**CALM, "198.51.100.1": {SYN: 9_000.0}})
    assert network.targets() == ["198.51.100.1/32"]


def test_a_day_old_file_is_as_good_as_no_restart(grown: Path) -> None:
    network = Network(THERE, HERE).read(grown)
    network.when += timedelta(days=1)
    network.play(5, {**CALM, "198.51.100.1": {SYN: 9_000.0}})
    assert network.targets() == ["198.51.100.1/32"]


def test_hosts_of_ipv6_are_learned_alike(grown: Path) -> None:
    network = Network(SIX, HERE).read(grown)
    assert network.limit("2001:db8:1::7") == pytest.approx(3_000, rel=0.01)
    network.play(5, {**CALM, "2001:db8:1::7": {SYN: 9_000.0}})
    assert network.targets() == ["2001:db8:1::7/128"]


def test_a_limit_that_was_asked_for_before_is_the_one_of_now(grown: Path) -> None:
    network = Network(HERE, SIX).read(grown)
    rows = np.array([network.row("198.51.100.7")])
    first = network.learned.limits(rows, network.when)
    assert (network.learned.limits(rows, network.when) == first).all() and np.isfinite(first).any()
    first[:] = 0.0
    assert (network.learned.limits(rows, network.when) > 0).all(), "who asks may change what was given"
    network.learned.forget(rows)
    assert np.isinf(network.learned.limits(rows, network.when)).all()


def test_what_is_under_attack_and_what_it_lies_in_and_holds_teaches_nothing() -> None:
    network = Network(HERE, THERE)
    network.play(5, {"198.51.100.7": {UDP: 50.0}, "198.51.100.8": {UDP: 50.0}, "203.0.113.7": {UDP: 50.0}})
    tables, covering = network.engine.tables, network.engine._covering
    host, other, elsewhere = map(network.row, ("198.51.100.7", "198.51.100.8", "203.0.113.7"))
    prefix, zone = covering.above(host)
    rows = np.array([host, other, elsewhere, prefix, zone])
    assert frozen(tables, covering, rows, ()).tolist() == [False] * 5
    assert frozen(tables, covering, rows, [host]).tolist() == [True, False, False, True, True]
    assert frozen(tables, covering, rows, [prefix]).tolist() == [True, True, False, True, True]
    assert frozen(tables, covering, rows, [zone]).tolist() == [True, True, False, True, True]
    assert frozen(tables, covering, rows, [elsewhere]).tolist() == [False, False, True, False, False]
    assert tables.rows[host, PARENT] == prefix
