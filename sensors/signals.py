"""The signals a sensor heeds, from before it compiles until it ends; and Ctrl-C for who compiles at a terminal.

Python runs handlers in the main thread, between two of its steps, and the compiler is one step of many seconds that
swallows exceptions. So the handlers do nothing: a thread reads which signals came, and may log and wait for locks as
any other. Must be used before anything slow begins, or a signal in that time ends the process without a word.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import structlog

log = structlog.get_logger("sensor")

_HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_INTERRUPTED = 130
"""The exit code that shells give to Ctrl-C."""
_SHOW_CURSOR = b"\x1b[?25h"
"""Who draws a bar has hidden it."""


def hear(numbers: tuple[signal.Signals, ...], react: Callable[[int], None]) -> Callable[[], None]:
    """Has a thread call `react` with each of these signals, at once whatever the main thread does; gives what ends
    that. Does nothing outside the main thread, which has no say in signals."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def listen() -> None:
        # A burst of the same is one; nothing is read once nobody can tell any more.
        while came := os.read(heard, 64):
            for number in set(came).intersection(numbers):
                react(number)
        os.close(heard)

    threading.Thread(target=listen, name="signals", daemon=True).start()
    woken = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}

    def end() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.close(told)

    return end


class Signals:
    """Heeds from its making on. SIGTERM and SIGINT end the sensor, a SIGHUP does where there is a terminal: at once
    before `begin`, afterwards by setting `stop`."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._begun = False
        self._turn = threading.Lock()
        hear(_HEEDED, self._react)

    def begin(self) -> None:
        """From now on somebody looks at `stop`, and there is something to put in order before the end."""
        with self._turn:
            self._begun = True

    def _react(self, number: int) -> None:
        if number == signal.SIGHUP and not os.isatty(2):
            # No terminal went away: somebody wants the configuration read again, and must not end the watch with it.
            # This thread must outlive a log that nobody takes.
            with contextlib.suppress(OSError):
                log.warning("settings are read at start only: restart the sensor")
            return
        with self._turn:
            if self._begun:
                self._stop.set()
                return
            try:
                log.info("ended before it ran", signal=signal.Signals(number).name)
            finally:
                # What the compiler writes takes its name only when it is whole.
                os._exit(0)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once, where nothing needs to be put in order."""

    def leave(number: int) -> None:
        with contextlib.suppress(OSError):
            os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"\ninterrupted\n")
        os._exit(_INTERRUPTED)

    end = hear((signal.SIGINT,), leave)
    try:
        yield
    finally:
        end()
