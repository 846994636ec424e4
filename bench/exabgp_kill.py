"""`kill -9` for ExaBGP under graceful restart: what routers keep meanwhile, and how soon everything is told anew.

BIRD and GoBGP keep both kinds of routes for a restarting speaker (RFC 4724). The peer is a bare script under the same
ExaBGP configuration, killed and started again in the same way; both are timed until BIRD, alone, has taken in every
rule again.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from bench.bare import bare
from bench.control import BirdControl
from bench.network import Network, network
from bench.result import TARGET, Result
from bench.rig import rig
from bench.seed import blackholes, flowspecs, seed
from bench.watching import Counting
from lab.namespaces import wait_until
from rules.messages import KillMode
from rules.rule import Rule

RULES, BLACKHOLES = 5_000, 200
ROUNDS = 3
PEER = "bare ExaBGP script, killed alike"
_UPDATES = re.compile(r"Channel flow4\n(?:.*\n)*?\s+Import updates:\s+(\d+)")
_DESTINATIONS = re.compile(r"Destination: (\d+)")


def run() -> Iterator[Result]:
    """Routes lost, and seconds from the kill."""
    with network("bird", "gobgp") as net:
        fewest, _ = _ours(net)
    for name, (number, expected) in fewest.items():
        lost = max(0, expected - number)
        yield Result.against(f"exabgp_kill.lost.{name}", lost, "routes", TARGET, 0, f"{expected} routes")
    # With BIRD alone: GoBGP comes back in the fifth to seventh second, now while all is told and now after it.
    ours, theirs = [], []
    with network("bird") as net:
        for _ in range(ROUNDS):
            ours.append(_ours(net)[1])
            _forget(net)
            theirs.append(_theirs(net))
            _forget(net)
    note = f"{RULES} FlowSpec rules and {BLACKHOLES} blackholes; medians of {ROUNDS}; promised: 1.3"
    yield Result.against("exabgp_kill.all_back", median(ours), "s", PEER, median(theirs), note)


def _ours(net: Network) -> tuple[dict[str, tuple[int, int]], float]:
    """Router and kind -> fewest routes seen and routes expected; seconds until BIRD was told all again."""
    rules = _rules()
    with rig(net) as up:
        seed(up.store, rules)
        up.wake()
        up.wait_active(len(rules))
        with _tables(net) as tables:
            for table, expected in tables.values():
                table.wait_for(expected, 60)
                del table.samples[:]
            before = _updates(net)
            killed = time.monotonic()
            up.kill_exabgp()
            seconds = _all_told(net, before) - killed
            up.wait_active(len(rules))
        up.switch(KillMode.WITHDRAW_ALL)
        return {name: (table.fewest, expected) for name, (table, expected) in tables.items()}, seconds


def _rules() -> tuple[Rule, ...]:
    return (*flowspecs(RULES), *blackholes(BLACKHOLES))


def _theirs(net: Network) -> float:
    rules = _rules()
    with bare(net) as up, BirdControl(net.bird.socket) as bird:
        up.start()
        up.wait_established()
        up.release(rules)
        up.wait_answered()
        wait_until(lambda: bird.count("flow4tab") == RULES, "BIRD does not get the bare script's rules", 60)
        # Looking costs the machine something, so both are looked at.
        with _tables(net):
            before = _updates(net)
            killed = time.monotonic()
            up.kill()
            up.start()
            return _all_told(net, before) - killed


def _all_told(net: Network, before: int) -> float:
    """When BIRD had taken in as many updates again as there are rules; it counts on through a graceful restart."""
    with BirdControl(net.bird.socket) as bird:
        wait_until(lambda: _updates_of(bird) >= before + RULES, "not every rule is told again", 180, 0.02)
        return time.monotonic()


def _updates(net: Network) -> int:
    with BirdControl(net.bird.socket) as bird:
        return _updates_of(bird)


def _updates_of(bird: BirdControl) -> int:
    """FlowSpec updates that BIRD has ever received."""
    found = _UPDATES.search(bird.ask("show protocols all speaker"))
    return int(found[1]) if found else 0


@contextmanager
def _tables(net: Network) -> Iterator[dict[str, tuple[Counting, int]]]:
    """Every table that must keep its routes, watched, with what is expected in it."""
    with ExitStack() as stack:
        counts = {}
        for table, expected in (("flow4tab", RULES), ("master4", BLACKHOLES)):
            control = stack.enter_context(BirdControl(net.bird.socket))
            look = Counting(lambda control=control, table=table: control.count(table), 0.02)  # type: ignore[misc]
            counts[f"bird.{table}"] = (stack.enter_context(look), expected)
        for family, expected in (("ipv4-flowspec", RULES), ("ipv4", BLACKHOLES)) if "gobgp" in net.routers else ():
            look = Counting(lambda family=family: _gobgp(net, family), 0.2)  # type: ignore[misc]
            counts[f"gobgp.{family}"] = (stack.enter_context(look), expected)
        yield counts


def _gobgp(net: Network, family: str) -> int:
    """GoBGP counts without listing; each look forks for some 20 ms."""
    command = net.routers["gobgp"].namespace.command("gobgp", "global", "rib", "summary", "-a", family)
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    found = _DESTINATIONS.search(printed)
    if found is None:
        raise ValueError(f"GoBGP does not count: {printed!r}")
    return int(found[1])


def _forget(net: Network) -> None:
    """Let routers drop what they keep for a speaker that is gone."""
    net.bird.ask("restart speaker")
    with BirdControl(net.bird.socket) as bird:
        wait_until(lambda: bird.count("flow4tab") == 0, "BIRD keeps rules", 90)
