"""One channel at work: a thread of its own, so that a dead receiver holds up nobody else.

It delivers in order, waits after failures, and tells the store what became of each copy. What the store can't be told
now is told later; until then the copy stays open there, so nothing is lost.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Condition, Thread

import structlog

from store.errors import StoreUnavailable
from store.records import OutboxRecord
from store.store import Store
from worker.delivery import Delivery, Undelivered
from worker.notice import ChannelName, Notice
from worker.settings import Settings
from worker.waiting import BackOff, Waiting

log = structlog.get_logger()

_STORE_RETRY_SECONDS = 1.0
_FINISHED_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class _Copy:
    record: OutboxRecord
    notice: Notice


class Channel:
    """A way out with its queue."""

    def __init__(self, name: ChannelName, delivery: Delivery, settings: Settings, store: Store) -> None:
        self.name = name
        self._delivery = delivery
        self._settings = settings
        self._store = store
        self._waiting = Waiting(BackOff(settings.first_retry_seconds, settings.longest_retry_seconds))
        self._copies: dict[int, _Copy] = {}
        self._untold: dict[int, Callable[[], None]] = {}
        """What the store must still be told of each copy, the newest word only."""
        self._finished: deque[int] = deque(maxlen=_FINISHED_REMEMBERED)
        """Copies settled and told; the dispatcher may hold one of them that it took a moment before."""
        self._changed = Condition()
        self._stopping = False
        self._thread = Thread(target=self._work, name=f"worker-{name.value}", daemon=True)
        self.delivered = 0
        self.failures = 0
        self.given_up = 0

    def start(self) -> None:
        """Begins to deliver."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs; only a bug ends it before `stop`."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends after the attempt under way; doesn't wait for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self, wait_seconds: float) -> None:
        """Waits for the end."""
        if self._thread.ident is not None:
            self._thread.join(wait_seconds)

    def offer(self, record: OutboxRecord, notice: Notice) -> None:
        """One copy more; one that is here already is not taken twice."""
        with self._changed:
            if not (record.id in self._copies or record.id in self._untold or record.id in self._finished):
                self._copies[record.id] = _Copy(record, notice)
                self._waiting.add(record.id, notice.subject)
                self._changed.notify()

    def holds(self, number: int) -> bool:
        """Whether a copy of that original waits here."""
        with self._changed:
            return any(copy.notice.number == number for copy in self._copies.values())

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting)

    @property
    def label(self) -> str:
        """Its name in metrics."""
        return self.name.value.removeprefix("to.")

    def oldest_seconds(self, now: datetime) -> float:
        """How long ago what waits longest happened; 0 when nothing waits."""
        with self._changed:
            moments = [copy.notice.at for copy in self._copies.values()]
        return max(0.0, (now - min(moments)).total_seconds()) if moments else 0.0

    def _work(self) -> None:
        while (copy := self._next()) is not None:
            try:
                self._delivery.deliver(copy.notice)
            except Undelivered as error:
                self._failed(copy, error)
            else:
                self._arrived(copy)
        self._delivery.close()

    def _next(self) -> _Copy | None:
        """Waits for the next copy to try; None when it is time to stop."""
        while True:
            self._tell()
            with self._changed:
                if self._stopping:
                    return None
                number = self._waiting.next(time.monotonic())
                if number is not None:
                    return self._copies[number]
                self._changed.wait(self._patience())

    def _patience(self) -> float | None:
        waits = [self._waiting.wait_seconds(time.monotonic()), _STORE_RETRY_SECONDS if self._untold else None]
        return min((wait for wait in waits if wait is not None), default=None)

    def _arrived(self, copy: _Copy) -> None:
        number = copy.record.id
        with self._changed:
            self._waiting.answered()
            self._settle(number)
            self._untold[number] = lambda: self._store.outbox_done(number)
            self.delivered += 1

    def _failed(self, copy: _Copy, error: Undelivered) -> None:
        with self._changed:
            self.failures += 1
            now, moment = time.monotonic(), datetime.now(UTC)
            if error.is_receiver_down:
                wait = self._waiting.receiver_failed(now)
            else:
                self._waiting.answered()
                wait = self._waiting.refused(copy.record.id, now)
            if error.is_receiver_down:
                late = [one for one in self._copies.values() if self._is_late(one, moment)]
            else:
                late = [copy] if self._is_late(copy, moment) else []
            for one in late:
                self._give_up(one, str(error))
            if copy not in late:
                self._tell_failure(copy.record.id, str(error), moment + timedelta(seconds=wait))
        log.warning("undelivered", channel=self.name.value, notice=copy.notice.key, why=str(error), retry_seconds=wait)

    def _is_late(self, copy: _Copy, moment: datetime) -> bool:
        return moment - copy.record.created >= timedelta(seconds=self._settings.give_up_seconds)

    def _give_up(self, copy: _Copy, why: str) -> None:
        self._settle(copy.record.id)
        self._tell_failure(copy.record.id, why, None)
        self.given_up += 1
        log.error("given up", channel=self.name.value, notice=copy.notice.key, why=why)

    def _settle(self, number: int) -> None:
        self._waiting.settled(number)
        del self._copies[number]

    def _tell_failure(self, number: int, why: str, retry_at: datetime | None) -> None:
        self._untold[number] = lambda: self._store.outbox_failed(number, why, retry_at)

    def _tell(self) -> None:
        """Tells the store, outside the lock: it may be slow or away."""
        with self._changed:
            untold = dict(self._untold)
        for number, tell in untold.items():
            try:
                tell()
            except StoreUnavailable as error:
                log.warning("store unavailable", channel=self.name.value, why=str(error))
                return
            with self._changed:
                if self._untold.get(number) is tell:
                    del self._untold[number]
                    if number not in self._copies:
                        self._finished.append(number)
