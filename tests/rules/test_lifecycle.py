"""The life of an announcement against a model router: whatever the order of events, nothing is left behind."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.lifecycle import TABLE, WITHDRAW_LIMIT, Announcement, Effect, Event, Illegal, Phase, step

ANSWERS = {
    (Effect.ANNOUNCE, True): Event.ANNOUNCED,
    (Effect.ANNOUNCE, False): Event.REFUSED,
    (Effect.WITHDRAW, True): Event.WITHDRAWN,
    (Effect.WITHDRAW, False): Event.KEPT,
}
ANSWER_EVENTS = set(ANSWERS.values()) | {Event.GAVE_UP}

WISHES = [Event.APPROVED, Event.CHANGED, Event.ENDED, Event.UNFIT, Event.RETRIED]
RESPAWNS = [("speaker respawns", executed) for executed in range(3)]

choices = st.lists(st.integers(0, 9), min_size=1, max_size=40)
"""Each picks one of the things that can happen then, so that no example is spent on what can't."""


class Bench:
    """One announcement, and a router that answers commands in order; a wish that is illegal now must change nothing."""

    def __init__(self) -> None:
        self.announcement = Announcement()
        self.in_flight: deque[Effect] = deque()
        self.router_holds = False
        self.announces_minus_withdraws = 0
        self.rule_is_over = False
        self.alarms = 0

    def happen(self, event: Event) -> None:
        before = self.announcement
        if event not in TABLE[before.phase] and event not in ANSWER_EVENTS:
            with pytest.raises(Illegal):
                before.step(event)
            assert self.announcement == before
            return
        self.announcement, effect = before.step(event)
        if event is Event.ENDED:
            self.rule_is_over = True
        self._carry_out(effect, repeated=event in (Event.KEPT, Event.RETRIED, Event.RESTARTED))

    def _carry_out(self, effect: Effect | None, repeated: bool) -> None:
        if effect is Effect.ALARM:
            self.alarms += 1
        elif effect is not None:
            self.in_flight.append(effect)
        if effect is Effect.ANNOUNCE and not self.announces_minus_withdraws:
            self.announces_minus_withdraws += 1
        elif effect is Effect.WITHDRAW and not repeated:
            self.announces_minus_withdraws -= 1
        assert self.announces_minus_withdraws in (0, 1)

    def answer(self, accepted: bool) -> None:
        if self.in_flight:
            command = self.in_flight.popleft()
            self._execute(command, accepted)
            self.happen(ANSWERS[command, accepted])

    def _execute(self, command: Effect, accepted: bool) -> None:
        if accepted:
            self.router_holds = command is Effect.ANNOUNCE

    def daemon_restarts(self) -> None:
        """ExaBGP's table is empty, the commands under way are lost, the router drops what is not announced again."""
        self.router_holds = False
        self.in_flight.clear()
        self.happen(Event.RESTARTED)

    def speaker_respawns(self, executed: int) -> None:
        """Routes stay; some commands under way were still carried out, none of the answers arrives."""
        for _ in range(min(executed, len(self.in_flight))):
            self._execute(self.in_flight.popleft(), accepted=True)
        self.in_flight.clear()
        self.happen(Event.RESTARTED)

    def play(self, happening: object) -> None:
        match happening:
            case Event():
                self.happen(happening)
            case "yes" | "no":
                self.answer(happening == "yes")
            case ("daemon restarts", _):
                self.daemon_restarts()
            case ("speaker respawns", int(executed)):
                self.speaker_respawns(executed)
            case _:
                raise AssertionError(happening)

    def settle(self, unlucky: int) -> None:
        """All answers come in, the first `unlucky` of them bad; whoever watches the alarm asks again."""
        while self.in_flight or self.announcement.phase is Phase.STUCK:
            if not self.in_flight:
                self.happen(Event.RETRIED)
            self.answer(accepted=unlucky <= 0)
            unlucky -= 1

    def possible(self) -> list[object]:
        """What can happen now."""
        wishes = [event for event in WISHES if event in TABLE[self.announcement.phase]]
        answers = ["yes", "yes", "no"] if self.in_flight else []
        return [*wishes, *answers, ("daemon restarts", 0), *RESPAWNS]


def chosen(picks: list[int]) -> Bench:
    bench = Bench()
    for pick in picks:
        possible = bench.possible()
        bench.play(possible[pick % len(possible)])
        if bench.rule_is_over:
            assert bench.announcement.phase in (Phase.WITHDRAWING, Phase.STUCK, Phase.ENDED)
    return bench


def played(course: list[object]) -> Bench:
    bench = Bench()
    for happening in course:
        bench.play(happening)
    return bench


@given(choices, st.integers(0, 12))
def test_once_a_rule_has_ended_and_all_answers_are_in_the_router_holds_nothing(picks: list[int], bad: int) -> None:
    bench = chosen(picks)
    if Event.ENDED in TABLE[bench.announcement.phase]:
        bench.happen(Event.ENDED)
    bench.settle(bad)
    assert bench.announcement.phase is Phase.ENDED
    assert not bench.router_holds
    assert bench.announces_minus_withdraws == 0


@given(choices)
def test_when_all_answers_are_in_the_phase_says_what_the_router_holds(picks: list[int]) -> None:
    bench = chosen(picks)
    while bench.in_flight:
        bench.answer(accepted=True)
    phase = bench.announcement.phase
    assert phase in (Phase.PROPOSED, Phase.ACTIVE, Phase.UNFIT, Phase.STUCK, Phase.ENDED)
    if phase is not Phase.STUCK:
        assert bench.router_holds == (phase is Phase.ACTIVE)
        assert bench.router_holds <= bench.announcement.may_be_on_the_router


def test_a_rule_that_ends_while_it_is_expelled_is_over_when_it_is_off() -> None:
    bench = played([Event.APPROVED, "yes", Event.UNFIT, Event.ENDED, "yes"])
    assert bench.announcement.phase is Phase.ENDED


@pytest.mark.parametrize("phase", [phase for phase in Phase if Announcement(phase).may_be_on_the_router])
def test_after_a_restart_everything_that_may_be_on_the_router_is_said_again(phase: Phase) -> None:
    _, effect = Announcement(phase).step(Event.RESTARTED)
    announces = phase in (Phase.ANNOUNCING, Phase.ACTIVE)
    assert effect is (Effect.ANNOUNCE if announces else Effect.WITHDRAW)


@given(st.sampled_from(Phase), st.sampled_from(Event), st.integers(0, WITHDRAW_LIMIT))
def test_what_the_table_does_not_hold_is_illegal_and_changes_nothing(phase: Phase, event: Event, failed: int) -> None:
    announcement = Announcement(phase, failed)
    if event in TABLE[phase]:
        assert step(phase, event) == TABLE[phase][event]
        return
    with pytest.raises(Illegal, match="cannot happen"):
        step(phase, event)
    with pytest.raises(Illegal):
        announcement.step(event)
    assert announcement == Announcement(phase, failed)


def test_the_refusal_of_a_second_announce_withdraws_the_first() -> None:
    bench = played([Event.APPROVED, ("speaker respawns", 1), "no"])
    assert bench.router_holds
    assert bench.in_flight == deque([Effect.WITHDRAW])


def test_the_answer_to_the_announce_is_not_taken_for_that_to_the_withdraw() -> None:
    bench = played([Event.APPROVED, Event.ENDED, "yes"])
    assert bench.announcement.phase is Phase.WITHDRAWING
    bench.play("no")
    assert bench.announcement.phase is Phase.WITHDRAWING
    assert bench.in_flight == deque([Effect.WITHDRAW])


def test_withdraws_are_retried_up_to_a_limit_and_then_alarm_once() -> None:
    course: list[object] = [Event.APPROVED, "yes", Event.ENDED, *["no"] * (WITHDRAW_LIMIT - 1)]
    almost = played(course)
    assert (almost.announcement.phase, almost.alarms) == (Phase.WITHDRAWING, 0)
    bench = played([*course, "no"])
    assert (bench.announcement.phase, bench.alarms) == (Phase.STUCK, 1)
    assert not bench.in_flight
    assert bench.announcement.may_be_on_the_router


def test_an_alarm_does_not_bar_another_try() -> None:
    bench = played([Event.APPROVED, "yes", Event.ENDED, *["no"] * WITHDRAW_LIMIT, Event.RETRIED, "yes"])
    assert bench.announcement == Announcement(Phase.ENDED)


def test_a_quarantined_announcement_is_taken_off_and_may_come_back() -> None:
    bench = played([Event.APPROVED, "yes", Event.UNFIT, "yes"])
    assert bench.announcement.phase is Phase.UNFIT
    assert not bench.router_holds
    bench.play(Event.APPROVED)
    bench.play("yes")
    assert bench.router_holds


def test_a_rule_with_another_action_is_announced_again_over_the_first() -> None:
    bench = played([Event.APPROVED, "yes", Event.CHANGED])
    assert (bench.announcement.phase, list(bench.in_flight)) == (Phase.ANNOUNCING, [Effect.ANNOUNCE])
    bench.play("yes")
    assert bench.announcement.phase is Phase.ACTIVE


def test_what_a_neighbour_cannot_hold_is_never_sent_and_what_is_under_way_is_taken_back() -> None:
    never = played([("daemon restarts", 0), Event.UNFIT])
    assert (never.announcement.phase, list(never.in_flight)) == (Phase.UNFIT, [])
    under_way = played([Event.APPROVED, Event.UNFIT])
    assert list(under_way.in_flight) == [Effect.ANNOUNCE, Effect.WITHDRAW]
    assert played([("daemon restarts", 0)]).announcement == Announcement(Phase.PROPOSED)
