"""Windows and the detector on simulated time: how fast, how sure, when it is over."""

import random
import statistics
from datetime import UTC, datetime
from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import counted
from rawframes import SYN, ethernet, ip, tcp

from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors import tables, walk
from sensors.attack import Attack
from sensors.detect import Change, Detector
from sensors.engine import Engine, zone_measures
from sensors.headers import HEADER, MAPPED
from sensors.settings import Detecting, Memory
from sensors.window import Windows

MILLISECOND = 1_000_000
ZONE = Zone("here", (ip_network("198.51.100.0/24"),), limits=((Metric.PACKETS, 5_000), (Metric.SYN_PACKETS, 1_000)))


class Host:
    """One host's row, filled by hand at a rate, and the windows and the detector that watch it."""

    def __init__(self, settings: Detecting | None = None, limit: int = 1_000) -> None:
        self.settings = settings or Detecting()
        self.tables = tables.make(rows=64, ring=64, normal=64)
        zone = Zone("z", ZONE.prefixes, limits=((Metric.PACKETS, limit),))
        seconds = (self.settings.short_seconds, self.settings.middle_seconds, self.settings.long_seconds)
        self.windows = Windows(self.tables, zone_measures([zone]), seconds, self.settings.minimum_packets)
        self.detector = Detector(self.settings)
        self.now = 0
        self.windows.start(0)

    def get(self, packets: float) -> None:
        """So many packets arrive now."""
        entry = np.zeros(1, HEADER)
        entry["destination_low"], entry["protocol"], entry["length"] = MAPPED | 1, 17, 100
        entry["time"], entry["weight"] = self.now, int(packets)
        if packets >= 1:
            walk.tallies(*self.tables.arrays, walk.words(entry), 0, walk.NEVER)

    def look(self, after_ns: int) -> Change:
        """The next tick."""
        self.now += after_ns
        readings = self.windows.tick(self.now, np.array([*self.detector.tracks], np.int64))
        if not len(readings.rows):
            return Change.NOTHING
        severity, fast, crossed = (one[0].tolist() for one in (readings.severity, readings.fast, readings.crossed))
        return self.detector.step(0, "host", severity, fast, crossed, self.now)


def detection_milliseconds(factor: float, limit: int, seed: int) -> float:
    """From the first packet of an attack at `factor` times the limit, at a random phase, to its detection; ticks
    jitter."""
    draw = random.Random(seed)
    host = Host(limit=limit)
    for _ in range(30):
        host.look(40 * MILLISECOND)
    begin = host.now + draw.random() * 40 * MILLISECOND
    sent = 0
    for _ in range(100):
        step = int((40 + draw.uniform(-2, 6)) * MILLISECOND)
        due = max(0, int((host.now + step - begin) / 1e9 * limit * factor))
        host.get(due - sent)
        sent = max(sent, due)
        if host.look(step) is Change.STARTED:
            return (host.now - begin) / MILLISECOND
    raise AssertionError("never detected")


@pytest.mark.parametrize("limit", [1_000, 10_000, 100_000])
def test_three_times_the_limit_is_found_in_time(limit: int) -> None:
    times = [detection_milliseconds(3, limit, seed) for seed in range(300)]
    assert statistics.median(times) <= 150
    assert statistics.quantiles(times, n=20)[-1] <= 300


def test_thirty_times_the_limit_needs_no_second_window() -> None:
    times = [detection_milliseconds(30, 10_000, seed) for seed in range(100)]
    assert statistics.quantiles(times, n=20)[-1] <= 100


def test_a_burst_in_one_window_is_a_suspicion_and_no_attack() -> None:
    host = Host()
    changes = []
    for tick in range(60):
        host.get(150 if tick == 30 else 5)
        changes.append(host.look(40 * MILLISECOND))
    assert Change.STARTED not in changes
    assert changes.count(Change.SUSPECTED) == changes.count(Change.CLEARED) == 1


@given(rate=st.floats(0, 700), seed=st.integers(0, 2**32))
def test_random_traffic_below_the_limit_never_becomes_an_attack(rate: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    host = Host()
    for _ in range(250):
        host.get(draw.poisson(rate * 0.04))
        assert host.look(40 * MILLISECOND) in (Change.NOTHING, Change.SUSPECTED, Change.CLEARED)


def test_rates_do_not_depend_on_how_regular_the_ticks_are() -> None:
    host, draw = Host(limit=10_000), random.Random(4)
    for _ in range(200):
        step = int(draw.uniform(20, 400) * MILLISECOND)
        host.get(9_000 * step / 1e9)
        assert host.look(step) is Change.NOTHING


def test_an_attack_ends_after_a_quiet_time_that_grows_when_it_comes_back() -> None:
    host = Host(Detecting(quiet_seconds=1.0))
    quiet = []
    for _ in range(3):
        while True:
            host.get(200)
            if host.look(40 * MILLISECOND) is Change.STARTED:
                break
        stopped = host.now
        while host.look(40 * MILLISECOND) is not Change.OVER:
            pass
        quiet.append((host.now - stopped) / 1e9)
    assert quiet == pytest.approx([1.0, 2.0, 4.0], abs=0.15)


def test_traffic_between_the_closing_level_and_the_limit_keeps_an_attack_open() -> None:
    host = Host(Detecting(quiet_seconds=1.0))
    for _ in range(10):
        host.get(200)
        host.look(40 * MILLISECOND)
    changes = []
    for _ in range(100):
        host.get(32)
        changes.append(host.look(40 * MILLISECOND))
    assert Change.OVER not in changes
    assert changes.count(Change.ONGOING) >= 3


def test_the_past_is_bounded() -> None:
    detector = Detector(Detecting(quiet_seconds=0.0))
    for host in range(12_000):
        detector.step(host, host, [20.0], [20.0], [1], host)
        detector.step(host, host, [0.0], [0.0], [0], host + 1)
    assert len(detector._past) <= 10_000
    assert not detector.tracks


def test_other_zones_take_effect_and_close_what_is_no_longer_theirs() -> None:
    said: list[Detection] = []

    def emit(detection: Detection, attack: Attack) -> None:
        said.append(detection)

    engine = Engine([ZONE], emit, detecting=Detecting(quiet_seconds=0.2), memory=Memory(64, 64, 64))
    flood = [ethernet(ip("192.0.2.1", "198.51.100.7", tcp(port, 80, SYN))) for port in range(400)]
    engine.start(0)
    now, seen = 0, datetime.now(UTC)
    for _ in range(10):
        counted(*flood, where=engine.tables)
        now += 40 * MILLISECOND
        engine.tick(now, seen)
    assert [detection.state for detection in said] == [State.STARTED]
    assert (said[0].zone, str(said[0].target), str(said[0].vector)) == ("here", "198.51.100.7/32", "syn_flood")
    engine.protect([Zone("there", (ip_network("203.0.113.0/24"),))])
    for _ in range(10):
        counted(*flood, where=engine.tables)
        now += 40 * MILLISECOND
        engine.tick(now, seen)
    assert [detection.state for detection in said] == [State.STARTED, State.OVER]
    assert not engine.attacks
