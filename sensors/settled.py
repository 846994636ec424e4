"""Ticks that need no closer look: all that is busy is under attack, and has been for long.

An attack that goes on makes each tick as dear as its first one, and tells nothing new in it. Then every other tick
only counts, unless anything else is busy. So an attack on a host is found as soon as ever; one on a prefix around a
host that is under attack may be found a tick later. Pure.
"""

from collections.abc import Mapping

from sensors.covering import Covering
from sensors.detect import Track
from sensors.readings import Readings

SETTLED_NS = 1_500_000_000
"""How old each attack must be: longer than the longest window."""
MOST = 16
"""Attacks; to ask where more of them lie would cost what is saved."""


def settled(readings: Readings, tracks: Mapping[int, Track], covering: Covering, now: int) -> frozenset[int] | None:
    """The rows that may be busy in the next tick without a closer look; None: it needs one whatever they are."""
    if not 0 < len(tracks) <= MOST:
        return None
    if any(track.opened is None or now - track.opened < SETTLED_NS for track in tracks.values()):
        return None
    known = {*tracks, *(above for row in tracks for above in covering.above(row))}
    busy = frozenset(readings.rows.tolist())
    return busy if busy <= known else None
