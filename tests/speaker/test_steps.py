"""A clock that is set back; sessions stand as the test says."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.sessions import PeerSession
from speaker.steps import STEP_SECONDS, Advice, Steps

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
UP = PeerSession(IPv4Address("192.0.2.1"), is_up=True, since=1)
LATE = 1000.0
"""Long after these sessions should have come up."""
DOWN = PeerSession(IPv4Address("192.0.2.2"), since=1, connected_at=LATE - 10)
FAR = PeerSession(IPv4Address("192.0.2.3"), since=1)
"""Cannot be reached: ExaBGP makes no pauses there."""
BACK = PeerSession(IPv4Address("192.0.2.4"), since=1, connected_at=LATE + 2)
"""Tried again since."""


def stepped(seconds: float) -> Steps:
    steps = Steps()
    steps.tick(LATE, NOON)
    steps.tick(LATE + 1, NOON + timedelta(seconds=1 + seconds))
    return steps


@pytest.mark.parametrize(
    ("sessions", "advice"),
    [
        ((UP,), Advice.NOTHING),
        ((UP, DOWN), Advice.TELL),
        ((DOWN, FAR), Advice.START_ANEW),
        ((FAR, BACK), Advice.NOTHING),
    ],
)
def test_an_hour_back_matters_to_who_is_down(sessions: tuple[PeerSession, ...], advice: Advice) -> None:
    steps = stepped(-3600)
    assert steps.advise(sessions, LATE + 2) is advice
    assert steps.seconds == pytest.approx(3600)


def test_exabgp_is_started_anew_once_and_nobody_is_told_after_the_clock_has_caught_up() -> None:
    steps = stepped(-3600)
    assert steps.advise([UP, DOWN], LATE + 3600) is Advice.TELL
    assert steps.advise([UP, DOWN], LATE + 3601) is Advice.NOTHING
    steps = stepped(-3600)
    assert [steps.advise([DOWN], LATE + 2), steps.advise([DOWN], LATE + 3)] == [Advice.START_ANEW, Advice.NOTHING]


@given(st.floats(-STEP_SECONDS + 0.01, 1e6))
def test_a_clock_that_is_set_on_or_slewed_changes_nothing(seconds: float) -> None:
    assert stepped(seconds).advise([DOWN], LATE + 2) is Advice.NOTHING
