"""The signals a sensor heeds, from before it compiles until it ends.

Python runs handlers in the main thread, between two of its steps, and the compiler is one step of many seconds. So the
handlers do nothing: a thread reads which signals came, and may log and wait for locks as any other. Must be used
before anything slow begins, or a signal in that time ends the process as if it had never been looked for.
"""

import contextlib
import os
import signal
import threading

import structlog

log = structlog.get_logger("sensor")

_HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Heeds from its making on. SIGTERM and SIGINT end the sensor, a SIGHUP does where there is a terminal: at once
    before `begin`, afterwards by setting `stop`. Does nothing outside the main thread, which has no say there."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._begun = False
        self._turn = threading.Lock()
        if threading.current_thread() is not threading.main_thread():
            return
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in _HEEDED:
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._listen, args=(heard,), name="signals", daemon=True).start()

    def begin(self) -> None:
        """From now on somebody looks at `stop`, and there is something to put in order before the end."""
        with self._turn:
            self._begun = True

    def _listen(self, heard: int) -> None:
        while True:
            # A burst of the same is told once.
            for number in set(os.read(heard, 64)):
                if number == signal.SIGHUP and not os.isatty(2):
                    # No terminal went away: somebody wants the configuration read again, and must not end the watch
                    # with it. This thread must outlive a log that nobody takes.
                    with contextlib.suppress(OSError):
                        log.warning("settings are read at start only: restart the sensor")
                elif number in _HEEDED:
                    self._end(number)

    def _end(self, number: int) -> None:
        with self._turn:
            if self._begun:
                self._stop.set()
                return
            try:
                log.info("ended before it ran", signal=signal.Signals(number).name)
            finally:
                # The compiler would swallow an exception. What it writes takes its name only when it is whole.
                os._exit(0)
