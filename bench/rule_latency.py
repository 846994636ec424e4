"""An operator's rule, from the commit of its admission to FRR's and BIRD's table.

The clock starts when `store.admit` has returned, which is after the commit, and before the speaker is woken. The tables
are asked every millisecond over the routers' own sockets; what one such look costs is a figure of its own.
"""

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

from bench.control import BirdControl, FrrControl
from bench.network import Network, network
from bench.result import TARGET, Result, percentile
from bench.rig import Rig, rig
from bench.seed import ACTOR, LIFETIME, flowspecs
from bench.watching import Counting
from rules.guard import Origin, Request
from rules.rule import Rule

RULES, WARM_UP = 40, 3
LOOK_SECONDS = 0.001
PROMISED_P95_MS = 50.0
PROMISED_P50_MS = 50.0


def run() -> Iterator[Result]:
    """Milliseconds."""
    with network("bird", "frr") as net, rig(net) as up, ExitStack() as stack:
        bird = stack.enter_context(BirdControl(net.bird.socket))
        frr = stack.enter_context(FrrControl(net.frr.directory / "bgpd.vty"))
        looks = {"bird": lambda: bird.count("flow4tab"), "frr": frr.count}
        for name, look in looks.items():
            cost = statistics.median(_timed(look) for _ in range(50))
            yield Result.against(f"rule_latency.observation.{name}", cost * 1e3, "ms", TARGET, 1.0, "one look")
        tables = {name: stack.enter_context(Counting(look, LOOK_SECONDS)) for name, look in looks.items()}
        yield from _results(_measure(net, up, tables))


def _measure(net: Network, up: Rig, tables: dict[str, Counting]) -> dict[str, list[float]]:
    """Seconds: of admission itself, and to each table after it."""
    chance = random.Random(1)
    found: dict[str, list[float]] = {"admission": [], **{name: [] for name in tables}}
    for number, rule in enumerate(flowspecs(WARM_UP + RULES), 1):
        time.sleep(chance.uniform(0.2, 0.6))  # where in any loop's turn the rule comes must not matter
        began = time.monotonic()
        _admit(up, rule)
        committed = time.monotonic()
        up.wake()
        moments = {name: table.wait_for(number, 30) for name, table in tables.items()}
        if number > WARM_UP:
            found["admission"].append(committed - began)
            for name, moment in moments.items():
                found[name].append(moment - committed)
    return found


def _admit(up: Rig, rule: Rule) -> None:
    now = datetime.now(UTC)
    request = Request(rule, ACTOR, Origin.OPERATOR, LIFETIME.total_seconds(), is_operator=True, collateral=0.0)
    up.store.admit(request, up.world, deadline=now + LIFETIME, actor=ACTOR, reason=ACTOR, now=now)


def _results(found: dict[str, list[float]]) -> Iterator[Result]:
    for name, seconds in found.items():
        for share, promised in ((0.5, PROMISED_P50_MS), (0.95, PROMISED_P95_MS)):
            value = percentile(seconds, share) * 1e3
            note = f"{len(seconds)} rules; {'inside store.admit' if name == 'admission' else 'from the commit'}"
            yield Result.against(f"rule_latency.{name}.p{share * 100:.0f}", value, "ms", TARGET, promised, note)


def _timed(look: object) -> float:
    began = time.perf_counter()
    assert callable(look)
    look()
    return time.perf_counter() - began
