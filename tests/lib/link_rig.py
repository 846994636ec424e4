"""A real intake with real TLS on 127.0.0.1, and a real Unix socket that stands in for the speaker."""

import asyncio
import socketserver
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from intake.registry import Registry
from intake.server import IntakeServer
from intake.settings import Limits, Settings
from rules.errors import Refused
from rules.messages import (
    Accepted,
    Answer,
    Declined,
    DetectionReport,
    Heartbeat,
    SpeakerRequest,
    parse_request,
    render_answer,
)
from rules.messages_enrolment import EnrolmentToken
from rules.messages_link import Reason
from rules.traffic import Detection, Rate, State, Vantage, Vector, VectorShare
from rules.zone import Zone
from sensors.enroll import Identity, enrol

DEADLINE_SECONDS = 20.0
WEB = Zone("web", (ip_network("203.0.113.0/24"), ip_network("2001:db8::/48")))
MAIL = Zone("mail", (ip_network("198.51.100.0/24"),))
ZONES = (WEB, MAIL)


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as the condition holds; fail when it never does."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {what or condition}")
        time.sleep(0.002)


def detection(attack: str = "a1", sequence: int = 0, **changes: Any) -> Detection:
    """A detection of now, of the sensor `edge-1` in the zone `web`."""
    now = datetime.now(UTC)
    one = Detection(
        sensor="edge-1",
        attack=attack,
        sequence=sequence,
        zone="web",
        target=ip_network("203.0.113.7/32"),
        state=State.STARTED if sequence == 0 else State.ONGOING,
        vantage=Vantage.UPSTREAM,
        confirmed=True,
        severity=3.0,
        metric="packets",
        rate=Rate(150_000, 1e9),
        peak=Rate(150_000, 1e9),
        vectors=(VectorShare(Vector("udp_amp", "dns"), 1.0, 1.0),),
        signatures=(),
        sources=100,
        spoofed=None,
        first_seen=now,
        seen=now,
    )
    return replace(one, **changes)


class _Line(socketserver.StreamRequestHandler):
    server: "_Listener"

    def handle(self) -> None:
        for line in self.rfile:
            if self.server.is_down:
                return
            try:
                answer = self.server.owner.take(parse_request(line))
            except Refused as error:
                answer = Declined.of(error)
            if answer is not None:
                self.wfile.write(render_answer(answer))


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    is_down = False
    owner: "SpeakerSocket"


class SpeakerSocket:
    """Answers each line; `answer` decides how, None says nothing at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[SpeakerRequest] = []
        self.arrivals: list[float] = []
        self.answer: Callable[[SpeakerRequest], Answer | None] = lambda request: Accepted()
        self._listener: _Listener | None = None

    def take(self, request: SpeakerRequest) -> Answer | None:
        """Note and answer one request."""
        self.arrivals.append(time.monotonic())
        answer = self.answer(request)
        self.requests.append(request)
        return answer

    @property
    def reports(self) -> list[DetectionReport]:
        """The detections so far."""
        return [one for one in self.requests if isinstance(one, DetectionReport)]

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """The heartbeats so far."""
        return [one for one in self.requests if isinstance(one, Heartbeat)]

    @property
    def told(self) -> list[tuple[str, int]]:
        """Attack and sequence of the detections so far."""
        return [(one.detection.attack, one.detection.sequence) for one in self.reports]

    def start(self) -> None:
        """Listen."""
        self.path.unlink(missing_ok=True)
        self._listener = _Listener(str(self.path), _Line)
        self._listener.owner = self
        threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Go away, as a speaker that ended: open connections give no further answer."""
        if self._listener is not None:
            self._listener.is_down = True
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None
        self.path.unlink(missing_ok=True)


class RunningIntake:
    """An `IntakeServer` in a thread of its own; `stop` and `start` again keep port and state."""

    def __init__(self, directory: Path, speaker: Path, limits: Limits | None = None, **changes: Any) -> None:
        self.settings = Settings(
            directory,
            speaker,
            listen="127.0.0.1",
            port=0,
            public_name="127.0.0.1",
            limits=limits or Limits(),
            **{"housekeeping_seconds": 0.05, **changes},
        )
        self.zones: tuple[Zone, ...] = ZONES
        self.lag = timedelta(0)
        """Added to the intake's clock."""
        self.breakdown: OSError | None = None
        """Raised instead of giving the zones."""
        self.server: IntakeServer
        self._thread: threading.Thread
        self._down: Future[None]

    def start(self) -> None:
        """Start, on the port of before if there was one."""
        up: Future[IntakeServer] = Future()
        self._down = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(up)), daemon=True)
        self._thread.start()
        self.server = up.result(DEADLINE_SECONDS)
        self.settings = replace(self.settings, port=self.server.port)

    def stop(self) -> None:
        """Stop; does nothing when it was stopped."""
        if not self._down.done():
            self._down.set_result(None)
            self._thread.join(DEADLINE_SECONDS)
            assert not self._thread.is_alive()

    async def _serve(self, up: "Future[IntakeServer]") -> None:
        try:
            server = IntakeServer(self.settings, self._zones, lambda: datetime.now(UTC) + self.lag)
            await server.start()
        except BaseException as error:
            up.set_exception(error)
            raise
        up.set_result(server)
        try:
            await asyncio.wrap_future(self._down)
        finally:
            await server.stop()

    def refusals(self, reason: Reason) -> int:
        """How many the intake counted."""
        return self.server.metrics.refusals(reason)

    @property
    def registry(self) -> Registry:
        """As the command line would open it."""
        return Registry(self.settings.directory)

    def token(self, sensor: str = "edge-1", zones: tuple[str, ...] = ("web",), minutes: float = 10) -> EnrolmentToken:
        """A token as the command line makes it."""
        address = (self.settings.public_name, self.settings.port)
        expires = datetime.now(UTC) + timedelta(minutes=minutes)
        return self.registry.create_token(sensor, zones, address, self.server.fingerprint, expires)

    def enrolled(self, directory: Path, sensor: str = "edge-1", zones: tuple[str, ...] = ("web",)) -> Identity:
        """A sensor's identity, by enrolment."""
        return enrol(self.token(sensor, zones), directory, sensor)

    def _zones(self) -> tuple[Zone, ...]:
        if self.breakdown:
            raise self.breakdown
        return self.zones
