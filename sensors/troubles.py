"""What is wrong with a sensor, a line each, as it sees itself: no detection is lost without one."""

from collections.abc import Sequence

from sensors.link import CLOCK_TOLERANCE_SECONDS, LinkStatus
from sensors.loop import Sensor
from sensors.status_document import Document

_TOLD_AFTER = 1_000
"""Packets, before it is said that none of them is of interest."""


def troubles(
    sensor: Sensor, lines: Sequence[Document], unwatched: int, filter_: str | None, link: LinkStatus | None
) -> list[str]:
    """`lines`: the interfaces, as `status_document.interface` has them; `unwatched`: looks missed a second."""
    found = [f"interface {one['name']} is down or gone" for one in lines if not one["up"]]
    found += [
        f"interface {one['name']} drops {one['dropped_per_second']:,} packets/s: they are not seen"
        for one in lines
        if one["dropped_per_second"]
    ]
    if unwatched:
        found.append(f"too many busy targets: {unwatched:,} looks/s are missed, and attacks may be")
    found += [*sensor.raised, *sensor.troubles, *(sensor.learned.troubles if sensor.learned else ())]
    found += _aimed(sensor, filter_ if lines else None)
    skew = link.clock_skew_seconds if link else None
    if skew is not None and abs(skew) >= CLOCK_TOLERANCE_SECONDS:
        found.append(f"this machine's clock is {skew:+.1f} s off the intake's: run chrony here and there")
    if sensor.evidence and sensor.evidence.trouble:
        found.append(f"evidence: {sensor.evidence.trouble}")
    return [*found, link.trouble] if link and link.trouble else found


def _aimed(sensor: Sensor, filter_: str | None) -> list[str]:
    """Whether it looks at what it is to protect."""
    found = [] if sensor.zones else ["no zones yet: every destination counts, and there are no limits"]
    seen, outside = sensor.numbers.get("packets_total", 0), sensor.numbers.get("unprotected_total", 0)
    if sensor.zones and seen > _TOLD_AFTER and seen == outside:
        found.append("none of the packets seen goes to a protected address: wrong interface, zones or filter")
    if filter_ and not seen:
        found.append(f"nothing matches the filter {filter_!r}")
    return found
