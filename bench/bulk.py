"""1,000 and 5,000 rules until all of them stand in BIRD's and in FRR's table, against a bare script under the same
ExaBGP configuration in the same run.

Twice: `committed`, from the commit of one transaction, so with reading, guard and journal; and `released`, from lifting
a freeze under which everything had been read already. Rounds are interleaved, and the median of each side counts.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from bench.bare import bare
from bench.control import BirdControl, FrrControl
from bench.network import Network, network
from bench.result import Result
from bench.rig import rig
from bench.seed import flowspecs, seed
from bench.watching import Counting
from lab.namespaces import wait_until
from rules.messages import KillMode
from rules.rule import FlowSpec

ROUNDS = {1_000: 3, 5_000: 1}
PEER = "bare ExaBGP script, 64 commands in flight"
Times = dict[str, float]
"""Router -> seconds until it held everything."""


def run() -> Iterator[Result]:
    """Seconds; a ratio of at most 1.3 is what is promised."""
    ways: dict[str, Callable[[Network, Sequence[FlowSpec]], Times]] = {
        "committed": committed,
        "released": released,
        "bare": scripted,
    }
    with network("bird", "frr") as net:
        for count, rounds in ROUNDS.items():
            found: dict[str, list[Times]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    found[name].append(way(net, flowspecs(count)))
                    _wait_empty(net)
            yield from _results(count, found)


def committed(net: Network, rules: Sequence[FlowSpec]) -> Times:
    """From the commit of all rules at once."""
    with rig(net) as up:

        def go() -> float:
            seed(up.store, rules)
            began = time.monotonic()
            up.wake()
            return began

        times = _until_held(net, len(rules), go)
        up.switch(KillMode.WITHDRAW_ALL)
        return times


def released(net: Network, rules: Sequence[FlowSpec]) -> Times:
    """From the end of a freeze; the speaker has read and judged everything before."""
    with rig(net) as up:
        up.switch(KillMode.FREEZE)
        seed(up.store, rules)
        up.wake()
        up.wait_idle()

        def go() -> float:
            began = time.monotonic()
            up.switch(KillMode.NORMAL)
            return began

        times = _until_held(net, len(rules), go)
        up.switch(KillMode.WITHDRAW_ALL)
        return times


def scripted(net: Network, rules: Sequence[FlowSpec]) -> Times:
    """The peer."""
    with bare(net) as up:
        up.start()
        up.wait_established()

        def go() -> float:
            began = time.monotonic()
            up.release(rules)
            return began

        times = _until_held(net, len(rules), go)
        up.wait_answered()
        return times


def _until_held(net: Network, count: int, go: Callable[[], float]) -> Times:
    with ExitStack() as stack:
        bird = stack.enter_context(BirdControl(net.bird.socket))
        frr = stack.enter_context(FrrControl(net.frr.directory / "bgpd.vty"))
        counts = {
            "bird": stack.enter_context(Counting(lambda: bird.count("flow4tab"), 0.02)),
            "frr": stack.enter_context(Counting(frr.count, 0.02)),
        }
        began = go()
        return {name: counting.wait_for(count) - began for name, counting in counts.items()}


def _wait_empty(net: Network) -> None:
    """Routers keep routes of a dead speaker: they are made to forget."""
    net.bird.ask("disable speaker")
    net.bird.ask("enable speaker")
    net.frr.ask("clear bgp *")
    with BirdControl(net.bird.socket) as bird, FrrControl(net.frr.directory / "bgpd.vty") as frr:
        wait_until(lambda: bird.count("flow4tab") == 0 and frr.count() == 0, "the routers keep rules", 90)


def _results(count: int, found: dict[str, list[Times]]) -> Iterator[Result]:
    for name in ("committed", "released"):
        for router in ("bird", "frr"):
            ours, theirs = (statistics.median(one[router] for one in found[way]) for way in (name, "bare"))
            note = f"median of {len(found[name])} rounds; promised: 1.3"
            yield Result.against(f"bulk.{count}.{name}.{router}", ours, "s", PEER, theirs, note)
