"""The simulated day: its traffic is what it says."""

import numpy as np
import pytest

from lab.day import Plan, simulate
from lab.day_events import DAY, SOURCES, attacks, bursts, ordinary
from lab.day_feed import Extra, Usual
from lab.day_hosts import LINES, NETWORK, Role, address, host_at, lengths, population, rhythm
from rules.zone import DEFAULT_LIMITS, Metric
from sensors.headers import HEADER


def test_hosts_have_addresses_of_their_own() -> None:
    found = address(np.arange(10_000)).tolist()
    assert len(set(found)) == 10_000
    assert all(NETWORK[0] < NETWORK[number - int(NETWORK[0])] <= NETWORK[-1] for number in found)
    assert [host_at(number) for number in found] == [*range(10_000)]


def test_a_tenth_of_the_subscribers_gets_most_of_their_traffic() -> None:
    people = population(10_000, 1)
    usual = np.bincount(people.usual.hosts, people.usual.rates, 10_000)[people.of(Role.SUBSCRIBER)]
    usual = np.sort(usual)
    assert usual[-len(usual) // 10 :].sum() > 0.4 * usual.sum()
    megabits = (people.usual.rates * lengths()[people.usual.templates] * 8 / 1e6).sum() / 10_000
    assert 1 <= megabits <= 10


def test_the_night_is_quiet() -> None:
    subscribers = [rhythm(hour)[0] for hour in range(24)]
    assert max(subscribers) == pytest.approx(subscribers[20])
    assert min(subscribers) < 0.3 * max(subscribers)


def test_ordinary_life_stays_below_the_default_limits_by_itself() -> None:
    people, limits = population(2_000, 3), dict(DEFAULT_LIMITS)
    fastest = max(speed for speed, _ in LINES)
    assert fastest < limits[Metric.BITS]
    for event in (*ordinary(people, 3), *bursts(people, 72_000, 3)):
        assert not event.is_attack
        assert event.rate < limits[Metric.PACKETS]
        assert 0 <= event.begin < event.end <= DAY + 7_200


def test_attacks_have_hosts_of_their_own() -> None:
    found = attacks(population(1_000, 1), 1)
    assert len({event.host for event in found}) == len(found) >= 20


def test_what_is_fed_is_what_was_planned() -> None:
    people = population(500, 2)
    usual, extra = Usual(people, 2), Extra([], 2)
    packets = sum(usual.step(72_000 + second, 1, 0).view(HEADER)["weight"].sum() for second in range(60)) / 60
    assert packets == pytest.approx((people.usual.rates).sum(), rel=0.5)
    assert not len(extra.step(0, 1, 0))
    ramp = next(event for event in attacks(people, 2) if event.growth)
    sent = Extra([ramp], 2).step(ramp.begin + 3_600, 10, 0).view(HEADER)
    # Each of its sources may have a bunch of eight more or less.
    assert sent["weight"].sum() == pytest.approx(10 * ramp.rate * 1.01**60, abs=SOURCES * 8)
    assert (sent["protocol"] == ramp.template.value[0]).all()


def test_packets_come_in_bunches_and_none_is_lost() -> None:
    people = population(300, 4)
    usual = Usual(people, 4)
    sent = [usual.step(72_000 + 0.04 * number, 0.04, number).view(HEADER).copy() for number in range(200)]
    found = np.concatenate(sent)
    assert found["weight"].min() >= 8
    assert np.mean([len(one) for one in sent]) < len(people.usual.rates) / 10
    ten = Usual(people, 4).step(72_000, 8.0, 0).view(HEADER)
    assert found["weight"].sum() == pytest.approx(ten["weight"].sum(), rel=0.02)


def test_a_day_that_is_stopped_says_how_much_of_it_was_played() -> None:
    heard: list[float] = []
    outcome = simulate(
        Plan(hosts=60, hours=24, first_hour=3.99, history_days=0.01, fine_seconds=1),
        each_hour=lambda outcome: heard.append(outcome.hours),
        stop=lambda: len(heard) > 0,
    )
    assert outcome.hours == pytest.approx(0.01)
    assert len(heard) == 1
    assert not outcome.missed


def test_a_sample_of_the_day_has_no_false_alarm_and_no_missed_attack() -> None:
    plan = Plan(hosts=150, hours=0.015, first_hour=14.0, history_days=1.1)
    outcome = simulate(plan)
    assert not outcome.false_alarms
    assert [event.cause for event in outcome.found] == ["in the daily peak"]
    assert not outcome.missed
    assert outcome.bytes_per_target <= 64
