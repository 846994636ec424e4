"""The learned normal: what it learns, what it must not learn, what it says of those it doesn't know."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rules.errors import Refused
from rules.zone import Metric, Zone
from sensors import baseline_file
from sensors import baseline_kernel as kernel
from sensors.baseline import Baseline
from sensors.baseline_adopt import Waiting
from sensors.baseline_file import Picture
from sensors.baseline_kept import Kept, Targets
from sensors.baseline_levels import LOWEST, VALUES, level_of
from sensors.baseline_limits import FLOORS, Learning
from sensors.baseline_rhythm import LEAST, LEAST_OF_ONE, Rhythm
from sensors.engine import zone_measures
from sensors.headers import COLUMNS, Column

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
ZONES = (
    Zone("here", (ip_network("198.51.100.0/24"),)),
    Zone("there", (ip_network("203.0.113.0/24"),)),
)
NAMES = tuple(zone.name for zone in ZONES)
MEASURES = zone_measures(ZONES)
SYN, UDP = MEASURES.names.index("syn_packets"), MEASURES.names.index("udp_packets")
HOUR, DAY = 3_600, 86_400
LOW = Learning(floors=((Metric.UDP_PACKETS, 1.0), (Metric.SYN_PACKETS, 1.0)))
"""Floors that hide nothing."""


class Watched:
    """Targets of one zone, given rates of SYNs and UDP packets by hand."""

    def __init__(
        self, count: int = 4, settings: Learning | None = None, learned: tuple[bool, ...] = (), quietest: float = LEAST
    ) -> None:
        self.count, self.when = count, MONDAY
        self.keys = np.stack([np.zeros(count, np.int64), np.arange(1, count + 1)], axis=1)
        self.learned = Baseline(
            self.keys,
            MEASURES.names,
            MEASURES.sums,
            MEASURES.limits,
            settings=settings,
            learned=learned,
            kept=256,
            quietest=quietest,
        )
        self.rows, self.zones = np.arange(count), np.zeros(count, np.int64)

    def get(
        self, seconds: float, *, syn: object = 0.0, udp: object = 0.0, frozen: object = False, each: float = 120.0
    ) -> None:
        """These rates, for each target or for all, over so many seconds."""
        rates = np.zeros((self.count, COLUMNS))
        rates[:, Column.SYN], rates[:, Column.UDP] = np.asarray(syn), np.asarray(udp)
        stops = np.broadcast_to(np.asarray(frozen, bool), self.count).copy()
        for _ in range(round(seconds / each)):
            self.learned.observe(self.rows, rates, self.zones, stops, each, self.when)
            self.when += timedelta(seconds=each)

    def limit(self, row: int, measure: int = UDP) -> float:
        """What is learned for a target now."""
        return float(self.learned.limits(self.rows, self.zones, self.when)[row, measure])

    def limits(self) -> NDArray[np.float64]:
        return self.learned.limits(self.rows, self.zones, self.when)

    def state(self) -> tuple[bytes, bytes]:
        """Everything known of the targets."""
        everything = self.learned.all()
        return everything.levels.tobytes(), everything.ages.tobytes()


def floor(metric: Metric) -> float:
    return dict(FLOORS)[metric]


@given(st.floats(LOWEST, 2.0**59))
def test_a_level_tells_its_rate_to_a_thousandth(rate: float) -> None:
    assert VALUES[level_of(np.array([rate]))[0]] == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda random, size: random.lognormal(5, 1, size),
        lambda random, size: random.exponential(200, size),
        lambda random, size: random.uniform(10, 1000, size),
        lambda random, size: random.gamma(0.5, 300, size),
        lambda random, size: np.where(random.random(size) < 0.8, 20.0, 900.0),
        lambda random, size: np.full(size, 300.0),
        lambda random, size: random.poisson(3, size) * 50.0,
    ],
    ids=["lognormal", "exponential", "uniform", "gamma", "two values", "constant", "poisson"],
)
def test_the_level_becomes_the_quantile(draw: Callable[[np.random.Generator, int], NDArray[np.float64]]) -> None:
    random = np.random.default_rng(7)
    settings = Learning(factor=1_000, floors=((Metric.UDP_PACKETS, 50_000.0),))
    watched = Watched(100, settings)
    for _ in range(DAY // 10):
        watched.get(10, udp=draw(random, 100), each=10)
    wanted = np.quantile(draw(random, 1_000_000), 0.95)
    # A young limit is told generously; a grown one is the level times the factor.
    levels = np.array([watched.limit(row) / 1_000 for row in range(100)])
    assert np.median(levels) == pytest.approx(wanted, rel=0.25)


@given(
    factors=st.tuples(st.floats(1, 100), st.floats(1, 100)),
    rates=st.lists(st.floats(0, 29_000), min_size=1, max_size=10),
    hours=st.integers(0, 30),
)
def test_a_greater_factor_never_gives_a_lower_limit(
    factors: tuple[float, float], rates: list[float], hours: int
) -> None:
    lower, higher = sorted(factors)
    watched = Watched(1)
    watched.get(hours * HOUR, udp=20_000, each=1200)
    for rate in rates:
        watched.get(10, udp=rate, each=10)
    found = watched.learned.all()
    limits = []
    for factor in (lower, higher):
        other = Watched(1, Learning(factor=factor))
        other.learned.restore(found)
        other.get(10, frozen=True, each=10)
        limits.append(other.limit(0))
    assert limits[0] <= limits[1]


@given(
    udp=st.lists(st.floats(0, 1e6), min_size=4, max_size=4),
    frozen=st.lists(st.booleans(), min_size=4, max_size=4),
    seconds=st.floats(0.1, 600),
)
def test_nothing_is_learned_of_a_frozen_target(udp: list[float], frozen: list[bool], seconds: float) -> None:
    watched = Watched(4, LOW)
    watched.get(2 * HOUR, udp=[5, 50, 500, 5000])
    before = watched.learned.all()
    watched.get(20 * seconds, udp=udp, frozen=frozen, each=seconds)
    after = watched.learned.all()
    assert (before.levels[frozen] == after.levels[frozen]).all()
    assert (before.ages[frozen] == after.ages[frozen]).all()


@given(st.lists(st.floats(0, 30_000), min_size=1, max_size=60), st.sampled_from([3_600.0, DAY, 7.0 * DAY]))
def test_a_known_target_teaches_no_more_than_it_may(rates: list[float], doubling: float) -> None:
    watched = Watched(1, replace(LOW, doubling_seconds=doubling))
    watched.get(DAY + HOUR, udp=100, each=1200)
    begin = watched.limit(0)
    for rate in rates:
        watched.get(10, udp=rate, each=10)
    # The first steps of a target known for a day are four octaves over 9,000; a level's width and more is chance.
    allowed = 10 * len(rates) * max(1 / doubling, 4 / 9_000 / 10) + 4 / 1024
    assert watched.limit(0) <= begin * 2**allowed


def test_an_attacker_who_adds_a_percent_a_minute_is_found_below_the_static_limit() -> None:
    watched = Watched(1)
    watched.get(2 * DAY, udp=400)
    rate = 400.0
    while rate < 30_000:
        watched.get(60, udp=rate)
        rate *= 1.01
        if rate > watched.limit(0):
            break
    assert rate < 25_000


def test_what_is_above_a_static_limit_is_never_learned() -> None:
    watched = Watched(1)
    watched.get(HOUR, syn=9_000)
    before = watched.state()
    watched.get(2 * DAY, syn=10_001)
    assert watched.state() == before


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=20), st.integers(0, 167))
def test_no_limit_is_ever_below_its_floor(rates: list[float], hour: int) -> None:
    watched = Watched(1)
    watched.get(26 * HOUR, udp=10, each=1200)
    for rate in rates:
        watched.get(10, udp=rate, syn=rate / 2, each=10)
    watched.when += timedelta(hours=hour)
    limits = watched.limits()
    assert (limits[:, UDP] >= floor(Metric.UDP_PACKETS)).all()
    assert (limits[:, SYN] >= floor(Metric.SYN_PACKETS)).all()
    assert np.isinf(limits[:, MEASURES.names.index("outgoing_packets")]).all()


def test_the_floors_for_screening_are_the_least_of_all() -> None:
    packets, bits = Watched().learned.floors()
    assert packets == floor(Metric.ODD_TCP_PACKETS)
    assert bits == floor(Metric.UDP_BITS)


def test_a_known_quiet_host_has_limits_below_the_static_ones() -> None:
    watched = Watched(1)
    watched.get(2 * HOUR, syn=20, udp=180)
    assert watched.limit(0, SYN) < 9_000
    assert watched.limit(0, UDP) < 25_000


def test_a_busy_host_gets_what_it_usually_gets_many_times_over() -> None:
    watched = Watched(2)
    watched.get(2 * DAY, syn=[900, 10])
    assert watched.limit(0, SYN) == pytest.approx(6 * 900, rel=0.1)
    assert watched.limit(1, SYN) == pytest.approx(floor(Metric.SYN_PACKETS), rel=1e-3)


def test_at_the_start_nobody_is_judged_by_what_was_learned() -> None:
    watched = Watched(4)
    watched.get(HOUR / 2, syn=9_000)
    assert np.isinf(watched.limits()).all()


def test_a_newcomer_is_judged_by_what_is_typical_in_its_zone() -> None:
    watched = Watched(101)
    watched.rows, watched.zones, watched.count = np.arange(100), np.zeros(100, np.int64), 100
    watched.get(8 * HOUR, syn=np.where(np.arange(100) < 90, 2.0, 1_000.0))
    new = np.array([100])
    here = watched.learned.limits(new, np.array([0]), watched.when)[0, SYN]
    elsewhere = watched.learned.limits(new, np.array([1]), watched.when)[0, SYN]
    assert 5_000 <= here <= 9_000
    assert np.isinf(elsewhere)


def test_a_zone_that_wants_nothing_learned_gets_no_limits() -> None:
    watched = Watched(1, learned=(False, True))
    watched.get(2 * HOUR, syn=20)
    assert np.isinf(watched.limits()).all()


def test_hosts_outside_every_zone_get_no_limits() -> None:
    watched = Watched(1)
    watched.zones[:] = len(ZONES)
    watched.get(2 * HOUR, syn=20)
    assert np.isinf(watched.limits()).all()


def test_nobody_is_under_attack_for_ever() -> None:
    watched = Watched(2)
    watched.get(2 * DAY, udp=200, syn=10)
    watched.get(DAY - HOUR, udp=[25_000, 200], syn=[10, 9_000], frozen=True)
    assert watched.limit(0) < 25_000
    watched.get(2 * HOUR, udp=[25_000, 200], syn=[10, 9_000], frozen=True)
    assert watched.limit(0) > 25_000
    # Handshakes are easily forged: no persistence makes a flood of them normal.
    assert watched.limit(1, SYN) < 9_000


def test_an_attack_with_quiet_nights_is_adopted_later() -> None:
    watched = Watched(1)
    watched.get(2 * DAY, udp=200)
    watched.get(16 * HOUR, udp=25_000, frozen=True)
    watched.get(8 * HOUR, udp=200)
    watched.get(15 * HOUR, udp=25_000, frozen=True)
    assert watched.limit(0) < 25_000
    watched.get(2 * HOUR, udp=25_000, frozen=True)
    assert watched.limit(0) > 25_000


def test_what_is_above_a_static_limit_is_never_adopted() -> None:
    watched = Watched(1)
    watched.get(2 * DAY, udp=200)
    watched.get(3 * DAY, udp=61_000, frozen=True)
    assert watched.limit(0) < 25_000
    assert not watched.learned.waiting


def test_few_wait_at_once() -> None:
    waiting = Waiting(1, DAY)
    rows = np.arange(10_000)
    for _ in range(3):
        waiting.over(rows, np.ones((10_000, 1)), np.full(10_000, 10.0))
    assert len(waiting) == 4096
    waiting.forget(rows[:5_000])
    waiting.over(rows, np.ones((10_000, 1)), np.full(10_000, 10.0))
    assert len(waiting) == 4096


def test_the_night_lowers_a_limit_and_the_evening_does_not() -> None:
    watched = Watched(30)
    for hour in range(8 * 24):
        busy = 1.0 if 18 <= hour % 24 <= 22 else 0.1
        watched.get(HOUR, udp=20_000 * busy, each=60)
    evening, night = watched.when.replace(hour=20), watched.when.replace(hour=4)
    late, early = (watched.learned.limits(watched.rows, watched.zones, when)[0, UDP] for when in (evening, night))
    assert late == pytest.approx(6 * 20_000, rel=0.3)
    assert early == pytest.approx(late * LEAST, rel=0.1)


def test_four_times_the_busy_hour_more_may_come_to_one_host_at_night() -> None:
    network = Watched(30, quietest=LEAST_OF_ONE)
    for hour in range(8 * 24):
        busy = 1.0 if 18 <= hour % 24 <= 22 else 0.1
        network.get(HOUR, udp=12_000 * busy, each=60)
    for hour in range(24):
        usual = 12_000 * (1.0 if 18 <= hour <= 22 else 0.1)
        limits = network.learned.limits(network.rows, network.zones, network.when.replace(hour=hour))
        assert (limits[:, UDP] > usual + 4 * 12_000).all()


def test_targets_that_come_in_parts_teach_the_same() -> None:
    whole, parts = Watched(40), Watched(40)
    rates = np.zeros((40, COLUMNS))
    rates[:, Column.UDP] = np.arange(40) * 300.0
    for _ in range(30 * HOUR // 20):
        whole.learned.observe(whole.rows, rates, whole.zones, np.zeros(40, bool), 20.0, whole.when)
        whole.when += timedelta(seconds=20)
        for part in (slice(0, 20), slice(20, 40)):
            still, spans = np.zeros(20, bool), np.full(20, 20.0)
            parts.learned.observe(parts.rows[part], rates[part], parts.zones[part], still, spans, parts.when)
            parts.when += timedelta(seconds=10)
    assert whole.limits() == pytest.approx(parts.limits(), rel=0.05)
    assert whole.learned.rhythm.logs == pytest.approx(parts.learned.rhythm.logs, abs=0.05)
    assert whole.learned.typical_count[0] == pytest.approx(40)


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1e9)), max_size=60), st.integers(0, 400))
def test_an_hour_is_worth_a_quarter_to_all_of_the_busy_ones(seen: list[tuple[int, float]], hour: int) -> None:
    rhythm = Rhythm(2, 1)
    for number, total in seen:
        rhythm.learn(np.array([[total], [0.0]]), MONDAY + timedelta(hours=number))
    shape = rhythm.shape(MONDAY + timedelta(hours=hour))
    assert ((shape >= LEAST) & (shape <= 1)).all()


def test_one_hour_of_attack_does_not_make_the_others_quiet() -> None:
    rhythm = Rhythm(1, 1)
    for hour in range(168):
        for _ in range(12):
            rhythm.learn(np.array([[1e6 if hour == 50 else 1e3]]), MONDAY + timedelta(hours=hour))
    assert rhythm.shape(MONDAY)[0, 0] == pytest.approx(1)


def test_hours_are_counted_in_utc() -> None:
    rhythm = Rhythm(1, 1)
    for hour in range(168):
        for _ in range(12):
            rhythm.learn(np.array([[10.0 if hour % 24 in (3, 4, 5) else 1e6]]), MONDAY + timedelta(hours=hour))
    night = MONDAY.replace(hour=4)
    assert rhythm.shape(night)[0, 0] < 1
    assert rhythm.shape(night.astimezone(None))[0, 0] < 1


def test_a_host_that_returns_finds_its_level() -> None:
    watched = Watched(2)
    watched.get(2 * DAY, syn=[900, 10])
    limit = watched.limit(0, SYN)
    watched.keys[0] = (0, 77)
    watched.learned.forget(np.array([0]))
    watched.get(10, syn=10, frozen=True, each=10)
    assert watched.limit(0, SYN) != limit
    watched.keys[1] = (0, 1)
    watched.learned.forget(np.array([1]))
    watched.get(10, syn=10, frozen=True, each=10)
    assert watched.limit(1, SYN) == limit


def test_nothing_is_compiled_after_the_warm_up() -> None:
    watched = Watched(3)
    watched.learned.warm_up()
    watched.get(20, syn=1_000, each=10)
    spans = np.full(3, 10.0)
    watched.learned.observe(watched.rows, np.zeros((3, COLUMNS)), watched.zones, np.zeros(3, bool), spans, watched.when)
    watched.limits()
    for function in (kernel.learn, kernel.limits_of):
        assert len(function.signatures) == 1


keys = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 40)), min_size=1, max_size=60)


@given(keys, st.sampled_from([8, 16, 256]))
def test_the_store_is_bounded_and_never_mistakes_a_target(given_keys: list[tuple[int, int]], places: int) -> None:
    store = Kept(places, 1)
    for high, low in given_keys:
        levels = np.array([[low]], np.uint16)
        store.put(Targets(np.array([[high, low]], np.int64), levels, np.array([low + 1], np.uint16)))
    assert len(store.all()) <= places
    wanted = np.array(sorted(set(given_keys)), np.int64)
    found = store.take(wanted)
    known = found.ages > 0
    assert known.any()
    assert (found.levels[known, 0] == wanted[known, 1]).all()
    assert len(store.take(wanted[known])) == known.sum()
    assert not store.take(wanted).ages.any()


@given(st.lists(st.tuples(st.floats(0, 9_000), st.floats(0, 29_000)), min_size=1, max_size=20))
def test_what_is_saved_comes_back(rates: list[tuple[float, float]]) -> None:
    first, second = Watched(len(rates)), Watched(len(rates))
    syn, udp = zip(*rates, strict=True)
    first.get(30 * HOUR, syn=syn, udp=udp, each=1200)
    baseline_file.restore(Picture.take(first.learned, NAMES).content(), second.learned, NAMES)
    second.when = first.when
    second.get(10, frozen=True, each=10)
    grown = first.learned.all().ages > DAY / 10
    assert (first.limits()[grown] == second.limits()[grown]).all()
    assert (first.learned.rhythm.logs == second.learned.rhythm.logs).all()


def test_what_is_kept_of_silent_hosts_is_saved_too(tmp_path: Path) -> None:
    first, second = Watched(2), Watched(2)
    first.get(2 * DAY, syn=[900, 10])
    limit = first.limit(0, SYN)
    first.keys[0] = (0, 77)
    first.learned.forget(np.array([0]))
    baseline_file.save(tmp_path / "normal", Picture.take(first.learned, NAMES))
    assert baseline_file.load(tmp_path / "normal", second.learned, NAMES)
    second.when = first.when
    second.get(10, frozen=True, each=10)
    assert second.limit(0, SYN) == limit


def test_zones_are_known_by_their_names(tmp_path: Path) -> None:
    first, second = Watched(30), Watched(30)
    first.get(8 * HOUR, syn=1_000)
    baseline_file.save(tmp_path / "normal", Picture.take(first.learned, NAMES))
    assert baseline_file.load(tmp_path / "normal", second.learned, ("elsewhere", "here"))
    assert (second.learned.typical[1] == first.learned.typical[0]).all()
    assert (second.learned.rhythm.logs[1] == first.learned.rhythm.logs[0]).all()
    assert not second.learned.rhythm.samples[0].any()


@given(st.binary(max_size=400))
@example(baseline_file.MAGIC)
def test_arbitrary_bytes_are_refused_and_change_nothing(raw: bytes) -> None:
    watched = Watched(1)
    for content in (raw, baseline_file.MAGIC + raw, _sealed(baseline_file.MAGIC + raw)):
        with pytest.raises(Refused):
            baseline_file.restore(content, watched.learned, NAMES)
    assert not len(watched.learned.all())


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_byte_is_noticed(place: int, change: int) -> None:
    watched = Watched(2)
    watched.get(HOUR, syn=100)
    raw = bytearray(Picture.take(watched.learned, NAMES).content())
    raw[place % len(raw)] ^= change
    with pytest.raises(Refused):
        baseline_file.restore(bytes(raw), Watched(2).learned, NAMES)


def test_a_file_that_cannot_be_used_is_refused_and_none_is_none(tmp_path: Path) -> None:
    watched = Watched(1)
    (tmp_path / "normal").write_bytes(b"something else")
    for path in (tmp_path / "normal", tmp_path):
        with pytest.raises(Refused):
            baseline_file.load(path, watched.learned, NAMES)
    assert not baseline_file.load(tmp_path / "absent", watched.learned, NAMES)
    watched.get(HOUR, syn=100)


def test_an_older_file_with_other_classes_gives_what_it_has(tmp_path: Path) -> None:
    first = Watched(1, Learning(floors=((Metric.UDP_PACKETS, 10.0), (Metric.SYN_PACKETS, 3_000.0))))
    first.get(2 * DAY, syn=900, udp=50)
    second = Watched(1)
    baseline_file.restore(Picture.take(first.learned, NAMES).content(), second.learned, NAMES)
    second.get(10, frozen=True, each=10)
    assert second.limit(0, SYN) == first.limit(0, SYN)


def test_a_target_takes_at_most_64_bytes() -> None:
    assert Watched(1_000).learned.nbytes <= 64_000


@pytest.mark.parametrize("name, value", [("factor", 0.5), ("quantile", 1.0), ("floors", ((Metric.BITS, 0.0),))])
def test_settings_without_sense_are_refused(name: str, value: object) -> None:
    with pytest.raises(Refused, match=name):
        replace(Learning(), **{name: value})  # type: ignore[arg-type]


def _sealed(body: bytes) -> bytes:
    import hashlib

    return body + hashlib.sha256(body).digest()
