"""Keeps what an attack looked like: a bounded capture of the target's packets from before it on, while it lasts.

A thread of its own, which the capture thread never waits for: it reads the ring of recent bytes and writes. A disk
that fails costs the evidence, counted and told, and nothing else.
"""

import os
import shutil
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from rules.traffic import Detection, State
from sensors.evidence_file import EvidenceFile, make_room, remove_old
from sensors.evidence_recovery import recover
from sensors.evidence_settings import EvidenceSettings
from sensors.evidence_shards import Position, RecentShards

log = structlog.get_logger("evidence")

_WAITING = 1024
"""Detections between two turns of the thread."""
_TURN_SECONDS = 1.0
_BEFORE_SHARE = 0.25
"""Of a capture's packets, at most, from before the attack was found."""
_EAGERNESS = 8
"""One turn takes at most this part of the packets that are left."""
_NICE = 10
_AGE_SECONDS = 600.0
"""How often it looks for captures that are too old."""


@dataclass(slots=True)
class _Recording:
    detection: Detection
    file: EvidenceFile
    position: Position
    """Up to where the ring was read."""
    until: float
    truncated: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class EvidenceStatus:
    """How it does."""

    counts: dict[str, int]
    """Ever since start: `written`, `lost` (the disk failed), `skipped` (too many at once), `removed` (for room, or too
    old)."""
    recording: int
    trouble: str
    """Why the last capture was lost, or is not in the order of time; empty when it was written as it should be."""


class EvidenceRecorder:
    """Starts with `start`; `note` never blocks; `stop` finishes what is open."""

    def __init__(self, settings: EvidenceSettings, ring: RecentShards, link: int | None) -> None:
        """`link`: the link type of all interfaces, None when they differ."""
        self._settings, self._ring, self._link = settings, ring, link
        self._notes: deque[Detection] = deque()
        self._recordings: dict[str, _Recording] = {}
        self._counts: Counter[str] = Counter()
        self._trouble = ""
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    # ------------------------------------------------------------------------------------------- any thread may call

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def note(self, detection: Detection) -> None:
        """An attack began, goes on or is over."""
        if detection.state is State.ONGOING:
            return
        if len(self._notes) >= _WAITING:
            self._counts["skipped"] += 1
            return
        self._notes.append(detection)
        self._wake.set()

    def stop(self, timeout_seconds: float = 10) -> None:
        """Finish what is open and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_seconds)

    @property
    def status(self) -> EvidenceStatus:
        """A snapshot."""
        return EvidenceStatus(dict(self._counts), len(self._recordings), self._trouble)

    # ----------------------------------------------------------------------------------------------- the thread's own

    def _run(self) -> None:
        # Behind everything else on this machine, the capture thread first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        self._recover()
        self._remove_old()
        due, aged = 0.0, time.monotonic() + _AGE_SECONDS
        while not self._stopping:
            self._wake.wait(max(0.0, (due if self._recordings else aged) - time.monotonic()))
            self._wake.clear()
            self._take_notes()
            if time.monotonic() >= aged:
                aged = time.monotonic() + _AGE_SECONDS
                self._remove_old()
            if time.monotonic() >= due:
                due = time.monotonic() + _TURN_SECONDS
                self._turn()
        self._take_notes()
        self._turn()
        for recording in list(self._recordings.values()):
            self._close(recording, interrupted=True)

    def _recover(self) -> None:
        try:
            found = recover(self._settings.directory)
        except OSError as error:
            self._failed(error)
            return
        self._counts["written"] += found.whole
        self._counts["lost"] += found.lost
        self._trouble = found.trouble
        if found.whole or found.lost:
            log.warning("unfinished evidence found", finished=found.whole, lost=found.lost, why=found.trouble)

    def _take_notes(self) -> None:
        while self._notes:
            detection = self._notes.popleft()
            if detection.state is State.STARTED:
                self._open(detection)
            elif recording := self._recordings.get(detection.attack):
                recording.detection, recording.over = detection, True

    def _open(self, detection: Detection) -> None:
        settings = self._settings
        if len(self._recordings) >= settings.at_once or detection.attack in self._recordings:
            self._counts["skipped"] += 1
            return
        try:
            self._ask_for_room()
            file = EvidenceFile(settings.directory, detection, self._link)
        except OSError as error:
            self._failed(error)
            return
        recording = _Recording(detection, file, self._ring.oldest, time.monotonic() + settings.after_seconds)
        self._recordings[detection.attack] = recording
        # Analysis time can be ahead of the wall clock, but never means packets that are still to come.
        begin = min(detection.first_seen, datetime.now(UTC)) - timedelta(seconds=settings.before_seconds)
        self._record(recording, int(settings.packets * _BEFORE_SHARE), int(begin.timestamp() * 1e9))

    def _remove_old(self) -> None:
        if self._settings.keep_seconds is None:
            return
        before = datetime.now(UTC) - timedelta(seconds=self._settings.keep_seconds)
        try:
            self._counts["removed"] += remove_old(self._settings.directory, before)
        except OSError as error:
            self._trouble = f"{error.filename or self._settings.directory}: {error.strerror}"
            log.error("old evidence not removed", why=self._trouble)

    def _ask_for_room(self) -> None:
        settings = self._settings
        settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room()
        free = shutil.disk_usage(settings.directory).free
        if free < settings.least_free_bytes + settings.file_bytes:
            raise OSError(28, f"only {free >> 20} MB are free", str(settings.directory))

    def _make_room(self) -> None:
        """Old captures go as those under way grow, not sooner: many small ones at once cost none."""
        settings = self._settings
        self._counts["removed"] += make_room(settings.directory, max(0, settings.total_bytes - self._under_way))

    @property
    def _under_way(self) -> int:
        """Bytes of captures that aren't whole yet."""
        return sum(one.file.size for one in self._recordings.values())

    def _turn(self) -> None:
        """Takes up what came since the last turn; early seconds get more, since most attacks are short."""
        now = time.monotonic()
        for recording in list(self._recordings.values()):
            turns = max(1, round((recording.until - now) / _TURN_SECONDS))
            left = self._settings.packets - recording.file.packets
            quota = left if recording.over else max(1, left // turns, left // _EAGERNESS)
            self._record(recording, min(left, quota), 0)
            full = recording.file.packets >= self._settings.packets
            if recording.over or full or now >= recording.until:
                recording.truncated |= not recording.over
                self._close(recording, interrupted=False)

    def _record(self, recording: _Recording, quota: int, since_ns: int) -> None:
        """Appends at most `quota` of the target's packets: all, or every so many-th."""
        if recording.detection.attack not in self._recordings or quota <= 0:
            return
        ring, target = self._ring, recording.detection.target
        span = recording.position, ring.position
        recording.truncated |= ring.has_lost(recording.position) and since_ns == 0
        every = max(1, -(-ring.count(target, span, since_ns) // quota))
        recording.truncated |= every > 1
        bare = self._link is None
        room = self._settings.total_bytes - self._under_way + recording.file.size
        most = min(self._settings.file_bytes, room)
        try:
            fitted = recording.file.add(ring.read(target, span, since_ns, every, bare), most)
            self._make_room()
        except OSError as error:
            self._drop(recording, error)
            return
        recording.position = span[1]
        if not fitted:
            recording.truncated, recording.over = True, True

    def _close(self, recording: _Recording, *, interrupted: bool) -> None:
        del self._recordings[recording.detection.attack]
        try:
            path = recording.file.finish(recording.detection, truncated=recording.truncated, interrupted=interrupted)
        except OSError as error:
            recording.file.discard()
            self._failed(error)
            return
        self._counts["written"] += 1
        self._trouble = ""
        if why := recording.file.unordered:
            self._trouble = f"{recording.file.path}: not in the order of time: {why}"
            log.error("evidence not in the order of time", file=str(recording.file.path), why=why)
        log.info("evidence written", attack=recording.file.attack, file=str(path), packets=recording.file.packets)

    def _drop(self, recording: _Recording, error: OSError) -> None:
        del self._recordings[recording.detection.attack]
        recording.file.discard()
        self._failed(error)

    def _failed(self, error: OSError) -> None:
        self._counts["lost"] += 1
        self._trouble = f"{error.filename or self._settings.directory}: {error.strerror}"
        log.error("evidence lost", why=self._trouble)
