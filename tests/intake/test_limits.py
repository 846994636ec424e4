"""Rates hold whatever the order and spacing of what arrives."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from intake.limits import TargetWindow, TokenBucket

gaps = st.lists(st.floats(0, 5), min_size=1, max_size=200)
TARGETS = [ip_network(f"203.0.113.{host}/32") for host in range(12)]


@given(gaps, st.floats(0.5, 100), st.integers(1, 20))
def test_who_waits_as_told_never_exceeds_the_rate(pauses: list[float], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    now, times = 100.0, []
    for pause in pauses:
        now += pause
        now += bucket.take(now)
        times.append(now)
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = burst + (times[last] - times[first]) * rate
            assert last - first + 1 <= allowed + 1 + 1e-6


@given(st.integers(1, 50))
def test_a_burst_passes_at_once_and_no_more(burst: int) -> None:
    bucket = TokenBucket(10.0, burst)
    assert [bucket.take(5.0) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(5.0) > 0


@given(st.lists(st.tuples(st.sampled_from(TARGETS), st.floats(0, 30)), max_size=100), st.integers(1, 6))
def test_no_minute_holds_more_targets_than_allowed(events: list[tuple[object, float]], limit: int) -> None:
    window = TargetWindow(limit)
    now = 0.0
    admitted: list[tuple[object, float]] = []
    for target, gap in events:
        now += gap
        recent = {one for one, at in admitted if now - at < 60}
        is_admitted = window.admits(target, now)  # type: ignore[arg-type]
        assert is_admitted == (target in recent or len(recent) < limit)
        if is_admitted:
            admitted.append((target, now))
