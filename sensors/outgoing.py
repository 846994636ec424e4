"""Detections on their way out: the spool that keeps them and the backlog that orders them, as one thing.

Used by the link's thread alone. A disk that fails is counted and never stops what can still be sent.
"""

from collections import Counter
from pathlib import Path

import structlog

from rules.errors import Refused
from rules.messages_json import dumps, loads
from rules.messages_link import SENSOR_FRAME_LIMIT
from rules.messages_values import detection_from_json, detection_to_json
from rules.traffic import Detection
from sensors.backlog import Backlog
from sensors.spool import Spool

log = structlog.get_logger("link")


class Outgoing:
    """What the speaker doesn't have yet."""

    def __init__(self, directory: Path, limit_bytes: int, counts: "Counter[str]") -> None:
        self._counts = counts
        self._spool = Spool(directory, limit_bytes)
        self._backlog = Backlog()
        self._told, self._in_trouble = 0, False
        self._tell_failures()
        for number in self._spool.pending():
            self._restore(number)

    def __len__(self) -> int:
        return len(self._backlog)

    @property
    def under_way(self) -> int:
        """How many were sent and not settled."""
        return self._backlog.under_way

    @property
    def dropped(self) -> int:
        """Given up because the spool was full."""
        return self._spool.dropped

    @property
    def trouble(self) -> str:
        """Why the disk doesn't keep what is outgoing; empty when it does."""
        return self._spool.trouble

    def keep(self, detection: Detection) -> None:
        """Take in a detection; on disk when the next `sync` is done. Where the disk fails it goes out all the same."""
        number, given_up = self._spool.append(dumps(detection_to_json(detection)))
        self._tell_failures()
        self._backlog.settle(given_up)
        replaced = self._backlog.add(number, detection.attack, detection.state)
        self._counts["coalesced"] += len(replaced)
        self._forget(replaced)

    def take(self) -> tuple[int, bytes] | None:
        """The next one to send, as number and JSON; None when nothing can be sent."""
        number = self._backlog.take()
        return None if number is None else (number, self._spool.payload(number))

    def settle(self, number: int) -> None:
        """The speaker has it, or will never want it."""
        self._backlog.settle((number,))
        self._forget((number,))

    def put_back(self, number: int) -> None:
        """It was not taken and waits again."""
        self._forget(self._backlog.put_back(number))

    def put_back_all(self) -> None:
        """The link broke."""
        self._forget(self._backlog.put_back_all())

    def sync(self) -> None:
        """Make everything kept so far survive a power failure; may run in another thread."""
        self._counts["spool_syncs"] += 1
        try:
            self._spool.sync()
        except OSError as error:
            self._failed(error)

    def close(self) -> None:
        """Sync and close."""
        try:
            self._spool.close()
        except OSError as error:
            self._failed(error)

    def _restore(self, number: int) -> None:
        try:
            detection = detection_from_json(loads(self._spool.payload(number), SENSOR_FRAME_LIMIT))
        except Refused as error:
            log.warning("spooled_message_unreadable", why=str(error))
            self._forget((number,))
            return
        self._forget(self._backlog.add(number, detection.attack, detection.state, is_news=False))

    def _forget(self, numbers: tuple[int, ...]) -> None:
        # Where the disk fails they are sent again after a restart at worst, and told as duplicates.
        self._spool.settle(numbers)
        self._tell_failures()

    def _tell_failures(self) -> None:
        fresh = self._spool.failures - self._told
        if fresh:
            self._told += fresh
            self._counts["spool_errors"] += fresh
        if bool(self._spool.trouble) != self._in_trouble:
            self._in_trouble = bool(self._spool.trouble)
            if self._in_trouble:
                log.error("spool_failed", why=self._spool.trouble)
            else:
                log.info("spool_works_again")

    def _failed(self, error: OSError) -> None:
        self._counts["spool_errors"] += 1
        log.error("spool_failed", why=str(error))
