"""The sensor's way to the intake: its own thread, which detection never waits for and never needs.

A detection goes into a bounded queue, from there to the spool on disk and out over the WebSocket, and leaves the spool
when the speaker has it. While the intake is away the spool holds it; updates that a newer one replaces are let go.
"""

import asyncio
import os
import random
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus, WebSocketException

from rules.errors import Refused
from rules.messages_values import Statistics
from rules.traffic import Detection
from rules.zone import Zone
from sensors import files, zone_cache
from sensors.enroll import Identity
from sensors.link_clock import clock_skew
from sensors.link_repeated import Repeated
from sensors.link_session import Session, dial
from sensors.link_settings import LinkSettings
from sensors.outgoing import Outgoing

log = structlog.get_logger("link")

CLOCK_TOLERANCE_SECONDS = 2.0
"""A sensor's clock may differ from the intake's by so much; detections older than 10 s are never acted on, and those
from the future are refused."""

_GONE = (OSError, WebSocketException, Refused)
"""How a link ends; each is shown and tried again. Timeouts are among `OSError`."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How the link does."""

    connected: bool
    waiting: int
    """Messages the speaker doesn't have yet."""
    counts: dict[str, int]
    """Ever since start: sent, acknowledged, refused, put_off, coalesced, dropped, connects, renewals, spool_syncs,
    spool_errors, and `refused_<reason>`."""
    trouble: str
    """Why the last try failed, or why the intake put something off; empty when all is well."""
    clock_skew_seconds: float | None = None
    """How far at least this machine's clock was ahead of the intake's when the link came up (`clock_skew`)."""


class Link:
    """Starts with `start`; `send` never blocks; `stop` keeps what wasn't taken."""

    def __init__(
        self,
        settings: LinkSettings,
        on_zones: Callable[[tuple[Zone, ...]], None] = lambda zones: None,
        statistics: Callable[[], Statistics] = Statistics,
    ) -> None:
        """Reads the spool; raises `OSError` when the directory can't be written. The callbacks run in the link's thread
        and must not block."""
        self._settings, self._on_zones, self._statistics = settings, on_zones, statistics
        files.private_directory(settings.directory)
        self._counts: Counter[str] = Counter()
        self._outgoing = Outgoing(settings.directory / "spool", settings.spool_bytes, self._counts)
        self._queue: deque[Detection] = deque()
        self._collecting = 0
        """Between queue and spool: counted twice for a moment, never missed."""
        self._guard = threading.Lock()
        self._trouble, self._repeated = "", Repeated()
        self._skew: float | None = None
        self._connected = False
        self._linked_at: float | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._stopping, self._wake, self._unsynced = asyncio.Event(), asyncio.Event(), asyncio.Event()

    # ------------------------------------------------------------------------------------------- any thread may call

    def start(self) -> None:
        """Give out the cached zones and start the thread."""
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
            if len(self._queue) == 1:
                # A turn of the loop empties the queue, so one call is enough for all that wait.
                self._loop.call_soon_threadsafe(self._collect)
        return True

    def stop(self, timeout_seconds: float = 5) -> None:
        """End the thread; what wasn't taken stays in the spool."""
        with self._guard:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout_seconds)

    @property
    def status(self) -> LinkStatus:
        """A snapshot."""
        counts = dict(self._counts) | {"dropped": self._counts["dropped"] + self._outgoing.dropped}
        with self._guard:
            waiting = len(self._queue) + self._collecting
        return LinkStatus(self._connected, waiting + len(self._outgoing), counts, self._told_trouble(), self._skew)

    def _told_trouble(self) -> str:
        spool = self._outgoing.trouble
        return "; ".join(filter(None, (self._trouble, f"spool: {spool}" if spool else "")))

    # ------------------------------------------------------------------------------------------------- the link's own

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            with self._guard:
                self._loop.close()

    async def _main(self) -> None:
        tasks = [asyncio.create_task(work) for work in (self._sync(), self._stay_linked(), self._until_stopped())]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._connected = False
        self._collect()
        self._outgoing.close()
        for task in done:
            # A bug ends the link and shows; detection goes on without it.
            task.result()

    async def _until_stopped(self) -> None:
        await self._stopping.wait()

    def _collect(self) -> None:
        with self._guard:
            detections, self._queue = self._queue, deque()
            self._collecting = len(detections)
        for detection in detections:
            self._outgoing.keep(detection)
        self._collecting = 0
        self._unsynced.set()
        self._wake.set()

    async def _sync(self) -> None:
        """Disk writes wait in a thread of their own, behind the sending. What the speaker has by then needs none: its
        own disk, which may be this one, has it."""
        while True:
            await self._unsynced.wait()
            await asyncio.sleep(self._settings.sync_seconds)
            self._unsynced.clear()
            if len(self._outgoing):
                await asyncio.to_thread(self._outgoing.sync)

    async def _stay_linked(self) -> None:
        shortest, longest = self._settings.backoff_seconds
        pause = shortest
        while True:
            self._linked_at = None
            try:
                await self._link()
            except* _GONE as group:
                self._show_trouble(_why(group))
                if self._repeated.is_news(self._trouble, self._loop.time()):
                    log.warning("link_down", why=self._trouble)
            self._connected = False
            self._outgoing.put_back_all()
            # A link that ends as soon as it is there, as with an intake of another version, is no better than none.
            stood = 0.0 if self._linked_at is None else self._loop.time() - self._linked_at
            pause = shortest if stood > pause else min(longest, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _link(self) -> None:
        identity = Identity.load(self._settings.directory)
        if identity is None:
            raise Refused("sensor", str(self._settings.directory), "is not enrolled; run `stopbank sensor enroll`")
        asked = datetime.now(UTC)
        async with dial(identity, self._settings) as websocket:
            self._counts["connects"] += 1
            self._connected, self._linked_at = True, self._loop.time()
            self._show_trouble("")
            self._repeated.is_over()
            log.info("linked", intake=f"{identity.host}:{identity.port}")
            self._compare_clocks(websocket, asked)
            session = Session(
                websocket,
                identity,
                self._settings,
                self._outgoing,
                self._wake,
                self._counts,
                self._statistics,
                self._take_zones,
                self._show_trouble,
            )
            await session.run()

    def _compare_clocks(self, websocket: ClientConnection, asked: datetime) -> None:
        """Detections keep the time of this machine, whatever comes out: one that was late must not look new."""
        told = websocket.response.headers.get("Date") if websocket.response else None
        self._skew = clock_skew(told or "", asked, datetime.now(UTC))
        if self._skew is not None and abs(self._skew) >= CLOCK_TOLERANCE_SECONDS:
            log.error("clock_skew", ahead_seconds=self._skew, advice="set this machine's clock: run chrony here")

    def _take_zones(self, zones: tuple[Zone, ...]) -> None:
        zone_cache.save(self._settings.directory, zones)
        self._on_zones(zones)

    def _show_trouble(self, trouble: str) -> None:
        self._trouble = trouble


def _why(group: BaseException) -> str:
    """The first cause inside a group of exceptions, in a line."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    if isinstance(group, InvalidStatus) and group.response.body:
        return f"turned away: {group.response.body.decode('ascii', 'replace').strip()}"
    if isinstance(group, Refused):
        return str(group)
    if isinstance(group, TimeoutError) and not group.errno:
        return "timeout: no answer from the intake"
    if isinstance(group, OSError) and not isinstance(group, ssl.SSLError) and (code := group.errno or 0) > 0:
        return f"{os.strerror(code)}: {group.strerror}"
    return f"{type(group).__name__}: {group}"
