"""The benchmarks' front: names, forms, and what becomes of a benchmark that fails."""

import importlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import run
from bench.result import TARGET, Result, percentile

FIGURE = Result.against("one.p95", 20.0, "ms", TARGET, 50.0, "40 rules")


def working() -> Iterator[Result]:
    yield FIGURE


def failing() -> Iterator[Result]:
    yield FIGURE
    raise TimeoutError("nothing came")


def test_an_unknown_name_is_refused_with_all_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main("speed", as_json=True) == run.UNKNOWN == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "'speed'" in printed.err
    assert all(name in printed.err for name in (*run.BENCHMARKS, "all"))


def test_json_is_one_object_a_line_with_figure_and_peer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main("one", as_json=True, known={"one": working, "other": failing}) == 0
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert document.pop("load_average") >= 0
    assert 0 <= document.pop("processor_pressure", 0) <= 100
    assert document == {
        "metric": "one.p95",
        "value": 20.0,
        "unit": "ms",
        "peer": TARGET,
        "peer_value": 50.0,
        "ratio": 0.4,
        "note": "40 rules",
    }


def test_a_failing_benchmark_is_reported_keeps_its_figures_and_the_others_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run.main("all", as_json=True, known={"bad": failing, "good": working}) == run.FAILED == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["metric"] for line in printed.out.splitlines()] == ["one.p95", "one.p95"]
    assert "bad failed: TimeoutError: nothing came" in printed.err
    assert "good failed" not in printed.err


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main("one", as_json=False, known={"one": working}) == 0
    printed = capsys.readouterr().out
    assert "one.p95" in printed and "0.40" in printed
    with pytest.raises(json.JSONDecodeError):
        json.loads(printed)


def test_none_lost_where_none_may_be_lost_meets_the_target_and_one_lost_is_beyond_all_measure() -> None:
    assert Result.against("lost", 0, "routes", TARGET, 0).ratio == 0
    assert Result.against("lost", 1, "routes", TARGET, 0).as_json()["ratio"] is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_one_of_the_values_and_the_smallest_that_covers_the_share(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(one <= found for one in values) >= share * len(values) - 1e-9 * len(values)
    assert sum(one < found for one in values) < share * len(values)


def test_every_registered_benchmark_can_be_imported_and_has_something_to_run() -> None:
    assert set(run.BENCHMARKS) >= {"packet_cost", "detection_latency", "rule_latency", "bulk", "deadlines"}
    for name in run.BENCHMARKS:
        assert callable(importlib.import_module(f"bench.{name}").run)
