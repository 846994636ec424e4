"""`kill -9` for the speaker with 5,000 rules: no route may leave BIRD, and a successor must soon know everything again.

While it is dead one rule is withdrawn and another one saved, so that there is something to reconcile.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from bench.control import BirdControl
from bench.network import network
from bench.result import TARGET, Result
from bench.rig import Rig, is_settled, rig
from bench.seed import ACTOR, flowspecs, seed
from bench.watching import Counting
from lab.namespaces import wait_until
from rules.rule import FlowSpec

RULES = 5_000
PROMISED_SECONDS = 5.0


def run() -> Iterator[Result]:
    """Routes lost, and seconds from the kill."""
    with network("bird") as net, rig(net) as up, BirdControl(net.bird.socket) as bird:
        *rules, newcomer = flowspecs(RULES + 1)
        seed(up.store, rules)
        up.wake()
        up.wait_active(RULES)
        with Counting(lambda: bird.count("flow4tab")) as table:
            # ExaBGP's `done` comes before the UPDATE: what was counted until BIRD has everything is no loss.
            table.wait_for(RULES, 60)
            del table.samples[:]
            before = up.kill_speaker()
            killed = time.monotonic()
            _change(up, rules[0], newcomer)
            with BirdControl(net.bird.socket) as another:
                what = "the successor does not make up for what it has missed"
                wait_until(lambda: _is_made_up(another, rules[0], newcomer), what, 60, 0.02)
            up.wait(lambda status: up.speaker_pid() != before and is_settled(status, RULES), "does not settle")
            back = time.monotonic()
    # The one that was withdrawn may go before the new one comes.
    lost = max(0, RULES - 1 - table.fewest)
    yield Result.against("speaker_kill.lost", lost, "routes", TARGET, 0, f"{len(table.samples)} looks at BIRD")
    yield Result.against("speaker_kill.reconciled", back - killed, "s", TARGET, PROMISED_SECONDS, f"{RULES} rules")


def _change(up: Rig, ended: FlowSpec, wanted: FlowSpec) -> None:
    up.store.withdraw(ended.id, ACTOR, ACTOR, datetime.now(UTC))
    seed(up.store, [wanted])


def _is_made_up(bird: BirdControl, ended: FlowSpec, wanted: FlowSpec) -> bool:
    held = bird.ask("show route table flow4tab")
    return f"dst {wanted.match.destination};" in held and f"dst {ended.match.destination};" not in held
