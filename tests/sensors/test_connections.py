"""Slow HTTP: connections that never get on with their request, and traffic that only looks a little like them."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segments import SECOND, segments

from rules.errors import Refused
from rules.traffic import Detection, State
from rules.zone import Zone
from sensors import stalled
from sensors.connections import SlowWatch
from sensors.crumbs import OPEN
from sensors.headers import HAS_PAYLOAD, HAS_PORTS, HEADER, IS_IPV6, MAPPED, Kind
from sensors.settings import SlowSettings
from sensors.tables import ANY

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
ZONES = (Zone("web", (ip_network("203.0.113.0/24"),)),)


def opened(ids: ANY, second: float, bots: int = 10) -> ANY:
    """Handshake and the beginning of a request."""
    return np.concatenate([segments(ids, Kind.SYN, second, 60, bots=bots), segments(ids, Kind.ACK, second, bots=bots),
                           segments(ids, Kind.ACK, second, 240, True, bots)])  # fmt: skip


def run(watch: SlowWatch, looks: list[ANY]) -> list[list[Detection]]:
    return [
        list(watch.look(entries, (number + 1) * SECOND, NOW + timedelta(seconds=number + 1)))
        for number, entries in enumerate(looks)
    ]


def crumbs(ids: ANY, second: float, bots: int = 10) -> ANY:
    return segments(ids, Kind.ACK, second, 46, True, bots)


def test_many_connections_with_a_byte_now_and_then_are_told_and_end() -> None:
    ids = np.arange(800)
    looks = [opened(ids, 0), *(crumbs(ids, second) for second in range(1, 5))]
    looks += [segments(ids, Kind.RST, 5), *[np.zeros(0, HEADER)] * 12]
    told = run(SlowWatch(ZONES, "edge-1"), looks)
    assert told[:2] == [[], []]
    [first] = told[2]
    assert (str(first.vector), str(first.target), first.zone) == ("http_slow", "203.0.113.7/32", "web")
    assert (first.state, first.spoofed, first.sources, first.signatures) == (State.STARTED, False, 10, ())
    assert first.severity == pytest.approx(1.6)
    assert 0 < first.rate.packets_per_second < 3_000
    flat = [one for look in told for one in look]
    assert [one.sequence for one in flat] == list(range(len(flat)))
    assert flat[-1].state is State.OVER
    assert sum(one.state is State.OVER for one in flat) == 1


def test_few_bots_get_rules_and_many_get_none() -> None:
    ids = np.arange(800)
    told = run(SlowWatch(ZONES, "edge-1"), [opened(ids, 0, 2), crumbs(ids, 1, 2), crumbs(ids, 2, 2)])
    rules = told[2][0].signatures
    assert [str(rule.match.source) for rule in rules] == ["8.8.8.0/32", "8.9.8.0/32"]
    assert all(rule.match.destination == ip_network("203.0.113.7/32") for rule in rules)


def test_bots_that_write_ipv4_addresses_into_ipv6_headers_get_no_rules() -> None:
    ids = np.arange(800)
    looks = [opened(ids, 0, 2), crumbs(ids, 1, 2), crumbs(ids, 2, 2)]
    for look in looks:
        look["destination_high"], look["marks"] = 0x2001_0DB8_0000_0000, look["marks"] | IS_IPV6
    [first] = run(SlowWatch((Zone("web", (ip_network("2001:db8::/32"),)),), "edge-1"), looks)[2]
    assert (first.target.version, first.signatures) == (6, ())


def test_connections_that_work_rest_or_end_are_no_attack() -> None:
    ids = np.arange(2_000)
    working = [opened(ids, 0), *(segments(ids, Kind.ACK, second, 600, True) for second in range(1, 6))]
    resting = [opened(ids, 0), *(segments(ids, Kind.ACK, second) for second in range(1, 6))]
    ending = [opened(ids, 0), crumbs(ids, 1), segments(ids, Kind.FIN, 1.5), crumbs(ids, 2), crumbs(ids, 3)]
    for looks in (working, resting, ending):
        assert run(SlowWatch(ZONES, "edge-1"), looks) == [[]] * len(looks)


@pytest.mark.parametrize(
    ("segment", "port", "apart", "replies", "bots", "slow"),
    [
        (90, 80, 1.0, False, 800, True),  # header lines beside timestamps, as slowhttptest sends them
        (140, 8080, 1.0, False, 10, True),
        (141, 80, 1.0, False, 10, False),
        (90, 80, 1.0, True, 10, False),  # the server speaks: the client acknowledges
        (125, 443, 1.0, False, 10, True),  # the same in records
        (125, 443, 1.0, True, 10, False),
        (125, 443, 1.0, False, 100, False),  # a few web sockets of each, that nobody answers
        (90, 80, 0.1, False, 10, False),  # requests one after the other
    ],
)
def test_lines_drawn_out_are_slow_where_the_server_says_nothing(
    segment: int, port: int, apart: float, replies: bool, bots: int, slow: bool
) -> None:
    ids = np.arange(800)
    looks = [opened(ids, 0, bots)]
    for number in range(1, 6):
        pieces = segments(ids, Kind.ACK, number * apart, segment, True, bots)
        bare = segments(ids, Kind.ACK, number * apart + 0.05, bots=bots)
        looks.append(np.concatenate([pieces, bare]) if replies else pieces)
    for look in looks:
        look["destination_port"] = port
    assert any(run(SlowWatch(ZONES, "edge-1"), looks)) == slow


@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize(
    ("times", "bots", "slow"),
    [
        ((1.2, 2.2, 4.2, 8.3), 10, True),
        ((1.2, 1.6, 2.9, 4.6, 8.0, 14.9), 10, True),  # as a Linux client answers a Linux server
        ((1.2, 2.2, 4.2, 8.3), 100, False),  # players that pause, a few of each
        ((1.2, 2.2, 3.2, 4.2, 5.2, 6.2), 10, False),  # events that trickle
        ((1.2, 1.4, 1.8, 2.6), 10, False),  # a page that loads, ever more slowly
        ((1.2, 2.2, 4.2, 5.2, 9.2), 10, False),
    ],
)
def test_clients_that_take_nothing_more_are_slow_if_a_few_hold_many_connections(
    times: tuple[float, ...], bots: int, slow: bool, port: int
) -> None:
    ids = np.arange(800)
    looks = [opened(ids, 0, bots)]
    for second in range(1, int(times[-1]) + 1):
        due = [at for at in times if second <= at < second + 1]
        looks.append(
            np.concatenate([segments(ids[:0], Kind.ACK, 0), *(segments(ids, Kind.ACK, at, bots=bots) for at in due)])
        )
    for look in looks:
        look["destination_port"] = port
    assert any(run(SlowWatch(ZONES, "edge-1"), looks)) == slow


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_gaps_that_double_are_counted_whenever_somebody_looks(gaps: list[int], random: Random) -> None:
    times = np.cumsum(gaps) * 200_000_000 + SECOND
    expected, before = 0, 0
    for gap in gaps[1:]:
        expected = expected + 1 if before >= 4 and 1.8 * before <= gap <= 2.25 * before else 0
        before = gap
    # Two connections, of which one rests; looks that come at any time.
    lines, taken = np.zeros(2, OPEN), 0
    while taken < len(times):
        some = times[taken : taken + random.randint(1, 4)]
        stalled.follow(lines, np.ones(len(some), np.int64), some)
        taken += len(some)
    assert lines["doubled"].tolist() == [0, expected]


def test_a_visitor_who_asked_for_much_is_followed_no_further() -> None:
    ids = np.arange(800)
    visits = [segments(ids, Kind.ACK, 0.1 + number / 100) for number in range(70)]
    looks = [
        np.concatenate([opened(ids, 0), *visits]),
        *(segments(ids, Kind.ACK, at, 125, True) for at in (2, 3, 4, 5)),
    ]
    for look in looks:
        look["destination_port"] = 443
    watch = SlowWatch(ZONES, "edge-1")
    assert not any(run(watch, looks))
    assert watch.followed == 0


def test_other_peoples_servers_and_other_ports_are_none_of_ours() -> None:
    ids = np.arange(800)
    for field, value in (("destination_low", MAPPED | 0x01010101), ("destination_port", 22)):
        looks = [opened(ids, 0), crumbs(ids, 1), crumbs(ids, 2), crumbs(ids, 3)]
        for look in looks:
            look[field] = value
        assert run(SlowWatch(ZONES, "edge-1"), looks) == [[]] * 4


def test_an_attack_on_a_zone_that_went_and_came_is_another_one() -> None:
    ids, watch = np.arange(800), SlowWatch(ZONES, "edge-1")
    [first] = run(watch, [opened(ids, 0), crumbs(ids, 1), crumbs(ids, 2)])[2]
    watch.protect(())
    assert watch.look(np.zeros(0, HEADER), 5 * SECOND, NOW) == ()
    watch.protect(ZONES)
    [second] = watch.look(np.zeros(0, HEADER), 6 * SECOND, NOW)
    assert second.state is State.STARTED and second.attack != first.attack


@given(st.integers(0, 2**32), st.integers(1, 400))
def test_the_table_keeps_to_its_size_whatever_comes(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    watch = SlowWatch(ZONES, "edge-1", SlowSettings(connections=50, table=100))
    for second in range(5):
        raw = random.integers(0, 256, count * HEADER.itemsize, dtype=np.uint8)
        wild = raw.view(HEADER).copy()
        wild["time"], wild["protocol"], wild["marks"] = second * SECOND, 6, HAS_PORTS | HAS_PAYLOAD
        wild["destination_port"], wild["fragment"] = 80, 0
        wild["kind"] = random.choice([int(Kind.SYN), int(Kind.ACK), int(Kind.RST)], count)
        ids = np.arange(count) + second * 1_000
        watch.look(np.concatenate([wild, opened(ids, second), crumbs(ids, second), crumbs(ids, second)]),
                   second * SECOND, NOW)  # fmt: skip
        assert watch.followed <= 100


def test_silent_connections_are_forgotten() -> None:
    watch = SlowWatch(ZONES, "edge-1")
    watch.look(opened(np.arange(100), 0), SECOND, NOW)
    assert watch.followed == 100
    watch.look(np.zeros(0, HEADER), 200 * SECOND, NOW)
    assert watch.followed == 0


def test_a_limit_beyond_the_table_is_refused() -> None:
    with pytest.raises(Refused):
        SlowSettings(connections=100, table=50)
