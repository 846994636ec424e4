"""Ways out, against real sockets: what counts as delivered, and what the other side can verify."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import DatagramReceiver, HttpReceiver, StreamReceiver, free_port, self_signed, until

from rules.errors import Refused
from store.records import OutboxRecord, OutboxState
from worker.delivery import Undelivered
from worker.notice import Notice, copy
from worker.settings import Syslog, Transport, Webhook
from worker.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, is_genuine, sign
from worker.syslog import LARGEST_DATAGRAM, SyslogDelivery, render
from worker.webhook import WebhookDelivery

SECRET = "a secret of some length"
AT = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
NOTICE = Notice(7, "incident.opened", AT, {"id": 3, "target": "203.0.113.7/32"})


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    started = HttpReceiver().start()
    yield started
    started.stop()


def webhook(receiver: HttpReceiver, **changes: object) -> WebhookDelivery:
    return WebhookDelivery(Webhook(receiver.url, SECRET, **changes))  # type: ignore[arg-type]


def undelivered(way: WebhookDelivery | SyslogDelivery, notice: Notice = NOTICE) -> Undelivered:
    with pytest.raises(Undelivered) as error:
        way.deliver(notice)
    way.close()
    return error.value


# ----------------------------------------------------------------------------------------------------------- notices


def test_a_notice_renders_as_one_line_with_its_subject_and_key() -> None:
    document = json.loads(NOTICE.render())
    assert document == {
        "version": 1, "id": "7-1777896000123456", "kind": "incident.opened", "subject": "incident:3",
        "at": "2026-05-04T12:00:00.123456+00:00", "body": {"id": 3, "target": "203.0.113.7/32"},
    }  # fmt: skip


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())))
def test_whatever_a_body_holds_it_stays_one_ascii_line_and_survives_the_outbox(body: dict[str, object]) -> None:
    notice = Notice(1, "rule.wanted", AT, body)
    assert notice.render().isascii() and notice.render().isprintable()
    payload = json.loads(json.dumps(notice.to_payload()))
    assert copy(OutboxRecord(9, "to.webhook", payload, AT, OutboxState.TAKEN, AT, 1, "")) == notice


@given(st.dictionaries(st.sampled_from(["number", "kind", "at", "body"]), st.none() | st.integers() | st.text()))
def test_a_row_of_another_make_is_no_notice(payload: dict[str, object]) -> None:
    assert copy(OutboxRecord(9, "to.webhook", payload, AT, OutboxState.TAKEN, AT, 1, "")) is None


# ---------------------------------------------------------------------------------------------------------- signature


@given(st.text(min_size=1), st.integers(0, 10**12 - 1), st.binary(), st.integers(-300, 300))
def test_a_receiver_verifies_what_was_signed(secret: str, timestamp: int, body: bytes, skew: int) -> None:
    signature = sign(secret, timestamp, body)
    assert is_genuine(secret, str(timestamp), body, signature, timestamp + skew)
    assert not is_genuine(secret, str(timestamp), body + b"x", signature, timestamp)
    assert not is_genuine(secret + "x", str(timestamp), body, signature, timestamp)
    assert not is_genuine(secret, str(timestamp + 1), body, signature, timestamp)
    assert not is_genuine(secret, str(timestamp), body, signature, timestamp + 301)


@given(st.text(), st.text())
def test_nonsense_is_not_genuine(timestamp: str, signature: str) -> None:
    assert not is_genuine(SECRET, timestamp, b"{}", signature, 0)


# ------------------------------------------------------------------------------------------------------------ webhook


def test_the_receiver_can_verify_a_post(receiver: HttpReceiver) -> None:
    way = webhook(receiver)
    way.deliver(NOTICE)
    way.deliver(NOTICE)
    way.close()
    (headers, body), (again, _) = receiver.posted
    timestamp = headers[TIMESTAMP_HEADER]
    assert is_genuine(SECRET, timestamp, body, headers[SIGNATURE_HEADER], datetime.now(UTC).timestamp())
    assert body == NOTICE.render().encode()
    assert headers["Idempotency-Key"] == again["Idempotency-Key"] == NOTICE.key
    assert (headers["Content-Type"], headers["X-Stopbank-Event"]) == ("application/json", "incident.opened")


@pytest.mark.parametrize(
    ("status", "is_down"), [(500, True), (503, True), (429, True), (400, False), (404, False), (302, False)]
)
def test_only_2xx_is_delivered(receiver: HttpReceiver, status: int, is_down: bool) -> None:
    receiver.statuses.append(status)
    error = undelivered(webhook(receiver))
    assert (error.is_receiver_down, str(status) in str(error)) == (is_down, True)
    assert len(receiver.posted) == 1


def test_a_slow_receiver_is_not_waited_for(receiver: HttpReceiver) -> None:
    receiver.answering.clear()
    error = undelivered(webhook(receiver, timeout_seconds=0.2))
    assert error.is_receiver_down and "within 0.2 s" in str(error)


def test_a_receiver_that_is_not_there_is_down() -> None:
    assert undelivered(WebhookDelivery(Webhook(f"http://127.0.0.1:{free_port()}/", SECRET))).is_receiver_down


@pytest.mark.parametrize("valid", [True, False])
def test_a_certificate_is_verified(tmp_path: Path, valid: bool) -> None:
    ca_file, context = self_signed(tmp_path, valid=valid)
    receiver = HttpReceiver(tls=context).start()
    try:
        error = undelivered(webhook(receiver))
        assert error.is_receiver_down and "certificate" in str(error).lower()
        trusting = webhook(receiver, ca_file=ca_file)
        if valid:
            trusting.deliver(NOTICE)
            trusting.close()
        else:
            assert "expired" in str(undelivered(trusting))
        assert len(receiver.posted) == valid
    finally:
        receiver.stop()


def test_a_missing_certificate_file_is_a_failure_to_deliver(receiver: HttpReceiver, tmp_path: Path) -> None:
    assert undelivered(webhook(receiver, ca_file=tmp_path / "none.pem")).is_receiver_down


@pytest.mark.parametrize("url", ["", "ftp://host/", "https://", "/hook", "http://[::1", "https://host:99999999/"])
def test_a_url_that_is_none_is_refused_with_the_secrets_problem_and_without_the_secret(url: str) -> None:
    with pytest.raises(Refused) as refused:
        Webhook(url, "short")
    assert [problem.field for problem in refused.value.problems] == ["webhook_url", "webhook_secret"]
    assert "short" not in str(refused.value) and SECRET not in repr(Webhook("https://host/", SECRET))


# ------------------------------------------------------------------------------------------------------------- syslog


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("udp://192.0.2.20:514", Syslog(Transport.UDP, host="192.0.2.20")),
        ("tcp://logs.example.net:601", Syslog(Transport.TCP, host="logs.example.net", port=601)),
        ("udp://[2001:db8::1]", Syslog(Transport.UDP, host="2001:db8::1")),
        ("unix:///dev/log", Syslog(Transport.UNIX, path="/dev/log")),
    ],
)
def test_syslog_addresses_are_read(given_text: str, expected: Syslog) -> None:
    assert Syslog.parse(given_text) == expected


@pytest.mark.parametrize(
    "given_text", ["", "192.0.2.20", "http://host", "udp://", "tcp://host:x", "unix://", "udp://h/x"]
)
def test_other_addresses_are_refused(given_text: str) -> None:
    with pytest.raises(Refused, match="syslog"):
        Syslog.parse(given_text)


def test_a_line_is_rfc_5424() -> None:
    line = render(NOTICE, "edge 1\n", 16)
    header = b"<132>1 2026-05-04T12:00:00.123456+00:00 edge1 stopbank - incident.opened - "
    assert line == header + NOTICE.render().encode()


@given(st.text(), st.text())
def test_no_name_breaks_a_line(hostname: str, word: str) -> None:
    line = render(Notice(1, f"rule.{word}", AT, {"id": word}), hostname, 16)
    assert line.isascii() and line.decode().isprintable() and len(line.split(b" ")) >= 8


def test_udp_delivers() -> None:
    port = free_port()
    listener = DatagramReceiver(("127.0.0.1", port))
    way = SyslogDelivery(Syslog(Transport.UDP, "127.0.0.1", port), "here")
    way.deliver(NOTICE)
    way.deliver(Notice(8, "rule.wanted", AT, {"id": "x" * 100_000}))
    until(lambda: len(listener.lines) == 2)
    way.close()
    listener.stop()
    assert listener.lines[0] == render(NOTICE, "here", 16)
    assert len(listener.lines[1]) == LARGEST_DATAGRAM


def test_udp_to_a_closed_local_port_is_not_delivered() -> None:
    assert undelivered(SyslogDelivery(Syslog(Transport.UDP, "127.0.0.1", free_port()), "here")).is_receiver_down


def test_a_name_that_does_not_resolve_is_down() -> None:
    assert undelivered(SyslogDelivery(Syslog(Transport.UDP, "nowhere.invalid"), "here")).is_receiver_down


def test_tcp_delivers_with_octet_counting_and_notices_a_restart() -> None:
    port = free_port()
    way = SyslogDelivery(Syslog(Transport.TCP, "127.0.0.1", port, timeout_seconds=2), "here")
    assert undelivered(way).is_receiver_down
    listener = StreamReceiver(("127.0.0.1", port))
    way.deliver(NOTICE)
    until(lambda: listener.lines == [render(NOTICE, "here", 16)])
    listener.stop()
    # The kept connection is dead: the next notice must fail, not vanish into it.
    with pytest.raises(Undelivered):
        way.deliver(NOTICE)
    listener = StreamReceiver(("127.0.0.1", port))
    way.deliver(NOTICE)
    way.deliver(NOTICE)
    until(lambda: len(listener.lines) == 2)
    way.close()
    listener.stop()


def test_a_tcp_receiver_that_takes_nothing_has_not_received() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        settings = Syslog(Transport.TCP, "127.0.0.1", listener.getsockname()[1], timeout_seconds=0.3)
        huge = Notice(1, "rule.wanted", AT, {"id": "x" * 20_000_000})
        assert undelivered(SyslogDelivery(settings, "here"), huge).is_receiver_down


@pytest.mark.parametrize("kind", [DatagramReceiver, StreamReceiver])
def test_a_local_socket_of_either_kind_takes_it(
    kind: type[DatagramReceiver] | type[StreamReceiver], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    way = SyslogDelivery(Syslog(Transport.UNIX, path=str(path)), "here")
    assert undelivered(way).is_receiver_down
    listener = kind(str(path))
    way.deliver(NOTICE)
    way.deliver(NOTICE)
    until(lambda: listener.lines == [render(NOTICE, "here", 16)] * 2)
    way.close()
    listener.stop()
