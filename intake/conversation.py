"""One sensor's link: read a frame, admit it, ask the speaker, answer the sensor; one frame after the other.

A detection is acknowledged only after the speaker took it. What the sensor has no right to say is refused for good;
what can't be taken now is put off and stays in the sensor's spool.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from intake.admission import Duplicate, Identity, Passed, Turned, admit
from intake.authority import Authority
from intake.limits import TargetWindow, TokenBucket
from intake.metrics import Metrics
from intake.registry import Registry
from intake.seen import Seen
from intake.settings import Settings
from intake.speaker_link import SpeakerAway, SpeakerLink
from rules.errors import Refused
from rules.messages import Accepted, Declined, DetectionReport, Heartbeat, SpeakerRequest
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
    parse_sensor_frame,
    render_intake_frame,
    report_id,
)
from rules.zone import Zone

log = structlog.get_logger("intake")


class Desk:
    """What all conversations share."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.settings, self.clock = settings, clock
        self.authority = Authority.open(settings.directory, clock())
        self.registry = Registry(settings.directory)
        self.seen = Seen(settings.directory / "seen", settings.limits.attacks_remembered)
        self.speaker = SpeakerLink(settings.speaker_socket, settings.speaker_timeout_seconds)
        self.metrics = Metrics()
        self.zones: tuple[Zone, ...] | None = None
        """None until they were read for the first time."""
        self.targets: dict[str, TargetWindow] = {}
        self.buckets: dict[str, TokenBucket] = {}

    @property
    def lifetime(self) -> timedelta:
        """Of a sensor's certificate."""
        return timedelta(days=self.settings.certificate_days)

    def targets_of(self, sensor: str) -> TargetWindow:
        """Kept by name, so that a reconnect doesn't start afresh."""
        return self.targets.setdefault(sensor, TargetWindow(self.settings.limits.targets_per_minute))

    def bucket_of(self, sensor: str) -> TokenBucket:
        """Kept by name, so that a reconnect doesn't start afresh."""
        limits = self.settings.limits
        return self.buckets.setdefault(sensor, TokenBucket(limits.frames_per_second, limits.frames_burst))


class Conversation:
    """With one linked sensor, from connect to disconnect."""

    def __init__(self, desk: Desk, websocket: ServerConnection, identity: Identity, serial: int) -> None:
        self._desk, self._websocket = desk, websocket
        self.identity, self.serial = identity, serial
        self._told: tuple[Zone, ...] | None = None
        self._malformed = 0

    async def run(self) -> None:
        """Until the sensor goes, falls silent or misbehaves."""
        limits = self._desk.settings.limits
        bucket = self._desk.bucket_of(self.identity.name)
        try:
            await self.tell_zones()
            while self._malformed < limits.malformed_frames:
                async with asyncio.timeout(limits.silence_seconds):
                    raw = await self._websocket.recv(decode=False)
                if pause := bucket.take(time.monotonic()):
                    self._desk.metrics.refuse(Reason.TOO_FAST)
                    await asyncio.sleep(pause)
                if answer := await self._answer(raw):
                    await self._send(answer)
            await self.end(1008, "too many malformed frames")
        except TimeoutError:
            self._desk.metrics.refuse(Reason.SILENT)
            await self.end(1008, "silent")
        except ConnectionClosed as error:
            if is_oversized(error):
                self._desk.metrics.refuse(Reason.OVERSIZED)

    async def tell_zones(self) -> None:
        """Send the sensor its zones, if they are others than it was told."""
        if self._desk.zones is None:
            return
        zones = self.identity.watched(self._desk.zones)
        if zones != self._told:
            self._told = zones
            await self._send(Zones(zones))

    async def end(self, code: int, why: str) -> None:
        """Close the link."""
        log.info("link_closed", sensor=self.identity.name, why=why)
        await self._websocket.close(code, why)

    async def _send(self, frame: IntakeFrame) -> None:
        await self._websocket.send(render_intake_frame(frame), text=True)

    async def _answer(self, raw: bytes) -> IntakeFrame | None:
        try:
            frame = parse_sensor_frame(raw)
        except Refused as error:
            self._malformed += 1
            return self._refusal(report_id(raw), Reason.MALFORMED, error)
        return await self._answer_frame(frame)

    async def _answer_frame(self, frame: SensorFrame) -> IntakeFrame | None:
        match frame:
            case Report():
                return await self._answer_report(frame)
            case Beat(statistics):
                await self._tell_speaker(Heartbeat(self.identity.name, statistics))
                return None
            case Renewal(request):
                return await self._renew(request)
            case Enrolment():
                return self._refusal(None, Reason.BAD_REQUEST, Refused("frame", "enrolment", "is enrolled already"))
            case _:
                assert_never(frame)

    async def _answer_report(self, report: Report) -> IntakeFrame:
        desk, detection = self._desk, report.detection
        desk.metrics.received.labels(self.identity.name).inc()
        if desk.zones is None:
            desk.metrics.refuse(Reason.ZONES_UNKNOWN)
            return Later(report.id, Reason.ZONES_UNKNOWN)
        verdict = admit(
            detection,
            self.identity,
            {zone.name: zone for zone in desk.zones},
            desk.seen.of(self.identity.name),
            desk.targets_of(self.identity.name),
            desk.settings.limits,
            desk.clock(),
            time.monotonic(),
        )
        match verdict:
            case Duplicate():
                desk.metrics.refuse(Reason.REPLAYED)
                return Acknowledged(report.id)
            case Turned(reason, problem):
                return self._refusal(report.id, reason, Refused.all([problem]))
            case Passed(is_history):
                return await self._pass_on(report, is_history)
            case _:
                assert_never(verdict)

    async def _pass_on(self, report: Report, is_history: bool) -> IntakeFrame:
        desk, name, detection = self._desk, self.identity.name, report.detection
        with desk.metrics.seconds.time():
            answer = await self._tell_speaker(DetectionReport(name, detection, is_history))
        match answer:
            case Accepted():
                desk.seen.add(name, detection.attack, detection.sequence)
                desk.metrics.passed.labels(name).inc()
                if is_history:
                    desk.metrics.history.labels(name).inc()
                return Acknowledged(report.id)
            case Declined(problems, retry) if not retry:
                desk.metrics.refuse(Reason.SPEAKER_REFUSED)
                return Refusal(report.id, Reason.SPEAKER_REFUSED, problems)
            case _:
                desk.metrics.refuse(Reason.SPEAKER_AWAY)
                return Later(report.id, Reason.SPEAKER_AWAY)

    async def _tell_speaker(self, request: SpeakerRequest) -> Accepted | Declined | None:
        try:
            return await self._desk.speaker.ask(request)
        except SpeakerAway as error:
            log.warning("speaker_away", why=str(error))
            return None

    async def _renew(self, request: str) -> IntakeFrame:
        desk = self._desk
        arguments = (self.identity.name, request, desk.authority, desk.lifetime, desk.clock())
        try:
            issued = await asyncio.to_thread(desk.registry.renew, *arguments)
        except Refused as error:
            return self._refusal(None, Reason.BAD_REQUEST, error)
        desk.metrics.renewed.inc()
        return Issued(issued.pem, desk.authority.pem)

    def _refusal(self, number: int | None, reason: Reason, error: Refused) -> Refusal:
        self._desk.metrics.refuse(reason)
        log.warning("refused", sensor=self.identity.name, reason=reason.value, problems=str(error))
        return Refusal(number, reason, error.problems)


async def enrol(desk: Desk, websocket: ServerConnection) -> None:
    """The conversation with a sensor that has no certificate yet: one frame, one answer."""
    try:
        async with asyncio.timeout(desk.settings.limits.handshake_seconds):
            raw = await websocket.recv(decode=False)
        answer = await _enrolled(desk, raw)
        await websocket.send(render_intake_frame(answer), text=True)
    except TimeoutError:
        desk.metrics.refuse(Reason.SILENT)
        await websocket.close(1008, "silent")
    except ConnectionClosed as error:
        if is_oversized(error):
            desk.metrics.refuse(Reason.OVERSIZED)


async def _enrolled(desk: Desk, raw: bytes) -> IntakeFrame:
    try:
        frame = parse_sensor_frame(raw)
        if not isinstance(frame, Enrolment):
            raise Refused("frame", type(frame).__name__.lower(), "without certificate a sensor can only enrol")
    except Refused as error:
        desk.metrics.refuse(Reason.MALFORMED)
        return Refusal(None, Reason.MALFORMED, error.problems)
    arguments = (frame.digest, frame.request, desk.authority, desk.lifetime, desk.clock())
    try:
        sensor, issued = await asyncio.to_thread(desk.registry.enrol, *arguments)
    except Refused as error:
        about_token = any(problem.field == "token" for problem in error.problems)
        reason = Reason.BAD_TOKEN if about_token else Reason.BAD_REQUEST
        desk.metrics.refuse(reason)
        log.warning("enrolment_refused", reason=reason.value, problems=str(error))
        return Refusal(None, reason, error.problems)
    desk.metrics.enrolled.inc()
    log.info("enrolled", sensor=sensor.name, zones=sensor.zones)
    return Issued(issued.pem, desk.authority.pem)


def is_oversized(error: ConnectionClosed) -> bool:
    """Whether we closed the connection because a message was too long."""
    return error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG
