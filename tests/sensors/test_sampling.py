"""Sampled mirrors: intervals that cover the truth as often as they say, and nothing decided on too few packets."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A
from rawframes import SYN, ethernet, ip, tcp, udp

from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors import walk
from sensors.engine import Engine
from sensors.framing import ETHERNET
from sensors.sampling import LONGEST_SECONDS, Sampling
from sensors.settings import Detecting, Memory

TARGET = "198.51.100.7"


def zone(*limits: tuple[Metric, int]) -> Zone:
    return Zone("z", (ip_network("198.51.100.0/24"),), limits=limits)


@pytest.mark.parametrize("one_of", [10, 128, 2_000])
@pytest.mark.parametrize("sampled", [50, 400, 5_000])
def test_the_interval_holds_the_truth_in_95_of_100_streams(one_of: int, sampled: int) -> None:
    truth, random = sampled * one_of, np.random.default_rng(one_of * sampled)
    # Each packet of a stream is taken by chance, one of so many.
    estimates = random.binomial(truth, 1 / one_of, 4_000) * one_of
    sampling = Sampling(one_of)
    covered = [abs(truth - one) <= one * sampling.interval_percent(float(one)) / 100 for one in estimates.tolist()]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_without_sampling_nothing_changes_and_nothing_is_uncertain() -> None:
    zones, plain = (zone((Metric.PACKETS, 10)),), Detecting()
    assert Sampling().zones(zones) == zones
    assert Sampling().detecting(plain, zones) == plain
    assert Sampling().interval_percent(3) == 0 and Sampling().raised(zones) == ()


limits = st.lists(
    st.tuples(st.sampled_from(list(Metric)), st.integers(1, 10**10)),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one[0],
)


@given(st.integers(2, 100_000), st.integers(10, 500), limits)
def test_every_window_that_judges_a_limit_holds_enough_packets(
    one_of: int, least: int, given_: list[tuple[Metric, int]]
) -> None:
    sampling = Sampling(one_of, least)
    judged = sampling.zones((zone(*given_),))
    windows = sampling.detecting(Detecting(), judged)
    assert windows.long_seconds <= LONGEST_SECONDS + 1e-6 and not judged[0].learned
    for metric, limit in judged[0].limits:
        if metric.value.endswith("bits"):
            # A limit in bits is judged in the shortest window; full-size packets are the fewest.
            assert limit * windows.short_seconds / 12_000 / one_of >= least * 0.999
        else:
            assert limit * windows.long_seconds / one_of >= least * 0.999


def run(rate: float, seconds: float, one_of: int, one_limit: tuple[Metric, int], size: int = 0) -> list[Detection]:
    """What a sensor behind a mirror that samples by chance says of a flood of that true rate."""
    sampling, said = Sampling(one_of), []
    zones = sampling.zones((zone(one_limit),))
    settings = sampling.detecting(Detecting(), zones)
    engine = Engine(
        sampling.muted(zones), lambda one, _: said.append(one), detecting=settings, memory=Memory(256, 4_096, 256)
    )
    engine.warm_up()
    engine.start(0)
    random, begin = np.random.default_rng(7), datetime(2026, 1, 1, tzinfo=UTC)
    frame = ethernet(ip(A, TARGET, udp(1, 2, bytes(size)) if size else tcp(1, 80, SYN)))
    buffer = np.frombuffer(frame, np.uint8)
    for number in range(1, int(seconds / settings.tick_seconds)):
        now = number * settings.tick_seconds
        if now - settings.tick_seconds < settings.long_seconds <= now:
            engine.protect(zones)
        count = random.binomial(max(1, int(rate * settings.tick_seconds)), 1 / one_of)
        meta = np.array([(1_000 + int(now), int(now % 1 * 1e6), 0, len(frame))] * count, np.uint32).reshape(-1, 4)
        walk.batch(*engine.tables.arrays, buffer, meta, ETHERNET, one_of, 0, walk.NEVER)
        engine.tick(int(now * 1e9), begin + timedelta(seconds=now))
    return said


@pytest.mark.parametrize("one_of", [10, 1_000])
def test_traffic_well_below_the_limit_is_never_an_attack(one_of: int) -> None:
    assert run(3_000, 60, one_of, (Metric.SYN_PACKETS, 5_000)) == []
    assert run(5_000, 60, one_of, (Metric.BITS, 100_000_000), size=1_400) == []


@pytest.mark.parametrize(("one_of", "seconds"), [(10, 5), (1_000, 40)])
def test_a_flood_is_found_once_enough_sampled_packets_say_so(one_of: int, seconds: float) -> None:
    said = run(20_000, seconds, one_of, (Metric.SYN_PACKETS, 5_000))
    assert said[0].state is State.STARTED
    assert 10_000 < max(one.peak.packets_per_second for one in said) < 40_000
