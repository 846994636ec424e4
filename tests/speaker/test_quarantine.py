from hypothesis import given
from hypothesis import strategies as st

from rules.rule import RuleId
from speaker.quarantine import SHORT_LIVES, STABLE_SECONDS, Quarantine

rule_ids = st.sets(st.integers(0, 40).map(lambda number: RuleId(f"rule{number:02}")), min_size=1, max_size=20)


class Router:
    """Resets the session whenever it holds a poison rule; the speaker tells it whatever is not barred, at once."""

    def __init__(self, rules: set[RuleId], poison: set[RuleId]) -> None:
        self.quarantine, self.poison, self.now, self.resets = Quarantine(), poison, 0.0, 0
        self.told = dict.fromkeys(sorted(rules), 0.0)
        self.wanted = set(rules)
        self.quarantine.up(0.0)

    def step(self) -> None:
        self.now += 0.5
        if self.told.keys() & self.poison:
            self.resets += 1
            # The router says so, the session comes back, and everything is sent again.
            self.quarantine.notified(3, 9, self.told, self.now)
            self.quarantine.down(self.told, self.now)
            self.quarantine.up(self.now)
        self.quarantine.tick(True, max(self.told.values(), default=-1e9), self.now)
        allowed = self.wanted - self.quarantine.barred().keys()
        self.told = {rule: self.told.get(rule, self.now) for rule in sorted(allowed)}


@given(rule_ids, st.data())
def test_exactly_the_poison_rules_are_sentenced_and_all_others_stand(rules: set[RuleId], data: st.DataObject) -> None:
    poison = data.draw(st.sets(st.sampled_from(sorted(rules)), max_size=2))
    router = Router(rules, poison)
    for _ in range(2_000):
        router.step()
    assert set(router.quarantine.sentenced) == poison
    assert set(router.told) == rules - poison
    assert not router.quarantine.is_searching
    # Each of at most two is found in about log2(20) resets, plus those before the withdrawal.
    assert router.resets <= 14


def test_a_session_that_flaps_for_other_reasons_accuses_nobody() -> None:
    quarantine = Quarantine()
    held = {RuleId("a"): 0.0}
    assert not quarantine.notified(4, 0, held, 1)
    assert not quarantine.notified(6, 3, held, 2)
    for number in range(20):
        quarantine.up(100.0 * number)
        assert not quarantine.down(held, 100.0 * number + 50)
    assert quarantine.barred() == {}


def test_a_session_that_keeps_dying_young_without_a_word_is_a_reproduced_reset() -> None:
    quarantine = Quarantine()
    held = {RuleId("a"): 0.0}
    for number in range(SHORT_LIVES):
        assert quarantine.barred() == {}
        quarantine.up(number)
        changed = quarantine.down(held, number + 0.3)
    assert changed and set(quarantine.barred()) == {"a"}


def test_a_rule_that_ended_is_forgotten_wherever_it_was() -> None:
    quarantine = Quarantine()
    quarantine.up(0)
    quarantine.notified(3, 1, {RuleId("a"): 0.0, RuleId("b"): 0.0}, 0)
    quarantine.forget(RuleId("a"))
    assert set(quarantine.barred()) == {"b"}
    quarantine.tick(True, 0, STABLE_SECONDS + 1)
    quarantine.notified(3, 1, {RuleId("b"): 4.0}, 5)
    assert "3/1" in quarantine.sentenced[RuleId("b")]
    quarantine.forget(RuleId("b"))
    assert quarantine.barred() == {}
