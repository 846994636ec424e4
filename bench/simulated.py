"""The live engine on a simulated clock: a capture file's packets, ticks at the live loop's distance, no waiting."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rules.traffic import Detection
from rules.zone import Zone
from sensors.attack import Attack, moment
from sensors.connections import SlowWatch
from sensors.engine import Engine
from sensors.pcapfile import open_capture
from sensors.settings import Detecting, Memory, SlowSettings
from sensors.tables import NEXT_TIME

MEMORY = Memory(hosts=16_384, recent_packets=131_072, normal_packets=16_384)
Hear = Callable[[Detection], None]


def live(
    path: Path, zones: Sequence[Zone], hear: Hear, phase: float = 0.0, memory: Memory = MEMORY,
    detecting: Detecting | None = None, slow: SlowSettings | None = None,
) -> Engine:  # fmt: skip
    """Feeds a capture to an engine as the sensor's loop does, and tells each detection when it is made. `phase`: by
    which part of a tick the first one comes later, 0 to 1; `slow`: look for slow HTTP too, once a second. Gives the
    engine as it is at the end."""
    settings = detecting or Detecting()

    def emit(detection: Detection, attack: Attack) -> None:
        hear(detection)

    engine = Engine(zones, emit, detecting=settings, memory=memory)
    tables, tick = engine.tables, int(settings.tick_seconds * 1e9)
    source = open_capture(path)
    try:
        if source.feed(tables, -(1 << 62)).ended:
            return engine
        now = int(tables.state[NEXT_TIME]) + int(phase * tick)
        source.feed(tables, now)
        engine.start(now)
        watch, looked = SlowWatch(zones, "simulated", slow) if slow else None, now
        while not source.feed(tables, now + tick).ended:
            now += tick
            engine.tick(now, moment(now))
            if watch and now - looked >= 1_000_000_000:
                for found in watch.look(tables.since(looked + 1), now, moment(now)):
                    hear(found)
                looked = tables.clock_ns
        engine.tick(now + tick, moment(now + tick))
    finally:
        source.close()
    return engine
