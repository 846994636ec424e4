"""Narrows one rule: which components to add so that it keeps the attack and spares everybody else. Pure.

A small beam search over the values of `sensors.features`. First comes that nearly all of the attack is kept and next to
nothing else is hurt; then that it rests on what attackers can't change at will; then that it is narrow.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rules.components import Bitmask, Numeric
from rules.match import Component, Match
from sensors.features import NEARLY_ALL, Option, is_fragile, options
from sensors.harm import Floats, Mask, Normal
from sensors.matching import selected
from sensors.tables import ANY

WIDTH, DEPTH = 6, 3
SEARCHED = 2_048
"""Packets a search looks at; final scores look at all."""
BEARABLE = 0.01
"""Collateral up to which a rule counts as separating attack from normal."""
SPARING = 0.9
"""Where it can be seen that it spares normal traffic, a rule may lose a tenth of its packets."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What an amount of a sample's packets is worth, normal ones among them subtracted."""

    weights: Floats
    sizes: Floats
    background: tuple[float, float]
    """Share of the packets and of the bytes that come anyway."""
    usual: Mask
    """Normal entries of the kinds in the sample; what comes anyway is like them."""
    normal: Normal

    @classmethod
    def of(cls, sample: ANY, normal: Normal, background: NDArray[np.float64] | None) -> "Scale":
        """Of a sample; `background`: for each kind the share that comes anyway."""
        weights = sample["weight"].astype(np.float64)
        sizes = weights * sample["length"]
        usual = np.isin(normal.entries["kind"], np.unique(sample["kind"]))
        if background is None or usual.sum() < 20:
            return cls(weights, sizes, (0.0, 0.0), usual, normal)
        packets = min(0.9, float((weights * background[sample["kind"]]).sum()) / max(float(weights.sum()), 1e-9))
        # What comes anyway is as long as normal traffic is, not as the sample on the whole.
        ordinary = float(normal.bytes[usual].sum()) / max(float(normal.packets[usual].sum()), 1e-9)
        longer = ordinary * float(weights.sum()) / max(float(sizes.sum()), 1e-9)
        return cls(weights, sizes, (packets, min(0.9, packets * longer)), usual, normal)

    def kept(self, hit: Mask, normal_hit: Mask) -> float:
        """The share of the attack that a rule takes, the lesser of packets and bytes, from which entries of the sample
        and of normal traffic it selects."""
        return min(self.shares(hit, normal_hit))

    def shares(self, hit: Mask, normal_hit: Mask) -> list[float]:
        """The same, of packets and of bytes."""
        out = []
        for amounts, usual, anyway in zip(
            (self.weights, self.sizes), (self.normal.packets, self.normal.bytes), self.background, strict=True
        ):
            share = float(amounts[hit].sum()) / max(float(amounts.sum()), 1e-9)
            if anyway:
                of = usual[self.usual]
                taken = float(of[normal_hit[self.usual]].sum()) / max(float(of.sum()), 1e-9)
                share = (share - anyway * taken) / (1.0 - anyway)
            out.append(min(1.0, max(0.0, share)))
        return out


@dataclass(frozen=True, slots=True)
class Best:
    """What a search came to."""

    match: Match
    plain: Match
    """The rule it began with."""
    kept: float
    harm: float | None
    """None without a normal sample."""


@dataclass(frozen=True, slots=True)
class _State:
    match: Match
    hit: Mask
    normal_hit: Mask
    cost: tuple[float, ...]


def refined(base: Match, part: ANY, normal: Normal, background: NDArray[np.float64] | None = None) -> Best:
    """The best rule found for packets that `base` selects."""
    if len(part) > SEARCHED:
        part = part[np.sort(np.random.default_rng(1).choice(len(part), SEARCHED, replace=False))]
    search = _Search(base, part, normal, Scale.of(part, normal, background))
    best = search.run()
    kept = search.scale.kept(best.hit, best.normal_hit)
    return Best(best.match, base, kept, normal.harm(best.normal_hit) if normal.tells else None)


class _Search:
    def __init__(self, base: Match, part: ANY, normal: Normal, scale: Scale) -> None:
        self.base, self.normal, self.scale = base, normal, scale
        found = options(base, part, normal.tells) if len(part) else ()
        self._options: list[tuple[Option, Mask, Mask]] = []
        for component, value in found:
            alone = Match(family=base.family, **{component.attribute: value})  # type: ignore[arg-type]
            self._options.append(((component, value), selected(alone, part), selected(alone, normal.entries)))
        self._everything = np.ones(len(part), bool)

    def run(self) -> _State:
        """The best state within reach."""
        start = self._state(self.base, self._everything, selected(self.base, self.normal.entries))
        beam, best = [start], start
        for _ in range(DEPTH):
            seen: dict[Match, _State] = {one.match: one for state in beam for one in self._next(state)}
            if not seen:
                break
            beam = sorted(seen.values(), key=lambda state: state.cost)[:WIDTH]
            best = min(best, beam[0], key=lambda state: state.cost)
        return best

    def _next(self, state: _State) -> Iterator[_State]:
        for (component, value), hit, normal_hit in self._options:
            given = getattr(state.match, component.attribute)
            if given is not None and (component is not Component.TCP_FLAGS or given == value):
                continue
            if state.cost[0] == 0 and is_fragile(component, value):
                continue
            changes: dict[str, Numeric | Bitmask] = {component.attribute: value}
            match = replace(state.match, **changes)  # type: ignore[arg-type]
            new = self._state(match, state.hit & hit, state.normal_hit & normal_hit)
            if new.cost[0] < 3:
                yield new

    def _state(self, match: Match, hit: Mask, normal_hit: Mask) -> _State:
        return _State(match, hit, normal_hit, self._cost(match, hit, normal_hit))

    def _cost(self, match: Match, hit: Mask, normal_hit: Mask) -> tuple[float, ...]:
        """To be as small as can be. The first number: 0 it does what it should, 1 it misses some, 2 it hurts others,
        3 it misses too much."""
        kept = self.scale.kept(hit, normal_hit)
        names = [component for component, _ in match.components()]
        fragile = sum(is_fragile(component, value) for component, value in match.components())
        # FRR installs no rule with both ports.
        fragile += Component.SOURCE_PORT in names and Component.DESTINATION_PORT in names
        if not self.normal.tells:
            return (0.0 if kept >= NEARLY_ALL else 3.0, fragile, -len(names), -kept)
        harm = self.normal.harm(normal_hit)
        if harm <= BEARABLE and kept >= SPARING:
            return (0.0 if kept >= NEARLY_ALL else 1.0, fragile, -len(names), harm, -kept)
        # What hurts anyway is not narrowed for a few percent less.
        missing = 2.0 if kept >= NEARLY_ALL else 2.5 if kept >= SPARING else 3.0
        return (missing, round(harm, 1), fragile, -len(names), -kept)
