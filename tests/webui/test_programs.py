"""What the supervisor says of its programs, for people."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.programs import RECENT, REPORT_AGE, lately, program_views, troubles

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def report(**changes: Any) -> Mapping[str, Any]:
    well = {
        "name": "intake", "pid": 7, "since": NOW.isoformat(), "deaths": 0, "ended": None, "status": None, "problem": "",
    }  # fmt: skip
    return {"at": NOW.isoformat(), "pid": 1, "programs": [well | changes]}


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def test_what_runs_and_never_ended_is_shown_and_no_trouble() -> None:
    (view,) = program_views(report(since=ago(3700)), NOW)
    assert (view.name, view.running, view.since, view.restarts, view.last) == ("intake", True, "1 h 1 min", 0, "")
    assert [*troubles(report(), NOW)] == [] == [*troubles(None, NOW)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"pid": None, "deaths": 3, "ended": ago(4), "status": 1},
            ("does not run", "exit status 1, 4 s ago", "3 times"),
        ),
        (
            {"deaths": 2, "ended": ago(60), "status": -9, "is_steady": False},
            ("keeps ending", "by SIGKILL, 1 min 0 s ago", "started again", "2 times"),
        ),
        ({"pid": None, "problem": "No such file or directory"}, ("can't be started", "No such file")),
    ],
)
def test_what_ended_is_named_with_how_and_when(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    (line,) = troubles(report(**changes), NOW)
    assert (line.startswith("Intake: ") and "log" in line) or "installation" in line
    assert all(word in line for word in words), line


def test_one_death_is_no_trouble_any_more_once_it_runs_again_and_told_of_for_a_while() -> None:
    fresh = report(deaths=1, ended=ago(2), status=-9)
    assert [*troubles(fresh, NOW)] == []
    (line,) = lately(fresh, NOW)
    assert "by SIGKILL, 2 s ago" in line and "started again" in line
    assert [*lately(report(pid=None, deaths=1, ended=ago(2), status=-9), NOW)] == [], "it is a trouble, and told as one"
    assert [*lately(report(), NOW)] == [] == [*lately(None, NOW)]


def test_a_death_of_long_ago_is_shown_and_no_more() -> None:
    old = report(deaths=2, ended=ago(RECENT.total_seconds() + 1), status=0)
    assert [*troubles(old, NOW)] == [] == [*lately(old, NOW)]
    assert program_views(old, NOW)[0].restarts == 2


def test_a_silent_supervisor_is_one_trouble_and_what_it_said_counts_no_more() -> None:
    later = NOW + REPORT_AGE + timedelta(seconds=1)
    (line,) = troubles(report(pid=None), later)
    assert "supervisor is silent" in line and program_views(report(), later) == ()


anything = st.none() | st.booleans() | st.integers() | st.text()


@given(
    st.lists(
        anything | st.dictionaries(st.sampled_from(["name", "pid", "since", "ended", "status", "problem"]), anything)
    )
)
def test_a_report_of_garbage_is_shown_somehow(programs: list[Any]) -> None:
    garbled = {"at": NOW.isoformat(), "programs": programs}
    assert len(program_views(garbled, NOW)) <= len(programs)
    assert all(isinstance(line, str) for line in [*troubles(garbled, NOW), *lately(garbled, NOW)])
