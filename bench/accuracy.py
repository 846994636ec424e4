"""Is what the sensor says right? Attacks of every family in normal traffic, 20 seeds each, through the live engine with
the limits that zones have by themselves, and through `stopbank analyze` without a zone.

Rules are measured by `bench.judgement` on the labelled packets, never by what the sensor says of them; what rules drop
and what they only limit is told apart. 0 is the goal for wrong victims; the targets of rules are those of the design:
98 % of the attack, 1 % of normal traffic, 4 rules.
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
LEAST_RIGHT, LEAST_RIGHT_OF_ALL = 95.0, 99.0
"""Percent of the scenarios of a family, and of all of them."""
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


def _share(metric: str, judgements: Sequence[Judgement], least: float = LEAST_RIGHT) -> Result:
    right = 100 * sum(one.is_right for one in judgements) / len(judgements)
    return Result(metric, right, "% right", TARGET, least, right / least, why(judgements))


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
    yield _share(f"{metric}.all", judgements, LEAST_RIGHT_OF_ALL)
    wrong = sum(len(one.wrong) for one in judgements)
    yield Result.against(f"{metric}.wrong_victims", wrong, "targets", TARGET, 0, f"in {len(judgements)} scenarios")
    outcomes = [outcome for one in attacks for outcome in one.outcomes if outcome.found]
    if outcomes:
        yield from _rules(metric, outcomes)
    plain = [1 - outcome.dropped for one in attacks if one.scenario in SEPARABLE for outcome in one.outcomes]
    if plain:
        yield from _spread(f"{metric}.separable.not_dropped", plain, 2.0, f"of {', '.join(SEPARABLE)}", (0.95,))


def _rules(metric: str, outcomes: Sequence[Outcome]) -> Iterator[Result]:
    """What becomes of the attack, by rules that drop, by those and such as limit; what that costs others; how many."""
    told = (
        f"{sum(one.drops > 0 and not one.limits for one in outcomes)} victims have rules that drop only, "
        f"{sum(one.drops > 0 and one.limits > 0 for one in outcomes)} such as drop and such as limit, "
        f"{sum(one.limits > 0 and not one.drops for one in outcomes)} only such as limit"
    )
    nothing = sum(not one.rules for one in outcomes)
    yield Result.against(f"{metric}.without_rules", nothing, "victims", TARGET, 0, f"of {len(outcomes)}: {told}")
    parts = [f"{100 * sum(part) / len(outcomes):.1f} % {name}" for name, part in (
        ("dropped", [one.dropped for one in outcomes]),
        ("only limited", [one.limited for one in outcomes]),
        ("neither", [1 - one.handled for one in outcomes]),
    )]  # fmt: skip
    note = f"of an attack on average {', '.join(parts)}"
    yield from _spread(f"{metric}.neither_dropped_nor_limited", [1 - one.handled for one in outcomes], 2.0, note)
    dropped = [1 - one.dropped for one in outcomes if one.drops and not one.limits]
    if dropped:
        note = f"of {len(dropped)} victims whose rules all drop"
        yield from _spread(f"{metric}.not_dropped", dropped, 2.0, note)
    note = "of the victim's labelled normal traffic, by rules that "
    yield from _spread(f"{metric}.normal_dropped", [one.harmed for one in outcomes], 1.0, f"{note}drop")
    limited = [one.slowed for one in outcomes if one.limits]
    if limited:
        yield from _spread(f"{metric}.normal_limited", limited, 100.0, f"{note}limit, of {len(limited)} victims")
    for share in (0.5, 0.95, 1.0):
        rules = percentile([one.rules for one in outcomes], share)
        yield Result.against(f"{metric}.rules.p{share * 100:.0f}", rules, "rules", TARGET, 4, "dropping and limiting")


def _spread(
    metric: str, parts: Sequence[float], most: float, note: str, shares: Sequence[float] = (0.5, 0.9, 0.95)
) -> Iterator[Result]:
    """Percentiles of parts of a whole, in percent; `most`: the target."""
    for share in shares:
        yield Result.against(f"{metric}.p{share * 100:.0f}", 100 * percentile(parts, share), "%", TARGET, most, note)
