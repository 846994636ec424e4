"""Durations as people type them: `90s`, `30m`, `6h`, `1d`."""

import re
from datetime import timedelta

from rules.errors import Refused

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_LONGEST_SECONDS = 3650 * 86400
"""A date that far away can still be written; what may live so long is the guard's matter."""


def parse(field: str, given: str) -> timedelta:
    """A duration of at least one second."""
    parsed = re.fullmatch(r"(\d{1,9})([smhd])", given.strip())
    if not parsed or int(parsed.group(1)) == 0:
        raise Refused(field, given, "is no duration; write a number and a unit: 90s, 30m, 6h, 1d")
    seconds = int(parsed.group(1)) * _UNITS[parsed.group(2)]
    if seconds > _LONGEST_SECONDS:
        raise Refused(field, given, f"is longer than {_LONGEST_SECONDS // 86400} days")
    return timedelta(seconds=seconds)
