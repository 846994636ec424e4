"""A sensor is heard about its own zones only, once, and as news only while it is news."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network

import strategies
from hypothesis import given
from hypothesis import strategies as st
from link_rig import MAIL, WEB, detection

from intake.admission import EVERY_ZONE, Duplicate, Identity, Passed, Turned, Verdict, admit
from intake.limits import TargetWindow
from intake.replay import ReplayMemory, ReplayWindow
from intake.settings import Limits
from rules.match import Match
from rules.messages_link import Reason
from rules.traffic import Detection, Signature, State
from rules.zone import Zone

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LIMITS = Limits()
EDGE = Identity("edge-1", frozenset({"web"}))


def _verdict(
    one: Detection,
    identity: Identity = EDGE,
    seen: ReplayMemory | None = None,
    targets: TargetWindow | None = None,
) -> Verdict:
    zones = {zone.name: zone for zone in (WEB, MAIL)}
    memory, window = seen or ReplayMemory(10), targets or TargetWindow(LIMITS.targets_per_minute)
    return admit(one, identity, zones, memory, window, LIMITS, NOW, 0.0)


def _reason(verdict: Verdict) -> Reason | None:
    return verdict.reason if isinstance(verdict, Turned) else None


@given(strategies.detections(), st.sampled_from(["web", "mail", "*"]), strategies.zones("web"))
def test_whatever_passes_lies_wholly_inside_a_zone_of_the_sensor(one: Detection, bound: str, zone: Zone) -> None:
    one = replace(one, sensor="edge-1", zone="web")
    zones = {"web": zone}
    identity = Identity("edge-1", frozenset({bound}))
    window = TargetWindow(LIMITS.targets_per_minute)
    verdict = admit(one, identity, zones, ReplayMemory(1), window, LIMITS, one.seen, 0.0)
    if isinstance(verdict, Passed):
        assert bound != "mail"
        assert zone.holds(one.target)
        for signature in one.signatures:
            destination = signature.match.destination
            assert isinstance(destination, IPv4Network | IPv6Network) and zone.holds(destination)
    else:
        assert bound == "mail" or not zone.holds(one.target) or one.signatures


@given(st.floats(-3600, 3600))
def test_age_alone_decides_between_news_history_and_the_future(seconds: float) -> None:
    one = detection(seen=NOW - timedelta(seconds=seconds))
    age = (NOW - one.seen).total_seconds()
    verdict = _verdict(one)
    if age < -10:
        assert _reason(verdict) is Reason.FUTURE
    else:
        assert verdict == Passed(is_history=age > 10)


def test_each_overreach_has_its_own_reason() -> None:
    fresh = detection(seen=NOW)
    other = Signature(Match(destination=ip_network("198.51.100.1/32")), 1.0, 0.0)
    nowhere = Signature(Match(source=ip_network("192.0.2.0/24")), 1.0, 0.0)
    cases = {
        Reason.WRONG_SENSOR: replace(fresh, sensor="edge-2"),
        Reason.FOREIGN_ZONE: replace(fresh, zone="mail", target=ip_network("198.51.100.1/32")),
        Reason.FOREIGN_TARGET: replace(fresh, target=ip_network("203.0.112.0/23")),
        Reason.FOREIGN_SIGNATURE: replace(fresh, signatures=(other,)),
    }
    assert {reason: _reason(_verdict(one)) for reason, one in cases.items()} == {reason: reason for reason in cases}
    assert _reason(_verdict(replace(fresh, signatures=(nowhere,)))) is Reason.FOREIGN_SIGNATURE
    assert _verdict(fresh) == Passed(is_history=False)


def test_a_sensor_bound_to_every_zone_speaks_of_each() -> None:
    one = detection(zone="mail", target=ip_network("198.51.100.1/32"), seen=NOW)
    assert _verdict(one, Identity("edge-1", frozenset({EVERY_ZONE}))) == Passed(is_history=False)
    assert _reason(_verdict(one)) is Reason.FOREIGN_ZONE


def test_what_was_passed_on_is_a_duplicate_even_when_it_is_old() -> None:
    seen = ReplayMemory(10)
    seen.add("a1", ReplayWindow(3))
    assert _verdict(detection(sequence=3, seen=NOW - timedelta(hours=1)), seen=seen) == Duplicate()
    assert _verdict(detection(sequence=2, seen=NOW), seen=seen) == Passed(is_history=False)


def test_targets_beyond_the_rate_are_turned_away_but_ends_and_history_are_not() -> None:
    targets = TargetWindow(1)
    assert _verdict(detection(seen=NOW), targets=targets) == Passed(is_history=False)
    second = detection("a2", seen=NOW, target=ip_network("203.0.113.8/32"))
    assert _reason(_verdict(second, targets=targets)) is Reason.TOO_MANY_TARGETS
    assert _verdict(replace(second, state=State.OVER), targets=targets) == Passed(is_history=False)
    assert _verdict(replace(second, seen=NOW - timedelta(minutes=1)), targets=targets) == Passed(is_history=True)
    assert _verdict(detection(sequence=1, seen=NOW), targets=targets) == Passed(is_history=False)
