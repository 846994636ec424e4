"""The sensor's way to the intake: its own thread, which detection never waits for and never needs.

A detection goes into a bounded queue, from there to the spool on disk and out over the WebSocket, and leaves the spool
when the speaker has it. While the intake is away the spool holds it; updates that a newer one replaces are let go.
"""

import asyncio
import random
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from rules.errors import Refused
from rules.messages_json import dumps, loads
from rules.messages_link import (
    INTAKE_FRAME_LIMIT,
    LINK_PATH,
    SERVER_NAME,
    Acknowledged,
    Beat,
    IntakeFrame,
    Issued,
    Later,
    Reason,
    Refusal,
    Renewal,
    Zones,
    parse_intake_frame,
    render_report,
    render_sensor_frame,
)
from rules.messages_values import Statistics, detection_from_json, detection_to_json
from rules.traffic import Detection
from rules.zone import Zone
from sensors import zone_cache
from sensors.backlog import Backlog
from sensors.enroll import Identity, Request
from sensors.spool import Spool

log = structlog.get_logger("link")

_LINE_LIMIT = 256 << 10
_GONE = (OSError, WebSocketException, TimeoutError, Refused)
"""How a link ends; each is counted, shown and tried again."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the link keeps its things, and how patient it is."""

    directory: Path
    """The sensor's state: identity, cached zones, `spool/`."""
    spool_bytes: int = 32 << 20
    """On disk, and in memory when all of it waits."""
    queue_length: int = 4096
    """Detections between two turns of the link's thread."""
    window: int = 64
    """Messages under way at once, of as many attacks."""
    heartbeat_seconds: float = 1.0
    backoff_seconds: tuple[float, float] = (0.2, 10.0)
    """Between two tries, first and longest; each is made up to half shorter by chance."""
    later_seconds: float = 0.25
    """After the intake put something off."""
    patience_seconds: float = 15.0
    """Without an answer to anything under way, or a pong, the link is dead."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How the link does."""

    connected: bool
    waiting: int
    """Messages the speaker doesn't have yet."""
    counts: dict[str, int]
    """Ever since start: sent, acknowledged, refused, put_off, coalesced, dropped, connects, and `refused_<reason>`."""
    trouble: str
    """Why the last try failed; empty while connected."""


class Link:
    """Starts with `start`; `send` never blocks; `stop` keeps what wasn't taken."""

    def __init__(
        self,
        settings: LinkSettings,
        on_zones: Callable[[tuple[Zone, ...]], None] = lambda zones: None,
        statistics: Callable[[], Statistics] = Statistics,
    ) -> None:
        self._settings, self._on_zones, self._statistics = settings, on_zones, statistics
        self._queue: deque[Detection] = deque()
        self._guard = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._trouble = ""
        self._connected = False
        self._spool = Spool(settings.directory / "spool", settings.spool_bytes)
        self._backlog = Backlog()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._unsynced = asyncio.Event()
        self._paused_until = 0.0
        self._heard = 0.0

    # ------------------------------------------------------------------------------------------- any thread may call

    def start(self) -> None:
        """Read the spool, give out the cached zones and start the thread."""
        for number in self._spool.pending():
            self._restore(number)
        if cached := zone_cache.load(self._settings.directory):
            self._on_zones(cached)
        self._thread.start()

    def send(self, detection: Detection) -> bool:
        """Hand over a detection; False when the queue is full and it was dropped, counted."""
        with self._guard:
            if len(self._queue) >= self._settings.queue_length or self._loop.is_closed():
                self._counts["dropped"] += 1
                return False
            self._queue.append(detection)
            is_first = len(self._queue) == 1
        if is_first:
            # A turn of the loop empties the queue, so one call is enough for all that wait.
            self._call(self._collect)
        return True

    def stop(self, timeout_seconds: float = 5) -> None:
        """End the thread; what wasn't taken stays in the spool."""
        self._call(self._stopping.set)
        self._thread.join(timeout_seconds)

    @property
    def status(self) -> LinkStatus:
        """A snapshot."""
        counts = dict(self._counts) | {"dropped": self._counts["dropped"] + self._spool.dropped}
        return LinkStatus(self._connected, len(self._backlog) + len(self._queue), counts, self._trouble)

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            # The loop has ended with the process; there is nobody to tell.
            self._counts["dropped"] += 1

    # -------------------------------------------------------------------------------------------------- spool, queue

    def _restore(self, number: int) -> None:
        try:
            detection = detection_from_json(loads(self._spool.payload(number), _LINE_LIMIT))
        except Refused as error:
            log.warning("spooled_message_unreadable", why=str(error))
            self._settle((number,))
            return
        self._settle(self._backlog.add(number, detection.attack, detection.state, is_news=False))

    def _collect(self) -> None:
        with self._guard:
            detections, self._queue = self._queue, deque()
        for detection in detections:
            self._keep(detection)
        self._wake.set()

    def _keep(self, detection: Detection) -> None:
        try:
            payload = dumps(detection_to_json(detection))
            number, given_up = self._spool.append(payload)
        except (OSError, Refused) as error:
            self._counts["dropped"] += 1
            log.error("spool_failed", why=str(error))
            return
        self._backlog.settle(given_up)
        replaced = self._backlog.add(number, detection.attack, detection.state)
        self._counts["coalesced"] += len(replaced)
        self._settle(replaced)
        self._unsynced.set()

    def _settle(self, numbers: tuple[int, ...]) -> None:
        if not numbers:
            return
        try:
            self._spool.settle(numbers)
        except OSError as error:
            # At worst they are sent again after a restart, and told as duplicates.
            self._counts["spool_errors"] += 1
            log.error("spool_failed", why=str(error))

    async def _sync(self) -> None:
        """Disk writes wait in a thread of their own, behind the sending."""
        while True:
            await self._unsynced.wait()
            self._unsynced.clear()
            try:
                await asyncio.to_thread(self._spool.sync)
            except OSError as error:
                self._counts["spool_errors"] += 1
                log.error("spool_failed", why=str(error))

    # ------------------------------------------------------------------------------------------------------- thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            with self._guard:
                self._loop.close()

    async def _main(self) -> None:
        syncing = asyncio.create_task(self._sync())
        linking = asyncio.create_task(self._stay_linked())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({syncing, linking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in (syncing, linking) if task.done()]
        for task in (syncing, linking, stopping):
            task.cancel()
        await asyncio.gather(syncing, linking, stopping, return_exceptions=True)
        self._collect()
        self._spool.close()
        for task in failed:
            task.result()

    async def _stay_linked(self) -> None:
        shortest, longest = self._settings.backoff_seconds
        pause = shortest
        while True:
            connects = self._counts["connects"]
            try:
                await self._link()
            except* _GONE as group:
                self._trouble = _why(group)
                log.warning("link_down", why=self._trouble)
            self._connected = False
            self._settle(self._backlog.put_back_all())
            pause = shortest if self._counts["connects"] > connects else min(longest, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _link(self) -> None:
        identity = Identity.load(self._settings.directory)
        if identity is None:
            raise Refused("sensor", str(self._settings.directory), "is not enrolled; run `stopbank sensor enroll`")
        patience = self._settings.patience_seconds
        async with connect(
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
        ) as websocket:
            self._counts["connects"] += 1
            self._connected, self._trouble = True, ""
            log.info("linked", intake=f"{identity.host}:{identity.port}")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(websocket, identity))
                group.create_task(self._write(websocket))
                group.create_task(self._beat(websocket))

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._backlog.under_way < self._settings.window and self._paused_until <= self._loop.time():
                number = self._backlog.take()
                if number is None:
                    break
                if self._backlog.under_way == 1:
                    self._heard = self._loop.time()
                await websocket.send(render_report(number, self._spool.payload(number)), text=True)
                self._counts["sent"] += 1

    async def _beat(self, websocket: ClientConnection) -> None:
        while True:
            await websocket.send(render_sensor_frame(Beat(self._statistics())), text=True)
            if self._backlog.under_way and self._loop.time() - self._heard > self._settings.patience_seconds:
                raise TimeoutError("the intake doesn't answer")
            self._wake.set()
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def _read(self, websocket: ClientConnection, identity: Identity) -> None:
        self._wake.set()
        request: Request | None = None
        while True:
            if request is None and identity.wants_renewal(datetime.now(UTC)):
                request = await asyncio.to_thread(Request.new, identity.name)
                await websocket.send(render_sensor_frame(Renewal(request.pem)), text=True)
            frame = parse_intake_frame(await websocket.recv(decode=False))
            if isinstance(frame, Issued) and request is not None:
                identity = identity.renewed(request.key, frame)
                request = None
                self._counts["renewals"] += 1
            self._heard = self._loop.time()
            self._take_up(frame)

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
                self._put_off(number, reason)
            case Zones(zones):
                zone_cache.save(self._settings.directory, zones)
                self._on_zones(zones)
            case Issued():
                pass

    def _done(self, number: int, how: str) -> None:
        self._counts[how] += 1
        self._backlog.settle((number,))
        self._settle((number,))
        self._wake.set()

    def _put_off(self, number: int, reason: Reason) -> None:
        self._counts["put_off"] += 1
        self._trouble = reason.value
        self._settle(self._backlog.put_back(number))
        self._paused_until = self._loop.time() + self._settings.later_seconds
        self._loop.call_later(self._settings.later_seconds, self._wake.set)


def _why(group: BaseException) -> str:
    """The first cause inside a group of exceptions, in a line."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    if isinstance(group, InvalidStatus) and group.response.body:
        return f"turned away: {group.response.body.decode('ascii', 'replace').strip()}"
    return f"{type(group).__name__}: {group}"
