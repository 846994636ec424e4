"""Durations as people type them: `90s`, `30m`, `6h`, `1d`."""

import re
from datetime import timedelta

from rules.errors import Refused

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse(field: str, given: str) -> timedelta:
    """A duration of at least one second."""
    parsed = re.fullmatch(r"(\d{1,9})([smhd])", given.strip())
    if not parsed or int(parsed.group(1)) == 0:
        raise Refused(field, given, "is no duration; write a number and a unit: 90s, 30m, 6h, 1d")
    return timedelta(seconds=int(parsed.group(1)) * _UNITS[parsed.group(2)])
