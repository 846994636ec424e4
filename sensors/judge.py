"""A closer look at a host above a limit, where the capture shows both directions: is it attacked, or does it take part?

What a host gets in answer to what it sends itself is no attack on it, so a victim's answers never make the attacker a
victim, and bulk transfer is no flood. What remains must reach a rate that depends on how many send: traffic of many
sources is an attack earlier than that of a few. Used where no zone says whom to protect; declared limits of zones are
honoured as they stand.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors.classify import folded
from sensors.headers import Kind
from sensors.tables import ANY, key


@dataclass(frozen=True, slots=True)
class Floor:
    """From which rate on unsolicited packets of a kind are an attack, packets per second."""

    diffuse: float
    """Sent by many: at least `DIFFUSE_SOURCES`, none of them sending more than half."""
    concentrated: float


DIFFUSE_SOURCES = 20
FLOORS: dict[Kind, Floor] = {
    # Scanners reach 1,000 SYNs a second from one address; nobody gets 1,000 from many that never complete one.
    Kind.SYN: Floor(1_000, 5_000),
    Kind.SYN_ACK: Floor(1_000, 5_000),
    Kind.ACK: Floor(5_000, 50_000),
    Kind.RST: Floor(2_000, 10_000),
    Kind.FIN: Floor(2_000, 10_000),
    Kind.TCP_NULL: Floor(1_000, 5_000),
    Kind.TCP_XMAS: Floor(1_000, 5_000),
    Kind.TCP_OTHER: Floor(1_000, 5_000),
    # One-way streams (video, iperf) of one sender are no rarity.
    Kind.UDP: Floor(5_000, 10_000),
    # Nobody asks hundreds of servers a thousand times a second, and doesn't show it.
    Kind.AMPLIFICATION: Floor(1_000, 10_000),
    Kind.ICMP: Floor(1_000, 3_000),
    Kind.ICMPV6: Floor(1_000, 3_000),
    # A host that gets fragments gets them from few: NFS, tunnels, video.
    Kind.FRAGMENT: Floor(300, 5_000),
    # Tunnels carry a link's worth between two addresses.
    Kind.GRE: Floor(5_000, 50_000),
    Kind.ESP: Floor(5_000, 50_000),
    Kind.OTHER: Floor(5_000, 20_000),
}

SMALLEST = 100
"""Fewer packets are no attack, however fast they came."""

_TCP_CONVERSATION = (Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN)
_ANSWERED = 0.02
"""A host takes part in a conversation when it sends this many packets for one that it gets: receivers of bulk TCP
acknowledge every second packet, with offloading every fortieth."""
_FLOW_PACKETS = 10
"""An established flow has more packets than this; those of an ACK flood seldom do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What remains of a host's incoming packets."""

    attack: NDArray[np.bool_]
    """Which entries of the sample are the attack."""
    rate: float
    """Of the attack, packets per second."""

    @property
    def guilty(self) -> bool:
        """Whether anything is."""
        return bool(self.attack.any())


def judge(host: Network, incoming: ANY, outgoing: ANY, seconds: float, floor: float | None = None) -> Verdict:
    """Looks at what a host got and sent in `seconds`; `floor` replaces all rates (an explicit threshold)."""
    unsolicited = ~_solicited(incoming, outgoing)
    attack = np.zeros(len(incoming), bool)
    weights = incoming["weight"].astype(np.float64)
    sources = folded(incoming, "source")
    kinds = incoming["kind"]
    for kind in map(Kind, np.unique(kinds).tolist()):
        member = unsolicited & (kinds == kind)
        limit = FLOORS[kind].diffuse if _diffuse(sources[member], weights[member]) else FLOORS[kind].concentrated
        if weights[member].sum() >= (limit if floor is None else floor) * seconds:
            attack |= member
    if floor is not None and not attack.any() and weights[unsolicited].sum() >= floor * seconds:
        attack = unsolicited
    if weights[attack].sum() < SMALLEST:
        attack = np.zeros(len(incoming), bool)
    return Verdict(attack, float(weights[attack].sum()) / seconds)


def unsolicited(incoming: ANY, outgoing: ANY, kinds: Collection[Kind]) -> NDArray[np.bool_]:
    """Of a host that is attacked: the packets of these kinds that nothing it sent explains."""
    out: NDArray[np.bool_] = ~_solicited(incoming, outgoing) & np.isin(incoming["kind"], list(kinds))
    return out


def companions(kinds: Collection[Kind]) -> frozenset[Kind]:
    """With what belongs to them: reflectors' refusals to their SYN-ACKs, the fragments of amplified answers to
    each other."""
    more = {Kind.SYN_ACK: Kind.RST, Kind.AMPLIFICATION: Kind.FRAGMENT, Kind.FRAGMENT: Kind.AMPLIFICATION}
    return frozenset(kinds) | {other for kind, other in more.items() if kind in kinds}


def _diffuse(sources: NDArray[np.uint64], weights: NDArray[np.float64]) -> bool:
    found, places = np.unique(sources, return_inverse=True)
    if len(found) < DIFFUSE_SOURCES:
        return False
    per_source = np.bincount(places, weights)
    return bool(per_source.max() <= 0.5 * per_source.sum())


def _solicited(incoming: ANY, outgoing: ANY) -> NDArray[np.bool_]:
    """Which incoming packets belong to conversations that the host takes part in."""
    kinds, sent = incoming["kind"], outgoing["kind"]
    out = np.zeros(len(incoming), bool)
    tcp_out = outgoing[(outgoing["protocol"] == 6) & (sent != Kind.RST)]
    out |= np.isin(kinds, _TCP_CONVERSATION) & _answered(incoming, tcp_out, 6)
    out |= _established(incoming)
    # A handshake that is completed was meant.
    completing = incoming[kinds == Kind.ACK]
    out |= (kinds == Kind.SYN) & np.isin(folded(incoming, "source"), folded(completing, "source"))
    for protocol in np.unique(incoming["protocol"]).tolist():
        if protocol not in (1, 6, 58):
            out |= (incoming["protocol"] == protocol) & _answered(incoming, outgoing, protocol)
    asked = outgoing[np.isin(sent, (Kind.ICMP, Kind.ICMPV6)) & np.isin(outgoing["icmp_type"], (8, 128))]
    replies = np.isin(kinds, (Kind.ICMP, Kind.ICMPV6)) & np.isin(incoming["icmp_type"], (0, 129))
    return out | (replies & np.isin(folded(incoming, "source"), folded(asked, "destination")))


def _answered(incoming: ANY, outgoing: ANY, protocol: int) -> NDArray[np.bool_]:
    """Whether the host sends enough to an entry's source, in that protocol, for the two to be in conversation."""
    received, places = np.unique(folded(incoming, "source"), return_inverse=True)
    mine = outgoing[outgoing["protocol"] == protocol]
    relevant = np.bincount(places, (incoming["protocol"] == protocol) * incoming["weight"].astype(np.float64))
    sent = np.zeros(len(received))
    if len(mine) and len(received):
        towards = folded(mine, "destination")
        at = np.minimum(np.searchsorted(received, towards), len(received) - 1)
        same = received[at] == towards
        np.add.at(sent, at[same], mine["weight"][same].astype(np.float64))
    talking: NDArray[np.bool_] = (sent > 0) & (sent >= _ANSWERED * relevant)
    return talking[places]


def _established(incoming: ANY) -> NDArray[np.bool_]:
    """ACK packets of flows with many packets: one-way captures show no answers, but floods have no long flows."""
    is_ack = incoming["kind"] == Kind.ACK
    ports = incoming["source_port"].astype(np.uint64) << np.uint64(16) | incoming["destination_port"]
    flows = folded(incoming, "source") * np.uint64(0xD6E8FEB86659FD93) ^ ports
    _, places, counts = np.unique(flows[is_ack], return_inverse=True, return_counts=True)
    out = np.zeros(len(incoming), bool)
    out[is_ack] = (counts > _FLOW_PACKETS)[places] if len(counts) else False
    return out


def both_ways(host: Network, entries: ANY) -> tuple[ANY, ANY]:
    """What a host got and what it sent, among remembered packets; a packet to itself is one it got."""
    high, low = (np.uint64(half) for half in key(host))
    got = (entries["destination_low"] == low) & (entries["destination_high"] == high)
    sent = (entries["source_low"] == low) & (entries["source_high"] == high) & ~got
    return entries[got], entries[sent]
