"""The sensor process: settings in, a running sensor with its link to the intake, until it is told to stop.

Imports nothing that compiles before it is known where compiled code is kept.
"""

import errno
import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from sensors import allocator, ready
from sensors.progress import telling
from sensors.settings import SensorSettings
from sensors.signals import Signals

if TYPE_CHECKING:
    from rules.zone import Zone
    from sensors.engine import Engine
    from sensors.link_settings import LinkSettings

log = structlog.get_logger("sensor")

COMPILING = "compiling the packet kernel, once, a minute or two"


def run(
    settings: SensorSettings, link_settings: "LinkSettings | None" = None, stop: threading.Event | None = None
) -> None:
    """Captures and detects until SIGTERM, SIGINT or `stop`. Without link settings detections are only logged. Raises
    `Refused` when an interface can't be captured."""
    stop = stop or threading.Event()
    signals = Signals(stop)
    ready.check(settings)
    allocator.keep_small()
    use_kernel_cache(settings.kernel_cache)
    from sensors.link import Link
    from sensors.loop import Sensor
    from sensors.metrics import serve
    from sensors.status import StatusBoard

    sensors: list[Sensor] = []
    boards: list[StatusBoard] = []

    def protect(zones: "tuple[Zone, ...]") -> None:
        for sensor in sensors:
            sensor.protect(zones)

    def statistics() -> Any:
        return boards[0].statistics

    link = Link(link_settings, protect, statistics) if link_settings else None
    with telling(lambda seconds: log.info(COMPILING, seconds=round(seconds))):
        sensor = Sensor(settings, link.send if link else lambda detection: True)
    sensors.append(sensor)
    board = StatusBoard(settings, sensor, lambda: link.status if link else None)
    boards.append(board)
    if settings.metrics_port is not None:
        serve(settings.metrics_address, settings.metrics_port, board)
    allocator.give_back()
    # What was made up to here stays: looking through it for garbage would stop the capture for 12 ms now and then.
    gc.freeze()
    signals.begin()
    if link:
        link.start()
    board.start()
    log.info("sensor runs", interfaces=settings.capture.interfaces, zones=len(settings.zones))
    try:
        sensor.run(stop)
    finally:
        board.stop()
        if link:
            link.stop()


def compile_kernel(directory: Path | None, say: Callable[[float], None] = lambda seconds: None) -> float:
    """Fills the cache with everything that a sensor compiles, where it isn't there yet; gives the seconds it took.
    `say` is told how long it takes, while it does. Raises `OSError` when the directory can't be written."""
    began = time.monotonic()
    use_kernel_cache(directory)
    with telling(say):
        from sensors import evidence_ring
        from sensors.baseline_limits import Learning
        from sensors.engine import Engine
        from sensors.settings import Memory

        engine = Engine((), lambda detection, attack: None, memory=Memory(1024, 1024, 1024), learning=Learning())
        warm_up(engine)
        evidence_ring.warm_up()
    return time.monotonic() - began


def warm_up(engine: "Engine") -> None:
    """Compiles or loads all that an engine needs, before the first packet."""
    from sensors import gathered

    engine.warm_up()
    gathered.warm_up(engine.tables.shards[0])
    for part in engine.learned.parts if engine.learned else ():
        part.warm_up()


def use_kernel_cache(directory: Path | None) -> None:
    """Where compiled code is kept; must be called before any part of the kernel is imported. Raises `OSError` when this
    user can't keep it there, as after a start by root."""
    if directory is None:
        return
    import numba

    directory.mkdir(parents=True, exist_ok=True)
    _must_be_ours(directory)
    config: Any = numba.config
    config.CACHE_DIR = str(directory)
    # Goes on to this version's folder in there; those of other versions don't matter.
    from sensors import compiled  # noqa: F401

    folder = Path(config.CACHE_DIR)
    if folder.is_dir():
        _must_be_ours(folder)
        for one in folder.iterdir():
            if one.is_dir():
                _must_be_ours(one)


def _must_be_ours(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "this user can't keep the packet kernel there", str(folder))
