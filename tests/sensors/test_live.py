"""What a running sensor makes of signals, whenever they come."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANGING_UP = """
import io, signal, threading, time, structlog
from sensors import live
from sensors.settings import Capturing, SensorSettings
from sensors.status import StatusBoard

class Sensor:
    interfaces = attacks = beside = raised = log_troubles = zones = ()
    evidence = learned = None
    beaten, numbers = 0.0, {}

class HungUp(io.StringIO):
    def write(self, text):
        # In the middle of a line, with the logger's lock held.
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGHUP)
        return super().write(text)

out = HungUp()
structlog.configure(
    processors=[structlog.processors.JSONRenderer()], logger_factory=lambda *_: structlog.PrintLogger(out)
)
stop = threading.Event()
board = StatusBoard(SensorSettings("s", Capturing(("lo",)), ()), Sensor(), lambda: None)
live.heed_signals(stop, board.say)
live.log.info("a line")
board.start()
deadline = time.monotonic() + 30
while "settings" not in out.getvalue() and time.monotonic() < deadline:
    time.sleep(0.01)
board.stop()
assert not stop.is_set()
print(out.getvalue(), end="")
"""
ENDING = """
import signal, threading
from sensors import live

class Slow(threading.Event):
    def set(self):
        # The next one comes while the event's lock is held.
        with self._cond:
            signal.raise_signal(signal.SIGINT)
        super().set()

stop = Slow()
live.heed_signals(stop, print)
signal.raise_signal(signal.SIGTERM)
assert stop.is_set()
print("ended")
"""


def run(program: str) -> list[str]:
    """The lines it prints; a lock that is waited for in vain ends the test."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


def test_a_hangup_in_the_middle_of_a_line_of_the_log_is_told_after_it() -> None:
    first, second = (json.loads(line)["event"] for line in run(HANGING_UP))
    assert (first, second) == ("a line", "settings are read at start only: restart the sensor")


def test_a_second_signal_that_comes_into_the_first_ends_it_all_the_same() -> None:
    assert run(ENDING) == ["ended"]
