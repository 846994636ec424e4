"""The whole loop in one thread; ExaBGP's side is played, and everything it says lies ready in the queue."""

import json
import queue
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from rules.messages import Accepted, Answer, KillMode, StatusQuery
from rules.neighbour import Neighbour, SessionFamily
from speaker.clock import Clock
from speaker.events import Asked, Configured, Event, Inbox, Said
from speaker.kill_flag import write
from speaker.loop import Loop
from speaker.pipe import Writer
from speaker.replies import Done, Negotiated, Neighbours, PeerState, Reply, Session, Unestablished, Version, Waits
from speaker.report import FILE
from speaker.settings import Settings

FAMILIES = frozenset({SessionFamily.IPV4_FLOW})
EDGE = Neighbour(
    name="edge",
    peer_address=IPv4Address("192.0.2.1"),
    local_address=IPv4Address("192.0.2.250"),
    peer_as=64500,
    local_as=64500,
    router_id=IPv4Address("192.0.2.250"),
    families=FAMILIES,
)
PEER = EDGE.peer_address
UP = PeerState(PEER, Session.UP)
WAITING = Neighbours((), (Unestablished(PEER, Waits.OPEN),))
ESTABLISHED = Neighbours((Negotiated(PEER, FAMILIES),), ())


class Lines(Writer):
    """Keeps what would go to ExaBGP."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, *lines: str) -> None:
        self.written.extend(lines)


def status_after(state: Path, *events: Event) -> dict[str, Any]:
    """What the speaker says of itself after all this."""
    inbox: Inbox = queue.SimpleQueue()
    answers: list[Answer] = []
    for event in (*events, Asked(StatusQuery(), answers.append), Said(None)):
        inbox.put(event)
    loop = Loop(state, inbox, Lines(), Clock(), lambda: None)
    loop.start()
    loop.run()
    loop.stop()
    (answer,) = answers
    assert isinstance(answer, Accepted)
    return dict(answer.body)


def edge_after(state: Path, *replies: Reply) -> dict[str, Any]:
    """What the speaker says of its one neighbour once ExaBGP has said all this."""
    settings = Settings(state, f"sqlite:///{state / 'stopbank.db'}", (EDGE,))
    said = status_after(state, Configured(settings), *map(Said, replies))
    assert said["synced"]
    (one,) = said["neighbours"]
    return dict(one)


def test_a_session_that_comes_up_while_exabgp_still_lists_its_routes_is_up(tmp_path: Path) -> None:
    negotiated = Negotiated(PEER, FAMILIES)
    listing = (Version("5"), Done(), WAITING, Done(), negotiated, UP, Done())
    assert edge_after(tmp_path, *listing)["up"] is True


def test_a_session_that_goes_down_while_exabgp_still_lists_its_routes_is_down(tmp_path: Path) -> None:
    listing = (Version("5"), Done(), ESTABLISHED, Done(), PeerState(PEER, Session.DOWN, "peer reset"), Done())
    one = edge_after(tmp_path, *listing)
    assert (one["up"], one["reason"]) == (False, "peer reset")


def test_a_speaker_that_does_not_know_its_neighbours_yet_never_says_that_the_kill_switch_has_done_its_work(
    tmp_path: Path,
) -> None:
    write(tmp_path, KillMode.WITHDRAW_ALL, "somebody", datetime.now(UTC))
    settings = Settings(tmp_path, f"sqlite:///{tmp_path / 'stopbank.db'}", (EDGE,))
    listing = (Version("5"), Done(), WAITING, Done(), Done())
    cleared = Done()
    nothing_held = [Said(one) for one in (*listing, cleared, *listing)]
    before = status_after(tmp_path, *nothing_held)
    assert before["synced"] and not before["kill"]["done"]
    after = status_after(tmp_path, Configured(settings), *nothing_held)
    assert after["kill"] == {"mode": "withdraw-all", "by": "somebody", "done": True, "clear": 1, "neighbours": 1}


def test_the_last_report_says_that_it_is_the_last(tmp_path: Path) -> None:
    status_after(tmp_path)
    assert json.loads((tmp_path / FILE).read_text())["ended"] is True
