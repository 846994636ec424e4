"""Looks at a number over and over, such as the routes in a router's table, in a thread, and keeps what it saw."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Counting:
    """A context manager; the samples are (monotonic seconds at which the answer was there, number)."""

    def __init__(self, count: Callable[[], int], every_seconds: float = 0.005) -> None:
        self._count, self._every = count, every_seconds
        self.samples: list[tuple[float, int]] = []
        self._problem: Exception | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)

    @property
    def fewest(self) -> int:
        """The smallest number seen."""
        return min(number for _, number in self.samples)

    def wait_for(self, number: int, within_seconds: float = 120) -> float:
        """When this number, or a greater one, was first seen."""
        return self.wait(lambda seen: seen >= number, f"never {number}", within_seconds)

    def wait(self, claim: Callable[[int], bool], what: str, within_seconds: float = 120) -> float:
        """When a number that fits was first seen; raises what went wrong while looking."""
        deadline, looked = time.monotonic() + within_seconds, 0
        with self._changed:
            while True:
                for at, number in self.samples[looked:]:
                    if claim(number):
                        return at
                looked = len(self.samples)
                if self._problem is not None:
                    raise self._problem
                if time.monotonic() > deadline:
                    last = self.samples[-1][1] if self.samples else None
                    raise TimeoutError(f"{what} in {within_seconds:g} s; last seen: {last}")
                self._changed.wait(0.5)

    def _look(self) -> None:
        while not self._stop.wait(self._every):
            try:
                number = self._count()
            except (OSError, ValueError, RuntimeError) as error:
                with self._changed:
                    self._problem = error
                    self._changed.notify_all()
                return
            with self._changed:
                self.samples.append((time.monotonic(), number))
                self._changed.notify_all()
