"""Everything that crosses a process boundary comes back as it was, or is refused with every problem."""

import dataclasses
import json
from typing import Any

import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

from rules.action import Discard
from rules.errors import Problem, Refused
from rules.messages import (
    Accepted,
    Answer,
    Declined,
    DetectionReport,
    Heartbeat,
    Kill,
    KillMode,
    Reload,
    SpeakerRequest,
    StatusQuery,
    Wake,
    parse_answer,
    parse_request,
    render_answer,
    render_request,
)
from rules.messages_enrolment import EnrolmentToken
from rules.messages_json import PROBLEM_LIMIT, dumps, loads
from rules.messages_link import (
    Acknowledged,
    Beat,
    Enrolment,
    IntakeFrame,
    Issued,
    Later,
    Reason,
    Refusal,
    Renewal,
    Report,
    SensorFrame,
    Zones,
    parse_intake_frame,
    parse_sensor_frame,
    render_intake_frame,
    render_sensor_frame,
    report_id,
)
from rules.messages_values import (
    Statistics,
    detection_from_json,
    detection_to_json,
    zone_from_json,
    zone_to_json,
)
from rules.rule import FlowSpec
from rules.traffic import Detection, Signature
from rules.zone import Zone

ids = st.integers(0, 2**53)
names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
numbers = st.integers(-(10**18), 10**18) | st.floats(-1e18, 1e18)
statistics = st.dictionaries(names, numbers, max_size=8).map(Statistics.of)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
problems = st.lists(st.builds(Problem, words, words, words), max_size=3).map(tuple)
detections = strategies.detections()
requests: st.SearchStrategy[SpeakerRequest] = st.one_of(
    st.builds(lambda d, old: DetectionReport(d.sensor, d, old), detections, st.booleans()),
    st.builds(Heartbeat, strategies.names, statistics),
    st.just(Wake()),
    st.just(StatusQuery()),
    st.builds(Kill, st.sampled_from(KillMode), words),
    st.just(Reload()),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
)
bodies = st.dictionaries(words.filter(lambda word: word != "ok"), json_values, max_size=4)
answers: st.SearchStrategy[Answer] = st.one_of(
    st.builds(Accepted, bodies), st.builds(Declined, problems, st.booleans())
)
sensor_frames: st.SearchStrategy[SensorFrame] = st.one_of(
    st.builds(Report, ids, detections),
    st.builds(Beat, statistics),
    st.builds(Renewal, words),
    st.builds(Enrolment, words, words),
)
intake_frames: st.SearchStrategy[IntakeFrame] = st.one_of(
    st.builds(Acknowledged, ids),
    st.builds(Refusal, st.none() | ids, st.sampled_from(Reason), problems),
    st.builds(Later, ids, st.sampled_from(Reason)),
    st.builds(Zones, st.lists(strategies.zones(), max_size=3).map(tuple)),
    st.builds(Issued, words, words),
)
PARSERS = (parse_request, parse_answer, parse_sensor_frame, parse_intake_frame)


# ----------------------------------------------------------------------------------------------------------- laws


@given(detections)
def test_a_detection_comes_back_as_it_was(detection: Detection) -> None:
    assert detection_from_json(loads(dumps(detection_to_json(detection)), 1 << 20)) == detection


@given(strategies.matches(), strategies.detections())
def test_any_match_survives_inside_a_signature(match: Any, detection: Detection) -> None:
    changed = dataclasses.replace(detection, signatures=(Signature(match, 0.5, None),))
    assert detection_from_json(detection_to_json(changed)) == changed


@given(strategies.zones())
def test_a_zone_comes_back_as_it_was(zone: Zone) -> None:
    assert zone_from_json(loads(dumps(zone_to_json(zone)), 1 << 20)) == zone


@given(requests)
def test_a_request_comes_back_as_it_was(request: SpeakerRequest) -> None:
    line = render_request(request)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert parse_request(line) == request


@given(answers)
def test_an_answer_comes_back_as_it_was(answer: Answer) -> None:
    line = render_answer(answer)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert parse_answer(line) == answer


@given(sensor_frames)
def test_a_sensor_frame_comes_back_as_it_was(frame: SensorFrame) -> None:
    assert parse_sensor_frame(render_sensor_frame(frame)) == frame


@given(intake_frames)
def test_an_intake_frame_comes_back_as_it_was(frame: IntakeFrame) -> None:
    assert parse_intake_frame(render_intake_frame(frame)) == frame


def _meets(parse: Any, raw: bytes) -> None:
    try:
        parse(raw)
    except Refused as error:
        assert 1 <= len(error.problems) <= PROBLEM_LIMIT
        assert "\n" not in "".join(problem.field for problem in error.problems)


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'{"kind":NaN}')
@example(b'{"kind":-Infinity}')
@example(b'{"kind":1e999}')
@example(b"9" * 10_000)
@example(b'{"ok":' + b"9" * 5_000 + b"}")
@example(b'{"kind":"wake","kind":"wake"}')
@example(b'{"kind":"\\ud800","ok":"\\ud800"}')
@example(b"\xff\xfe")
@example(b"")
def test_arbitrary_bytes_give_a_value_or_a_refusal(raw: bytes) -> None:
    for parse in PARSERS:
        _meets(parse, raw)


@given(st.one_of(requests.map(render_request), sensor_frames.map(render_sensor_frame)), st.data())
def test_a_damaged_message_gives_a_value_or_a_refusal(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw) - 1))
    damaged = raw[:at] + data.draw(st.binary(max_size=3)) + raw[at + data.draw(st.integers(0, 3)) :]
    for parse in PARSERS:
        _meets(parse, damaged)


@given(json_values)
def test_any_json_is_a_detection_or_refused(value: object) -> None:
    with pytest.raises(Refused):
        detection_from_json(value)
    with pytest.raises(Refused):
        zone_from_json(value)


@given(detections, st.data())
def test_one_wrong_member_anywhere_is_refused_at_its_path(detection: Detection, data: st.DataObject) -> None:
    value: Any = detection_to_json(detection)
    name = data.draw(st.sampled_from(sorted(value)))
    value[name] = data.draw(st.sampled_from([{"x": 1}, [[]], "\x00", -1, 1e300, float("nan")]))
    with pytest.raises(Refused) as caught:
        detection_from_json(value)
    assert all(problem.field.startswith(f"detection.{name}") for problem in caught.value.problems)


# ------------------------------------------------------------------------------------------------------- examples


def _some_detection() -> dict[str, Any]:
    share = {"id": "udp_amp:dns", "share_packets": 0.9, "share_bytes": 0.95}
    signature = {
        "match": "match { destination 203.0.113.7/32; protocol =udp; source-port =53; }",
        "family": "ipv4",
        "coverage": 0.9,
        "collateral": None,
    }
    rate = {"packets_per_second": 100_000, "bits_per_second": 1e9}
    return {
        "sensor": "edge-1", "attack": "a1", "sequence": 0, "zone": "web", "target": "203.0.113.7/32",
        "state": "started", "vantage": "upstream", "confirmed": True, "severity": 3.0, "metric": "packets",
        "rate": rate, "peak": rate, "vectors": [share, share], "signatures": [signature], "sources": 7,
        "spoofed": None, "first_seen": "2026-01-31T12:00:00Z", "seen": "2026-01-31T12:00:00.250000+00:00",
    }  # fmt: skip


def _fields(value: object) -> set[str]:
    with pytest.raises(Refused) as caught:
        detection_from_json(value)
    return {problem.field for problem in caught.value.problems}


def test_the_example_is_a_detection_whose_signature_is_a_rule() -> None:
    detection = detection_from_json(_some_detection())
    assert str(detection.vector) == "udp_amp:dns"
    assert detection.seen.microsecond == 250_000
    assert FlowSpec(detection.signatures[0].match, Discard()).id


def test_a_detection_of_an_old_sensor_has_no_word_on_confidence_and_limits() -> None:
    detection = detection_from_json(_some_detection())
    assert detection.confidence == 0.5
    assert detection.signatures[0].separates


def test_every_problem_is_told_at_its_path() -> None:
    value = _some_detection()
    value["vectors"][1] = {"id": "udp_amp", "share_packets": 1.5, "share_bytes": True, "more": 1}
    value["signatures"][0]["match"] = "match { destination 203.0.113.7/24; source-port =70000; }"
    value["target"] = "fe80::%eth0/64"
    value["extra"] = {}
    value["rate"]["packets_per_second"] = "many"
    value["seen"] = "2026-02-30T00:00:00Z"
    del value["zone"]
    assert _fields(value) == {
        "detection.vectors[1].id",
        "detection.vectors[1].share_packets",
        "detection.vectors[1].share_bytes",
        "detection.vectors[1].more",
        "detection.signatures[0].match.destination",
        "detection.signatures[0].match.source-port",
        "detection.target",
        "detection.extra",
        "detection.rate.packets_per_second",
        "detection.peak.packets_per_second",
        "detection.seen",
        "detection.zone",
    }


def test_lists_that_are_too_long_are_refused_without_reading_them() -> None:
    value = _some_detection()
    value["vectors"] = value["vectors"][:1] * 33
    value["signatures"] = value["signatures"] * 5
    assert _fields(value) == {"detection.vectors", "detection.signatures"}


def test_an_empty_list_of_vectors_is_refused() -> None:
    value = _some_detection() | {"vectors": []}
    assert _fields(value) == {"detection.vectors"}


@pytest.mark.parametrize("moment", ["2026-01-31T12:00:00", "2026-01-31T12:00:00+02:00", "2026-01-31", "now", 1.5])
def test_a_time_that_is_not_utc_is_refused(moment: object) -> None:
    assert _fields(_some_detection() | {"seen": moment}) == {"detection.seen"}


def test_a_report_whose_sensor_differs_from_its_detection_is_refused() -> None:
    line = json.dumps({"kind": "detection", "sensor": "edge-2", "detection": _some_detection()}).encode()
    with pytest.raises(Refused, match=r"request\.sensor"):
        parse_request(line)


def test_a_report_says_nothing_of_history_unless_it_is_told() -> None:
    line = json.dumps({"kind": "detection", "sensor": "edge-1", "detection": _some_detection()}).encode()
    report = parse_request(line)
    assert isinstance(report, DetectionReport) and not report.is_history


def test_an_unknown_kind_is_refused_by_its_name_alone() -> None:
    with pytest.raises(Refused) as caught:
        parse_request(b'{"kind":"shutdown","now":true}')
    assert [problem.field for problem in caught.value.problems] == ["request.kind"]


def test_a_request_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(Refused, match="at most"):
        parse_request(b" " * (1 << 20) + b'{"kind":"wake"}')


def test_a_hostile_flood_of_unknown_members_is_told_briefly() -> None:
    value = {f"x{number}": 1 for number in range(10_000)} | {"kind": "wake"}
    with pytest.raises(Refused) as caught:
        parse_request(json.dumps(value).encode())
    assert len(caught.value.problems) == PROBLEM_LIMIT


def test_the_number_of_a_refused_report_can_still_be_read() -> None:
    assert report_id(b'{"frame":"report","id":7,"detection":{}}') == 7
    assert report_id(b'{"id":true}') is None
    assert report_id(b"\x00") is None


# ---------------------------------------------------------------------------------------------------------- tokens

hosts = st.sampled_from(["intake.example.net", "192.0.2.1", "::1", "2001:db8::1", "localhost", "a"])
tokens = st.builds(
    EnrolmentToken,
    hosts,
    st.integers(1, 65535),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{22,64}", fullmatch=True),
)


@given(tokens)
def test_a_token_comes_back_as_it_was_and_keeps_its_secret(token: EnrolmentToken) -> None:
    assert EnrolmentToken.parse(f" {token}\n") == token
    assert token.secret not in repr(token)


@given(st.text() | st.text().map(lambda rest: f"stopbank-enroll:v1:{rest}"))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        EnrolmentToken.parse(text)
    except Refused as error:
        assert error.problems


def test_a_refused_token_does_not_show_the_secret() -> None:
    with pytest.raises(Refused) as caught:
        EnrolmentToken.parse("stopbank-enroll:v1:host:99999:abc:sekrit!")
    assert {problem.field for problem in caught.value.problems} == {"port", "fingerprint", "secret"}
    assert "sekrit" not in str(caught.value)
