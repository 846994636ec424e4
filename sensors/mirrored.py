"""Whether a capture file is what somebody mirrored through a tunnel: nearly all of it comes from one machine or a few
in IP in IP, GRE, ERSPAN, VXLAN or Geneve, and what is in there goes to hosts of its own.

Then it is about what is in there, not about the two ends. Floods of tunnel packets are none: they come from many, or
what is in them makes no sense, goes to hosts drawn at random, or to the very end that gets it.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensors import tables
from sensors.origins import folded
from sensors.pcapfile import open_capture
from sensors.stream import Buffered
from sensors.tables import ANY
from sensors.tunnels import GENEVE_PORT, VXLAN_PORTS

LOOKED_AT = 2_000
"""Records at the beginning of a file that tell."""
_FEWEST = 20
_NEARLY_ALL = 0.9
_PAIRS = 4
"""Between so many pairs of hosts at most."""
_DRAWN = 0.5
"""Hosts for one packet, from which on nobody meant any of them."""
_TUNNELS, _UDP = (4, 41, 47), 17


def is_mirrored(path: str | Path) -> bool:
    """Looks at a file's first records; pipes are not looked at, since they can't be read twice. Raises `Refused` when
    it can't be read."""
    if str(path) == "-" or not Path(path).is_file():
        return False
    outer = _beginning(path, inside=False)
    if len(outer) < _FEWEST or _tunnelled(outer).mean() < _NEARLY_ALL:
        return False
    pairs = folded(outer, "source") + folded(outer, "destination")
    if len(np.unique(pairs)) > _PAIRS:
        return False
    inner = _beginning(path, inside=True)
    if len(inner) < _NEARLY_ALL * len(outer):
        return False
    towards = folded(inner, "destination")
    ends = np.concatenate([folded(outer, "source"), folded(outer, "destination")])
    return len(np.unique(towards)) < _DRAWN * len(towards) and float(np.isin(towards, ends).mean()) < _DRAWN


def _beginning(path: str | Path, *, inside: bool) -> ANY:
    """The headers of its first records, oldest first."""
    capture = open_capture(path, inside=inside)
    try:
        seen = tables.make(rows=1_024, ring=4_096, normal=64)
        if isinstance(capture, Buffered):
            capture.glance(seen, LOOKED_AT)
        return seen.since(-(1 << 62))
    finally:
        capture.close()


def _tunnelled(entries: ANY) -> NDArray[np.bool_]:
    ports = np.isin(entries["destination_port"], (*VXLAN_PORTS, GENEVE_PORT))
    out: NDArray[np.bool_] = np.isin(entries["protocol"], _TUNNELS) | (entries["protocol"] == _UDP) & ports
    return out
