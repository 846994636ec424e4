"""The zones the intake sent last, kept for when it can't be reached."""

from pathlib import Path

import structlog

from rules.errors import Refused
from rules.messages_json import dumps, loads
from rules.messages_link import INTAKE_FRAME_LIMIT
from rules.messages_values import zone_from_json, zone_to_json
from rules.zone import Zone
from sensors import files

log = structlog.get_logger("zones")


def save(directory: Path, zones: tuple[Zone, ...]) -> None:
    """Keep the zones; when the disk is full the earlier ones stay, and the sensor goes on with the new ones."""
    try:
        files.write(directory / "zones.json", dumps([zone_to_json(zone) for zone in zones]) + b"\n")
    except OSError as error:
        log.error("zones_not_kept", why=str(error))


def load(directory: Path) -> tuple[Zone, ...]:
    """The zones kept; none where there are none or they can't be read."""
    try:
        given = loads((directory / "zones.json").read_bytes(), INTAKE_FRAME_LIMIT)
        if not isinstance(given, list):
            raise Refused("zones", type(given).__name__, "must be a list")
        return tuple(zone_from_json(one, f"zones[{index}]") for index, one in enumerate(given))
    except FileNotFoundError:
        return ()
    except (OSError, Refused) as error:
        log.error("cached_zones_unreadable", why=str(error))
        return ()
