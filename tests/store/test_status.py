"""Status: announcements, incidents, detections, sensors, messages, settings; and noticing that something changed."""

from dataclasses import asdict, replace
from datetime import timedelta
from ipaddress import ip_network
from time import process_time

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from stored import LATER, NOW, WORLD, ZONE, admitted, request, rule
from strategies import detections, zones

from rules.errors import Refused
from rules.lifecycle import Phase
from rules.rule import RuleId
from rules.traffic import Detection, Rate, State, Vantage, Vector, VectorShare
from rules.zone import Zone
from store import canonical
from store.database import Concern
from store.models import RuleRow
from store.records import AnnouncementRecord, IncidentRecord, OutboxState, SensorRecord
from store.store import Store

MINUTE = timedelta(minutes=1)
INCIDENT = IncidentRecord(
    None, "campus", "203.0.0.1/32", "open", NOW, NOW, None, "udp_amp:dns", 3.5, 1e6, 1e9, {"sensors": ["one"]}
)


def announcement(number: int, neighbour: str = "edge", phase: Phase = Phase.ACTIVE) -> AnnouncementRecord:
    return AnnouncementRecord(RuleId(f"{number:020x}"), neighbour, "speaker", phase, NOW)


def test_an_announcement_recorded_again_replaces_the_first(store: Store) -> None:
    other = replace(announcement(1), speaker="second")
    store.record_announcements([announcement(1, phase=Phase.ANNOUNCING), announcement(1), other])
    store.record_announcements([announcement(1, phase=Phase.WITHDRAWING), announcement(2)])
    store.record_announcements([])
    assert store.announcements() == (other, announcement(1, phase=Phase.WITHDRAWING), announcement(2))
    assert store.announcements(rule=RuleId(f"{1:020x}"), speaker="second") == (other,)


def test_announcements_are_forgotten_by_rule_or_when_long_ended(store: Store) -> None:
    store.record_announcements([announcement(1), announcement(1, "core"), announcement(2, phase=Phase.ENDED)])
    assert store.forget_announcements(RuleId(f"{1:020x}"), speaker="somebody else") == 0
    assert store.forget_announcements(RuleId(f"{1:020x}")) == 2
    assert store.forget_ended_announcements(NOW) == 0
    assert store.forget_ended_announcements(NOW + MINUTE) == 1
    assert store.announcements() == ()


def test_five_thousand_announcements_are_recorded_within_a_second(store: Store) -> None:
    records = [announcement(number) for number in range(5_000)]
    store.record_announcements(records)
    started = process_time()
    store.record_announcements(records)
    assert process_time() - started < 1
    assert len(store.announcements()) == 5_000


def test_an_incident_gets_an_id_when_saved_and_keeps_it(store: Store) -> None:
    saved = store.save_incident(INCIDENT)
    assert saved == replace(INCIDENT, id=saved.id)
    assert saved.id is not None
    closed = store.save_incident(replace(saved, state="closed", closed=LATER, document={}))
    assert store.incident(saved.id) == closed
    second = store.save_incident(INCIDENT)
    assert store.incidents() == (second, closed)
    assert store.incidents(state="open") == (second,)
    assert store.incidents(zone="elsewhere") == ()
    assert store.incidents(before=second.id) == (closed,)
    assert store.incident(99) is None


def test_a_rule_knows_its_incident_and_an_unknown_one_is_refused(store: Store) -> None:
    saved = store.save_incident(INCIDENT)
    record, _ = store.admit(
        request(), WORLD, deadline=LATER, actor="speaker", reason="test", now=NOW, incident=saved.id
    )
    assert record.incident == saved.id
    before = store.audit_head()
    with pytest.raises(Refused, match="incident"):
        store.admit(request(2), WORLD, deadline=LATER, actor="speaker", reason="test", now=NOW, incident=99)
    assert store.audit_head() == before
    assert len(store.wanted()) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(detections())
def test_a_sensors_message_is_kept_once_and_comes_back_equal(store: Store, detection: Detection) -> None:
    saved = store.save_incident(INCIDENT)
    assert saved.id is not None
    new = store.record_detection(detection, saved.id, NOW)
    assert not store.record_detection(detection, saved.id, NOW)
    if new:
        assert [one.detection for one in store.detections(saved.id)] == [detection]
    assert store.forget_detections(NOW + MINUTE) >= new


def test_messages_that_came_before_their_incident_are_tied_to_it(store: Store) -> None:
    rate = Rate(1e6, 1e9)
    shares = (VectorShare(Vector("syn_flood"), 1, 1),)
    detection = Detection(
        "edge-1", "a1", 0, "campus", ip_network("203.0.0.1/32"), State.STARTED, Vantage.UPSTREAM, True, 3.0, "packets",
        rate, rate, shares, (), 5, None, NOW, NOW,
    )  # fmt: skip
    assert store.record_detection(detection, None, NOW)
    saved = store.save_incident(INCIDENT)
    assert saved.id is not None
    store.attach_detections(detection.sensor, detection.attack, saved.id)
    assert [one.detection for one in store.detections(saved.id)] == [detection]
    with pytest.raises(IntegrityError):
        store.attach_detections(detection.sensor, detection.attack, 99)


def test_sensors_are_remembered_by_name(store: Store) -> None:
    first = SensorRecord("edge-1", NOW, {"packets_total": 5, "load": 0.5}, "0.1.0")
    store.save_sensor_seen(first)
    store.save_sensor_seen(replace(first, name="a"))
    store.save_sensor_seen(replace(first, last_seen=LATER))
    assert store.sensors() == (replace(first, name="a"), replace(first, last_seen=LATER))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(zones())
def test_a_zone_comes_back_as_it_was_put(store: Store, zone: Zone) -> None:
    store.put_zone(zone, "ann", NOW, shared=True)
    assert zone in store.zones()
    store.remove_zone(zone.name, "ann", NOW)
    assert zone not in store.zones()


def test_removing_a_zone_that_is_not_there_is_refused_and_leaves_no_audit(store: Store) -> None:
    before = store.audit_head()
    with pytest.raises(Refused, match="not known"):
        store.remove_zone("nowhere", "ann", NOW)
    assert store.audit_head() == before


def test_a_zone_change_is_audited_with_what_was_before(store: Store) -> None:
    store.put_zone(replace(ZONE, owner="tim"), "bob", NOW)
    row = store.audit_rows(limit=1)[0]
    assert (row.actor, row.action, row.subject) == ("bob", "zone.put", "campus")
    assert '"owner":"tim"' in row.detail
    assert '"owner":"operator"' in row.detail


def test_settings_hold_anything_json_can(store: Store) -> None:
    assert store.setting("theme") is None
    store.put_setting("theme", ["dark", 1], "ann", NOW)
    store.put_setting("theme", {"name": "light"}, "ann", NOW)
    assert store.setting("theme") == {"name": "light"}
    assert store.audit_rows(limit=1)[0].action == "setting.put"


def test_a_message_is_leased_to_one_worker_and_falls_back_when_that_one_dies(store: Store) -> None:
    store.outbox_add("webhook", {"a": 1}, NOW)
    (taken,) = store.outbox_take(10, NOW, lease_seconds=30)
    assert (taken.kind, taken.payload, taken.attempts, taken.state) == ("webhook", {"a": 1}, 1, OutboxState.TAKEN)
    assert store.outbox_take(10, NOW + timedelta(seconds=29)) == ()
    (again,) = store.outbox_take(10, NOW + timedelta(seconds=30))
    assert (again.id, again.attempts) == (taken.id, 2)
    store.outbox_done(again.id)
    assert store.outbox_take(10, NOW + 60 * MINUTE) == ()
    assert store.outbox_counts()[OutboxState.DONE] == 1


def test_a_message_that_failed_is_due_again_when_said_or_never(store: Store) -> None:
    store.outbox_add("webhook", {}, NOW)
    (taken,) = store.outbox_take(1, NOW)
    store.outbox_failed(taken.id, "503", NOW + MINUTE)
    assert store.outbox_take(1, NOW + MINUTE / 2) == ()
    (again,) = store.outbox_take(1, NOW + MINUTE)
    assert again.last_error == "503"
    store.outbox_failed(again.id, "gave up", None)
    assert store.outbox_take(1, NOW + 60 * MINUTE) == ()
    assert [one.last_error for one in store.outbox(OutboxState.DEAD)] == ["gave up"]
    assert store.outbox_forget(NOW) == 0
    assert store.outbox_forget(NOW + MINUTE) == 1


def test_messages_are_taken_oldest_first_and_no_more_than_asked(store: Store) -> None:
    for number in range(5):
        store.outbox_add("x", {"number": number}, NOW + timedelta(seconds=number))
    taken = store.outbox_take(3, NOW + MINUTE)
    assert [one.payload["number"] for one in taken] == [0, 1, 2]


def test_the_change_counters_tell_intents_from_status(store: Store) -> None:
    def counters() -> tuple[int, int, int]:
        return store.change_counter(), store.change_counter(Concern.INTENTS), store.change_counter(Concern.STATUS)

    every, intents, status = counters()
    admitted(store)
    assert counters() == (every + 1, intents + 1, status)
    store.record_announcements([announcement(1)])
    assert counters() == (every + 2, intents + 1, status + 1)
    store.wanted()
    assert counters() == (every + 2, intents + 1, status + 1)


def test_five_thousand_wanted_rules_are_read_within_a_second(store: Store) -> None:
    fill(store, 5_000)
    started = process_time()
    assert len(store.wanted()) == 5_000
    assert process_time() - started < 2, "the first time, with every text parsed"
    started = process_time()
    assert len(store.wanted()) == 5_000
    assert process_time() - started < 1


def fill(store: Store, count: int) -> None:
    """Rules by the back door: the guard's time is measured elsewhere."""
    common = asdict(admitted(store, 60_000))
    common |= {"origin": "operator", "intent": "wanted", "incident": None}
    del common["id"], common["rule"]
    with store.writing(Concern.INTENTS) as session:
        rows = []
        for number in range(count - 1):
            text, rule_id = str(rule(number)), rule(number).id
            its_hash = canonical.rule_hash(text, "operator", "campus", 1)
            rows.append({**common, "rule_id": rule_id, "text": text, "hash": its_hash})
        session.execute(insert(RuleRow), rows)


def news(store: Store) -> list[str]:
    return [f"{one.kind} {one.payload['id']}" for one in reversed(store.outbox())]


def test_people_hear_once_that_a_rule_went_out_and_once_that_nobody_has_it_any_more(store: Store) -> None:
    number = f"{1:020x}"
    store.record_announcements([announcement(1, phase=Phase.ANNOUNCING), announcement(1, "core", Phase.UNFIT)])
    store.record_announcements([announcement(1), announcement(1, "core")])
    store.record_announcements([announcement(1, phase=Phase.ENDED)])
    assert news(store) == [f"rule.announced {number}"]
    store.record_announcements([announcement(1, "core", Phase.ENDED)])
    assert news(store) == [f"rule.announced {number}", f"rule.withdrawn {number}"]


def test_a_rule_that_no_neighbour_can_hold_is_no_news_of_an_announcement(store: Store) -> None:
    store.record_announcements([announcement(1, phase=Phase.PROPOSED), announcement(1, "core", Phase.UNFIT)])
    assert news(store) == []


def test_people_hear_of_confirmed_incidents_only(store: Store) -> None:
    suspicion = store.save_incident(INCIDENT)
    store.save_incident(replace(suspicion, closed=LATER))
    assert news(store) == []
    incident = store.save_incident(replace(INCIDENT, document={"is_confirmed": False}))
    confirmed = replace(incident, document={"is_confirmed": True, "why": "above the limit"})
    store.save_incident(confirmed)
    store.save_incident(confirmed)
    assert news(store) == [f"incident.opened {incident.id}"]
    assert store.outbox()[0].payload["why"] == "above the limit"
    store.save_incident(replace(confirmed, closed=LATER))
    store.save_incident(replace(confirmed, closed=LATER))
    assert news(store) == [f"incident.opened {incident.id}", f"incident.closed {incident.id}"]
