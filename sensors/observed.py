"""What a person would note of an attack beside its vectors: for reports and evidence. Pure."""

import numpy as np

from rules.match import Network
from sensors.headers import HAS_PORTS
from sensors.origins import Origins, folded
from sensors.tables import ANY, address
from sensors.within import is_prefix

MOST = 5
"""Values of each kind, the most frequent ones."""
_FIELDS = (
    ("source_ports", "source_port", HAS_PORTS),
    ("destination_ports", "destination_port", HAS_PORTS),
    ("lengths", "length", 0),
    ("ttls", "ttl", 0),
)


def observations(sample: ANY, where: Origins, target: Network) -> dict[str, object]:
    """The most frequent sources, ports, lengths, hop limits; of an attack on a prefix how many hosts it hits, and which
    most."""
    total = int(sample["weight"].sum())
    out: dict[str, object] = {
        "sources": [
            {"address": str(host.network_address), "packets": round(share * total), "share": round(share, 4)}
            for host, share in where.top
        ],
        "source_entropy": round(where.entropy, 4),
        "scan": where.scans,
    }
    for name, field, mark in _FIELDS:
        values, times = np.unique(sample[field][(sample["marks"] & mark) == mark], return_counts=True)
        out[name] = {str(int(values[at])): int(times[at]) for at in np.argsort(-times)[:MOST]}
    if is_prefix(target):
        out |= _targets(sample)
    return out


def _targets(sample: ANY) -> dict[str, object]:
    _, firsts, times = np.unique(folded(sample, "destination"), return_index=True, return_counts=True)
    most = np.argsort(-times)[:MOST]
    hosts = sample[firsts[most]]
    names = [
        str(address(int(high), int(low)).network_address)
        for high, low in zip(hosts["destination_high"], hosts["destination_low"], strict=True)
    ]
    return {"target_count": len(firsts), "targets": dict(zip(names, times[most].tolist(), strict=True))}
