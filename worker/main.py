"""The worker: takes what happened from the outbox and tells webhook and syslog. It announces nothing.

Nothing accepted is lost: a message leaves the outbox only when every channel has its copy, a copy only when its
receiver has it or it was given up visibly. One worker at a time; a second one would break the order of subjects.
"""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from store.errors import StoreUnavailable
from store.records import OutboxRecord, OutboxState
from store.store import Store
from worker import metrics
from worker.channel import Channel
from worker.delivery import Delivery
from worker.notice import ChannelName, copy, original
from worker.settings import Settings
from worker.syslog import SyslogDelivery
from worker.webhook import WebhookDelivery

log = structlog.get_logger()

_BATCH = 100
_LEASE_SECONDS = 600.0
_ALL = 1_000_000
_LOOK_ANYWAY_SECONDS = 30.0
"""Leases run out without anything changing in the database."""
_STOP_SECONDS = 10.0
_FORGET_SECONDS = 3600.0


def run(settings: Settings, store: Store, stop: threading.Event | None = None) -> None:
    """Works until `stop` is set; without one, until SIGTERM or SIGINT (main thread only)."""
    if stop is None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    Worker(settings, store).run(stop)


def deliveries(settings: Settings) -> dict[ChannelName, Delivery]:
    """The ways out that are configured."""
    found: dict[ChannelName, Delivery] = {}
    if settings.webhook is not None:
        found[ChannelName.WEBHOOK] = WebhookDelivery(settings.webhook)
    if settings.syslog is not None:
        found[ChannelName.SYSLOG] = SyslogDelivery(settings.syslog, settings.hostname)
    return found


class Worker:
    """The dispatcher: from the outbox to the channels."""

    def __init__(self, settings: Settings, store: Store, ways: Mapping[ChannelName, Delivery] | None = None) -> None:
        self._settings = settings
        self._store = store
        ways = deliveries(settings) if ways is None else ways
        self.channels = {name: Channel(name, way, settings, store) for name, way in ways.items()}
        self._taken: deque[OutboxRecord] = deque()
        """Leased and not dispatched yet: what a failing database left undone comes first next time."""
        self._seen = -1
        self._looked = float("-inf")
        self._forgot = float("-inf")
        self._measured = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set."""
        try:
            self._begin(stop)
            while not stop.wait(self._settings.poll_seconds):
                self._attempt(self._turn)
                self._measure()
                if dead := [name.value for name, channel in self.channels.items() if not channel.is_alive]:
                    raise RuntimeError(f"channels died: {', '.join(dead)}")
        finally:
            for channel in self.channels.values():
                channel.stop()
            for channel in self.channels.values():
                channel.join(_STOP_SECONDS)

    def _begin(self, stop: threading.Event) -> None:
        """Channels start when they know everything that is open, or the order of subjects would not hold."""
        while not stop.is_set() and not (self._attempt(self._recover) and self._attempt(self._drain)):
            stop.wait(self._settings.poll_seconds)
        for channel in self.channels.values():
            channel.start()

    def _attempt(self, what: Callable[[], None]) -> bool:
        """Whether it went through; a database that is away is a matter of waiting."""
        try:
            what()
        except StoreUnavailable as error:
            log.warning("store unavailable", why=str(error))
            return False
        return True

    def _turn(self) -> None:
        now = time.monotonic()
        if self._store.change_counter() != self._seen or now - self._looked >= _LOOK_ANYWAY_SECONDS:
            self._drain()
            self._looked = now
        if now - self._forgot >= _FORGET_SECONDS:
            self._store.outbox_forget(datetime.now(UTC) - timedelta(seconds=self._settings.keep_seconds))
            self._forgot = now

    def _measure(self) -> None:
        """A file that can't be written costs the metrics and nothing else."""
        now = time.monotonic()
        if self._settings.state is None or now - self._measured < metrics.WRITE_SECONDS:
            return
        self._measured = now
        try:
            metrics.write(self._settings.state, self.channels.values(), datetime.now(UTC))
        except OSError as error:
            log.error("metrics can't be written", why=str(error))

    def _recover(self) -> None:
        """What a predecessor held or put off is due now: only so is everything taken in the order of numbers."""
        now = datetime.now(UTC)
        for state in (OutboxState.TAKEN, OutboxState.WAITING):
            for record in self._store.outbox(state, limit=_ALL):
                if record.due > now:
                    self._store.outbox_failed(record.id, record.last_error or "the worker started anew", now)

    def _drain(self) -> None:
        """Takes all that is due: copies go to their channels, originals are copied."""
        while True:
            while self._taken:
                self._dispatch(self._taken[0])
                self._taken.popleft()
            before = self._store.change_counter()
            records = self._store.outbox_take(_BATCH, datetime.now(UTC), _LEASE_SECONDS)
            if not records:
                # Taking counts as one change itself; any other since `before` makes the next turn look again.
                self._seen = before + 1
                return
            self._taken.extend(sorted(records, key=lambda record: record.id))

    def _dispatch(self, record: OutboxRecord) -> None:
        name = ChannelName.of(record.kind)
        if name is None:
            self._copy(record)
            return
        channel, notice = self.channels.get(name), copy(record)
        if channel is None:
            self._store.outbox_failed(record.id, f"{name.value} is not configured any more", None)
        elif notice is None:
            self._store.outbox_failed(record.id, "is no notice of this version", None)
        else:
            channel.offer(record, notice)

    def _copy(self, record: OutboxRecord) -> None:
        """One copy for each channel; done last, so a crash between leads to a second copy and to no loss."""
        notice = original(record)
        if record.kind not in self._settings.muted:
            for name, channel in self.channels.items():
                if not channel.holds(record.id):
                    self._store.outbox_add(name.value, notice.to_payload(), datetime.now(UTC))
        self._store.outbox_done(record.id)
