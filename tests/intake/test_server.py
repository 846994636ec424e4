"""The door against those who don't keep to the rules: each is turned away, counted, and hurts nobody else."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from link_rig import RunningIntake, SpeakerSocket, detection, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from intake.settings import Limits
from rules.messages_link import (
    ENROLMENT_PATH,
    LINK_PATH,
    SERVER_NAME,
    Acknowledged,
    Beat,
    Enrolment,
    IntakeFrame,
    Later,
    Reason,
    Refusal,
    Report,
    SensorFrame,
    Zones,
    parse_intake_frame,
    render_sensor_frame,
)
from rules.messages_values import Statistics
from rules.traffic import Detection
from sensors.enroll import Identity


def _anonymous() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def raw_link(
    intake: RunningIntake, identity: Identity | None, path: str = LINK_PATH, **options: Any
) -> Iterator[ClientConnection]:
    """A WebSocket without our link's manners."""
    context = identity.client_context() if identity else _anonymous()
    with (
        socket.create_connection(("127.0.0.1", intake.settings.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as secure,
        connect(f"ws://x{path}", sock=secure, proxy=None, close_timeout=1, **options) as websocket,
    ):
        yield websocket


def _ask(websocket: ClientConnection, raw: bytes | SensorFrame) -> IntakeFrame:
    websocket.send(raw if isinstance(raw, bytes) else render_sensor_frame(raw))
    while isinstance(frame := parse_intake_frame(websocket.recv(10, decode=False)), Zones):
        pass
    return frame


def _status(intake: RunningIntake, identity: Identity | None, path: str = LINK_PATH) -> int:
    with pytest.raises(InvalidStatus) as caught, raw_link(intake, identity, path):
        pass
    return caught.value.response.status_code


def _limited(tmp_path: Path, speaker: SpeakerSocket, limits: Limits) -> RunningIntake:
    running = RunningIntake(tmp_path / "limited", speaker.path, limits)
    running.start()
    return running


@pytest.fixture
def identity(intake: RunningIntake, tmp_path: Path) -> Identity:
    return intake.enrolled(tmp_path / "sensor")


def test_garbage_gets_a_refusal_and_the_next_frame_an_answer(intake: RunningIntake, identity: Identity) -> None:
    with raw_link(intake, identity) as websocket:
        for raw in (b"\x00\xff", b"{}", b"[" * 50_000, b'{"frame":"report","id":7}'):
            answer = _ask(websocket, raw)
            assert isinstance(answer, Refusal) and answer.reason is Reason.MALFORMED and answer.problems
        assert isinstance(answer, Refusal) and answer.id == 7
        assert _ask(websocket, Report(8, detection())) == Acknowledged(8)
    assert intake.refusals(Reason.MALFORMED) == 4


def test_who_sends_nothing_but_garbage_is_cut_off(intake: RunningIntake, identity: Identity) -> None:
    with raw_link(intake, identity) as websocket, pytest.raises(ConnectionClosed):
        for _ in range(30):
            _ask(websocket, b"?")
    assert intake.refusals(Reason.MALFORMED) == intake.settings.limits.malformed_frames


def test_an_oversized_message_ends_the_link(intake: RunningIntake, identity: Identity) -> None:
    with raw_link(intake, identity) as websocket, pytest.raises(ConnectionClosed):
        _ask(websocket, b" " * (intake.settings.limits.frame_bytes + 1))
    wait_until(lambda: intake.refusals(Reason.OVERSIZED) == 1)


def test_a_silent_sensor_is_cut_off_and_one_with_heartbeats_is_not(tmp_path: Path, speaker: SpeakerSocket) -> None:
    intake = _limited(tmp_path, speaker, Limits(silence_seconds=0.3))
    try:
        identity = intake.enrolled(tmp_path / "sensor")
        with raw_link(intake, identity) as websocket:
            begun = time.monotonic()
            while time.monotonic() - begun < 0.6:
                websocket.send(render_sensor_frame(Beat(Statistics())))
                time.sleep(0.02)  # the pace of the sender, not a wait for something
            assert intake.refusals(Reason.SILENT) == 0
            with pytest.raises(ConnectionClosed):
                while True:
                    websocket.recv(10)
        assert intake.refusals(Reason.SILENT) == 1
    finally:
        intake.stop()


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_who_connects_and_says_nothing_is_cut_off(tmp_path: Path, speaker: SpeakerSocket, is_encrypted: bool) -> None:
    intake = _limited(tmp_path, speaker, Limits(handshake_seconds=0.3))
    try:
        with ExitStack() as stack:
            link = stack.enter_context(socket.create_connection(("127.0.0.1", intake.settings.port), 10))
            if is_encrypted:
                link = stack.enter_context(_anonymous().wrap_socket(link))
                link.sendall(b"GET /v1/link HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert link.recv(100) == b"", "the intake hangs up"
    finally:
        intake.stop()


def test_who_asks_to_enrol_and_says_nothing_is_cut_off(tmp_path: Path, speaker: SpeakerSocket) -> None:
    intake = _limited(tmp_path, speaker, Limits(handshake_seconds=0.3))
    try:
        with raw_link(intake, None, ENROLMENT_PATH) as websocket, pytest.raises(ConnectionClosed):
            websocket.recv(10)
        assert intake.refusals(Reason.SILENT) == 1
    finally:
        intake.stop()


def test_without_certificate_there_is_no_link(intake: RunningIntake) -> None:
    assert _status(intake, None) == 403
    assert intake.refusals(Reason.NO_CERTIFICATE) == 1


def test_a_certificate_of_another_authority_does_not_pass_tls(
    intake: RunningIntake, speaker: SpeakerSocket, tmp_path: Path
) -> None:
    other = RunningIntake(tmp_path / "other", speaker.path)
    other.start()
    try:
        foreign = other.enrolled(tmp_path / "foreign")
    finally:
        other.stop()
    # The client trusts the right server, but shows a certificate that this one has not signed.
    (tmp_path / "foreign" / "authority.pem").write_bytes((tmp_path / "intake" / "authority.pem").read_bytes())
    # How the broken handshake shows depends on which side is quicker.
    with pytest.raises((OSError, WebSocketException)) as caught, raw_link(intake, foreign):
        pass
    assert not isinstance(caught.value, InvalidStatus)
    assert intake.server.linked == ()


def test_a_certificate_that_was_revoked_is_turned_away(intake: RunningIntake, identity: Identity) -> None:
    intake.registry.revoke("edge-1", datetime.now(UTC))
    assert _status(intake, identity) == 403
    assert intake.refusals(Reason.REVOKED) == 1


def test_a_certificate_the_registry_does_not_know_is_turned_away(
    intake: RunningIntake, identity: Identity, tmp_path: Path
) -> None:
    (tmp_path / "intake" / "sensors.json").unlink()
    assert _status(intake, identity) == 403
    assert intake.refusals(Reason.UNKNOWN_SENSOR) == 1


def test_other_paths_lead_nowhere(intake: RunningIntake, identity: Identity) -> None:
    assert _status(intake, identity, "/") == 404


def test_a_linked_sensor_cannot_enrol_and_the_unenrolled_cannot_report(
    intake: RunningIntake, identity: Identity
) -> None:
    with raw_link(intake, identity) as websocket:
        answer = _ask(websocket, Enrolment("x", "y"))
        assert isinstance(answer, Refusal) and answer.reason is Reason.BAD_REQUEST
    with raw_link(intake, None, ENROLMENT_PATH) as websocket:
        answer = _ask(websocket, Report(1, detection()))
        assert isinstance(answer, Refusal) and answer.reason is Reason.MALFORMED


def test_a_second_link_of_a_sensor_replaces_the_first(intake: RunningIntake, identity: Identity) -> None:
    with raw_link(intake, identity) as first, raw_link(intake, identity) as second:
        with pytest.raises(ConnectionClosed):
            while True:
                first.recv(10)
        assert _ask(second, Report(1, detection())) == Acknowledged(1)
        assert intake.server.linked == ("edge-1",)


def test_too_many_connections_are_turned_away(tmp_path: Path, speaker: SpeakerSocket) -> None:
    intake = _limited(tmp_path, speaker, Limits(connections=2, unenrolled_connections=1))
    try:
        identity = intake.enrolled(tmp_path / "sensor")
        with raw_link(intake, None, ENROLMENT_PATH):
            assert _status(intake, None, ENROLMENT_PATH) == 503
            with raw_link(intake, identity):
                assert _status(intake, identity) == 503
        assert intake.refusals(Reason.TOO_MANY_CONNECTIONS) == 2
    finally:
        intake.stop()


def test_a_sensor_that_talks_too_fast_is_slowed_and_loses_nothing(tmp_path: Path, speaker: SpeakerSocket) -> None:
    intake = _limited(tmp_path, speaker, Limits(frames_per_second=100, frames_burst=10))
    try:
        identity = intake.enrolled(tmp_path / "sensor")
        with raw_link(intake, identity) as websocket:
            begun = time.monotonic()
            for number in range(50):
                websocket.send(render_sensor_frame(Report(number, detection("a", number))))
            acknowledged = {_next(websocket) for _ in range(50)}
            assert time.monotonic() - begun >= 0.38
        assert acknowledged == set(range(50))
        assert intake.refusals(Reason.TOO_FAST) > 0
    finally:
        intake.stop()


def _next(websocket: ClientConnection) -> int:
    while True:
        frame = parse_intake_frame(websocket.recv(10, decode=False))
        if isinstance(frame, Acknowledged):
            return frame.id


def test_too_many_targets_are_refused_and_counted(tmp_path: Path, speaker: SpeakerSocket) -> None:
    intake = _limited(tmp_path, speaker, Limits(targets_per_minute=3))
    try:
        identity = intake.enrolled(tmp_path / "sensor")
        with raw_link(intake, identity) as websocket:
            answers = [_ask(websocket, Report(number, _about(number))) for number in range(5)]
        assert [type(one) for one in answers] == [Acknowledged] * 3 + [Refusal] * 2
        assert intake.refusals(Reason.TOO_MANY_TARGETS) == 2
        assert len(speaker.reports) == 3
    finally:
        intake.stop()


def _about(host: int) -> Detection:
    return detection(f"a{host}", target=ip_network(f"203.0.113.{host}/32"))


def test_a_replay_is_acknowledged_and_not_passed_on(
    intake: RunningIntake, identity: Identity, speaker: SpeakerSocket
) -> None:
    one = detection()
    with raw_link(intake, identity) as websocket:
        assert _ask(websocket, Report(1, one)) == Acknowledged(1)
        assert _ask(websocket, Report(2, one)) == Acknowledged(2)
    assert speaker.told == [("a1", 0)]
    assert intake.refusals(Reason.REPLAYED) == 1


def test_without_a_speaker_the_sensor_is_told_to_keep_it(
    intake: RunningIntake, identity: Identity, speaker: SpeakerSocket
) -> None:
    speaker.stop()
    with raw_link(intake, identity) as websocket:
        assert _ask(websocket, Report(1, detection())) == Later(1, Reason.SPEAKER_AWAY)
        speaker.start()
        assert _ask(websocket, Report(1, detection())) == Acknowledged(1)


def test_zones_that_cannot_be_read_leave_the_last_ones_in_force(tmp_path: Path, speaker: SpeakerSocket) -> None:
    intake = RunningIntake(tmp_path / "intake-2", speaker.path)
    intake.start()
    try:
        identity = intake.enrolled(tmp_path / "sensor")
        intake.breakdown = OSError("database is locked")
        metrics = intake.server.metrics
        wait_until(lambda: metrics.registry.get_sample_value("stopbank_intake_zones_failed_total"))
        with raw_link(intake, identity) as websocket:
            assert _ask(websocket, Report(1, detection())) == Acknowledged(1)
        intake.stop()
        intake.start()
        with raw_link(intake, identity) as websocket:
            assert _ask(websocket, Report(2, detection("a2"))) == Later(2, Reason.ZONES_UNKNOWN)
            intake.breakdown = None
            wait_until(lambda: isinstance(_ask(websocket, Report(3, detection("a2"))), Acknowledged))
    finally:
        intake.stop()


def test_the_listener_survives_noise_on_the_port(intake: RunningIntake, identity: Identity) -> None:
    for noise in (b"\x00" * 1000, b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\x01" * 500):
        with socket.create_connection(("127.0.0.1", intake.settings.port), 10) as plain:
            plain.sendall(noise)
    with raw_link(intake, replace(identity)) as websocket:
        assert _ask(websocket, Report(1, detection())) == Acknowledged(1)
