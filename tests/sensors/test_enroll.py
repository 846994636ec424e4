"""A token makes one sensor known to one intake; everything else leaves both as they were."""

import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from link_rig import RunningIntake, SpeakerSocket

from rules.errors import Refused
from rules.messages_enrolment import EnrolmentToken
from rules.messages_link import Reason
from sensors.enroll import EnrolmentFailed, Identity, enrol


def test_a_token_gives_a_key_and_a_certificate(intake: RunningIntake, tmp_path: Path) -> None:
    identity = enrol(EnrolmentToken.parse(str(intake.token())), tmp_path / "sensor")
    assert (identity.name, identity.host, identity.port) == ("edge-1", "127.0.0.1", intake.settings.port)
    assert Identity.load(tmp_path / "sensor") == identity
    for path in (tmp_path / "sensor").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_used_token_is_refused(intake: RunningIntake, tmp_path: Path) -> None:
    token = intake.token()
    enrol(token, tmp_path / "first")
    with pytest.raises(Refused, match="token"):
        enrol(token, tmp_path / "second")
    assert Identity.load(tmp_path / "second") is None
    assert intake.refusals(Reason.BAD_TOKEN) == 1


def test_an_expired_token_is_refused(intake: RunningIntake, tmp_path: Path) -> None:
    token = intake.token(minutes=1)
    intake.lag = timedelta(minutes=2)
    with pytest.raises(Refused, match="expired"):
        enrol(token, tmp_path / "sensor")


def test_a_token_with_another_secret_is_refused(intake: RunningIntake, tmp_path: Path) -> None:
    token = intake.token()
    wrong = EnrolmentToken(token.host, token.port, token.fingerprint, "x" * 43)
    with pytest.raises(Refused, match="unknown"):
        enrol(wrong, tmp_path / "sensor")
    assert enrol(token, tmp_path / "sensor")


def test_a_server_with_another_fingerprint_never_sees_the_secret(
    intake: RunningIntake, speaker: SpeakerSocket, tmp_path: Path
) -> None:
    token = intake.token()
    between = RunningIntake(tmp_path / "between", speaker.path)
    between.start()
    try:
        diverted = EnrolmentToken(token.host, between.settings.port, token.fingerprint, token.secret)
        with pytest.raises(EnrolmentFailed, match="stands in between"):
            enrol(diverted, tmp_path / "sensor")
        assert sum(between.refusals(reason) for reason in Reason) == 0
    finally:
        between.stop()
    assert enrol(token, tmp_path / "sensor")


def test_a_name_other_than_the_tokens_is_refused_and_the_token_kept(intake: RunningIntake, tmp_path: Path) -> None:
    token = intake.token("edge-1")
    with pytest.raises(Refused, match="another sensor"):
        enrol(token, tmp_path / "sensor", "edge-2")
    assert intake.refusals(Reason.BAD_REQUEST) == 1
    assert enrol(token, tmp_path / "sensor", "edge-1").name == "edge-1"


@pytest.mark.parametrize("obstacle", ["a file in its place", "a directory where a file belongs"])
def test_what_cannot_be_kept_costs_no_token(intake: RunningIntake, tmp_path: Path, obstacle: str) -> None:
    token, directory = intake.token(), tmp_path / "sensor"
    if obstacle.startswith("a file"):
        directory.write_text("not ours")
    else:
        (directory / "probe" / "x").mkdir(parents=True)
    with pytest.raises(OSError):
        enrol(token, directory)
    assert enrol(token, tmp_path / "elsewhere")


def test_an_intake_that_is_away_leaves_the_token_good(intake: RunningIntake, tmp_path: Path) -> None:
    token = intake.token()
    intake.stop()
    with pytest.raises(EnrolmentFailed, match=r"127\.0\.0\.1:\d+: the intake can't be reached: Connection refused$"):
        enrol(token, tmp_path / "sensor")
    intake.start()
    assert enrol(token, tmp_path / "sensor")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", r"no intake, or an old one \(WRONG_VERSION_NUMBER\)$"),
        (None, "no answer$"),
    ],
)
def test_who_answers_something_else_or_nothing_is_named(answer: bytes | None, why: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, ThreadPoolExecutor(1) as pool:
        if answer is not None:

            def speak(words: bytes = answer) -> None:
                came, _ = other.accept()
                with came:
                    came.recv(65536)
                    came.sendall(words)

            pool.submit(speak)
        token = EnrolmentToken("127.0.0.1", other.getsockname()[1], "a" * 64, "b" * 43)
        with pytest.raises(EnrolmentFailed, match=why):
            enrol(token, tmp_path / "sensor", timeout_seconds=10 if answer else 0.05)


def test_renewal_is_due_in_the_last_third(intake: RunningIntake, tmp_path: Path) -> None:
    identity = intake.enrolled(tmp_path / "sensor")
    lifetime = identity.not_after - identity.not_before
    assert not identity.wants_renewal(identity.not_before + lifetime * 0.66)
    assert identity.wants_renewal(identity.not_before + lifetime * 0.67)


def test_files_that_make_no_sense_are_refused_not_guessed_at(intake: RunningIntake, tmp_path: Path) -> None:
    intake.enrolled(tmp_path / "sensor")
    (tmp_path / "sensor" / "identity.pem").write_bytes(b"\xff")
    with pytest.raises(Refused, match="certificate"):
        Identity.load(tmp_path / "sensor")
