"""What an attacker would try on the counting itself: time, lengths, answers, quotes, pulses, forged destinations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import pairwise

import numpy as np
import pytest

from bench.pulses import played
from rules.traffic import Detection, State
from rules.zone import Metric, Mode, Zone
from sensors import walk
from sensors.attack import Attack
from sensors.baseline_limits import Learning
from sensors.describe import FIRST_PACKETS
from sensors.engine import Engine
from sensors.headers import HEADER, MAPPED, Total
from sensors.settings import Detecting, Memory
from sensors.tables import ANY, WATCH, key
from sensors.telling import DESCRIBED_PER_TICK, SEARCHED_PER_TICK, SPOKEN_PER_TICK

MILLISECOND = 1_000_000
ZONE = Zone("z", (ip_network("10.0.0.0/8"),), limits=((Metric.PACKETS, 5_000), (Metric.SYN_PACKETS, 1_000)))
BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)
VICTIM = key(ip_network("10.1.2.3/32"))[1]


class Stage:
    """An engine on simulated time."""

    def __init__(
        self,
        *zones: Zone,
        detecting: Detecting | None = None,
        hosts: int = 4096,
        learning: Learning | None = None,
    ) -> None:
        self.said: list[Detection] = []
        memory = Memory(hosts, 8192, 256)
        self.engine = Engine(
            zones or (ZONE,), self._emit, detecting=detecting or Detecting(), memory=memory, learning=learning
        )
        self.now = 0
        self.engine.start(0)

    def _emit(self, detection: Detection, attack: Attack) -> None:
        self.said.append(detection)

    def feed(self, entries: ANY) -> None:
        walk.tallies(*self.engine.tables.arrays, walk.words(entries), 0, walk.NEVER)

    def tick(self, after_ns: int = 40 * MILLISECOND) -> None:
        self.now += after_ns
        self.engine.tick(self.now, BEGIN + timedelta(microseconds=self.now // 1000))

    def flood(self, seconds: float, rate: float, **fields: object) -> None:
        """A steady flood on the victim; `rate` packets a second."""
        for _ in range(round(seconds / 0.04)):
            if rate:
                self.feed(syns(round(rate * 0.04), self.now, **fields))
            self.tick()

    def states(self) -> list[State]:
        return [detection.state for detection in self.said if detection.state is not State.ONGOING]


def syns(count: int, now: int, **fields: object) -> ANY:
    """SYNs to the victim of ever other sources."""
    out = np.zeros(count, HEADER)
    out["time"], out["destination_low"], out["weight"], out["length"] = now, VICTIM, 1, 60
    out["source_low"] = MAPPED | 0xC0000000 + (now // MILLISECOND * 64 + np.arange(count)) % (1 << 20)
    out["protocol"], out["tcp_flags"], out["destination_port"] = 6, 2, 80
    for name, value in fields.items():
        out[name] = value
    return out


def test_a_train_of_pulses_is_one_attack_and_routers_hear_of_it_once() -> None:
    zone = replace(ZONE, mode=Mode.AUTO)
    stage = Stage(zone)
    for _ in range(4):
        stage.flood(5, 10_000)
        # More than is remembered: in the pauses nothing is left of the attack.
        stage.flood(25, 400, tcp_flags=0x10, source_low=MAPPED | 9)
    assert stage.states() == [State.STARTED]
    proposed = {str(signature.match) for detection in stage.said for signature in detection.signatures}
    assert len(proposed) == 1, proposed
    stage.flood(10, 0)
    assert stage.states() == [State.STARTED, State.OVER]
    life = played(stage.said, zone, stage.said[-1].seen + timedelta(seconds=1_500))
    assert (life.announced.total(), life.withdrawn.total(), life.standing) == (1, 1, 0)


@pytest.mark.parametrize("stamps", ["same", "backward", "random"])
def test_timestamps_that_stand_still_or_run_back_hide_nothing(stamps: str) -> None:
    stage, draw = Stage(), np.random.default_rng(3)
    for tick in range(12):
        entries = syns(400, 10**18)
        if stamps == "backward":
            entries["time"] = 10**18 - tick * 10**9 - np.arange(400) * 10**6
        elif stamps == "random":
            entries["time"] = draw.integers(0, 1 << 61, 400)
        stage.feed(entries)
        stage.tick()
    assert stage.states() == [State.STARTED]


def test_a_host_that_answers_is_no_attack_on_who_asked() -> None:
    outside = key(ip_network("192.0.2.9/32"))[1]
    stage = Stage()
    for _ in range(20):
        answers = syns(4_000, stage.now, destination_low=outside, source_low=VICTIM, tcp_flags=0x12)
        stage.feed(answers)
        stage.tick()
    assert not stage.said
    assert stage.engine.tables.totals[Total.OUTGOING] == 80_000


def test_a_declared_limit_counts_what_the_host_asked_for_as_well() -> None:
    stage = Stage()
    outside = key(ip_network("192.0.2.9/32"))[1]
    for _ in range(20):
        stage.feed(syns(400, stage.now, destination_low=outside, source_low=VICTIM, tcp_flags=0x10))
        stage.feed(syns(400, stage.now, source_low=outside, tcp_flags=0x10))
        stage.tick()
    assert stage.states() == [State.STARTED]
    assert stage.said[0].metric == "packets"


def test_rates_are_over_elapsed_time_when_ticks_come_late() -> None:
    stage, draw = Stage(), np.random.default_rng(5)
    for _ in range(100):
        step = int(draw.uniform(20, 900)) * MILLISECOND
        stage.feed(syns(int(900 * step / 1e9), stage.now))
        stage.tick(step)
    assert not stage.said


def test_a_step_that_stays_stays_an_attack() -> None:
    stage = Stage()
    stage.flood(5, 500)
    stage.flood(60, 2_000)
    assert stage.states() == [State.STARTED]
    assert stage.said[-1].severity == pytest.approx(2, rel=0.1)


def test_one_flag_floods_are_found_under_their_own_limits() -> None:
    metrics = {0x01: Metric.FIN_PACKETS, 0x04: Metric.RST_PACKETS, 0x10: Metric.ACK_PACKETS,
               0x12: Metric.SYN_ACK_PACKETS,
               0x00: Metric.ODD_TCP_PACKETS, 0x29: Metric.ODD_TCP_PACKETS, 0x03: Metric.ODD_TCP_PACKETS}  # fmt: skip
    for flags, metric in metrics.items():
        stage = Stage(Zone("z", ZONE.prefixes, limits=((metric, 1_000),)))
        stage.flood(0.4, 5_000, tcp_flags=flags)
        assert [detection.metric for detection in stage.said] == [metric.value], flags


@pytest.mark.parametrize(("mark", "metric"), [(32, Metric.HTTP_REQUESTS), (64, Metric.TLS_HANDSHAKES)])
def test_requests_and_handshakes_have_limits(mark: int, metric: Metric) -> None:
    stage = Stage(Zone("z", ZONE.prefixes, limits=((metric, 500),)))
    stage.flood(2, 300, tcp_flags=0x18, marks=mark)
    assert not stage.said
    stage.flood(2, 2_000, tcp_flags=0x18, marks=mark)
    assert [detection.metric for detection in stage.said][:1] == [metric.value]


def test_new_flows_have_a_limit_and_old_ones_do_not_count() -> None:
    stage = Stage(Zone("z", ZONE.prefixes, limits=((Metric.FLOWS, 1_000),)))
    stage.flood(2, 10_000, tcp_flags=0x10, source_low=MAPPED | 9)
    assert not stage.said
    stage.flood(1, 5_000, tcp_flags=0x10)
    assert [detection.metric for detection in stage.said][:1] == ["flows"]


def test_a_million_forged_destinations_hide_no_attack_and_take_no_memory() -> None:
    stage = Stage(hosts=4096)
    sizes = [array.nbytes for array in stage.engine.tables.arrays]
    for tick in range(50):
        scan = syns(20_000, stage.now, tcp_flags=0x10)
        scan["destination_low"] = MAPPED | 0x0A000000 + (np.arange(20_000) + tick * 20_000) * 7 % (1 << 24)
        stage.feed(scan)
        stage.feed(syns(400, stage.now))
        stage.tick()
    hosts = [str(detection.target) for detection in stage.said if detection.target.prefixlen == 32]
    assert hosts[:1] == ["10.1.2.3/32"]
    assert [array.nbytes for array in stage.engine.tables.arrays] == sizes
    watched = stage.engine.tables.rows[:, WATCH]
    assert sorted(watched[watched > 0].tolist()) == list(range(1, int((watched > 0).sum()) + 1))


def test_a_burst_is_counted_and_seen_but_never_acted_upon() -> None:
    stage = Stage()
    stage.flood(1, 100)
    stage.feed(syns(150, stage.now))
    stage.flood(2, 100)
    assert (stage.said, stage.engine.suspicions) == ([], 1)


def test_quiet_times_grow_with_each_recurrence() -> None:
    stage = Stage(detecting=Detecting(quiet_seconds=1))
    quiet = []
    for _ in range(3):
        before = len(stage.said)
        stage.flood(0.4, 5_000)
        stopped = stage.now
        while not any(detection.state is State.OVER for detection in stage.said[before:]):
            stage.tick()
        quiet.append(stage.now - stopped)
    assert all(1.5 * one < other < 2.5 * one for one, other in pairwise(quiet))


def test_a_download_over_quic_is_no_amplification_and_a_reflection_over_it_is_named() -> None:
    quic = {"protocol": 17, "source_port": 443, "length": 1_250, "tcp_flags": 0}
    stage = Stage(Zone("z", ZONE.prefixes))
    stage.flood(2, 40_000, source_low=MAPPED | 9, destination_port=51_000, **quic)
    assert not stage.said
    stage = Stage(Zone("z", ZONE.prefixes))
    stage.flood(1, 100_000, destination_port=80, **quic)
    assert [str(detection.vector) for detection in stage.said][:1] == ["udp_amp:quic"]
    assert stage.said[0].metric == "udp_packets"


def test_a_learned_limit_stands_below_the_zones_own_and_is_not_crossed_by_a_burst() -> None:
    learning = Learning(
        factor=3, judged_after_seconds=10, grown_after_seconds=10, floors=((Metric.ACK_PACKETS, 1_000),)
    )
    stage = Stage(Zone("z", ZONE.prefixes, limits=((Metric.ACK_PACKETS, 50_000),)), learning=learning)
    stage.flood(50, 300, tcp_flags=0x10)
    for _ in range(3):
        stage.flood(0.2, 3_500, tcp_flags=0x10)
        stage.flood(2, 300, tcp_flags=0x10)
    assert not stage.said
    begun = stage.now
    stage.flood(3, 3_500, tcp_flags=0x10)
    first = stage.said[0]
    assert (first.state, first.metric) == (State.STARTED, "ack_packets")
    assert first.severity > 1
    assert (first.seen - BEGIN).total_seconds() - begun / 1e9 < 2.5


def test_a_limit_crossed_by_little_is_found_in_the_end() -> None:
    stage = Stage(Zone("z", ZONE.prefixes, limits=((Metric.SYN_PACKETS, 100),)))
    stage.flood(8, 110)
    assert stage.states() == [State.STARTED]


def test_a_hundred_new_victims_are_told_of_at_once_and_looked_at_one_after_another() -> None:
    stage, victims = Stage(Zone("z", ZONE.prefixes, limits=((Metric.SYN_PACKETS, 500),))), 100
    stage.flood(1, 100)
    describer, work = stage.engine._describer, list[tuple[int, int]]()
    for _ in range(75):
        before, entries = (describer.searches, describer.packets), syns(victims * 40, stage.now)
        entries["destination_low"] = VICTIM + np.arange(len(entries)) % victims * 256
        stage.feed(entries)
        stage.tick()
        work.append((describer.searches - before[0], describer.packets - before[1]))
    assert max(searches for searches, _ in work) <= SEARCHED_PER_TICK
    assert max(packets for _, packets in work) <= DESCRIBED_PER_TICK + SPOKEN_PER_TICK * FIRST_PACKETS
    begun = [detection for detection in stage.said if detection.state is State.STARTED]
    assert len({detection.target for detection in begun}) == len(begun) == victims
    assert (begun[-1].seen - begun[0].seen).total_seconds() <= 0.04 * (victims / SPOKEN_PER_TICK + 1)
    assert {str(detection.vector) for detection in begun} == {"syn_flood"}
    assert all(detection.signatures for detection in begun)
    assert not any(attack.is_rough for attack in stage.engine.attacks.values())


def test_what_a_target_got_just_before_is_no_part_of_the_attack() -> None:
    stage = Stage(replace(ZONE, limits=((Metric.PACKETS, 2_000),)))
    # A target seen for the first time three seconds ago: nothing is usual yet.
    transfer: dict[str, object] = {"tcp_flags": 16, "length": 1400, "source_low": MAPPED | 0xC6120001}
    for second in range(6):
        for _ in range(25):
            stage.feed(syns(20, stage.now, **transfer))
            if second >= 3:
                # More bytes of the transfer than a twentieth of the attack's: enough for a rule of its own.
                stage.feed(syns(400, stage.now))
            stage.tick()
    assert stage.said
    told = {str(share.vector) for detection in stage.said for share in detection.vectors}
    assert told == {"syn_flood"}
    assert all("syn" in str(signature.match) for detection in stage.said for signature in detection.signatures)
