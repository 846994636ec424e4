"""What an attack is made of: vectors with their shares, sources, whether they look forged. Works on remembered
headers."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.traffic import AMPLIFICATION_SERVICES, Vector, VectorShare
from rules.zone import Metric
from sensors.headers import Kind
from sensors.tables import ANY

NAMES = {
    Kind.SYN: "syn_flood",
    Kind.ACK: "ack_flood",
    Kind.SYN_ACK: "synack_reflection",
    Kind.RST: "rst_flood",
    Kind.FIN: "fin_flood",
    Kind.TCP_NULL: "tcp_null",
    Kind.TCP_XMAS: "tcp_xmas",
    Kind.TCP_OTHER: "tcp_flood",
    Kind.UDP: "udp_flood",
    Kind.ICMP: "icmp_flood",
    Kind.ICMPV6: "icmpv6_flood",
    Kind.FRAGMENT: "ip_fragment_flood",
    Kind.GRE: "gre_flood",
    Kind.ESP: "esp_flood",
    Kind.OTHER: "ip_proto_flood",
}
"""Kind of packet -> kind of vector; amplification is told by its port."""

_TCP = {Kind.SYN, Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN, Kind.TCP_NULL, Kind.TCP_XMAS, Kind.TCP_OTHER}
METRIC_KINDS: dict[Metric, frozenset[Kind]] = {
    Metric.PACKETS: frozenset(Kind),
    Metric.BITS: frozenset(Kind),
    Metric.SYN_PACKETS: frozenset({Kind.SYN}),
    Metric.TCP_PACKETS: frozenset(_TCP),
    Metric.ACK_PACKETS: frozenset({Kind.ACK}),
    Metric.SYN_ACK_PACKETS: frozenset({Kind.SYN_ACK, Kind.RST}),
    Metric.RST_PACKETS: frozenset({Kind.RST}),
    Metric.FIN_PACKETS: frozenset({Kind.FIN}),
    Metric.ODD_TCP_PACKETS: frozenset({Kind.TCP_NULL, Kind.TCP_XMAS, Kind.TCP_OTHER}),
    Metric.UDP_PACKETS: frozenset({Kind.UDP, Kind.AMPLIFICATION, Kind.FRAGMENT}),
    Metric.UDP_BITS: frozenset({Kind.UDP, Kind.AMPLIFICATION, Kind.FRAGMENT}),
    Metric.ICMP_PACKETS: frozenset({Kind.ICMP, Kind.ICMPV6}),
    Metric.FRAGMENT_PACKETS: frozenset({Kind.FRAGMENT, Kind.AMPLIFICATION}),
    Metric.AMPLIFICATION_PACKETS: frozenset({Kind.AMPLIFICATION, Kind.FRAGMENT}),
    Metric.GRE_PACKETS: frozenset({Kind.GRE}),
    Metric.ESP_PACKETS: frozenset({Kind.ESP}),
    Metric.OTHER_PACKETS: frozenset({Kind.GRE, Kind.ESP, Kind.OTHER}),
}
"""Which packets can have crossed a limit."""

SMALLEST_SHARE = 0.01
"""A vector below this share of packets and of bytes is noise."""
MOST_VECTORS = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """An attack sample, described."""

    vectors: tuple[VectorShare, ...]
    """Descending by what saturates; empty without a sample."""
    members: tuple[NDArray[np.bool_], ...]
    """For each vector, which entries of the sample belong to it."""
    sources: int
    spoofed: bool | None


def classify(sample: ANY, *, by_bytes: bool, first: Collection[Kind] = ()) -> Picture:
    """Describes a sample; vectors made of the kinds in `first` (those whose limit was crossed) go before all others."""
    if not len(sample):
        return Picture((), (), 0, None)
    weights = sample["weight"].astype(np.float64)
    sizes = weights * sample["length"]
    kinds = sample["kind"].astype(np.int64)
    groups = [(vector, kind, member) for vector, kind, member in _groups(sample, kinds, weights) if member.any()]
    shares = [
        (VectorShare(vector, _share(weights, member), _share(sizes, member)), kind, member)
        for vector, kind, member in groups
    ]
    shares.sort(key=lambda item: (item[1] in first, item[0].bytes if by_bytes else item[0].packets), reverse=True)
    kept = [item for item in shares if max(item[0].packets, item[0].bytes) >= SMALLEST_SHARE] or shares
    kept = kept[:MOST_VECTORS]
    sources, counts = np.unique(folded(sample, "source"), return_counts=True)
    return Picture(
        tuple(share for share, _, _ in kept),
        tuple(member for _, _, member in kept),
        len(sources),
        _spoofed(kept[0][0].vector, len(sources), int(counts.sum())),
    )


def _share(amounts: NDArray[np.float64], member: NDArray[np.bool_]) -> float:
    return min(1.0, float(amounts[member].sum()) / max(float(amounts.sum()), 1e-9))


def folded(entries: ANY, side: str) -> NDArray[np.uint64]:
    """Addresses as one number each; two different ones collide about as often as lottery wins."""
    high, low = entries[f"{side}_high"], entries[f"{side}_low"]
    out: NDArray[np.uint64] = (high * np.uint64(0x9E3779B97F4A7C15)) ^ low
    return out


def _groups(
    sample: ANY, kinds: NDArray[np.int64], weights: NDArray[np.float64]
) -> list[tuple[Vector, Kind, NDArray[np.bool_]]]:
    """The sample, parted into vectors."""
    parts = {kind: kinds == kind for kind in map(Kind, np.unique(kinds).tolist())}
    # Reflectors answer a SYN to a closed port with RST: that is the same attack.
    if (
        Kind.SYN_ACK in parts
        and Kind.RST in parts
        and weights[parts[Kind.SYN_ACK]].sum() > weights[parts[Kind.RST]].sum()
    ):
        parts[Kind.SYN_ACK] = parts[Kind.SYN_ACK] | parts.pop(Kind.RST)
    out = []
    if Kind.AMPLIFICATION in parts:
        reflected = parts.pop(Kind.AMPLIFICATION)
        services = {}
        for port in np.unique(sample["source_port"][reflected]).tolist():
            services[port] = reflected & (sample["source_port"] == port)
        if Kind.FRAGMENT in parts:
            _give_fragments(sample, weights, parts, services)
        out = [
            (Vector("udp_amp", AMPLIFICATION_SERVICES[port]), Kind.AMPLIFICATION, who) for port, who in services.items()
        ]
    return out + [(Vector(NAMES[kind]), kind, member) for kind, member in parts.items()]


def _give_fragments(
    sample: ANY,
    weights: NDArray[np.float64],
    parts: dict[Kind, NDArray[np.bool_]],
    services: dict[int, NDArray[np.bool_]],
) -> None:
    """Later fragments carry no ports; they belong to the reflectors when most first fragments do."""
    starts = (sample["fragment"] & 4 != 0) & (sample["protocol"] == 17)
    begun = {port: float(weights[member & starts].sum()) for port, member in services.items()}
    strangers = float(weights[parts[Kind.FRAGMENT] & starts].sum())
    best = max(begun, key=lambda port: begun[port])
    if sum(begun.values()) > strangers:
        orphans = parts[Kind.FRAGMENT] & (sample["protocol"] == 17)
        services[best] = services[best] | orphans
        parts[Kind.FRAGMENT] = parts[Kind.FRAGMENT] & ~orphans


def _spoofed(vector: Vector, sources: int, packets: int) -> bool | None:
    """Whether sources look forged: reflectors are real; a flood whose every source sends but once or twice is not."""
    if vector.kind in ("udp_amp", "synack_reflection"):
        return False
    if packets >= 200 and sources >= packets * 0.5:
        return True
    return None
