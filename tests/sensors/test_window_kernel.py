"""The compiled windows beside the same in plain steps."""

from ipaddress import ip_network

import numpy as np
import pytest

from rules.zone import Zone
from sensors import tables, watch_kernel, window_kernel
from sensors.headers import COLUMNS, Column
from sensors.limits import FLOATS, zone_measures
from sensors.readings import LONG, MIDDLE, PLAIN, SHORT, Judgement
from sensors.window import Windows
from sensors.window_kernel import ABOVE, CROSSED, FAR_ABOVE
from sensors.yardstick import DEVIATIONS, Yardstick

SECONDS, MINIMUM = (0.08, 0.4, 1.0), 50
LOUD = np.zeros(0, np.uint8)
"""Of what is compared with something else."""
MEASURES = zone_measures([Zone("z", (ip_network("198.51.100.0/24"),))])


def plainly(
    yardstick: Yardstick, rates: list[FLOATS], limits: FLOATS, learned: FLOATS, short_seconds: float, *, long_only: bool
) -> Judgement:
    """What `Yardstick.judge` must give."""
    measured = [rate @ MEASURES.sums for rate in rates]
    short, middle = (limits * SECONDS[window] >= MINIMUM for window in (SHORT, MIDDLE))
    chosen = np.where(short, SHORT, np.where(middle, MIDDLE, LONG))
    if long_only:
        chosen = np.full(limits.shape, LONG)
    usual = measured[LONG] / learned
    severity = np.maximum(np.choose(chosen, measured) / limits, usual)
    packets = (rates[SHORT][:, Column.PACKETS] + rates[SHORT][:, Column.OUTGOING]) * short_seconds
    fast = np.where((packets >= MINIMUM - 0.5)[:, None], measured[SHORT] / limits, 0.0)
    if long_only:
        return Judgement(severity, fast, (severity >= 1).astype(np.uint8), LOUD)
    bits = (usual >= 1) << LONG | (measured[LONG] >= limits) << PLAIN
    for window, gained in enumerate(measured):
        sure = limits + DEVIATIONS * np.sqrt(limits * yardstick.units / SECONDS[window])
        bits |= ((gained >= sure) & (chosen <= window)) << window
    return Judgement(severity, fast, bits.astype(np.uint8), LOUD)


@pytest.mark.parametrize("long_only", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_rates_are_judged_as_in_plain_steps(seed: int, long_only: bool) -> None:
    yardstick = Yardstick(MEASURES, SECONDS, MINIMUM, long_only=long_only)
    random, size = np.random.default_rng(seed), (30, COLUMNS)
    # Limits of all sizes, so that each window judges some, and rates below, above and far above.
    limits = 10.0 ** random.uniform(0.5, 6, (30, len(MEASURES.names))).round(2)
    limits[random.random(limits.shape) < 0.1] = np.inf
    learned = np.where(random.random(limits.shape) < 0.5, np.inf, limits * random.uniform(0.3, 2, limits.shape))
    rates = [(10.0 ** random.uniform(-2, 7, size)) * (random.random(size) < 0.6) for _ in range(3)]
    found = yardstick.judge((rates[0], rates[1], rates[2]), limits, learned, 0.081)
    meant = plainly(yardstick, rates, limits, learned, 0.081, long_only=long_only)
    np.testing.assert_allclose(found.severity, meant.severity, rtol=1e-12)
    np.testing.assert_allclose(found.fast, meant.fast, rtol=1e-12)
    assert (found.crossed == meant.crossed).all() and found.crossed.dtype == np.uint8
    assert long_only or len(set(found.crossed.reshape(-1).tolist())) > 6, "all kinds of cases"


@pytest.mark.parametrize("seed", range(20))
def test_what_gained_enough_in_some_window_is_worth_a_look(seed: int) -> None:
    random, rows = np.random.default_rng(seed), 40
    table = np.zeros((64, tables.ROW_WORDS), np.int64)
    watched = random.permutation(64)[:rows]
    table[watched, :COLUMNS] = random.integers(0, 1_000, (rows, COLUMNS)) * (random.random((rows, COLUMNS)) < 0.3)
    table[watched, tables.LINE] = random.integers(0, tables.LINES, rows)
    gained = [random.integers(0, 200, (rows, COLUMNS)) for _ in range(3)]
    then = [np.maximum(table[watched, :COLUMNS] - gain, 0) for gain in gained]
    elapsed, least, shares = (
        np.array([0.08, 0.41, 1.0]),
        random.uniform(100, 3_000, COLUMNS),
        random.random(tables.LINES),
    )
    wanted, now, slots = random.random(rows) < 0.1, np.full((rows, COLUMNS), -1, np.int64), np.zeros(rows, np.int64)
    packets, size = random.uniform(50, 2_000), random.choice([np.inf, 20_000.0])
    count = window_kernel.look(
        table, watched, tables.LINE, wanted, now, *then, elapsed, packets, size, least, shares, slots
    )
    counts = table[watched, :COLUMNS]
    assert (now == counts).all()
    much, near = np.zeros(rows, bool), np.zeros(rows, bool)
    for before, seconds in zip(then, elapsed, strict=True):
        gain = counts - before
        much |= (gain[:, [Column.PACKETS, Column.OUTGOING]] >= packets * seconds).any(axis=1)
        much |= (gain[:, [Column.BYTES, Column.OUTGOING_BYTES]] >= size * seconds / 8).any(axis=1)
        near |= (gain >= least * shares[table[watched, tables.LINE]][:, None] * seconds).any(axis=1)
    assert slots[:count].tolist() == np.flatnonzero(much & near | wanted).tolist()
    assert 0 < count < rows


def test_a_tick_compiles_nothing() -> None:
    windows = Windows(tables.make(rows=64, ring=64, normal=64), MEASURES, SECONDS, MINIMUM)
    windows.warm_up()
    kernels = (watch_kernel.touch, window_kernel.look, window_kernel.read, window_kernel.judge)
    before = [len(one.signatures) for one in kernels]
    windows.start(0)
    windows.watch.keep(np.arange(10), 0)
    readings = windows.tick(int(0.08e9), tracked=np.arange(5))
    order = np.arange(len(readings.rows))
    rates = tuple(window[order].copy() for window in readings.rates)
    windows.yardstick.judge((rates[0], rates[1], rates[2]), readings.limits[order], readings.learned[order], 0.08)
    assert len(order) == 5 and [len(one.signatures) for one in kernels] == before


@pytest.mark.parametrize("long_only", [False, True])
def test_what_is_loud_is_told_at_a_glance(long_only: bool) -> None:
    yardstick = Yardstick(MEASURES, SECONDS, MINIMUM, long_only=long_only)
    random, size = np.random.default_rng(7), (400, COLUMNS)
    limits = 10.0 ** random.uniform(2, 6, (400, len(MEASURES.names)))
    learned = np.where(random.random(limits.shape) < 0.9, np.inf, limits)
    rates = [10.0 ** random.uniform(-2, 4, size) * (random.random(size) < 0.3) for _ in range(3)]
    found = yardstick.judge((rates[0], rates[1], rates[2]), limits, learned, 0.08)
    meant = (
        np.where(found.crossed.any(axis=1), CROSSED, 0)
        | np.where((found.fast >= 1).any(axis=1), FAR_ABOVE, 0)
        | np.where((found.severity >= 1).any(axis=1), ABOVE, 0)
    )
    assert (found.loud == meant).all() and 0 < np.count_nonzero(meant) < 400
