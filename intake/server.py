"""The sensors' door: WebSocket over TLS with our own authority, one conversation per sensor.

It authenticates, checks and passes on. It never decides, never touches the database's rules, and forgets nothing a
sensor still needs: what the speaker hasn't taken stays with the sensor.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import structlog
from prometheus_client import start_http_server
from sqlalchemy.exc import SQLAlchemyError
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from intake.authority import utc_now
from intake.conversation import Conversation, Desk, enrol
from intake.metrics import Metrics
from intake.registry import EnrolledSensor
from intake.settings import Settings
from rules.errors import Refused
from rules.messages_link import ENROLMENT_PATH, LINK_PATH, Reason
from rules.zone import Zone

log = structlog.get_logger("intake")

ZonesReader = Callable[[], tuple[Zone, ...]]

# The library reports each failed handshake at length; scanners would fill the log. Refusals are counted here instead.
_quiet = logging.getLogger("stopbank.intake.websockets")
_quiet.setLevel(logging.CRITICAL)


class IntakeServer:
    """Listens from `start` to `stop`."""

    def __init__(self, settings: Settings, zones: ZonesReader, clock: Callable[[], datetime] = utc_now) -> None:
        self._settings, self._read_zones = settings, zones
        self._desk = Desk(settings, clock)
        self._server: Server | None = None
        self._housekeeper: asyncio.Task[None] | None = None
        self._conversations: dict[str, Conversation] = {}
        self._open = 0
        self._unenrolled = 0
        self._registry_stamp: tuple[int, ...] = ()

    @property
    def metrics(self) -> Metrics:
        """What it counts."""
        return self._desk.metrics

    @property
    def port(self) -> int:
        """The port it listens on; known after `start`."""
        if self._server is None:
            raise RuntimeError("the intake has not been started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate."""
        return self._desk.authority.fingerprint

    @property
    def linked(self) -> tuple[str, ...]:
        """The sensors linked now."""
        return tuple(sorted(self._conversations))

    async def start(self) -> None:
        """Listen; raises `OSError` where the port is taken."""
        await self._look_at_zones()
        limits = self._settings.limits
        self._server = await serve(
            self._handle,
            self._settings.listen,
            self._settings.port,
            ssl=self._desk.authority.server_context(),
            process_request=self._screen,
            compression=None,
            server_header=None,
            open_timeout=limits.handshake_seconds,
            ping_interval=limits.silence_seconds,
            ping_timeout=limits.silence_seconds,
            close_timeout=1,
            max_size=limits.frame_bytes,
            logger=_quiet,
        )
        self._housekeeper = asyncio.create_task(self._keep_house())
        log.info("listening", port=self.port, fingerprint=self.fingerprint)

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for the event; raises what ended the housekeeping, because a server without it must not go on."""
        assert self._housekeeper is not None
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, self._housekeeper}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._housekeeper.done():
            self._housekeeper.result()

    async def stop(self) -> None:
        """Close all links; sensors keep what wasn't acknowledged."""
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.gather(self._housekeeper, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._desk.speaker.close()
        self._desk.seen.close()

    # -------------------------------------------------------------------------------------------------- connections

    def _screen(self, connection: ServerConnection, request: Request) -> Response | None:
        """Turn a connection away before it becomes a WebSocket."""
        if self._open >= self._settings.limits.connections:
            return self._turn_away(connection, Reason.TOO_MANY_CONNECTIONS, HTTPStatus.SERVICE_UNAVAILABLE)
        if request.path == ENROLMENT_PATH:
            if self._unenrolled >= self._settings.limits.unenrolled_connections:
                return self._turn_away(connection, Reason.TOO_MANY_CONNECTIONS, HTTPStatus.SERVICE_UNAVAILABLE)
            return None
        if request.path != LINK_PATH:
            return connection.respond(HTTPStatus.NOT_FOUND, "no such path\n")
        found = self._identify(connection)
        if isinstance(found, Reason):
            return self._turn_away(connection, found, HTTPStatus.FORBIDDEN)
        return None

    def _turn_away(self, connection: ServerConnection, reason: Reason, status: HTTPStatus) -> Response:
        self._desk.metrics.refuse(reason)
        log.warning("turned_away", reason=reason.value, peer=str(connection.remote_address))
        return connection.respond(status, f"{reason.value}\n")

    def _identify(self, connection: ServerConnection) -> tuple[EnrolledSensor, int] | Reason:
        certificate = connection.transport.get_extra_info("peercert")
        if not certificate:
            return Reason.NO_CERTIFICATE
        serial = int(certificate["serialNumber"], 16)
        names = [value for part in certificate["subject"] for key, value in part if key == "commonName"]
        try:
            if self._desk.registry.is_revoked(serial):
                return Reason.REVOKED
            sensor = self._desk.registry.identify(names[0], serial) if len(names) == 1 else None
        except (OSError, Refused) as error:
            log.error("registry_unreadable", why=str(error))
            return Reason.UNKNOWN_SENSOR
        return (sensor, serial) if sensor else Reason.UNKNOWN_SENSOR

    async def _handle(self, websocket: ServerConnection) -> None:
        self._open += 1
        try:
            if websocket.request is not None and websocket.request.path == ENROLMENT_PATH:
                await self._handle_unenrolled(websocket)
            else:
                await self._handle_linked(websocket)
        finally:
            self._open -= 1

    async def _handle_unenrolled(self, websocket: ServerConnection) -> None:
        self._unenrolled += 1
        try:
            await enrol(self._desk, websocket)
        finally:
            self._unenrolled -= 1

    async def _handle_linked(self, websocket: ServerConnection) -> None:
        found = self._identify(websocket)
        if isinstance(found, Reason):
            # Revoked between the screening and here.
            self._desk.metrics.refuse(found)
            return
        sensor, serial = found
        conversation = Conversation(self._desk, websocket, sensor.identity, serial)
        earlier = self._conversations.get(sensor.name)
        self._conversations[sensor.name] = conversation
        self._desk.metrics.linked.set(len(self._conversations))
        if earlier is not None:
            # A sensor has one link; the earlier one is a half-open remnant, or a copy of its key.
            await earlier.end(1008, "another link of this sensor")
        try:
            log.info("linked", sensor=sensor.name)
            await conversation.run()
        finally:
            if self._conversations.get(sensor.name) is conversation:
                del self._conversations[sensor.name]
            self._desk.metrics.linked.set(len(self._conversations))

    # ------------------------------------------------------------------------------------------------- housekeeping

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(self._settings.housekeeping_seconds)
            await self._look_at_zones()
            await self._look_at_registry()
            told = [conversation.tell_zones() for conversation in self._conversations.values()]
            # A link that breaks meanwhile is its own conversation's matter.
            await asyncio.gather(*told, return_exceptions=True)

    async def _look_at_zones(self) -> None:
        try:
            self._desk.zones = await asyncio.to_thread(self._read_zones)
        except (OSError, SQLAlchemyError, Refused) as error:
            # The last known zones stay in force; detections go on.
            self._desk.metrics.zones_failed.inc()
            log.error("zones_unreadable", why=str(error))

    async def _look_at_registry(self) -> None:
        """Close links whose certificate was revoked, take up changed bindings."""
        registry = self._desk.registry
        if (stamp := registry.stamp()) == self._registry_stamp:
            return
        try:
            revoked = {one.serial for one in registry.revocations()}
            sensors = {one.name: one for one in registry.sensors()}
        except (OSError, Refused) as error:
            log.error("registry_unreadable", why=str(error))
            return
        self._registry_stamp = stamp
        for conversation in list(self._conversations.values()):
            sensor = sensors.get(conversation.identity.name)
            if sensor is None or conversation.serial in revoked:
                self._desk.metrics.refuse(Reason.REVOKED)
                await conversation.end(1008, Reason.REVOKED.value)
            else:
                conversation.identity = sensor.identity


async def serve_until_signalled(settings: Settings, zones: ZonesReader) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = IntakeServer(settings, zones)
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, "127.0.0.1", registry=server.metrics.registry)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    try:
        await server.until(stop)
    finally:
        await server.stop()


def run(settings: Settings, zones: ZonesReader) -> None:
    """The process: serve until signalled; raises `OSError` where the port is taken, for the supervisor to try again."""
    asyncio.run(serve_until_signalled(settings, zones))
