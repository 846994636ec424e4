"""The overview tells the truth: what is wanted, where it stands, and what is wrong, escaped and read-only."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from rules.guard import Origin, Request
from rules.lifecycle import Phase
from rules.rule import parse
from rules.zone import Zone
from store.records import AnnouncementRecord, IncidentRecord, RuleRecord, SensorRecord, World
from store.store import Store
from webui import app, troubles
from webui.app import create_app
from webui.present import _DECIDED, duration, with_code
from webui.settings import Settings

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
RULE = parse(
    "match { destination 203.0.113.7/32; protocol =udp; source-port =53; packet-length >=1000; } then { discard; }"
)
OTHER = parse("match { destination 203.0.113.8/32; protocol =udp; source-port =53; } then { discard; }")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'stopbank.db'}") as store:
        store.put_zone(Zone("web", (IPv4Network("203.0.113.0/24"),)), actor="test", now=NOW)
        yield store


@pytest.fixture
def client(store: Store, tmp_path: Path) -> FlaskClient:
    settings = Settings(f"sqlite:///{tmp_path / 'stopbank.db'}", tmp_path)
    return create_app(settings, store, clock=lambda: NOW).test_client()


def admit(store: Store, reason: str = "attack") -> RuleRecord:
    request = Request(RULE, owner="operator", origin=Origin.OPERATOR, lifetime_seconds=600, is_operator=True)
    record, _ = store.admit(
        request, World(()), deadline=NOW + timedelta(minutes=10), actor="ann", reason=reason, now=NOW, zone="web"
    )
    return record


def write_status(state: Path, at: datetime = NOW, **more: object) -> None:
    document = {"at": at.isoformat(), "neighbours": [], "problems": [], **more}
    (state / "status.json").write_text(json.dumps(document))


def test_an_empty_appliance_says_that_its_speaker_is_silent(client: FlaskClient) -> None:
    page = client.get("/").get_data(as_text=True)
    assert "The speaker has not reported" in page
    assert client.get("/healthz").status_code == 503


def test_a_healthy_appliance_is_healthy(client: FlaskClient, tmp_path: Path) -> None:
    write_status(tmp_path)
    assert client.get("/healthz").status_code == 200


def test_an_old_report_counts_as_silence(client: FlaskClient, tmp_path: Path) -> None:
    write_status(tmp_path, at=NOW - timedelta(seconds=60))
    assert "60 s old" in client.get("/").get_data(as_text=True)


def test_a_wanted_rule_is_not_called_active_before_a_neighbour_has_it(client: FlaskClient, store: Store) -> None:
    record = admit(store)
    assert client.get("/api/v1/status").get_json()["rules"][0]["state"] == "not announced yet"
    spots = [("edge1", Phase.ACTIVE), ("edge2", Phase.UNFIT)]
    store.record_announcements(
        AnnouncementRecord(record.id, name, "speaker", phase, NOW, "why") for name, phase in spots
    )
    shown = client.get("/api/v1/status").get_json()["rules"][0]
    assert shown["state"] == "active at 1 of 2"
    assert {spot["name"]: spot["tone"] for spot in shown["neighbours"]} == {"edge1": "good", "edge2": "bad"}
    assert shown["left"] == "10 min 0 s left"


def test_a_rule_is_not_called_active_where_there_is_no_session(
    client: FlaskClient, store: Store, tmp_path: Path
) -> None:
    record = admit(store)
    store.record_announcements(
        AnnouncementRecord(record.id, name, "speaker", Phase.ACTIVE, NOW) for name in ("edge1", "edge2")
    )

    def shown(*up: bool) -> tuple[str, list[str]]:
        write_status(tmp_path, neighbours=[{"name": f"edge{n}", "up": one} for n, one in enumerate(up, 1)])
        rule = client.get("/api/v1/status").get_json()["rules"][0]
        return rule["state"], [spot["standing"] for spot in rule["neighbours"]]

    assert shown(True, True) == ("active at 2 of 2", ["active", "active"])
    assert shown(True, False) == ("active at 1 of 2", ["active", "session down"])
    assert shown(False, False) == ("no session that holds it", ["session down"] * 2)
    write_status(tmp_path, at=NOW - timedelta(minutes=5), neighbours=[{"name": "edge1", "up": True}])
    rule = client.get("/api/v1/status").get_json()["rules"][0]
    # One that no status names may be another speaker's.
    assert (rule["state"], rule["neighbours"][0]["standing"]) == ("active at 1 of 2", "session unknown")
    write_status(tmp_path, at=NOW - timedelta(minutes=5), neighbours=[{"name": f"edge{n}", "up": True} for n in (1, 2)])
    assert client.get("/api/v1/status").get_json()["rules"][0]["state"] == "not known where"


def test_an_empty_database_in_the_place_of_the_one_with_the_rules_is_told(
    tmp_path: Path,
) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'stopbank.db'}") as empty:
        client = create_app(Settings("", tmp_path), empty, clock=lambda: NOW).test_client()
        write_status(tmp_path, rules=0)
        assert client.get("/healthz").status_code == 200
        write_status(tmp_path, rules=1)
        (line,) = client.get("/healthz").get_json()["problems"]
        assert "database is empty, and the speaker holds 1 rule:" in line
        empty.put_zone(Zone("web", (IPv4Network("203.0.113.0/24"),)), actor="test", now=NOW)
        assert client.get("/healthz").status_code == 200


def test_commands_in_a_problem_look_like_commands_and_nothing_in_it_is_html() -> None:
    assert with_code("look: `stopbank <b>`, & go") == "look: <code>stopbank &lt;b&gt;</code>, &amp; go"
    assert with_code("one ` <i>") == "one ` &lt;i&gt;"


def test_an_ended_rule_that_a_router_still_holds_is_shown_there(client: FlaskClient, store: Store) -> None:
    record = admit(store)
    store.withdraw(record.id, "ann", "over", NOW)
    store.record_announcements([AnnouncementRecord(record.id, "edge1", "speaker", Phase.WITHDRAWING, NOW)])
    shown = client.get("/api/v1/status").get_json()["rules"][0]
    assert (shown["state"], shown["neighbours"][0]["phase"]) == ("being withdrawn", "withdrawing")


def test_incidents_sessions_and_sensors_are_shown(client: FlaskClient, store: Store, tmp_path: Path) -> None:
    neighbours = [{"name": "edge1", "up": True, "families": ["ipv4 flow"], "rules": {"active": 3}}]
    write_status(tmp_path, neighbours=neighbours)
    store.save_incident(
        IncidentRecord(
            None, "web", "203.0.113.7/32", "open", NOW, NOW, None, "udp_amp:dns", 12.0, 1_250_000, 4.2e9,
            {"rate": {"packets_per_second": 1_000_000, "bits_per_second": 3e9}, "sources": 812,
             "why": "above the limit"},
        )
    )  # fmt: skip
    store.save_sensor_seen(
        SensorRecord("east", NOW - timedelta(seconds=2), {"packets_total": 1234567, "packets_dropped_total": 0})
    )
    page = client.get("/").get_data(as_text=True)
    for text in ("1/1", "udp_amp:dns", "1.25 Mpps 4.2 Gbit/s", "above the limit", "812", "1,234,567", "2 s ago"):
        assert text in page, text


def test_the_page_says_who_decided_a_rule_and_whose_it_is(client: FlaskClient, store: Store) -> None:
    admit(store)
    page = client.get("/").get_data(as_text=True)
    assert ">a person<small>owner: operator</small></td>" in page
    assert set(_DECIDED) == set(Origin), "nobody decides without a word for it"


def test_a_disk_without_room_is_named_before_what_comes_of_it(tmp_path: Path) -> None:
    (line,) = troubles.of_disk(tmp_path, 4096)
    assert "is full (0.0 MB left)" in line and "kill switch works" in line
    (line,) = troubles.of_disk(tmp_path, troubles.FULL_BYTES)
    assert "nearly full (1 MB left)" in line
    assert [*troubles.of_disk(tmp_path, troubles.SCARCE_BYTES), *troubles.of_disk(tmp_path, None)] == []


def test_text_from_the_database_is_escaped(client: FlaskClient, store: Store) -> None:
    admit(store, reason="<script>alert(1)</script>")
    page = client.get("/").get_data(as_text=True)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_the_kill_switch_is_visible_and_an_unreadable_one_counts_as_frozen(client: FlaskClient, tmp_path: Path) -> None:
    assert client.get("/api/v1/status").get_json()["mode"] == "normal"
    (tmp_path / "kill.json").write_text('{"mode": "withdraw-all"}')
    assert client.get("/api/v1/status").get_json()["mode"] == "withdraw-all"
    for text in ("{", '{"mode": "no such"}', '{"mode": ["freeze"]}'):
        (tmp_path / "kill.json").write_text(text)
        assert client.get("/api/v1/status").get_json()["mode"] == "freeze"


@pytest.mark.parametrize("path", ["/", "/fragment", "/api/v1/status", "/metrics", "/healthz"])
def test_pages_only_read_and_let_nothing_foreign_run(client: FlaskClient, path: str) -> None:
    for method in (client.post, client.put, client.delete):
        assert method(path).status_code == 405
    policy = client.get(path).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_metrics_of_all_processes_are_served_together(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "speaker.prom").write_text("stopbank_rules_announced 3\n")
    (tmp_path / "intake.prom").write_text("stopbank_messages_total 9\n")
    text = client.get("/metrics").get_data(as_text=True)
    assert "announced 3" in text and "total 9" in text


def test_a_page_that_is_not_there_is_a_plain_404(client: FlaskClient) -> None:
    assert client.get("/etc/passwd").status_code == 404


def test_the_metrics_of_all_who_listen_nowhere_are_served_together(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "speaker.prom").write_text("stopbank_database_up 1.0\n")
    (tmp_path / "worker.prom").write_text("stopbank_deliveries_waiting 0.0\n")
    (tmp_path / "broken.prom").write_bytes(b"\xff")
    text = client.get("/metrics").get_data(as_text=True)
    assert "stopbank_database_up 1.0\n" in text and "stopbank_deliveries_waiting 0.0\n" in text
    assert "# broken.prom can't be read" in text


def test_of_many_rules_the_newest_are_shown_and_the_page_says_how_many_are_not(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SHOWN", 1)
    older = admit(store)
    request = Request(OTHER, owner="operator", origin=Origin.OPERATOR, lifetime_seconds=600, is_operator=True)
    now = NOW + timedelta(seconds=1)
    newer, _ = store.admit(
        request, World(()), deadline=NOW + timedelta(minutes=10), actor="ann", reason="attack", now=now, zone="web"
    )
    document = client.get("/api/v1/status").get_json()
    assert [one["id"] for one in document["rules"]] == [newer.id] != [older.id]
    assert (document["rules_wanted"], document["rules_hidden"]) == (2, 1)
    assert "1 older rule is not shown" in client.get("/").get_data(as_text=True)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(seconds=60), "1 min 0 s"),
        (timedelta(hours=1), "1 h 0 min"),
        (timedelta(hours=47, minutes=59), "47 h 59 min"),
        (timedelta(days=3, hours=2), "3 d 2 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(given: timedelta, shown: str) -> None:
    assert duration(given) == shown


def test_a_silent_speakers_sessions_are_not_called_up(client: FlaskClient, tmp_path: Path) -> None:
    neighbours = [{"name": "edge1", "up": True, "families": ["ipv4 flow"], "rules": {"active": 3}}]
    write_status(tmp_path, neighbours=neighbours)
    assert client.get("/api/v1/status").get_json()["neighbours"][0]["state"] == "up"
    write_status(tmp_path, at=NOW - timedelta(minutes=5), neighbours=neighbours)
    document = client.get("/api/v1/status").get_json()
    assert (document["is_silent"], document["neighbours"][0]["state"]) == (True, "unknown")
    page = client.get("/").get_data(as_text=True)
    assert "<b>silent</b> speaker" in page and "<b>0/1</b> session up" in page


def test_open_incidents_are_counted_and_shown_however_many_closed_after_them(
    client: FlaskClient, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SHOWN", 3)
    write_status(tmp_path)

    def save(number: int, closed: datetime | None) -> None:
        alone = {"alone_since": (NOW - timedelta(hours=20)).isoformat()} if number == 0 else {}
        state = "open" if closed is None else "closed"
        target = f"203.0.113.{number}/32"
        store.save_incident(IncidentRecord(None, "web", target, state, NOW, NOW, closed, "x", 1.0, 1.0, 1.0, alone))

    for number in range(4):
        save(number, None)
    for number in range(4, 9):
        save(number, NOW)
    document = client.get("/api/v1/status").get_json()
    assert (document["incidents_open"], document["incidents_hidden"], len(document["incidents"])) == (4, 1, 3)
    assert all(one["open"] for one in document["incidents"])
    assert "1 more open incident is not shown" in client.get("/").get_data(as_text=True)
    assert any("203.0.113.0/32" in one for one in document["problems"]), "also of one that isn't shown"
