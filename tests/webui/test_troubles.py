"""Every trouble is one line that names who, what and what to do; what is well gives none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stored import LATER, NOW, WORLD, ZONE, request

from rules.lifecycle import Phase
from rules.rule import RuleId
from store.records import AnnouncementRecord, IncidentRecord, SensorRecord
from store.store import Store
from webui import troubles

AT = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def report(**more: Any) -> dict[str, Any]:
    return {"at": AT.isoformat(), "problems": [], "neighbours": [{"name": "edge1", "up": True}]} | more


def test_what_is_well_gives_no_line() -> None:
    well = SensorRecord("east", AT, {"packets_total": 9, "packets_dropped_total": 3, "dropped_per_second": 0,
                                     "link_clock_skew_seconds": 0.4, "troubles": 0})  # fmt: skip
    assert [*troubles.of_speaker(report(), AT), *troubles.of_kill_switch("normal")] == []
    assert [*troubles.of_sensors([well], AT)] == []


@pytest.mark.parametrize("status", [None, report(ended=True), report(at=(AT - timedelta(seconds=11)).isoformat())])
def test_a_silent_speaker_is_one_trouble_and_its_old_words_none(status: Any) -> None:
    if status is not None:
        status["neighbours"] = [{"name": "edge1", "up": False}]
    assert troubles.is_silent(status, AT)
    assert len([*troubles.of_speaker(status, AT)]) == 1


@pytest.mark.parametrize(
    ("neighbour", "words"),
    [
        ({"up": False, "reason": "peer reset"}, ("down", "peer reset", "stopbank doctor")),
        ({"up": None}, ("down",)),
        ({"up": False, "hangs": True, "for_seconds": 600, "waits_for": "connection"}, ("10 min", "no TCP", "filters")),
        ({"up": False, "hangs": True, "for_seconds": 90, "waits_for": "open"}, ("90 s", "does not speak", "BGP runs")),
        ({"up": False, "hangs": True, "for_seconds": 90, "waits_for": "keepalive"}, ("does not agree", "AS numbers")),
        ({"up": False, "hangs": True, "for_seconds": 90, "waits_for": ""}, ("does not come up", "stopbank doctor")),
        ({"up": True, "quarantined": ["a", "b"]}, ("2 rules", "quarantine", "Withdraw")),
        ({"up": True, "inbound_updates": 1}, ("announces routes to us", "Filter")),
    ],
)
def test_a_neighbour_in_trouble_is_named_with_what_to_do(neighbour: dict[str, Any], words: tuple[str, ...]) -> None:
    (line,) = troubles.of_speaker(report(neighbours=[{"name": "edge9", **neighbour}]), AT)
    assert "edge9" in line and all(word in line for word in words)


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({"dropped_per_second": 12_345}, "12,345"),
        ({"link_clock_skew_seconds": -2.5}, "-2.5 s"),
        ({"link_spool_errors_total": 1}, "disk"),
        ({"link_dropped_total": 7}, "7 detections were lost"),
        ({"evidence_lost_total": 1}, "evidence"),
        ({"troubles": 2}, "sensor top"),
    ],
)
def test_what_a_sensor_tells_of_itself_is_told_on(numbers: dict[str, float], word: str) -> None:
    told = [*troubles.of_sensors([SensorRecord("east", AT, numbers)], AT)]
    assert len(told) == 1 and told[0].startswith("Sensor east: ") and word in told[0]
    assert [*troubles.of_sensors([SensorRecord("east", AT, numbers)], AT, apart="east")] == []


def test_a_silent_sensor_is_a_trouble_also_when_it_was_asked_apart() -> None:
    (line,) = troubles.of_sensors([SensorRecord("east", AT - timedelta(days=3))], AT, apart="east")
    assert "silent for 3 d" in line and "stopbank sensor revoke east" in line


@pytest.fixture
def store(tmp_path: Any) -> Iterator[Store]:
    with Store.open(tmp_path / "stopbank.db") as store:
        store.put_zone(ZONE, "ann", NOW)
        yield store


def test_a_wanted_rule_that_stands_nowhere_is_a_trouble_after_a_while(store: Store) -> None:
    record, _ = store.admit(request(), WORLD, deadline=LATER, actor="ann", reason="test", now=NOW)
    later = NOW + timedelta(seconds=31)

    def told(now: datetime, *phases: Phase) -> list[str]:
        spots = [AnnouncementRecord(RuleId(record.id), "edge1", "speaker", one, NOW) for one in phases]
        return [*troubles.of_rules([record], spots, now, has_neighbours=True)]

    assert told(NOW) == [] and told(later, Phase.UNFIT, Phase.ACTIVE) == []
    assert record.id in told(later)[0] and record.id in told(later, Phase.UNFIT)[0]
    assert "edge1" in told(later, Phase.ACTIVE, Phase.STUCK)[0]


def test_an_attack_that_the_machine_has_dealt_with_alone_for_long_asks_for_a_word() -> None:
    def told(since: timedelta | None, closed: datetime | None = None) -> list[str]:
        document = {"alone_since": (AT - since).isoformat() if since else None}
        record = IncidentRecord(7, "web", "203.0.113.7/32", "open", AT, AT, closed, "", 1.0, 1.0, 1.0, document)
        return [*troubles.of_incidents([record], AT, timedelta(hours=24))]

    assert told(None) == told(timedelta(hours=11)) == told(timedelta(hours=30), closed=AT) == []
    (line,) = told(timedelta(hours=18))
    assert "18 h" in line and "2030-01-01 18:00 UTC" in line and "rules extend ID" in line
