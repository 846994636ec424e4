"""Is what the sensor says right? Attacks of every family in normal traffic, 20 seeds each, through the live engine with
the limits that zones have by themselves, and through `stopbank analyze` without a zone.

Rules are measured by `bench.judgement` on the labelled packets, never by what the sensor says of them. 0 is the goal
for wrong victims; the targets of rules are those of the design: 98 % of the attack, 1 % of normal traffic, 4 rules.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.judgement import Claim, Judgement, Outcome, judge
from bench.result import TARGET, Result, percentile
from bench.simulated import live
from lab.packets import capture
from lab.scenarios import NORMAL, PLANS, ZONE, Scenario, scenario
from rules.match import Network
from rules.traffic import Detection
from rules.zone import DEFAULT_LIMITS, Zone
from sensors import analyze
from sensors.settings import SlowSettings

SEEDS = int(os.environ.get("STOPBANK_BENCH_SEEDS", "20"))
LEAST_RIGHT = 95.0
"""Percent of the scenarios of a family."""
FIRST_SEED = int(os.environ.get("STOPBANK_BENCH_FIRST_SEED", "0"))
SEPARABLE = ("udp_amp:dns", "udp_amp:ntp", "udp_amp:memcached", "ip_fragment_flood", "gre_flood")
"""Floods that differ from normal traffic in their headers alone: limiting them is not enough."""


def heard(path: Path, scale: float) -> list[Claim]:
    """What the live engine says last of each target."""
    last: dict[Network, Detection] = {}
    limits = tuple((metric, round(limit * scale)) for metric, limit in DEFAULT_LIMITS)
    zone = Zone("all", ZONE, limits=limits)
    live(path, (zone,), lambda one: last.__setitem__(one.target, one), slow=SlowSettings())
    return [
        Claim(
            target,
            tuple(str(share.vector) for share in one.vectors),
            tuple(found.match for found in one.signatures if found.separates),
            tuple(found.match for found in one.signatures if not found.separates),
        )
        for target, one in last.items()
    ]


def analysed(path: Path, scale: float) -> list[Claim]:
    """What `stopbank analyze` says of each target, without a zone; its limits are its own at any scale."""
    found = []
    for incident in analyze.run(path).incidents:
        attack = incident.attack
        vectors = tuple(str(share.vector) for share in attack.vectors)
        rules = tuple(one.match for one in attack.signatures if one.separates)
        limits = tuple(one.match for one in attack.signatures if not one.separates)
        found.append(Claim(attack.target, vectors, rules, limits))
    return found


WAYS = {"live": (heard, False), "analyze": (analysed, True)}
"""How a capture is looked at, and whether the answer tells of all of it."""


def judged(made: Scenario, directory: Path, ways: Iterable[str] = WAYS) -> dict[str, Judgement]:
    """One scenario, each way."""
    path = directory / "scenario.pcap"
    capture(path, made.packets)
    return {way: judge(made, WAYS[way][0](path, made.scale), WAYS[way][1]) for way in ways}


def run() -> Iterator[Result]:
    """Percent right for each family, then what holds for all of them."""
    everything: dict[str, list[Judgement]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="stopbank-accuracy-") as directory:
        for name in (*PLANS, NORMAL):
            found: dict[str, list[Judgement]] = defaultdict(list)
            for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
                for way, one in judged(scenario(name, seed), Path(directory)).items():
                    found[way].append(one)
                    everything[way].append(one)
            for way, judgements in found.items():
                yield _share(f"accuracy.{way}.{name.replace(' ', '_')}", judgements)
    for way, judgements in everything.items():
        yield from _summary(f"accuracy.{way}", judgements)


def _share(metric: str, judgements: Sequence[Judgement]) -> Result:
    right = 100 * sum(one.is_right for one in judgements) / len(judgements)
    return Result(metric, right, "% right", TARGET, LEAST_RIGHT, right / LEAST_RIGHT, why(judgements))


def why(judgements: Iterable[Judgement]) -> str:
    """What was wrong, in a few words."""
    reasons: dict[str, int] = defaultdict(int)
    for one in judgements:
        for outcome in one.outcomes:
            if not outcome.is_right:
                reasons[f"called {outcome.named}" if outcome.found else "not found"] += 1
        for wrong in one.wrong:
            reasons[f"wrong victim ({wrong.split()[1]})"] += 1
    most = sorted(reasons.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{count}x {reason}" for reason, count in most)


def _summary(metric: str, judgements: Sequence[Judgement]) -> Iterator[Result]:
    attacks = [one for one in judgements if one.outcomes]
    yield _share(f"{metric}.all", judgements)
    wrong = sum(len(one.wrong) for one in judgements)
    yield Result.against(f"{metric}.wrong_victims", wrong, "targets", TARGET, 0, f"in {len(judgements)} scenarios")
    outcomes = [outcome for one in attacks for outcome in one.outcomes if outcome.found]
    if outcomes:
        yield from _rules(metric, outcomes)
    plain = [outcome for one in attacks if one.scenario in SEPARABLE for outcome in one.outcomes]
    if plain:
        missed = [1 - one.coverage for one in plain]
        note = f"of {', '.join(SEPARABLE)}, by dropping rules alone"
        value = 100 * percentile(missed, 0.95)
        yield Result.against(f"{metric}.separable.missed_attack.p95", value, "%", TARGET, 2.0, note)


def _rules(metric: str, outcomes: Sequence[Outcome]) -> Iterator[Result]:
    note = f"{len(outcomes)} victims; measured on labelled packets"
    missed, taken = [1 - one.coverage for one in outcomes], [one.collateral for one in outcomes]
    for share in (0.5, 0.9, 0.95):
        name = f"p{share * 100:.0f}"
        yield Result.against(f"{metric}.missed_attack.{name}", 100 * percentile(missed, share), "%", TARGET, 2.0, note)
        yield Result.against(f"{metric}.collateral.{name}", 100 * percentile(taken, share), "%", TARGET, 1.0, note)
    for share in (0.5, 1.0):
        rules = percentile([one.rules for one in outcomes], share)
        yield Result.against(f"{metric}.rules.p{share * 100:.0f}", rules, "rules", TARGET, 4, note)
    drops, limits, neither = (
        sum(one.drops > 0 for one in outcomes),
        sum(one.limits > 0 and not one.drops for one in outcomes),
        sum(not one.rules for one in outcomes),
    )
    told = f"{drops} victims have rules that drop, {limits} only rules that limit, {neither} none"
    yield Result.against(f"{metric}.without_rules", neither, "victims", TARGET, 0, told)
    limited = percentile([1 - one.limited for one in outcomes], 0.95)
    slowed = percentile([one.slowed for one in outcomes], 0.95)
    note = f"by dropping and limiting rules together; limits touch {100 * slowed:.1f} % of normal traffic at p95"
    yield Result.against(f"{metric}.missed_with_limits.p95", 100 * limited, "%", TARGET, 2.0, note)
