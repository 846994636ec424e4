"""The wanted rules, changed step by step, against those built at once."""

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import rules

from rules.guard import ActiveRules, Held, Origin
from rules.rule import Rule


@st.composite
def held(draw: st.DrawFn) -> Held:
    """Somebody's rule."""
    owner, origin = draw(st.sampled_from("ab")), draw(st.sampled_from(Origin))
    return Held(draw(rules()), owner, origin, draw(st.sampled_from((None, "x", "y"))))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(held(), max_size=8),
    st.lists(st.tuples(st.lists(held(), max_size=2), st.sets(st.integers(0, 12), max_size=2)), max_size=3),
    rules(),
)
def test_changes_end_where_building_anew_ends(
    first: list[Held], changes: list[tuple[list[Held], set[int]]], probe: Rule
) -> None:
    active = ActiveRules(first)
    for added, numbers in changes:
        before = set(active)
        now = list(active)
        removed = [now[number] for number in numbers if number < len(now)]
        changed = active.changed(added, removed)
        assert set(active) == before, "the old one stays as it was"
        active = changed
        gone = {one.id for one in removed}
        anew = ActiveRules((*(one for one in now if one.id not in gone), *added))
        assert set(active) == set(anew) and len(active) == len(anew)
        for one in [probe, *(one.rule for one in anew)]:
            assert set(active.related(one)) == set(anew.related(one))
            assert active.get(one.id) == anew.get(one.id)
        for zone in (None, "x", "y"):
            assert active.count_automatic(zone) == anew.count_automatic(zone)
            assert [active.count(one, zone) for one in Origin] == [anew.count(one, zone) for one in Origin]
