"""Says that something takes long, while it does, so that nobody takes it for hanging."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS, EVERY_SECONDS = 3.0, 15.0


@contextmanager
def telling(
    say: Callable[[float], None], first_seconds: float = FIRST_SECONDS, every_seconds: float = EVERY_SECONDS
) -> Iterator[None]:
    """Calls `say` with the seconds that passed, from a thread of its own: first after `first_seconds`, then every so
    often, until the block ends. What is quick says nothing."""
    done, began = threading.Event(), time.monotonic()

    def watch() -> None:
        pause = first_seconds
        while not done.wait(pause):
            pause = every_seconds
            say(time.monotonic() - began)

    watching = threading.Thread(target=watch, name="progress", daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
