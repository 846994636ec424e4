import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from rules.rule import RuleId
from speaker.deadlines import AlarmClock, Deadlines

names = st.sampled_from([RuleId(name) for name in "abcdef"])


@given(st.lists(st.tuples(names, st.none() | st.floats(0, 100)), max_size=30), st.lists(st.floats(0, 120), max_size=6))
def test_each_rule_is_due_once_never_early_and_by_its_last_deadline(
    changes: list[tuple[RuleId, float | None]], looks: list[float]
) -> None:
    deadlines = Deadlines()
    model: dict[RuleId, float] = {}
    for rule, at in changes:
        if at is None:
            deadlines.drop(rule)
            model.pop(rule, None)
        else:
            deadlines.set(rule, at)
            model[rule] = at
    for now in sorted(looks):
        assert deadlines.next() == min(model.values(), default=None)
        due = deadlines.due(now)
        assert len(due) == len(set(due))
        assert set(due) == {rule for rule, at in model.items() if at <= now}
        model = {rule: at for rule, at in model.items() if at > now}
    assert len(deadlines) == len(model)


def test_the_alarm_clock_wakes_at_the_last_time_it_was_set_to() -> None:
    woken = threading.Event()
    clock = AlarmClock(woken.set)
    clock.start()
    started = time.monotonic()
    clock.in_seconds(60)
    clock.in_seconds(0.2)
    assert woken.wait(20)
    assert time.monotonic() - started >= 0.15
    clock.stop()
