"""What an attack is made of: vectors with their shares by packets and by bytes. Works on remembered headers.

The dominant vector is the one that makes most of what saturates, packets or bytes. `multi_vector` and `carpet_bombing`
are statements about the whole and stand last.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from rules.traffic import AMPLIFICATION_SERVICES, Vector, VectorShare
from rules.zone import Metric
from sensors.headers import HAS_PORTS, Kind
from sensors.middlebox import middlebox_answers
from sensors.origins import Origins, flows, folded, origins, varied
from sensors.reflection import is_reflection
from sensors.sessions import session_vector
from sensors.tables import ANY

__all__ = ["METRIC_KINDS", "Picture", "classify", "folded"]

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
"""Kind of packet -> kind of vector; amplification is told by its port and how it comes (`sensors.reflection`)."""

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
    Metric.HTTP_REQUESTS: frozenset({Kind.SYN, Kind.ACK, Kind.FIN}),
    Metric.TLS_HANDSHAKES: frozenset({Kind.SYN, Kind.ACK, Kind.FIN}),
}
"""Which packets can have crossed a limit."""

SMALLEST_SHARE = 0.01
"""A vector below this share of packets and of bytes is noise."""
MOST_VECTORS = 8
REAL_SHARE = 0.15
"""Two families that each make so much of the packets or of the bytes make an attack a multi-vector one."""
_HOSTS = 4.0
"""A prefix whose hosts are hit as evenly as so many is bombed as a carpet."""

_TALKS = 1.5
"""Packets of a connection, on average, at least."""
_REAL = frozenset({"udp_amp", "synack_reflection", "tcp_middlebox_reflection", "http_flood", "tls_flood"})
"""Vectors whose sources are real: reflectors, and those who got an answer to build a request on."""
_SERVICES = 256.0
"""Source ports as varied as so many are no services': reflectors are asked at a few, or at a few dozen."""
_REFLECTORS = np.zeros(65_536, bool)
_REFLECTORS[list(AMPLIFICATION_SERVICES)] = True
_LATER, _FIRST = 2, 4


@dataclass(frozen=True, slots=True)
class Picture:
    """An attack sample, described."""

    vectors: tuple[VectorShare, ...]
    """Descending by what saturates, statements last; empty without a sample."""
    members: tuple[NDArray[np.bool_], ...]
    """For each vector that is no statement, which entries of the sample belong to it."""
    sources: int
    spoofed: bool | None
    origins: Origins = field(default_factory=lambda: Origins(0))
    lead: float = 0.0
    """By how many standard errors the dominant vector leads, as sampling alone would blur it."""
    agrees: bool = False
    """Whether packets and bytes name the same dominant vector."""

    @property
    def named(self) -> tuple[tuple[VectorShare, NDArray[np.bool_]], ...]:
        """Vectors with their entries, statements left out."""
        return tuple(zip(self.vectors, self.members, strict=False))


@dataclass(frozen=True, slots=True)
class _Group:
    vector: Vector
    kinds: frozenset[Kind]
    member: NDArray[np.bool_]


def classify(
    sample: ANY,
    *,
    by_bytes: bool,
    first: Collection[Kind] = (),
    beside: ANY | None = None,
    background: NDArray[np.float64] | None = None,
    target: Network | None = None,
) -> Picture:
    """Describes a sample; vectors made of the kinds in `first` (those whose limit was crossed) go before all others.

    `beside`: everything the target got in that time, which tells half-open connections from real ones; `background`:
    for each kind the share of its packets that comes anyway; `target`: where it may be a prefix.
    """
    if not len(sample):
        return Picture((), (), 0, None)
    weights = sample["weight"].astype(np.float64)
    if background is not None:
        weights = weights * (1.0 - background[sample["kind"]])
    sizes = weights * sample["length"]
    groups = [group for group in _groups(sample, sample if beside is None else beside, weights) if group.member.any()]
    shares = [
        (VectorShare(group.vector, _share(weights, group.member), _share(sizes, group.member)), group)
        for group in groups
    ]
    shares.sort(key=lambda item: _weight(item[0], by_bytes), reverse=True)
    shares.sort(key=lambda item: not item[1].kinds.isdisjoint(first), reverse=True)
    kept = [item for item in shares if max(item[0].packets, item[0].bytes) >= SMALLEST_SHARE] or shares
    kept = kept[:MOST_VECTORS]
    named = tuple(share for share, _ in kept)
    where = origins(sample, _is_real(named[0].vector, sample[kept[0][1].member]))
    return Picture(
        vectors=named + _statements(named, sample, target),
        members=tuple(group.member for _, group in kept),
        sources=where.count,
        spoofed=where.spoofed,
        origins=where,
        lead=_lead([_weight(share, by_bytes) for share in named], weights if not by_bytes else sizes),
        agrees=all(_weight(named[0], way) >= max(_weight(share, way) for share in named) for way in (False, True)),
    )


def _is_real(vector: Vector, part: ANY) -> bool:
    """Whether a vector's sources are no forgeries by what it is."""
    if vector.kind == "http_flood":
        # Who forges a request sends nothing else over that connection; who has one says more.
        return len(part) >= _TALKS * len(np.unique(flows(part)))
    return vector.kind in _REAL and (vector.kind != "synack_reflection" or _from_services(part))


def _from_services(part: ANY) -> bool:
    """Whether SYN-ACKs come from ports that services have: forged ones come from any."""
    ports = np.bincount(part["source_port"], part["weight"]) / max(float(part["weight"].sum()), 1e-9)
    return float(-(ports * np.log(np.maximum(ports, 1e-300))).sum()) < float(np.log(_SERVICES))


def _weight(share: VectorShare, by_bytes: bool) -> float:
    return share.bytes if by_bytes else share.packets


def _share(amounts: NDArray[np.float64], member: NDArray[np.bool_]) -> float:
    return min(1.0, float(amounts[member].sum()) / max(float(amounts.sum()), 1e-9))


def _lead(shares: list[float], amounts: NDArray[np.float64]) -> float:
    """The distance of the two largest shares in standard errors of their difference, of that many independent
    packets."""
    best, second = shares[0], max(shares[1:], default=0.0)
    total = float(amounts.sum())
    count = total * total / max(float((amounts * amounts).sum()), 1e-9)
    spread = max(best + second - (best - second) ** 2, 1.0 / max(count, 1.0))
    return float((best - second) / np.sqrt(spread / max(count, 1.0)))


def _statements(named: tuple[VectorShare, ...], sample: ANY, target: Network | None) -> tuple[VectorShare, ...]:
    out = []
    if target is not None and target.prefixlen < target.max_prefixlen and varied(sample, "destination") >= _HOSTS:
        out.append(VectorShare(Vector("carpet_bombing"), 1.0, 1.0))
    if len(_families(named)) >= 2:
        out.append(VectorShare(Vector("multi_vector"), 1.0, 1.0))
    return tuple(out)


def _families(named: tuple[VectorShare, ...]) -> set[Vector]:
    """Vectors with a real share. Fragments beside UDP are the rest of its datagrams and no family of their own."""
    real = {share.vector for share in named if max(share.packets, share.bytes) >= REAL_SHARE}
    if any(vector.kind in ("udp_amp", "udp_flood") for vector in real):
        real.discard(Vector("ip_fragment_flood"))
    return real


def _groups(sample: ANY, beside: ANY, weights: NDArray[np.float64]) -> list[_Group]:
    """The sample, parted into vectors."""
    kinds = sample["kind"].astype(np.int64)
    later = sample["fragment"] & _LATER != 0
    parts = {kind: kinds == kind for kind in map(Kind, np.unique(kinds).tolist())}
    reflected = _reflected(sample, later)
    parts = {kind: member & ~np.logical_or.reduce([*reflected.values(), ~member]) for kind, member in parts.items()}
    if Kind.AMPLIFICATION in parts:
        # From a reflector's port, and no reflection: plain UDP.
        rest = parts.pop(Kind.AMPLIFICATION)
        parts[Kind.UDP] = parts.get(Kind.UDP, np.zeros(len(sample), bool)) | rest
    pages = _middleboxes(sample, beside, parts)
    _join_refusals(sample, parts, weights)
    if Kind.FRAGMENT in parts and reflected:
        _give_fragments(sample, weights, parts, reflected)
    amplified = [
        _Group(Vector("udp_amp", service), frozenset({Kind.AMPLIFICATION, Kind.UDP}), member)
        for service, member in reflected.items()
    ]
    return amplified + pages + _tcp_groups(sample, beside, parts) + [
        _Group(Vector(NAMES[kind]), frozenset({kind}), member) for kind, member in parts.items()
    ]  # fmt: skip


def _reflected(sample: ANY, later: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """For each service whose reflectors take part, its packets."""
    ported = (sample["protocol"] == 17) & (sample["marks"] & HAS_PORTS != 0) & ~later
    from_reflectors = ported & _REFLECTORS[sample["source_port"]]
    out = {}
    for port in np.unique(sample["source_port"][from_reflectors]).tolist():
        member = from_reflectors & (sample["source_port"] == port)
        if is_reflection(AMPLIFICATION_SERVICES[port], sample[member]) and not _by_chance(ported, sample, member):
            out[AMPLIFICATION_SERVICES[port]] = member
    return out


def _by_chance(ported: NDArray[np.bool_], sample: ANY, member: NDArray[np.bool_]) -> bool:
    """Whether so few come from the port that a flood from random ports hits it as often."""
    distinct = len(np.unique(sample["source_port"][ported]))
    return bool(distinct > 50 and member.sum() <= 5 + 10 * ported.sum() / distinct)


def _middleboxes(sample: ANY, beside: ANY, parts: dict[Kind, NDArray[np.bool_]]) -> list[_Group]:
    """What middleboxes answer, taken out of the kinds of its packets."""
    member = middlebox_answers(sample, beside)
    if not member.any():
        return []
    kinds = frozenset(kind for kind, part in parts.items() if (part & member).any())
    for kind in kinds:
        parts[kind] = parts[kind] & ~member
    return [_Group(Vector("tcp_middlebox_reflection"), kinds, member)]


def _join_refusals(sample: ANY, parts: dict[Kind, NDArray[np.bool_]], weights: NDArray[np.float64]) -> None:
    """Reflectors answer a SYN to a closed port with RST: that is the same attack."""
    if Kind.SYN_ACK not in parts or Kind.RST not in parts or not _from_services(sample[parts[Kind.SYN_ACK]]):
        return
    if weights[parts[Kind.SYN_ACK]].sum() > weights[parts[Kind.RST]].sum():
        parts[Kind.SYN_ACK] = parts[Kind.SYN_ACK] | parts.pop(Kind.RST)


def _tcp_groups(sample: ANY, beside: ANY, parts: dict[Kind, NDArray[np.bool_]]) -> list[_Group]:
    """What comes over completed connections, taken out of the kinds of its packets."""
    kinds = [kind for kind in (Kind.SYN, Kind.ACK, Kind.FIN) if kind in parts]
    if not kinds:
        return []
    whole = np.logical_or.reduce([parts[kind] for kind in kinds])
    found = session_vector(sample, whole, beside)
    if found is None:
        return []
    vector, member = found
    for kind in kinds:
        parts[kind] = parts[kind] & ~member
    return [_Group(vector, frozenset(kinds), member)]


def _give_fragments(
    sample: ANY,
    weights: NDArray[np.float64],
    parts: dict[Kind, NDArray[np.bool_]],
    services: dict[str, NDArray[np.bool_]],
) -> None:
    """Later fragments carry no ports; they belong to the reflectors when most first fragments do."""
    starts = (sample["fragment"] & _FIRST != 0) & (sample["protocol"] == 17)
    begun = {service: float(weights[member & starts].sum()) for service, member in services.items()}
    strangers = float(weights[parts[Kind.FRAGMENT] & starts].sum())
    best = max(begun, key=lambda service: begun[service])
    if sum(begun.values()) > strangers:
        orphans = parts[Kind.FRAGMENT] & (sample["protocol"] == 17)
        services[best] = services[best] | orphans
        parts[Kind.FRAGMENT] = parts[Kind.FRAGMENT] & ~orphans
