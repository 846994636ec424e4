"""Holds what a sensor says of a labelled scenario against the truth. Pure.

Rules are matched against the scenario's own rows (RFC 8955 §4, RFC 8956 §3), by nothing that the sensor uses to match
or to count: what it says of its rules' coverage is not looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.packets import MORE_FRAGMENTS, OFFSET, Packets, inside, is_ipv4
from lab.scenarios import Scenario, Wave
from rules.components import Bitmask, Numeric
from rules.match import FRAGMENT_BITS, Component, Family, Match, Network

MASK = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a sensor says of one target."""

    target: Network
    vectors: tuple[str, ...]
    """The dominant one first."""
    rules: tuple[Match, ...]
    """Those that drop."""
    limits: tuple[Match, ...] = ()
    """Those that only limit a rate, where nothing separates attack from normal."""

    @property
    def named(self) -> str:
        """The dominant vector; empty where none is told."""
        return self.vectors[0] if self.vectors else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one victim."""

    victim: Network
    found: bool
    named: str
    """The dominant vector that was told, empty when not found."""
    is_right: bool
    drops: int = 0
    """Rules that drop."""
    limits: int = 0
    """Rules that only limit."""
    dropped: float = 0.0
    """Share of the attack that some dropping rule hits: the lesser of packets and bytes, as for all of the attack."""
    handled: float = 0.0
    """Share of the attack that some rule hits, dropping or limiting."""
    harmed: float = 0.0
    """Share of the victim's normal traffic that some dropping rule hits: the greater of packets and bytes."""
    slowed: float = 0.0
    """The same for limiting rules."""

    @property
    def limited(self) -> float:
        """Share of the attack that only limiting rules hit."""
        return max(0.0, self.handled - self.dropped)

    @property
    def rules(self) -> int:
        """Dropping and limiting ones together."""
        return self.drops + self.limits


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a scenario."""

    scenario: str
    seed: int
    outcomes: tuple[Outcome, ...]
    wrong: tuple[str, ...]
    """Targets that nobody attacked, with what was told of them."""

    @property
    def is_right(self) -> bool:
        """Every victim found and named, and nobody else."""
        return not self.wrong and all(one.is_right for one in self.outcomes)


def judge(scenario: Scenario, claims: Sequence[Claim], is_whole: bool) -> Judgement:
    """`is_whole`: the claims describe all of the scenario, not its last moment."""
    outcomes = tuple(_outcome(scenario, victim, claims, is_whole) for victim in scenario.victims)
    wrong = tuple(
        f"{claim.target} {claim.named or 'nothing'}"
        for claim in claims
        if not any(_overlaps(claim.target, victim) for victim in scenario.victims)
    )
    return Judgement(scenario.name, scenario.seed, outcomes, wrong)


def _outcome(scenario: Scenario, victim: Network, claims: Sequence[Claim], is_whole: bool) -> Outcome:
    meant = [claim for claim in claims if claim.target == victim]
    if not meant:
        return Outcome(victim, False, "", False)
    claim = meant[-1]
    waves = _told_of([wave for wave in scenario.waves if wave.victim == victim], is_whole)
    accepted = {wave.family for wave in waves}
    if len(accepted) > 1:
        accepted.add("multi_vector")
    if victim.prefixlen < victim.max_prefixlen:
        accepted.add("carpet_bombing")
    attack = scenario.packets[np.isin(scenario.packets["label"], [wave.label for wave in waves])]
    attack = attack[inside(attack, victim)]
    named = claim.named
    normal = scenario.benign(victim)
    return Outcome(
        victim, True, named, named in accepted, len(claim.rules), len(claim.limits),
        dropped=min(_shares(claim.rules, attack)),
        handled=min(_shares((*claim.rules, *claim.limits), attack)),
        harmed=max(_shares(claim.rules, normal)),
        slowed=max(_shares(claim.limits, normal)),
    )  # fmt: skip


def _told_of(waves: list[Wave], is_whole: bool) -> list[Wave]:
    """Waves that a claim speaks of: all of them, or those of the last moment."""
    last = max(wave.end for wave in waves)
    return waves if is_whole else [wave for wave in waves if wave.end == last]


def _overlaps(one: Network, other: Network) -> bool:
    if one.version != other.version:
        return False
    return one.subnet_of(other) or other.subnet_of(one)  # type: ignore[arg-type]


def _shares(rules: Iterable[Match], rows: Packets) -> tuple[float, float]:
    """The parts of packets and of bytes that some rule hits."""
    if not len(rows):
        return 0.0, 0.0
    hit = np.zeros(len(rows), bool)
    for rule in rules:
        hit |= hits(rule, rows)
    sizes = rows["length"].astype(np.int64)
    return float(hit.mean()), float(sizes[hit].sum() / sizes.sum())


def hits(rule: Match, rows: Packets) -> MASK:
    """Which rows a router with this rule would act on."""
    out = is_ipv4(rows) if rule.ip_family is Family.IPV4 else ~is_ipv4(rows)
    later = rows["fragment"] & OFFSET != 0
    for component, value in rule.components():
        match component:
            case Component.DESTINATION | Component.SOURCE:
                out &= inside(rows, value, component.attribute)  # type: ignore[arg-type]
            case Component.TCP_FLAGS:
                out &= _holds(value, rows["flags"]) & (rows["protocol"] == 6) & ~later
            case Component.FRAGMENT:
                out &= _holds(value, _fragment_bits(rows))
            case Component.PORT:
                out &= (_holds(value, rows["source_port"]) | _holds(value, rows["destination_port"])) & _ported(rows)
            case Component.SOURCE_PORT | Component.DESTINATION_PORT:
                out &= _holds(value, rows[component.attribute]) & _ported(rows)
            case Component.ICMP_TYPE | Component.ICMP_CODE:
                out &= _holds(value, rows[component.attribute]) & np.isin(rows["protocol"], (1, 58)) & ~later
            case Component.PROTOCOL:
                out &= _holds(value, rows["protocol"])
            case Component.PACKET_LENGTH:
                out &= _holds(value, rows["length"])
            case _:
                raise ValueError(f"scenarios have no {component.attribute}")
    return out


def _holds(value: object, numbers: NDArray[np.integer[Any]]) -> MASK:
    assert isinstance(value, Numeric | Bitmask)
    found, places = np.unique(numbers, return_inverse=True)
    if isinstance(value, Bitmask):
        held = [value.holds(int(number)) for number in found]
    else:
        spans = value.spans(65_535)
        held = [any(low <= number <= high for low, high in spans) for number in found.tolist()]
    return np.array(held, bool)[places] if len(found) else np.zeros(0, bool)


def _ported(rows: Packets) -> MASK:
    out: MASK = np.isin(rows["protocol"], (6, 17)) & (rows["fragment"] & OFFSET == 0)
    return out


def _fragment_bits(rows: Packets) -> NDArray[np.int64]:
    later, more = rows["fragment"] & OFFSET != 0, rows["fragment"] & MORE_FRAGMENTS != 0
    bits = np.where(later, FRAGMENT_BITS["is-fragment"], 0)
    bits |= np.where(more & ~later, FRAGMENT_BITS["first-fragment"], 0)
    bits |= np.where(later & ~more, FRAGMENT_BITS["last-fragment"], 0)
    return bits
