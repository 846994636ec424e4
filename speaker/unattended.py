"""How much of the time that the machine may act without a person's word has passed. Pure."""

from datetime import datetime, timedelta
from enum import Enum


class Passed(Enum):
    """What people are told of, once each."""

    LITTLE = ""
    HALF = "half"
    """A person's word within the rest of it keeps the rules renewed."""
    ALL = "all"
    """Nothing is renewed any more, and what is new waits for a person."""


def passed(alone_since: datetime | None, now: datetime, longest: timedelta) -> Passed:
    """How far it has come."""
    if alone_since is None or now - alone_since < longest / 2:
        return Passed.LITTLE
    return Passed.HALF if now - alone_since < longest else Passed.ALL
