"""What a sensor makes of signals, whenever they come."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTING = """
import hashlib
from sensors import live, ready
from sensors.settings import Capturing, SensorSettings

def compiling(settings):
    print("compiling", flush=True)
    # One step of Python for minutes, in which other threads may run: so is a call of the compiler.
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

ready.check = compiling
live.run(SensorSettings("s", Capturing(("lo",)), ()))
"""
RUNNING = """
import threading
from sensors.signals import Signals

stop = threading.Event()
signals = Signals(stop)
signals.begin()
print("running", flush=True)
stop.wait(60)
print("put in order", flush=True)
"""
HANGING_UP = """
import io, signal, threading, structlog
from sensors.signals import Signals, log

class HungUp(io.StringIO):
    def write(self, text):
        # In the middle of a line, with the logger's lock held.
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGHUP)
        elif "settings" in text:
            told.set()
        return super().write(text)

out, told, stop = HungUp(), threading.Event(), threading.Event()
structlog.configure(
    processors=[structlog.processors.KeyValueRenderer(["event"])], logger_factory=lambda *_: structlog.PrintLogger(out)
)
Signals(stop).begin()
log.info("a line")
assert told.wait(30) and not stop.is_set()
log.info("done")
print(out.getvalue(), end="")
"""
COMPUTING = """
import hashlib, signal
from sensors.signals import interruptible

for _ in range(2):
    try:
        with interruptible():
            pass
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        pass
    else:
        raise SystemExit("Ctrl-C did nothing")
with interruptible():
    print("compiling", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
TOLD = "settings are read at start only"


@contextmanager
def process(program: str, stderr: int = subprocess.STDOUT) -> Iterator["subprocess.Popen[str]"]:
    """One that runs until it is ended; the first line it says was read."""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as made:
        try:
            assert made.stdout is not None and made.stdout.readline() in ("compiling\n", "running\n")
            yield made
        finally:
            made.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sensor_that_still_compiles_outlives_a_hangup_and_ends_at_once_when_told_to(number: signal.Signals) -> None:
    with process(STARTING) as starting:
        assert starting.stdout is not None
        starting.send_signal(signal.SIGHUP)
        assert TOLD in starting.stdout.readline()
        starting.send_signal(number)
        assert starting.wait(20) == 0
        (last,) = starting.stdout.readlines()
        assert "ended before it ran" in last and number.name in last


def test_a_log_that_nobody_takes_keeps_nobody_from_ending() -> None:
    with process(STARTING) as starting:
        assert starting.stdout is not None
        starting.stdout.close()
        starting.send_signal(signal.SIGHUP)
        starting.send_signal(signal.SIGTERM)
        assert starting.wait(20) == 0


def test_a_sensor_that_runs_is_told_to_stop_and_puts_its_things_in_order() -> None:
    with process(RUNNING) as running:
        assert running.stdout is not None
        running.send_signal(signal.SIGHUP)
        assert TOLD in running.stdout.readline()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.send_signal(number)
        assert running.wait(20) == 0
        assert running.stdout.readlines() == ["put in order\n"]


@pytest.mark.parametrize("program", [STARTING, RUNNING])
def test_a_terminal_that_goes_away_ends_it(program: str) -> None:
    ours, theirs = os.openpty()
    with process(program, theirs) as watched:
        watched.send_signal(signal.SIGHUP)
        assert watched.wait(20) == 0
    for one in (ours, theirs):
        os.close(one)


def test_ctrl_c_ends_what_only_computes_at_once_and_is_as_ever_afterwards() -> None:
    with process(COMPUTING) as computing:
        assert computing.stdout is not None
        computing.send_signal(signal.SIGINT)
        assert computing.wait(20) == 130
        assert computing.stdout.read() == "\ninterrupted\n"


def test_a_hangup_in_the_middle_of_a_line_of_the_log_is_told_after_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING_UP], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "event='a line'"
    assert set(lines[1:]) == {f"event='{TOLD}: restart the sensor'", "event='done'"}
