"""How sure a detection is: the probability that there is an attack and that its dominant vector is named right. Pure.

A logistic model over what makes namings go wrong: two vectors close to each other, a small sample, traffic that looks
like what everybody gets, flows that go on as conversations do, a limit that is barely crossed. Its weights were fitted
to generated mixes that are hard to judge, four attacks to one surge of normal traffic (`tests/lib/fitting.py`);
`tests/sensors/test_confidence.py` holds the result against mixes made from other packets.
"""

from math import exp, log, log10

import numpy as np
from numpy.typing import NDArray

from sensors.classify import Picture
from sensors.harm import FEWEST
from sensors.headers import HAS_PORTS
from sensors.origins import flows
from sensors.signature import SESSIONS
from sensors.tables import ANY

FEATURES = ("constant", "lead", "share", "sample", "margin", "known", "novel margin", "everyday", "flowing",
            "everyday flowing", "everyday forged", "everyday sources", "session")  # fmt: skip
WEIGHTS = (-0.65, 1.22, 1.71, 3.76, 0.45, -0.38, 0.35, -2.4, -3.09, -1.98, 1.8, -1.37, 1.92)
LOWEST, HIGHEST = 0.02, 0.99
"""Nothing is certain to a model fitted on generated traffic."""
LOOKED_AT = 2_048
"""Packets that are compared with normal ones."""
EVERYDAY = frozenset({"syn_flood", "ack_flood", "fin_flood", "udp_flood", "gre_flood", "esp_flood", "http_flood",
                      "tls_flood"})  # fmt: skip
"""Vectors that a crowd of visitors, or a busy tunnel, looks like."""
_SERVICE_PORTS = 32_768
"""Ports from here on are clients' own."""


def confidence(picture: Picture, sample: ANY, normal: ANY, severity: float) -> float:
    """For an attack as classified in `picture`; `severity`: how many times the limit is crossed."""
    if not picture.vectors:
        return 0.5
    total = sum(
        weight * value for weight, value in zip(WEIGHTS, features(picture, sample, normal, severity), strict=True)
    )
    return round(min(HIGHEST, max(LOWEST, 1.0 / (1.0 + exp(-min(max(total, -30.0), 30.0))))), 3)


def features(picture: Picture, sample: ANY, normal: ANY, severity: float) -> tuple[float, ...]:
    """What the model looks at, in the order of `FEATURES`."""
    some = sample[:: -(-len(sample) // LOOKED_AT) or 1]
    known = float(len(normal) >= FEWEST)
    novel = novelty(some, normal) if known else 0.0
    margin = log(min(max(severity, 1.0), 100.0))
    first = picture.vectors[0]
    everyday = float(first.vector.kind in EVERYDAY)
    flowing = 1.0 - len(np.unique(flows(some))) / max(len(some), 1)
    return (
        1.0,
        min(picture.lead, 30.0) / 30.0,
        max(first.packets, first.bytes),
        log10(max(len(sample), 1)) / 4.0,
        margin,
        known,
        novel * margin,
        everyday,
        flowing,
        everyday * flowing,
        everyday * float(picture.spoofed is True),
        everyday * log10(max(picture.sources, 1)) / 4.0,
        float(first.vector.kind in SESSIONS),
    )


def novelty(sample: ANY, normal: ANY) -> float:
    """How unlike normal traffic the sample is, 0 to 1: the total variation distance over kinds and services."""
    cells, places = np.unique(np.concatenate([_cells(sample), _cells(normal)]), return_inverse=True)
    ours = np.bincount(places[: len(sample)], sample["weight"], minlength=len(cells))
    theirs = np.bincount(places[len(sample) :], normal["weight"], minlength=len(cells))
    return float(np.abs(ours / max(ours.sum(), 1e-9) - theirs / max(theirs.sum(), 1e-9)).sum() / 2)


def _cells(entries: ANY) -> NDArray[np.int64]:
    """Kind and service of each packet as one number; ports of clients count alike."""
    lower = np.minimum(entries["source_port"], entries["destination_port"]).astype(np.int64)
    service = np.where((entries["marks"] & HAS_PORTS != 0) & (lower < _SERVICE_PORTS), lower, 0)
    own = entries["destination_port"] <= entries["source_port"]
    out: NDArray[np.int64] = entries["kind"].astype(np.int64) << 20 | own.astype(np.int64) << 16 | service
    return out
