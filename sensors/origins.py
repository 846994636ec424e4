"""Where an attack comes from: how many sources, which send most, how evenly, and whether they look forged. Pure.

Works on remembered headers. What a sample can't tell stays None: a source that is called real may get a rule of its
own, and a forged one would make that rule hit a stranger.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors.headers import HAS_PORTS, IS_IPV6, MAPPED
from sensors.tables import ANY, address

ENOUGH = 200
"""Fewer packets than this say nothing about forgery."""
TOP = 10
"""Sources listed."""
_UNROUTABLE = 0.02
"""Share of packets from addresses nobody can send from that gives random sources away; IPv4 drawn evenly has 15 %."""
_ONE_PATH = 4.0
"""Hop limits that come from one path: at most so many matter."""
_MANY_NETWORKS = 16.0
"""Sources of so many /8 (IPv6: /20) networks don't share one path."""
_FRESH, _MOSTLY_FRESH = 0.9, 0.5
"""Shares of packets that come from a source never seen before in the sample."""
_REPEATS = 3
_SCANNED_PORTS, _PACKETS_PER_PORT = 100, 3.0


@dataclass(frozen=True, slots=True)
class Origins:
    """The sources of a sample."""

    count: int
    """Distinct ones in the sample."""
    top: tuple[tuple[Network, float], ...] = ()
    """The heaviest ones with their share of the packets, descending."""
    entropy: float = 0.0
    """Of packets over sources, 0 (one sends all) to 1 (all send alike)."""
    spoofed: bool | None = None
    scans: bool = False
    """One source tries many ports or hosts with a few packets each: a scan, not a flood."""


def folded(entries: ANY, side: str) -> NDArray[np.uint64]:
    """Addresses as one number each; two different ones collide about as often as lottery wins."""
    high, low = entries[f"{side}_high"], entries[f"{side}_low"]
    out: NDArray[np.uint64] = (high * np.uint64(0x9E3779B97F4A7C15)) ^ low
    return out


def effective(weights: NDArray[np.float64]) -> float:
    """How many equal ones would be as varied as these: the inverse Simpson index; 0 of nothing."""
    total = float(weights.sum())
    return 0.0 if total <= 0 else total * total / float((weights * weights).sum())


def varied(entries: ANY, side: str) -> float:
    """How many addresses that send (or get) alike would be as varied: the exponential of the entropy of packets. One
    that sends a quarter of all does not make few of a hundred, as it would for `effective`."""
    _, places = np.unique(folded(entries, side), return_inverse=True)
    shares = np.bincount(places, entries["weight"]) / max(float(entries["weight"].sum()), 1e-9)
    return float(np.exp(-(shares * np.log(np.maximum(shares, 1e-300))).sum())) if len(shares) else 0.0


def flows(entries: ANY) -> NDArray[np.uint64]:
    """Source, destination and both ports as one number each: who sends to many hosts from one port has many flows."""
    ports = entries["source_port"].astype(np.uint64) << np.uint64(16) | entries["destination_port"]
    ends = folded(entries, "source") * np.uint64(0xD6E8FEB86659FD93) ^ folded(entries, "destination")
    out: NDArray[np.uint64] = ends * np.uint64(0xC2B2AE3D27D4EB4F) ^ ports
    return out


def origins(sample: ANY, real: bool) -> Origins:
    """Describes the sources of a sample; `real`: what they send says so, as answers of reflectors and requests do."""
    if not len(sample):
        return Origins(0)
    weights = sample["weight"].astype(np.float64)
    _, firsts, places, counts = np.unique(
        folded(sample, "source"), return_index=True, return_inverse=True, return_counts=True
    )
    amounts = np.bincount(places, weights)
    shares = amounts / max(float(amounts.sum()), 1e-9)
    order = np.argsort(-amounts, kind="stable")[:TOP]
    heads = sample[firsts[order]]
    top = tuple(
        (address(int(head["source_high"]), int(head["source_low"])), min(1.0, float(shares[at])))
        for head, at in zip(heads, order, strict=True)
    )
    return Origins(
        count=len(counts),
        top=top,
        entropy=_evenness(shares),
        spoofed=_are_forged(sample, real, places, counts),
        scans=_scans(sample, places, int(order[0]), float(shares[order[0]])),
    )


def _evenness(shares: NDArray[np.float64]) -> float:
    if len(shares) < 2:
        return 0.0
    entropy = float(-(shares * np.log(np.maximum(shares, 1e-300))).sum())
    return min(1.0, max(0.0, entropy / float(np.log(len(shares)))))


def _are_forged(sample: ANY, real: bool, places: NDArray[np.int64], counts: NDArray[np.int64]) -> bool | None:
    found = False if real else _forged(sample, places, counts)
    # An IPv4 address in an IPv6 header (RFC 6890: never on the wire) is made up, and no rule can name it beside IPv6.
    is_odd = _are_v4(sample, "source") != _are_v4(sample, "destination")
    return None if found is False and is_odd.any() else found


def _are_v4(entries: ANY, side: str) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = (entries[f"{side}_high"] == 0) & (entries[f"{side}_low"] >> np.uint64(32) == MAPPED >> 32)
    return out


def _forged(sample: ANY, places: NDArray[np.int64], counts: NDArray[np.int64]) -> bool | None:
    """True: no sender behind most of these addresses. False: many packets of each, always over the same path."""
    if len(sample) < ENOUGH:
        return None
    if _UNROUTABLE <= float(_unroutable(sample).mean()) <= 0.5:
        return True
    fresh = float((counts == 1).sum()) / len(sample)
    hops = effective(np.bincount(sample["ttl"]).astype(np.float64))
    if fresh >= _FRESH and len(sample) >= 5 * ENOUGH:
        return True
    if fresh >= _MOSTLY_FRESH and hops <= _ONE_PATH and _networks(sample) >= _MANY_NETWORKS:
        return True
    if fresh >= _MOSTLY_FRESH:
        return None
    return False if _plausible(sample, places, counts) else None


def _plausible(sample: ANY, places: NDArray[np.int64], counts: NDArray[np.int64]) -> bool:
    """Whether each source keeps to its hop limit while different ones differ: what a forger would have to know."""
    often = counts[places] >= _REPEATS
    if often.mean() < 0.8 or len(counts) < 3:
        return False
    pairs = places[often].astype(np.int64) << 8 | sample["ttl"][often]
    found, times = np.unique(pairs, return_counts=True)
    best = np.zeros(len(counts), np.int64)
    np.maximum.at(best, found >> 8, times)
    steady = float(best.sum()) / float(often.sum())
    spread = len(np.unique(sample["ttl"][often]))
    return bool(steady >= 0.9 and spread >= min(3, len(counts)))


def _unroutable(sample: ANY) -> NDArray[np.bool_]:
    """Sources that no network on the Internet routes (RFC 6890, RFC 4291)."""
    first = sample["source_low"] >> np.uint64(24) & np.uint64(0xFF)
    v4 = (first == 0) | (first == 10) | (first == 127) | (first >= 224)
    is_v6 = sample["marks"] & IS_IPV6 != 0
    out: NDArray[np.bool_] = np.where(is_v6, sample["source_high"] >> np.uint64(61) != 1, v4)
    return out


def _networks(sample: ANY) -> float:
    """How many large networks the sources are spread over."""
    is_v6 = sample["marks"] & IS_IPV6 != 0
    large = np.where(is_v6, sample["source_high"] >> np.uint64(44), sample["source_low"] >> np.uint64(24))
    return effective(np.unique(large, return_counts=True)[1].astype(np.float64))


def _scans(sample: ANY, places: NDArray[np.int64], heaviest: int, share: float) -> bool:
    """Whether the source that sends most of it goes from port to port, or from host to host."""
    if share < 0.5:
        return False
    own = sample[places == heaviest]
    tried = folded(own, "destination") * np.uint64(65_537) ^ own["destination_port"]
    tried = tried[(own["marks"] & HAS_PORTS != 0) & (own["fragment"] & 2 == 0)]
    kinds = len(np.unique(tried))
    return kinds >= _SCANNED_PORTS and len(tried) <= _PACKETS_PER_PORT * kinds
