"""Many rules: nothing stops, nothing is lost, and deadlines are kept with the database gone."""

import re
import time
from datetime import timedelta

import pytest
from speaker_lab import ZONE, SpeakerLab, flowspec, speaker_lab

from lab.namespaces import wait_until
from rules.guard import Origin
from rules.rule import FlowSpec
from speaker import journal
from speaker.clock import Clock, Moment
from speaker.wishes import Wish

pytestmark = pytest.mark.peer

CLOCK = Clock()
_DESTINATION = re.compile(r"dst (10\.[0-9.]+)/32")


def without_database(lab: SpeakerLab) -> None:
    """No database file, and none can be made."""
    lab.store.close()
    for path in lab.state.glob("stopbank.db*"):
        path.unlink()
    (lab.state / "stopbank.db").mkdir()


def remembered(lab: SpeakerLab, wishes: list[tuple[FlowSpec, float]]) -> None:
    """A journal with these rules, each with its monotonic deadline."""
    lines = [journal._bytes(journal.zones([ZONE]))]
    for rule, at in wishes:
        deadline = Moment(CLOCK.wall() + timedelta(seconds=at - CLOCK.now()), CLOCK.boot(), at)
        peers = tuple(one.peer_address for one in lab.settings.neighbours)
        wish = Wish(
            rule=rule,
            deadline=deadline,
            origin=Origin.OPERATOR,
            generation=1,
            owner="operator",
            peers=peers,
            is_operator=True,
        )
        lines.append(journal._bytes(journal.wanted(wish)))
    (lab.state / "journal").write_bytes(b"".join(lines))


def held(lab: SpeakerLab) -> set[str]:
    """Destinations in BIRD's table."""
    return set(_DESTINATION.findall(lab.routers["bird0"].flowspec_text(next(iter(type(flowspec(1).match.ip_family))))))


def test_twenty_thousand_commands_are_all_answered() -> None:
    count = 20_000
    with speaker_lab("bird", start=False) as lab:
        without_database(lab)
        remembered(lab, [(flowspec(number), CLOCK.now() + 3600) for number in range(count)])
        lab.start()
        lab.wait_active(count, "bird0", 300)
        status = lab.status()
        assert status["resyncs"] == 1, "an answer was lost"
        # End-of-RIB may still be on its way.
        wait_until(lambda: lab.status()["in_flight"] == 0, "an answer is missing", 10)
        wait_until(lambda: len(held(lab)) == count, "BIRD does not have all of them", 120)


def test_five_thousand_deadlines_within_a_minute_are_kept_without_the_database() -> None:
    count = 5_000
    with speaker_lab("bird", start=False) as lab:
        without_database(lab)
        # Time to announce them first.
        begin = CLOCK.now() + 60
        deadlines = {number: begin + 60 * number / count for number in range(count)}
        remembered(lab, [(flowspec(number), at) for number, at in deadlines.items()])
        lab.start()
        lab.wait_active(count, "bird0", 55)
        wait_until(lambda: len(held(lab)) == count, "BIRD does not have all of them", 30)
        assert CLOCK.now() < begin, "too slow a machine for this test"
        waiting = {str(flowspec(number).match.destination).removesuffix("/32"): at for number, at in deadlines.items()}
        lateness: list[float] = []
        while waiting:
            started = CLOCK.now()
            there = held(lab)
            ended = CLOCK.now()
            for address in [one for one in waiting if one not in there]:
                at = waiting.pop(address)
                assert ended >= at, f"{address} left {at - ended:.3f} s early"
                # It may have left right after the last look, so this is the most it can be late.
                lateness.append(ended - at)
            assert started < begin + 120, f"{len(waiting)} rules are left"
            time.sleep(0.05)
        lateness.sort()
        assert lateness[int(0.99 * count)] <= 1.0, lateness[-100:]
