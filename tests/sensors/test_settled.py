"""While an attack goes on, ticks are saved, and nothing else is found any later."""

from datetime import UTC, datetime
from ipaddress import ip_network

import numpy as np
import pytest

from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors import settled, walk
from sensors.engine import Engine
from sensors.headers import HEADER, MAPPED
from sensors.settings import Detecting, Memory

TICK = 40_000_000
ZONE = Zone("z", (ip_network("198.51.100.0/23"),), limits=((Metric.PACKETS, 10_000), (Metric.UDP_PACKETS, 5_000)))
FIRST = MAPPED | 0xC6336400
SEEN = datetime(2026, 1, 1, tzinfo=UTC)


class Stage:
    """An engine in which hosts, told by their last number, get so many packets per second."""

    def __init__(self) -> None:
        self.said: list[tuple[int, Detection]] = []
        self.ticks, self.saved = 0, 0
        self.engine = Engine(
            (ZONE,),
            lambda one, attack: self.said.append((self.ticks, one)),
            detecting=Detecting(quiet_seconds=1.0),
            memory=Memory(1024, 4096, 64),
        )
        self.engine.start(0)

    def run(self, ticks: int, rates: dict[int, float]) -> None:
        for _ in range(ticks):
            entries = np.zeros(2 * len(rates), HEADER)
            entries["time"] = self.ticks * TICK + np.sort(np.arange(len(entries)) % 2) * TICK // 2
            entries["destination_low"] = FIRST + np.repeat(np.array([*rates], np.uint64), 2)
            entries["weight"] = np.repeat([max(1, round(rate * 0.02)) for rate in rates.values()], 2)
            entries["protocol"], entries["length"] = 17, 500
            walk.tallies(*self.engine.tables.arrays, walk.words(entries), 0, walk.NEVER)
            self.ticks += 1
            self.engine.tick(self.ticks * TICK, SEEN)
            self.saved += self.engine._settled is not None

    def found(self, target: str, state: State = State.STARTED) -> list[int]:
        """The ticks in which that was told."""
        return [tick for tick, one in self.said if str(one.target) == target and one.state is state]


def played(
    phase: int, before: float, rates: dict[int, float], monkeypatch: pytest.MonkeyPatch, *, saves: bool
) -> Stage:
    """An attack on one host for seconds, beside an ordinary other; then these rates."""
    with monkeypatch.context() as patch:
        if not saves:
            patch.setattr(settled, "SETTLED_NS", 1 << 62)
        stage = Stage()
        stage.run(100 + phase, {7: 50_000.0, 9: before})
        stage.run(50, rates)
        return stage


def test_every_other_tick_is_saved_while_nothing_else_is_busy() -> None:
    stage = Stage()
    stage.run(30, {7: 50_000.0, 9: 10.0})
    assert stage.found("198.51.100.7/32")
    assert stage.saved == 0, "the attack is young"
    stage.run(100, {7: 50_000.0, 9: 10.0})
    assert 45 <= stage.saved <= 50
    messages = len(stage.found("198.51.100.7/32", State.ONGOING))
    assert messages >= 4, "news once a second"
    before = stage.saved
    stage.run(30, {7: 50_000.0, 9: 5_500.0})
    assert stage.saved <= before + 1, "somebody else is above a limit"


@pytest.mark.parametrize("before", [10.0, 3_000.0, 4_900.0])
@pytest.mark.parametrize("factor", [1.2, 2.0, 12.0])
@pytest.mark.parametrize("phase", [0, 1])
def test_another_host_is_found_in_the_same_tick(
    phase: int, factor: float, before: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {7: 50_000.0, 9: 5_000.0 * factor}
    ours, plain = (played(phase, before, rates, monkeypatch, saves=saves) for saves in (True, False))
    assert ours.found("198.51.100.9/32") == plain.found("198.51.100.9/32") != []


@pytest.mark.parametrize("phase", [0, 1])
def test_a_carpet_around_an_attacked_host_is_found_a_tick_later_at_most(
    phase: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {7: 50_000.0} | dict.fromkeys(range(16, 64), 1_500.0)
    ours, plain = (played(phase, 10.0, rates, monkeypatch, saves=saves) for saves in (True, False))
    late = [mine - its for mine, its in zip(_prefixes(ours), _prefixes(plain), strict=True)]
    assert late and all(0 <= ticks <= 1 for ticks in late)


def _prefixes(stage: Stage) -> list[int]:
    """The ticks in which attacks on prefixes were told of."""
    return [tick for tick, one in stage.said if one.target.prefixlen < 32 and one.state is State.STARTED]


@pytest.mark.parametrize("phase", [0, 1])
def test_an_attack_is_over_as_soon(phase: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for saves in (True, False):
        stage = played(phase, 10.0, {9: 10.0}, monkeypatch, saves=saves)
        stage.run(40, {9: 10.0})
        found.append(stage.found("198.51.100.7/32", State.OVER)[0])
    assert abs(found[0] - found[1]) <= 1
