"""TCP segments of many connections to one web server, as the kernel remembers them."""

import numpy as np

from sensors.headers import HAS_FLAGS, HAS_PAYLOAD, HAS_PORTS, HEADER, MAPPED, Kind
from sensors.tables import ANY

SECOND = 1_000_000_000
SERVER = 0xCB007107
"""203.0.113.7."""


def segments(ids: ANY, kind: Kind, second: float, length: int = 40, data: bool = False, bots: int = 10) -> ANY:
    """One packet of each of these connections."""
    ids = np.asarray(ids)
    out = np.zeros(len(ids), HEADER)
    out["time"] = int(second * SECOND)
    out["source_low"], out["destination_low"] = MAPPED | (0x08080800 + (ids % bots << 16)), MAPPED | SERVER
    out["source_port"], out["destination_port"] = 1_024 + ids // bots, 80
    out["protocol"], out["length"], out["kind"], out["weight"] = 6, length, kind, 1
    out["marks"] = HAS_PORTS | HAS_FLAGS | (HAS_PAYLOAD if data else 0)
    return out
