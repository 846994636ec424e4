"""Threads that each do their part of a job while whoever gives it does his own."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Crew:
    """So many helpers; they wait until there is something to do."""

    def __init__(self, helpers: int, name: str) -> None:
        # One worker each: a helper always has the same part, and its memory near.
        self._helpers = [ThreadPoolExecutor(1, f"{name}-{number + 1}") for number in range(helpers)]
        self._spent = [0.0] * helpers

    def do(self, job: Callable[[int], None]) -> None:
        """Calls `job` with 0 here, and with each further number in a thread; comes back when all are done. Raises what
        any of them raised."""
        waiting = [helper.submit(self._part, job, number) for number, helper in enumerate(self._helpers)]
        try:
            job(0)
        finally:
            failed = [error for one in waiting if (error := one.exception())]
        for error in failed:
            raise error

    def _part(self, job: Callable[[int], None], number: int) -> None:
        began = time.thread_time()
        try:
            job(number + 1)
        finally:
            self._spent[number] += time.thread_time() - began

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the helpers so far."""
        return sum(self._spent)

    def stop(self) -> None:
        """Ends the threads."""
        for helper in self._helpers:
            helper.shutdown()
