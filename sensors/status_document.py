"""The parts of what a sensor shows of itself, as `stopbank sensor top --json` and the status page have them."""

import math
from typing import Any

from rules.traffic import Detection
from sensors.attack import Attack
from sensors.baseline_keeper import LearnedStatus
from sensors.link import LinkStatus
from sensors.sampling import Sampling
from sensors.source import InterfaceNumbers

Document = dict[str, Any]


def interface(now: InterfaceNumbers, before: InterfaceNumbers, seconds: float) -> Document:
    """Rates since `before`, so many seconds ago, and totals."""
    return {
        "name": now.name,
        "up": now.is_up,
        "packets_per_second": round((now.packets - before.packets) / seconds),
        "bits_per_second": round((now.bytes - before.bytes) * 8 / seconds),
        "dropped_per_second": round((now.dropped - before.dropped) / seconds),
        "packets_total": now.packets,
        "bytes_total": now.bytes,
        "dropped_total": now.dropped,
        "ring_filled": round(now.filled, 4),
    }


def attack(one: Attack, sampling: Sampling) -> Document:
    """An attack found in packets."""
    packets = one.rate.packets_per_second
    return {
        "attack": one.id,
        "target": str(one.target),
        "zone": one.zone,
        "vectors": [str(share.vector) for share in one.picture.vectors],
        "severity": round(one.severity, 2),
        "packets_per_second": round(packets),
        "bits_per_second": round(one.rate.bits_per_second),
        "interval_percent": _rounded(sampling.interval_percent(packets)),
        "sources": one.sources,
    }


def beside(one: Detection) -> Document:
    """An attack found in an access log, whose rates are requests, or in connections."""
    return {
        "attack": one.attack,
        "target": str(one.target),
        "zone": one.zone,
        "vectors": [str(share.vector) for share in one.vectors],
        "severity": round(one.severity, 2),
        "packets_per_second": round(one.rate.packets_per_second),
        "bits_per_second": round(one.rate.bits_per_second),
        "interval_percent": 0.0,
        "sources": one.sources,
    }


def learned(status: LearnedStatus | None, now: float) -> Document | None:
    """How much was learned; `now` monotonic."""
    if status is None:
        return None
    age = None if status.saved is None else round(now - status.saved, 1)
    return {"targets": status.targets, "bytes": status.bytes, "saved_age_seconds": age}


def link(status: LinkStatus | None) -> Document | None:
    """The connection to the intake; None where the sensor has none."""
    if status is None:
        return None
    return {
        "connected": status.connected,
        "waiting": status.waiting,
        "trouble": status.trouble,
        "counts": status.counts,
        "clock_skew_seconds": status.clock_skew_seconds,
    }


def link_numbers(status: LinkStatus) -> dict[str, int | float]:
    """What Prometheus and heartbeats get of it."""
    named = ("sent", "acknowledged", "refused", "put_off", "coalesced", "dropped", "connects", "spool_errors")
    counts: dict[str, int | float] = {f"link_{name}_total": status.counts.get(name, 0) for name in named}
    return counts | {
        "link_up": int(status.connected),
        "link_waiting": status.waiting,
        "link_clock_skew_seconds": status.clock_skew_seconds or 0.0,
    }


def _rounded(value: float) -> float | None:
    return round(value, 1) if math.isfinite(value) else None
