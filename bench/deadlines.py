"""5,000 rules whose deadlines are spread over a minute: how late, and never how early, each leaves BIRD's table.

BIRD's own log says which rule it removed in which millisecond; both clocks are this machine's wall clock.
"""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from bench.control import BirdControl
from bench.network import network
from bench.result import TARGET, Result, percentile
from bench.rig import rig
from bench.seed import flowspecs, seed
from bench.watching import Counting

RULES, SPREAD_SECONDS = 5_000, 60.0
ANNOUNCING_SECONDS = 120.0
"""What announcing all of them may take before the first deadline."""
PROMISED_P99_SECONDS = 1.0
_REMOVED = re.compile(r"^(\S+ \S+) <TRACE> speaker\.flow4 > removed .*?\{ dst ([0-9.]+)/32;", re.MULTILINE)


def run() -> Iterator[Result]:
    """Seconds of lateness."""
    with network("bird") as net, rig(net) as up, BirdControl(net.bird.socket) as bird:
        bird.ask("debug speaker { routes }")
        rules = flowspecs(RULES)
        first = datetime.now(UTC) + timedelta(seconds=ANNOUNCING_SECONDS)
        deadlines = [first + timedelta(seconds=SPREAD_SECONDS * number / RULES) for number in range(RULES)]
        with Counting(lambda: bird.count("flow4tab"), 0.1) as table:
            seed(up.store, rules, deadlines)
            up.wake()
            if table.wait_for(RULES, ANNOUNCING_SECONDS) > time.monotonic() + (first.timestamp() - time.time()):
                raise TimeoutError(f"announcing {RULES} rules took longer than {ANNOUNCING_SECONDS:.0f} s")
            emptied = len(table.samples)
            end = ANNOUNCING_SECONDS + SPREAD_SECONDS + 60
            table.wait(lambda _: len(table.samples) > emptied and table.samples[-1][1] == 0, "BIRD keeps rules", end)
        removed = {host: _moment(text) for text, host in _REMOVED.findall(net.bird.log)}
    late = [
        removed[str(rule.match.destination).partition("/")[0]] - deadline.timestamp()
        for rule, deadline in zip(rules, deadlines, strict=True)
    ]
    yield from _results(late)


def _moment(text: str) -> float:
    """BIRD logs local time."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").timestamp()


def _results(late: list[float]) -> Iterator[Result]:
    for share in (0.5, 0.99):
        name = f"deadlines.late.p{share * 100:.0f}"
        yield Result.against(name, percentile(late, share), "s", TARGET, PROMISED_P99_SECONDS, f"{len(late)} rules")
    yield Result.against("deadlines.late.longest", max(late), "s", TARGET, PROMISED_P99_SECONDS)
    # BIRD cuts to whole milliseconds.
    early = sum(one < -0.001 for one in late)
    note = f"earliest: {min(late) * 1e3:+.1f} ms from its deadline"
    yield Result.against("deadlines.early", early, "rules", TARGET, 0, note)
