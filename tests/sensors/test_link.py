"""Nothing a sensor hands over is lost or passed on twice, whoever is away meanwhile; and nothing waits for it."""

import errno
import os
import re
import shutil
import statistics as figures
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_rig import MAIL, WEB, RunningIntake, SpeakerSocket, detection, wait_until

from rules.errors import Problem
from rules.messages import Accepted, Answer, Declined, SpeakerRequest
from rules.messages_link import Reason
from rules.messages_values import Statistics
from rules.traffic import Detection, State
from rules.zone import Zone
from sensors.enroll import Identity
from sensors.link import Link
from sensors.link_clock import clock_skew
from sensors.link_repeated import Repeated
from sensors.link_settings import LinkSettings


@pytest.fixture
def state(tmp_path: Path, intake: RunningIntake) -> Path:
    """The state directory of the enrolled sensor `edge-1`."""
    intake.enrolled(tmp_path / "sensor")
    return tmp_path / "sensor"


@contextmanager
def linked(state: Path, **changes: Any) -> Iterator[Link]:
    callbacks = {key: changes.pop(key) for key in ("on_zones", "statistics") if key in changes}
    options: dict[str, Any] = {
        "backoff_seconds": (0.02, 0.1),
        "heartbeat_seconds": 0.1,
        "later_seconds": 0.02,
    } | changes
    link = Link(LinkSettings(state, **options), **callbacks)
    link.start()
    try:
        yield link
    finally:
        link.stop()


def _settled(link: Link) -> None:
    wait_until(lambda: link.status.waiting == 0, "everything is settled")


def test_a_detection_reaches_the_speaker_as_it_was(state: Path, speaker: SpeakerSocket) -> None:
    given = detection()
    with linked(state) as link:
        assert link.send(given)
        _settled(link)
    assert [(one.detection, one.is_history) for one in speaker.reports] == [(given, False)]
    assert link.status.counts["acknowledged"] == 1


def test_the_disk_is_waited_for_only_while_the_speaker_does_not_have_a_message(
    state: Path, speaker: SpeakerSocket
) -> None:
    with linked(state, sync_seconds=30.0) as link:
        link.send(detection("a"))
        _settled(link)
    assert "spool_syncs" not in link.status.counts
    speaker.stop()
    with linked(state, sync_seconds=0.01) as link:
        link.send(detection("b"))
        wait_until(lambda: link.status.counts.get("spool_syncs", 0) > 0, "the message is on disk")


def test_heartbeats_carry_the_sensors_statistics(state: Path, speaker: SpeakerSocket) -> None:
    with linked(state, statistics=lambda: Statistics.of({"packets_total": 7})):
        wait_until(lambda: len(speaker.heartbeats) >= 2)
    assert {(one.sensor, one.statistics.get("packets_total")) for one in speaker.heartbeats} == {("edge-1", 7)}


def test_a_warm_link_delivers_within_five_milliseconds(state: Path, speaker: SpeakerSocket) -> None:
    """The lower quartile of forty, as the machine has other work; with TLS, admission and the speaker's socket."""
    took = []
    with linked(state) as link:
        wait_until(lambda: link.status.connected)
        for number in range(41):
            done = len(speaker.reports)
            sent = time.monotonic()
            link.send(detection(f"a{number}"))
            wait_until(lambda done=done: len(speaker.reports) > done)  # type: ignore[misc]
            arrived = [at for at in speaker.arrivals if at >= sent]
            took.append(arrived[0] - sent)
            _settled(link)
    quartile, median, _ = figures.quantiles(took[1:], n=4)
    print(f"to the speaker: median {median * 1e3:.2f} ms, worst {max(took[1:]) * 1e3:.2f} ms")
    assert quartile < 0.005


def test_sending_takes_no_time_while_the_intake_hangs(tmp_path: Path) -> None:
    with linked(tmp_path / "never-enrolled") as link:
        begun = time.monotonic()
        for number in range(1_000):
            link.send(detection("a", number))
        assert time.monotonic() - begun < 2
        wait_until(lambda: link.status.waiting == 2, "updates have been coalesced to the start and the newest")
        assert not link.status.connected
        assert "enroll" in link.status.trouble


def test_an_intake_that_is_not_there_is_said_in_words_of_people(intake: RunningIntake, state: Path) -> None:
    intake.stop()
    with linked(state) as link:
        wait_until(lambda: bool(link.status.trouble))
        assert link.status.trouble.startswith("Connection refused: Connect call failed ('127.0.0.1'")
    with linked(state.parent / "never-enrolled") as link:
        wait_until(lambda: bool(link.status.trouble))
        assert link.status.trouble.startswith("sensor: ")


def test_a_link_that_ends_at_once_is_tried_again_in_growing_pauses(state: Path, speaker: SpeakerSocket) -> None:
    tried: list[float] = []

    def failing() -> Statistics:
        tried.append(time.monotonic())
        raise OSError(errno.EIO, "no statistics")

    with linked(state, statistics=failing, backoff_seconds=(0.02, 10.0)) as link:
        wait_until(lambda: len(tried) >= 6, "six tries")
        assert link.status.counts["connects"] >= 6
    assert tried[5] - tried[0] >= 0.5 * (0.04 + 0.08 + 0.16 + 0.32 + 0.64)


def test_nothing_is_lost_while_the_speaker_is_away(state: Path, speaker: SpeakerSocket) -> None:
    speaker.stop()
    given = [detection(f"a{number}") for number in range(30)]
    with linked(state) as link:
        for one in given:
            link.send(one)
        wait_until(lambda: link.status.counts.get("put_off", 0) > 0)
        assert link.status.trouble == "speaker_away"
        speaker.start()
        _settled(link)
    assert sorted(speaker.told) == sorted((one.attack, 0) for one in given)


def test_nothing_is_lost_or_doubled_when_the_intake_restarts_in_the_middle(
    state: Path, intake: RunningIntake, speaker: SpeakerSocket
) -> None:
    count = 200
    with linked(state) as link:
        for number in range(count):
            link.send(detection(f"a{number}", target=ip_network("203.0.113.7/32")))
            if number in (60, 120):
                wait_until(lambda: len(speaker.reports) > 20)
                intake.stop()
                intake.start()
        _settled(link)
    told = speaker.told
    assert sorted(told) == sorted((f"a{number}", 0) for number in range(count))


def test_a_lost_acknowledgement_is_not_a_second_report(
    state: Path, intake: RunningIntake, speaker: SpeakerSocket, tmp_path: Path
) -> None:
    """The sensor's disk is put back to before the acknowledgement: it sends again, and the intake knows."""
    with linked(state) as link:
        intake.stop()
        link.send(detection())
        wait_until(lambda: list((state / "spool").iterdir()) and link.status.waiting == 1)
    shutil.copytree(state, tmp_path / "copy")
    intake.start()
    with linked(state) as link:
        _settled(link)
    intake.stop()
    intake.start()
    with linked(tmp_path / "copy") as link:
        _settled(link)
        assert link.status.counts["acknowledged"] == 1
    assert speaker.told == [("a1", 0)]
    assert intake.refusals(Reason.REPLAYED) == 1


def test_what_was_spooled_before_a_restart_of_the_sensor_goes_out_after_it(
    state: Path, intake: RunningIntake, speaker: SpeakerSocket
) -> None:
    intake.stop()
    with linked(state) as link:
        for number in range(5):
            link.send(detection("a", number))
        link.send(replace(detection("a", 5), state=State.OVER))
        wait_until(lambda: link.status.waiting == 3)
    intake.start()
    with linked(state) as link:
        _settled(link)
    assert speaker.told == [("a", 0), ("a", 4), ("a", 5)]


def test_updates_give_way_to_newer_ones_while_the_link_is_slow(state: Path, speaker: SpeakerSocket) -> None:
    gate = threading.Event()

    def slow(request: SpeakerRequest) -> Answer:
        gate.wait(20)
        return Accepted()

    with linked(state) as link:
        wait_until(lambda: link.status.connected and speaker.heartbeats)
        speaker.answer = slow
        for number in range(100):
            link.send(detection("a", number))
        link.send(replace(detection("a", 100), state=State.OVER))
        wait_until(lambda: link.status.counts.get("coalesced", 0) >= 90)
        gate.set()
        _settled(link)
    told = speaker.told
    assert told[0] == ("a", 0)
    assert told[-2:] == [("a", 99), ("a", 100)]
    assert told == sorted(told) and len(told) <= 4


def test_old_detections_arrive_as_history(state: Path, intake: RunningIntake, speaker: SpeakerSocket) -> None:
    intake.lag = timedelta(seconds=11)
    with linked(state) as link:
        link.send(detection())
        _settled(link)
        intake.lag = timedelta(0)
        link.send(detection("a2"))
        _settled(link)
    assert [(one.detection.attack, one.is_history) for one in speaker.reports] == [("a1", True), ("a2", False)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"zone": "mail"}, Reason.FOREIGN_ZONE),
        ({"zone": "unknown"}, Reason.FOREIGN_ZONE),
        ({"target": ip_network("203.0.112.0/23")}, Reason.FOREIGN_TARGET),
        ({"target": ip_network("198.51.100.1/32")}, Reason.FOREIGN_TARGET),
        ({"sensor": "edge-2"}, Reason.WRONG_SENSOR),
        ({"seen": datetime.now(UTC) + timedelta(days=1)}, Reason.FUTURE),
    ],
)
def test_what_a_sensor_may_not_say_is_refused_counted_and_told(
    changes: dict[str, Any], reason: Reason, state: Path, intake: RunningIntake, speaker: SpeakerSocket
) -> None:
    with linked(state) as link:
        link.send(detection(**changes))
        _settled(link)
        assert link.status.counts[f"refused_{reason.value}"] == 1
    assert speaker.reports == []
    assert intake.refusals(reason) == 1


def test_what_the_speaker_refuses_for_good_is_not_sent_again(state: Path, speaker: SpeakerSocket) -> None:
    speaker.answer = lambda request: Declined((Problem("detection", "", "no"),))
    with linked(state) as link:
        link.send(detection())
        _settled(link)
        assert link.status.counts["refused_speaker_refused"] == 1
    assert len(speaker.reports) == 1


def test_what_the_speaker_puts_off_is_sent_again(state: Path, speaker: SpeakerSocket) -> None:
    answers: list[Answer] = [Declined((), retry=True), Declined((), retry=True)]

    def busy(request: SpeakerRequest) -> Answer:
        return answers.pop() if answers and hasattr(request, "detection") else Accepted()

    speaker.answer = busy
    with linked(state) as link:
        link.send(detection())
        _settled(link)
    assert speaker.told == [("a1", 0)] * 3


def test_a_speaker_that_hangs_costs_a_timeout_not_the_detection(tmp_path: Path, speaker: SpeakerSocket) -> None:
    intake = RunningIntake(tmp_path / "intake-2", speaker.path, speaker_timeout_seconds=0.1)
    intake.start()
    try:
        intake.enrolled(tmp_path / "sensor-2")
        speaker.answer = lambda request: None
        with linked(tmp_path / "sensor-2") as link:
            link.send(detection())
            wait_until(lambda: link.status.counts.get("put_off", 0) > 0)
            speaker.answer = lambda request: Accepted()
            _settled(link)
    finally:
        intake.stop()


def test_zones_reach_the_sensor_on_connect_on_change_and_from_its_cache(state: Path, intake: RunningIntake) -> None:
    heard: list[tuple[Zone, ...]] = []
    bigger = replace(WEB, prefixes=(*WEB.prefixes, ip_network("192.0.2.0/24")))
    with linked(state, on_zones=heard.append):
        wait_until(lambda: heard == [(WEB,)])
        intake.zones = (bigger, MAIL)
        wait_until(lambda: heard == [(WEB,), (bigger,)])
        intake.registry.bind("edge-1", ["web", "mail"])
        wait_until(lambda: heard[-1] == (bigger, MAIL))
    intake.stop()
    again: list[tuple[Zone, ...]] = []
    with linked(state, on_zones=again.append):
        assert again == [(bigger, MAIL)]


def test_a_certificate_is_renewed_over_the_link_before_it_ends(tmp_path: Path, speaker: SpeakerSocket) -> None:
    # Certificates begin five minutes early, so one of a minute is in its last third at once.
    intake = RunningIntake(tmp_path / "intake-2", speaker.path, certificate_days=1 / 1440)
    intake.start()
    try:
        first = intake.enrolled(tmp_path / "sensor-2")
        with linked(tmp_path / "sensor-2") as link:
            wait_until(lambda: link.status.counts.get("renewals", 0) >= 1)
            link.send(detection())
            _settled(link)
        with linked(tmp_path / "sensor-2") as link:
            wait_until(lambda: link.status.connected)
        renewed = Identity.load(tmp_path / "sensor-2")
        assert renewed is not None and renewed.not_after >= first.not_after
        assert renewed.not_before > first.not_before - timedelta(seconds=1)
    finally:
        intake.stop()


def test_a_revoked_sensor_is_cut_off_and_stays_out(state: Path, intake: RunningIntake, speaker: SpeakerSocket) -> None:
    with linked(state) as link:
        wait_until(lambda: link.status.connected)
        intake.registry.revoke("edge-1", datetime.now(UTC))
        wait_until(lambda: "revoked" in link.status.trouble)
        link.send(detection())
        wait_until(lambda: intake.refusals(Reason.REVOKED) >= 3)
        assert link.status.waiting == 1
    assert speaker.reports == []


def test_an_intake_of_another_authority_is_not_talked_to(
    state: Path, intake: RunningIntake, speaker: SpeakerSocket, tmp_path: Path
) -> None:
    intake.stop()
    impostor = RunningIntake(tmp_path / "impostor", speaker.path)
    impostor.settings = replace(impostor.settings, port=intake.settings.port)
    impostor.start()
    try:
        with linked(state) as link:
            link.send(detection())
            wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in link.status.trouble)
            assert link.status.counts.get("connects", 0) == 0
            assert link.status.waiting == 1
    finally:
        impostor.stop()
    assert speaker.requests == []


def test_a_full_spool_gives_up_its_oldest_and_counts(tmp_path: Path) -> None:
    given: list[Detection] = [detection(f"a{number}") for number in range(200)]
    with linked(tmp_path / "never-enrolled", spool_bytes=20_000) as link:
        for one in given:
            link.send(one)
        wait_until(
            lambda: link.status.counts["dropped"] > 0 and link.status.counts["dropped"] + link.status.waiting == 200
        )
        assert 5 <= link.status.waiting < 40
    files = list((tmp_path / "never-enrolled" / "spool").iterdir())
    assert sum(path.stat().st_size for path in files) <= 20_000
    with linked(tmp_path / "never-enrolled") as link:
        assert link.status.waiting > 0


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    st.floats(-86_400, 86_400),
    st.floats(0, 5),
    st.floats(0, 5),
)
def test_the_clocks_differ_at_least_by_what_the_intakes_date_proves(
    theirs: datetime, ahead: float, there: float, back: float
) -> None:
    theirs = theirs.replace(tzinfo=UTC)
    ours = theirs + timedelta(seconds=ahead)
    date = format_datetime(theirs.replace(microsecond=0), usegmt=True)
    found = clock_skew(date, ours - timedelta(seconds=there), ours + timedelta(seconds=back))
    assert found is not None and found * ahead >= 0, "never to the wrong side"
    assert abs(found) <= abs(ahead) + 0.06, "never more than it is"
    assert abs(found) >= abs(ahead) - 1.06 - (there if ahead > 0 else back), "a second and the way there may hide"


@given(st.text())
def test_what_is_no_date_says_nothing_of_the_clock(text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = clock_skew(text, now, now)
    assert found is None or isinstance(found, float)


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=60), st.floats(1, 30))
def test_a_trouble_that_stays_is_told_in_growing_pauses_and_a_new_one_at_once(what: list[str], pause: float) -> None:
    repeated, told = Repeated(), dict[str, list[float]]()
    for number, one in enumerate(what):
        now = number * pause
        if repeated.is_news(one, now):
            told.setdefault(one, []).append(now)
    assert set(told) == set(what)
    for one, times in told.items():
        assert times[0] == what.index(one) * pause
        for number, (before, after) in enumerate(pairwise(times)):
            assert after - before >= min(60 * 2**number, 600)


def test_a_trouble_that_stays_for_a_day_is_told_every_ten_minutes() -> None:
    repeated = Repeated()
    times = [now for now in range(0, 86_400, 7) if repeated.is_news("refused", now)]
    assert 600 <= times[-1] - times[-2] <= 607 and len(times) < 150
    repeated.is_over()
    assert repeated.is_news("refused", 86_400), "once all was well it is new"


def test_many_different_troubles_take_no_memory() -> None:
    repeated = Repeated()
    for number in range(10_000):
        assert repeated.is_news(str(number), 0.0)
    assert len(vars(repeated)["_told"]) <= 16


def test_a_linked_sensor_knows_how_its_clock_differs(state: Path) -> None:
    with linked(state) as link:
        wait_until(lambda: link.status.clock_skew_seconds is not None)
        assert link.status.clock_skew_seconds == 0.0


CHILD = """
import sys, time
from pathlib import Path
from link_rig import detection, replace, State
from sensors.link import Link
from sensors.link_settings import LinkSettings
link = Link(LinkSettings(Path(sys.argv[1])))
link.start()
for number in range(100_000):
    attack, sequence = f"a{number // 3}", number % 3
    one = detection(attack, sequence, state=(State.STARTED, State.ONGOING, State.OVER)[sequence])
    link.send(one)
    before = time.monotonic()
    while link._queue or link._collecting:
        time.sleep(0.0001)
    print(attack, sequence, flush=True)
"""


def test_what_a_killed_sensor_had_spooled_arrives_in_order(
    state: Path, intake: RunningIntake, speaker: SpeakerSocket
) -> None:
    intake.stop()
    here = Path(__file__).resolve().parents[2]
    path = os.pathsep.join((str(here), str(here / "tests" / "lib")))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, state], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(100)]
        child.kill()
        said += child.stdout.readlines()
    # Its log is there too; a last line may be torn.
    kept = len([line for line in said if re.fullmatch(r"a\d+ \d\n", line)])
    assert kept > 50
    intake.start()
    with linked(state) as link:
        _settled(link)
    told = speaker.told
    assert set(told) >= {(f"a{number // 3}", number % 3) for number in range(kept)}
    assert len(told) <= kept + 2 and told == list(dict.fromkeys(told))
    for number in range(kept // 3):
        assert [sequence for attack, sequence in told if attack == f"a{number}"] == [0, 1, 2]
