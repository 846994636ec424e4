"""The whole chain under 50,000 packets/s: first packet to detection, to the UPDATE on the wire to BIRD, to BIRD's
table, to the last one at the victim. The first packet counts from before the system call that sends it.

Thirty short NTP amplification attacks, each on a host of its own, so that no withdrawal has to be awaited, at a moment
that no window or loop can expect, with ordinary traffic all the while. The limit they exceed is a tenth of their rate.
"""

import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network

from bench.control import BirdControl
from bench.result import TARGET, Result, percentile
from bench.wire import Wire
from lab.appliance import Appliance, appliance, monotonic_of
from lab.receiver import Counts, Receiver
from lab.sender import BENIGN, Sent, Stream
from lab.topology import PROTECTED, Lab, lab
from store.store import Store

RUNS = 30
VECTOR = "udp_amp:ntp"
ATTACK_PPS, ATTACK_SECONDS = 50_000, 1.2
BENIGN_PPS = 2_000
EVERY_SECONDS, FIRST_SECONDS = 2.5, 4.0
"""From one attack to the next, and benign traffic before the first."""
LIMITS = ("packets=15000", "udp_packets=10000", "amplification_packets=5000", "syn_packets=5000")
PROMISED = {
    "detected": (0.15, 0.3),
    "update_sent": (0.2, 0.4),
    "in_bird": (0.2, 0.4),
    "last_packet": (0.3, 0.6),
}
"""Seconds at the median and at the 95th percentile. A detection counts from the tick that made it; what the sensor does
before it tells, and the way to the speaker, are in the rest."""
_BASE = 32
"""Number of the first victim in the protected network."""
_ROUTE = re.compile(r"\{ dst ([0-9.]+)/32;")


@dataclass(slots=True)
class _Seen:
    """What was observed while it went on, on the monotonic clock."""

    update_sent: dict[str, float]
    """Victim -> when the first UPDATE with a rule for it left for BIRD."""
    in_bird: dict[str, float]
    """Victim -> when BIRD first held a rule for it."""
    arrivals: list[tuple[float, Counts]]


def run() -> Iterator[Result]:
    """Seconds after the first packet."""
    with lab() as up, appliance(up, LIMITS) as stopbank:
        streams = _streams()
        receiver = up.receiver()
        with _observing(up, receiver) as seen:
            benign, *attacks = up.sent(up.attack(streams), 300)
            time.sleep(1)  # the counter's last word is a tenth of a second old
        counts = receiver.stop()
        detected, proposals = _detected(stopbank), _proposals(stopbank)
    yield from _results(streams[1:], attacks, seen, detected)
    missed = len(attacks) - len(seen.in_bird)
    note = f"{proposals} rules waited for a person's approval instead"
    yield Result.against("detection_latency.missed", missed, "attacks", TARGET, 0, note)
    lost = benign.packets - counts.benign.packets
    note = f"{lost} of {benign.packets:,}; the counter itself lost {counts.dropped}"
    yield Result.against("detection_latency.benign_lost", 100 * lost / benign.packets, "%", TARGET, 1.0, note)


def _streams() -> list[Stream]:
    """Benign traffic first, then the attacks in the order of their victims."""
    chance = random.Random()
    starts = [FIRST_SECONDS + EVERY_SECONDS * number + chance.uniform(0, 1) for number in range(RUNS)]
    attacks = [
        Stream(VECTOR, IPv4Network(_victim(number)), ATTACK_PPS, ATTACK_SECONDS, start, seed=100 + number)
        for number, start in enumerate(starts)
    ]
    return [Stream(BENIGN, PROTECTED[0], BENIGN_PPS, starts[-1] + EVERY_SECONDS, seed=7), *attacks]


def _victim(number: int) -> str:
    return str(PROTECTED[0][_BASE + number])


@contextmanager
def _observing(up: Lab, receiver: Receiver) -> Iterator[_Seen]:
    """Looks at the wire to BIRD, at BIRD's table every millisecond from an UPDATE on until it holds the rule, and at
    the victim's counter every 50 ms."""
    stop, router = threading.Event(), up.neighbours[0].peer_address
    assert isinstance(router, IPv4Address)
    wire = Wire(up.stopbank, "edge", router)
    seen = _Seen(wire.sent, {}, [])

    def watch_bird() -> None:
        with BirdControl(up.bird.socket) as bird:
            while not stop.is_set():
                wire.wait(len(seen.in_bird), 0.05)
                if len(seen.in_bird) == len(wire.sent):
                    continue
                held, now = bird.ask("show route table flow4tab"), time.monotonic()
                for victim in _ROUTE.findall(held):
                    seen.in_bird.setdefault(victim, now)
                time.sleep(0.001)

    def watch_victim() -> None:
        while not stop.wait(0.05):
            seen.arrivals.append((time.monotonic(), receiver.counts()))

    threads = [threading.Thread(target=watch, daemon=True) for watch in (watch_bird, watch_victim)]
    with wire:
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            stop.set()
            for thread in threads:
                thread.join(10)


def _detected(stopbank: Appliance) -> dict[str, float]:
    """Victim -> when its first confirmed detection was made."""
    found: dict[str, float] = {}
    with Store.open(stopbank.database_url) as store:
        for incident in store.incidents(limit=1000):
            for one in store.detections(incident.id or 0):
                if one.detection.confirmed:
                    victim, moment = str(one.detection.target).partition("/")[0], _monotonic(one.detection.seen)
                    found[victim] = min(moment, found.get(victim, moment))
    return found


def _proposals(stopbank: Appliance) -> int:
    with Store.open(stopbank.database_url) as store:
        return len(store.proposed())


def _monotonic(moment: datetime) -> float:
    return monotonic_of(moment.timestamp())


def _results(
    streams: Sequence[Stream], attacks: Sequence[Sent], seen: _Seen, detected: dict[str, float]
) -> Iterator[Result]:
    found: dict[str, list[float]] = {name: [] for name in PROMISED}
    arrived = 0
    for number, (stream, sent) in enumerate(zip(streams, attacks, strict=True)):
        first, victim = sent.first_ns / 1e9, str(stream.target.network_address)
        follower = attacks[number + 1].first_ns / 1e9 if number + 1 < len(attacks) else float("inf")
        before, after = _last_before(seen, first), _last_before(seen, follower)
        arrived += after.attack.packets - before.attack.packets
        for name, moments in (
            ("detected", detected),
            ("update_sent", seen.update_sent),
            ("in_bird", seen.in_bird),
        ):
            if victim in moments:
                found[name].append(moments[victim] - first)
        if after.attack.packets > before.attack.packets:
            found["last_packet"].append(after.attack.last_ns / 1e9 - first)
    for name, seconds in found.items():
        note = f"{len(seconds)} of {len(attacks)} attacks, {attacks[0].packets_per_second:,.0f} packets/s"
        if not seconds:
            continue
        for share, promised in zip((0.5, 0.95), PROMISED[name], strict=True):
            metric = f"detection_latency.{name}.p{share * 100:.0f}"
            yield Result.against(metric, percentile(seconds, share), "s", TARGET, promised, note)
    everything = sum(one.packets for one in attacks)
    yield Result.against("detection_latency.leaked", 100 * arrived / everything, "%", TARGET, 25.0, "of attack packets")


def _last_before(seen: _Seen, moment: float) -> Counts:
    """What the victim's counter had said before this moment."""
    return next((counts for at, counts in reversed(seen.arrivals) if at < moment), Counts())
