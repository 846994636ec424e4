"""Looks at a router's tables over and over, and notes when a rule for a target came and when it went."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.router import Router


@dataclass(slots=True)
class Seen:
    """When a table first held something for the target, and when it last did; monotonic seconds."""

    came: float | None = None
    went: float | None = None
    """The first look without it, after it had come."""


class Watch:
    """Polls a set of tables, each in a thread of its own; a context manager."""

    def __init__(self, tables: dict[str, Callable[[], bool]], every_seconds: float = 0.05) -> None:
        self.seen = {name: Seen() for name in tables}
        self._every = every_seconds
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(holds, self.seen[name]), daemon=True)
            for name, holds in tables.items()
        ]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _look(self, holds: Callable[[], bool], seen: Seen) -> None:
        while not self._stop.wait(self._every):
            is_there, now = holds(), time.monotonic()
            if is_there and seen.came is None:
                seen.came = now
            if is_there:
                seen.went = None
            elif seen.came is not None and seen.went is None:
                seen.went = now


def holds_flowspec(router: Router, target: str) -> Callable[[], bool]:
    """Whether the router's FlowSpec table has a rule towards the target."""
    from rules.match import Family

    family = Family.IPV6 if ":" in target else Family.IPV4
    return lambda: target in router.flowspec_text(family)
