"""`make demo`: an attack against a host behind a real router, detected, filtered, withdrawn, with the times it took.

Ends with exit code 1 when the attack was not stopped, when benign traffic, or any host, port or flow of it that the
rules do not name, lost more than 1 %, or when anything stayed announced. Everything it makes is gone at the end, also
after Ctrl-C.
"""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network
from types import FrameType

from rich.console import Console
from rich.table import Table

from lab.appliance import Appliance, CommandFailed, appliance, compile_kernel, monotonic_of
from lab.loss import LIMIT, Bucket, Loss, loss
from lab.receiver import Counts
from lab.routers import Validity
from lab.sender import POOL, Stream
from lab.topology import PROTECTED, TARGET_IPV4, Lab, lab
from lab.watch import Seen, Watch, holds_flowspec
from rules.match import Network
from rules.rule import FlowSpec, RuleId
from store.store import Store

VECTOR = "udp_amp:ntp"
ATTACK_PPS, ATTACK_SECONDS, ATTACK_START = 50_000, 6.0, 3.0
BENIGN_PPS, BENIGN_SECONDS = 2_000, 12.0
LIMITS = ("packets=15000", "udp_packets=10000", "amplification_packets=5000", "syn_packets=5000")
HURT_SHOWN = 10
LEAK_SECONDS = 1.0
"""Attack packets that still arrive this long after the first one mean that the attack was not stopped."""
WITHDRAWN_WITHIN_SECONDS = 120.0
TARGET: Network = ip_network(f"{TARGET_IPV4}/32")
BLACKHOLED: Network = ip_network("203.0.113.99/32")
SOURCE_ONLY = "match { source 203.0.113.66/32; protocol =udp; } then { discard; }"
BLACKHOLE = f"blackhole {{ prefix {BLACKHOLED}; scope local; }}"
"""What an operator does before the attack: a blackhole, and a rule that a validating router must not accept."""


@dataclass(slots=True)
class Story:
    """What happened, on the monotonic clock, in seconds."""

    first_packet: float = 0.0
    last_sent: float = 0.0
    detected: float | None = None
    admitted: float | None = None
    tables: dict[str, Seen] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    sent: int = 0
    benign_sent: int = 0
    rules: tuple[FlowSpec, ...] = ()
    losses: tuple[Loss, ...] = ()
    """Of each benign stream."""
    operator_problems: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()

    @property
    def last_at_victim(self) -> float:
        return self.counts.attack.last_ns / 1e9

    @property
    def withdrawn(self) -> float | None:
        gone = [seen.went for seen in self.tables.values()]
        return None if None in gone or not gone else max(one for one in gone if one is not None)

    def failures(self) -> list[str]:
        """Why this run counts as failed."""
        found = []
        if self.detected is None:
            found.append("the attack was not detected")
        if self.last_at_victim - self.first_packet > LEAK_SECONDS:
            found.append(f"attack packets reached the victim for {self.last_at_victim - self.first_packet:.2f} s")
        if not self.counts.attack.packets:
            found.append("no attack packet reached the victim at all: the attack was not real")
        lost = self.benign_sent - self.counts.benign.packets
        if lost > self.benign_sent * LIMIT:
            found.append(f"{lost} of {self.benign_sent} benign packets were lost")
        hurt = [one for loss in self.losses for one in loss.hurt]
        found += hurt[:HURT_SHOWN] + ([f"and {len(hurt) - HURT_SHOWN} more"] if len(hurt) > HURT_SHOWN else [])
        if self.counts.dropped:
            found.append(f"the victim's counter itself lost {self.counts.dropped} packets: loss can't be judged")
        found += self.operator_problems
        found += [f"{name} never had the rule" for name, seen in self.tables.items() if seen.came is None]
        found += [f"still announced: {one}" for one in self.left_over]
        return found


def run(console: Console) -> int:
    """The whole story; the exit code."""
    console.print("[bold]Stopbank demo[/]: getting the packet kernel ready (compiled once, about a minute) …")
    compile_kernel()
    console.print("Building the lab (attacker, Linux edge, victim, BIRD, FRR, GoBGP) …")
    with lab() as up, appliance(up, LIMITS) as stopbank:
        console.print(f"Running. Look at it: [bold]{stopbank.url}[/]\n")
        problems = _operator(console, up, stopbank)
        story = _attack(console, up, stopbank)
        story.operator_problems = tuple(problems)
        story.left_over = _left_over(up)
        _report(console, story)
        if sys.stdin.isatty():
            console.input(f"\nPress Enter to take everything down ({stopbank.url} stays until then). ")
        failures = story.failures()
    for failure in failures:
        console.print(f"[red]failed:[/] {failure}")
    if not failures:
        console.print("[green]The attack was stopped, nothing else was hurt, nothing stayed announced.[/]")
    return 1 if failures else 0


def _operator(console: Console, up: Lab, stopbank: Appliance) -> list[str]:
    """An operator's two rules, from the command line to the routers and back."""
    problems = []
    blackhole = stopbank.command("rules", "add", BLACKHOLE, "--reason", "demo").split()[0]
    if _wait(lambda: BLACKHOLED in up.bird.blackholes(), 10):
        took = time.monotonic() - _accepted(stopbank, RuleId(blackhole))
        console.print(f"Operator blackholes {BLACKHOLED}: in the edge's kernel within {took:.2f} s of being accepted.")
    else:
        problems.append("the operator's blackhole did not reach the edge's kernel")
    source_only = stopbank.command("rules", "add", SOURCE_ONLY, "--reason", "demo").split()[0]
    if _wait(lambda: any(one.validity is Validity.INVALID for one in up.bird.flowspec()), 10):
        console.print("Operator sends a rule without destination: BIRD, which validates (RFC 8955 §6), rejects it.")
    else:
        problems.append("BIRD did not reject the rule without destination")
    for rule in (blackhole, source_only):
        stopbank.command("rules", "withdraw", rule, "--reason", "demo")
    if not _wait(lambda: not up.bird.blackholes() and not up.bird.flowspec(), 10):
        problems.append("the operator's rules were not withdrawn")
    return problems


def _attack(console: Console, up: Lab, stopbank: Appliance) -> Story:
    story = Story()
    routers = {"BIRD (iBGP, validating)": up.bird, "FRR (eBGP)": up.frr, "GoBGP (eBGP)": up.gobgp}
    tables = {name: holds_flowspec(router, str(TARGET_IPV4)) for name, router in routers.items()}
    tables["nftables on the edge"] = lambda: str(TARGET_IPV4) in _nftables(up)
    receiver = up.receiver()
    console.print(
        f"Sending {BENIGN_PPS:,} benign packets/s to {PROTECTED[0]} and {BENIGN_PPS:,} to {TARGET_IPV4}, "
        f"then {ATTACK_PPS:,} packets/s of {VECTOR} to {TARGET_IPV4} …"
    )
    quiet = (
        Stream("benign", PROTECTED[0], BENIGN_PPS, BENIGN_SECONDS, seed=7),
        Stream("benign", TARGET, BENIGN_PPS, BENIGN_SECONDS, seed=8, first=POOL),
    )
    with Watch(tables) as watch:
        process = up.attack([*quiet, Stream(VECTOR, TARGET, ATTACK_PPS, ATTACK_SECONDS, ATTACK_START, seed=11)])
        *benign, attack = up.sent(process)
        story.counts = receiver.stop()
        console.print("Attack over. The rule stays through the hold-down (attacks come in pulses), then goes …")
        story.tables = watch.seen
        _wait(lambda: story.withdrawn is not None, WITHDRAWN_WITHIN_SECONDS)
    story.first_packet, story.last_sent = attack.first_ns / 1e9, attack.last_ns / 1e9
    story.sent, story.benign_sent = attack.packets, sum(one.packets for one in benign)
    _moments(stopbank, story)
    matches = [rule.match for rule in story.rules]
    story.losses = tuple(
        loss(stream, sent.packets, receiver.numbers(), matches) for stream, sent in zip(quiet, benign, strict=True)
    )
    return story


def _wait(claim: Callable[[], bool], seconds: float) -> bool:
    """Until the claim holds, or the time is up: what is missing then is reported, not raised."""
    deadline = time.monotonic() + seconds
    while not (holds := claim()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


def _nftables(up: Lab) -> str:
    return up.edge.run("nft", "list", "table", "inet", "stopbank", check=False)


def _moments(stopbank: Appliance, story: Story) -> None:
    """When the sensor wrote its first confirmed word, and when the rule was accepted, from the appliance's database."""
    with Store.open(stopbank.database_url) as store:
        rules = [one for one in store.rules(limit=100) if one.origin.is_automatic]
        for incident in store.incidents():
            confirmed = [one.detection.seen for one in store.detections(incident.id or 0) if one.detection.confirmed]
            if confirmed:
                story.detected = _earlier(story.detected, min(confirmed))
    for rule in rules:
        story.admitted = _earlier(story.admitted, rule.wanted_since or rule.created)
    story.rules = tuple(rule.rule for rule in rules if isinstance(rule.rule, FlowSpec))


def _accepted(stopbank: Appliance, rule: RuleId) -> float:
    """When the rule was accepted, on the monotonic clock."""
    with Store.open(stopbank.database_url) as store:
        record = store.rule(rule)
    assert record is not None
    return monotonic_of(record.created.timestamp())


def _earlier(known: float | None, moment: datetime) -> float:
    found = monotonic_of(moment.timestamp())
    return found if known is None else min(known, found)


def _left_over(up: Lab) -> tuple[str, ...]:
    """Whatever a table still holds."""
    found = [f"{type(one).__name__}: {held}" for one in (up.bird, up.frr, up.gobgp) for held in one.flowspec()]
    found += [
        f"{type(one).__name__}: blackhole {held}" for one in (up.bird, up.frr, up.gobgp) for held in one.blackholes()
    ]
    return (*found, *(["nftables still filters the target"] if str(TARGET_IPV4) in _nftables(up) else ()))


def _report(console: Console, story: Story) -> None:
    table = Table(title="Timeline", title_justify="left")
    table.add_column("moment")
    table.add_column("after the first attack packet", justify="right")
    rows = [
        ("first attack packet", story.first_packet),
        ("detected and confirmed by the sensor", story.detected),
        ("rule through the guard and accepted", story.admitted),
        *((f"in the table of {name}", seen.came) for name, seen in story.tables.items()),
        ("last attack packet at the victim", story.last_at_victim if story.counts.attack.packets else None),
        ("attack over", story.last_sent),
        *((f"gone from {name}", seen.went) for name, seen in story.tables.items()),
    ]
    for name, moment in rows:
        table.add_row(name, "never" if moment is None else f"{moment - story.first_packet:8.3f} s")
    console.print(table)
    for rule in story.rules:
        console.print(f"rule: {rule}", markup=False, soft_wrap=True)
    arrived, lost = story.counts.attack.packets, story.benign_sent - story.counts.benign.packets
    console.print(
        f"attack packets: {story.sent:,} sent, {arrived:,} reached the victim ({arrived / max(1, story.sent):.2%})"
    )
    console.print(f"benign packets: {story.benign_sent:,} sent, {lost:,} lost ({lost / max(1, story.benign_sent):.2%})")
    for kind in story.losses[0].buckets:
        buckets = [one for each in story.losses for one in each.buckets[kind]]
        worst = max(buckets, key=lambda one: one.lost / one.sent, default=Bucket("none", 1, 0))
        console.print(
            f"  by {kind}, outside the rules: {len(buckets):,} judged, {sum(one.is_hurt for one in buckets)} hurt, "
            f"worst {worst.name} with {worst.lost} of {worst.sent} lost"
        )
    named = [one.named for one in story.losses]
    console.print(
        f"  named by the rules: {sum(one.sent for one in named):,} sent, {sum(one.lost for one in named):,} lost"
    )


def main() -> int:
    """The demo, from the command line."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    try:
        return run(console)
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything is taken down.")
        return 130
    except CommandFailed as error:
        console.print(f"failed: {error}\nEverything is taken down.", style="red", markup=False)
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
