"""One connection to the intake, from the handshake to its end: sends what is outgoing, takes up the answers.

It ends by raising; the link then puts back what was under way and connects anew.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import assert_never

import structlog
from websockets.asyncio.client import ClientConnection, connect

from rules.messages_link import (
    INTAKE_FRAME_LIMIT,
    LINK_PATH,
    SERVER_NAME,
    Acknowledged,
    Beat,
    IntakeFrame,
    Issued,
    Later,
    Refusal,
    Renewal,
    Zones,
    parse_intake_frame,
    render_report,
    render_sensor_frame,
)
from rules.messages_values import Statistics
from rules.zone import Zone
from sensors.enroll import Identity, Request
from sensors.link_settings import LinkSettings
from sensors.outgoing import Outgoing

log = structlog.get_logger("link")

_RENEWAL_PAUSE_SECONDS = 60.0
"""Between two requests for a new certificate."""


def dial(identity: Identity, settings: LinkSettings) -> connect:
    """The WebSocket to the identity's intake, both ends authenticated; to be entered with `async with`."""
    patience = settings.patience_seconds
    return connect(
        f"wss://{SERVER_NAME}:{identity.port}{LINK_PATH}",
        host=identity.host,
        port=identity.port,
        ssl=identity.client_context(),
        server_hostname=SERVER_NAME,
        proxy=None,
        compression=None,
        open_timeout=patience,
        close_timeout=1,
        ping_interval=patience / 3,
        ping_timeout=patience,
        max_size=INTAKE_FRAME_LIMIT,
    )


class Session:
    """Runs until the connection ends."""

    def __init__(
        self,
        websocket: ClientConnection,
        identity: Identity,
        settings: LinkSettings,
        outgoing: Outgoing,
        wake: asyncio.Event,
        counts: "Counter[str]",
        statistics: Callable[[], Statistics],
        on_zones: Callable[[tuple[Zone, ...]], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._websocket, self._identity, self._settings = websocket, identity, settings
        self._outgoing, self._wake, self._counts = outgoing, wake, counts
        self._statistics, self._on_zones, self._on_trouble = statistics, on_zones, on_trouble
        self._loop = asyncio.get_running_loop()
        self._paused_until = 0.0
        self._heard = self._loop.time()
        self._request: Request | None = None
        self._renewal_after = 0.0

    async def run(self) -> None:
        """Send, listen and beat; raises the group of what ended it."""
        self._wake.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._read())
            group.create_task(self._beat())

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outgoing.under_way < self._settings.window and self._paused_until <= self._loop.time():
                taken = self._outgoing.take()
                if taken is None:
                    break
                if self._outgoing.under_way == 1:
                    self._heard = self._loop.time()
                await self._websocket.send(render_report(*taken), text=True)
                self._counts["sent"] += 1

    async def _read(self) -> None:
        while True:
            frame = parse_intake_frame(await self._websocket.recv(decode=False))
            self._heard = self._loop.time()
            self._take_up(frame)

    async def _beat(self) -> None:
        while True:
            await self._websocket.send(render_sensor_frame(Beat(self._statistics())), text=True)
            if self._outgoing.under_way and self._loop.time() - self._heard > self._settings.patience_seconds:
                raise TimeoutError("the intake doesn't answer")
            if self._identity.wants_renewal(datetime.now(UTC)) and self._loop.time() >= self._renewal_after:
                await self._renew()
            self._wake.set()
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def _renew(self) -> None:
        self._renewal_after = self._loop.time() + _RENEWAL_PAUSE_SECONDS
        self._request = await asyncio.to_thread(Request.new, self._identity.name)
        await self._websocket.send(render_sensor_frame(Renewal(self._request.pem)), text=True)

    def _take_up(self, frame: IntakeFrame) -> None:
        match frame:
            case Acknowledged(number):
                self._done(number, "acknowledged")
            case Refusal(number, reason, problems):
                self._counts[f"refused_{reason.value}"] += 1
                log.error("refused", reason=reason.value, problems=[str(problem) for problem in problems])
                if number is not None:
                    self._done(number, "refused")
            case Later(number, reason):
                self._counts["put_off"] += 1
                self._on_trouble(reason.value)
                self._outgoing.put_back(number)
                self._paused_until = self._loop.time() + self._settings.later_seconds
                self._loop.call_later(self._settings.later_seconds, self._wake.set)
            case Zones(zones):
                self._on_zones(zones)
            case Issued():
                if self._request is not None:
                    self._identity = self._identity.renewed(self._request.key, frame)
                    self._request = None
                    self._counts["renewals"] += 1
            case _:
                assert_never(frame)

    def _done(self, number: int, how: str) -> None:
        self._counts[how] += 1
        self._outgoing.settle(number)
        self._on_trouble("")
        self._wake.set()
