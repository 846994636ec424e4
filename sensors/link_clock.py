"""How far this machine's clock is ahead of the intake's, as far as one answer over HTTP proves it. Pure."""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

_SECOND = timedelta(seconds=1)
"""A date's own; the true moment is anywhere between its begin and its end."""


def clock_skew(date: str, asked: datetime, answered: datetime) -> float | None:
    """Seconds by which this clock is ahead of who wrote an HTTP date (RFC 9110 §5.6.7), at least: 0 where the clocks
    may agree, below 0 where this one is behind. The date was written between `asked` and `answered` on this clock.
    None where it is no date."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    if theirs.tzinfo is None:
        return None
    ahead, behind = asked - theirs - _SECOND, answered - theirs
    if ahead > timedelta(0):
        return round(ahead.total_seconds(), 1)
    return round(min(behind, timedelta(0)).total_seconds(), 1) + 0.0
