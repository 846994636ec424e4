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
from sensors import ordinary
from sensors.headers import Kind
from sensors.origins import folded
from sensors.tables import ANY, key

BOOLS = NDArray[np.bool_]


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
    # A reflection has many reflectors; one host's SYN-ACKs are its answers to a scan or a flood.
    Kind.SYN_ACK: Floor(1_000, 50_000),
    # Of flows that have neither a beginning nor a length; transfers have one of them.
    Kind.ACK: Floor(5_000, 10_000),
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
    Kind.OTHER: Floor(5_000, 50_000),
}
ORDINARY = Floor(50_000, 50_000)
"""For what looks like ordinary use, seen in one direction: streams, calls, games, tunnels, questions to a name server,
answers to a resolver. Only a rate that few hosts ever get makes it an attack."""
CROWD, OF_CROWD = 300, 20_000
"""Streams of more sources than that, and their floor: bots that keep their ports look like callers, and are more."""
FRESH = Floor(1_000, 50_000)
"""For tunnel packets of sources that send but a few each: tunnels have ends that stay."""
HALF_OPEN = Floor(300, 5_000)
"""For SYNs of which hardly any is followed by anything else: below this, servers that are down get such."""


def least(kind: Kind) -> float:
    """The lowest rate at which packets of a kind may be an attack, per second."""
    lower = {Kind.SYN: HALF_OPEN, **dict.fromkeys(_TUNNELS, FRESH)}
    return min(FLOORS[kind].diffuse, lower.get(kind, FLOORS[kind]).diffuse)


_ALL = (1 << 64) - 1

SMALLEST = 100
"""Fewer packets are no attack, however fast they came."""

SHORTEST = Floor(0.02, 0.1)
"""Seconds over which packets are spread at least: a window of less tells no rate, and one sender's burst is short."""

_TCP_CONVERSATION = (Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN)
_ANSWERED = 0.02
"""A host takes part in a conversation when it sends this many packets for one that it gets: receivers of bulk TCP
acknowledge every second packet, with offloading every fortieth."""
_TUNNELS = (Kind.GRE, Kind.ESP, Kind.OTHER)


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


@dataclass(frozen=True, slots=True)
class _View:
    """A host's incoming packets, and over how long they came."""

    incoming: ANY
    sources: NDArray[np.uint64]
    weights: NDArray[np.float64]
    seconds: float

    def above(self, part: BOOLS, floors: Floor) -> bool:
        """Whether some of them are more than what floors allow."""
        is_diffuse = self.is_diffuse(part)
        least = SHORTEST.diffuse if is_diffuse else SHORTEST.concentrated
        limit = floors.diffuse if is_diffuse else floors.concentrated
        return bool(self.weights[part].sum() >= limit * max(self.seconds, least))

    def is_diffuse(self, part: BOOLS) -> bool:
        """Whether many send them."""
        return _diffuse(self.sources[part], self.weights[part])

    def streams(self, part: BOOLS) -> BOOLS:
        """Those of a part that are streams."""
        out = part.copy()
        out[part] = ordinary.streams(self.incoming[part], self.weights[part], self.seconds)
        return out


def judge(host: Network, incoming: ANY, outgoing: ANY, seconds: float, floor: float | None = None) -> Verdict:
    """Looks at what a host got and sent in `seconds`; `floor` replaces all rates (an explicit threshold)."""
    unsolicited = ~_solicited(incoming, outgoing, seconds)
    attack = np.zeros(len(incoming), bool)
    view = _View(incoming, folded(incoming, "source"), incoming["weight"].astype(np.float64), seconds)
    weights, kinds, span = view.weights, incoming["kind"], max(seconds, SHORTEST.concentrated)
    for kind in map(Kind, np.unique(kinds).tolist()):
        member = unsolicited & (kinds == kind)
        if floor is None:
            attack |= _condemned(view, kind, member)
        elif weights[member].sum() >= floor * span:
            attack |= member
    if floor is not None and not attack.any() and weights[unsolicited].sum() >= floor * span:
        attack = unsolicited
    if weights[attack].sum() < SMALLEST:
        attack = np.zeros(len(incoming), bool)
    return Verdict(attack, float(weights[attack].sum()) / span)


def _condemned(view: _View, kind: Kind, member: BOOLS) -> BOOLS:
    """Which of a kind's packets are an attack by the floors: none, all, or those that are no ordinary use."""
    if kind in (Kind.UDP, Kind.AMPLIFICATION):
        return _condemned_udp(view, kind, member)
    guilty = view.above(member, FLOORS[kind])
    if kind is Kind.SYN:
        # Lost answers and sampling leave single SYNs behind, but then most of what comes is something else.
        others = view.weights[np.isin(view.incoming["kind"], _TCP_CONVERSATION)].sum()
        guilty |= others < view.weights[member].sum() and view.above(member, HALF_OPEN)
    elif kind is Kind.ACK:
        # Where connections are made all the time, some were made before anybody looked.
        made = np.isin(ordinary.flows(view.incoming), ordinary.begun(view.incoming))
        guilty &= view.weights[member].sum() >= 2 * view.weights[made].sum()
    elif kind is Kind.FRAGMENT and guilty and not view.is_diffuse(member):
        parts = ordinary.are_trains(view.incoming[member], view.weights[member])
        guilty = not parts or view.above(member, ORDINARY)
    elif kind in _TUNNELS:
        streams = view.streams(member)
        guilty = view.above(member & ~streams, FRESH) or (kind is not Kind.ESP and view.above(streams, FLOORS[kind]))
    return member if guilty else np.zeros(len(member), bool)


def _condemned_udp(view: _View, kind: Kind, member: BOOLS) -> BOOLS:
    modest = member.copy()
    modest[member] = ordinary.modest(view.incoming[member], view.weights[member])
    streams = view.streams(member & ~modest)
    is_crowd = len(np.unique(view.sources[streams])) > CROWD
    if view.above(modest, ORDINARY) or view.above(streams, Floor(OF_CROWD, OF_CROWD) if is_crowd else ORDINARY):
        return member
    strange = member & ~modest & ~streams
    return strange if view.above(strange, FLOORS[kind]) else np.zeros(len(member), bool)


def unsolicited(incoming: ANY, outgoing: ANY, kinds: Collection[Kind], seconds: float = 1.0) -> NDArray[np.bool_]:
    """Of a host that is attacked: the packets of these kinds that nothing it sent explains."""
    out: NDArray[np.bool_] = ~_solicited(incoming, outgoing, seconds) & np.isin(incoming["kind"], list(kinds))
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


def _solicited(incoming: ANY, outgoing: ANY, seconds: float) -> NDArray[np.bool_]:
    """Which incoming packets belong to conversations that the host takes part in."""
    kinds, sent = incoming["kind"], outgoing["kind"]
    out = np.zeros(len(incoming), bool)
    tcp_out = outgoing[(outgoing["protocol"] == 6) & (sent != Kind.RST)]
    out |= np.isin(kinds, _TCP_CONVERSATION) & _answered(incoming, tcp_out, 6)
    out |= _established(incoming, seconds)
    # A handshake that is completed was meant, and so is what follows one.
    flows = ordinary.flows(incoming)
    begun, completed = flows[kinds == Kind.SYN], flows[kinds == Kind.ACK]
    out |= (kinds == Kind.SYN) & np.isin(flows, completed)
    out |= np.isin(kinds, (Kind.ACK, Kind.RST, Kind.FIN)) & np.isin(flows, begun)
    # Who is answered and goes on sending is somebody's server; reflectors have nothing more to say.
    out |= (kinds == Kind.SYN_ACK) & np.isin(flows, completed)
    for protocol in np.unique(incoming["protocol"]).tolist():
        if protocol not in (1, 6, 58):
            out |= (incoming["protocol"] == protocol) & _answered(incoming, outgoing, protocol)
    if seconds < SHORTEST.concentrated:
        out |= _served(incoming, outgoing)
    asked = outgoing[np.isin(sent, (Kind.ICMP, Kind.ICMPV6)) & np.isin(outgoing["icmp_type"], (8, 128))]
    replies = np.isin(kinds, (Kind.ICMP, Kind.ICMPV6)) & np.isin(incoming["icmp_type"], (0, 129))
    return out | (replies & np.isin(folded(incoming, "source"), folded(asked, "destination")))


def _served(incoming: ANY, outgoing: ANY) -> NDArray[np.bool_]:
    """UDP to ports that send about as much as they get: in a few milliseconds no client gets its own answer yet."""
    got, gave = (
        np.bincount(entries[field], entries["weight"] * (entries["protocol"] == 17), minlength=65_536)
        for entries, field in ((incoming, "destination_port"), (outgoing, "source_port"))
    )
    serving = (gave > 0) & (gave >= 0.5 * got)
    out: NDArray[np.bool_] = (incoming["protocol"] == 17) & serving[incoming["destination_port"]]
    return out


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


def _established(incoming: ANY, seconds: float) -> NDArray[np.bool_]:
    """ACK packets of flows with many packets: one-way captures show no answers, but floods have no long flows."""
    is_ack = incoming["kind"] == Kind.ACK
    _, places, counts = np.unique(ordinary.flows(incoming)[is_ack], return_inverse=True, return_counts=True)
    out = np.zeros(len(incoming), bool)
    out[is_ack] = (counts > ordinary.lasting(seconds))[places] if len(counts) else False
    return out


def both_ways(target: Network, entries: ANY) -> tuple[ANY, ANY]:
    """What a host or prefix got and what it sent, among remembered packets; what stays inside counts as got."""
    got = inside(target, entries, "destination")
    sent = inside(target, entries, "source") & ~got
    return entries[got], entries[sent]


def inside(target: Network, entries: ANY, side: str) -> NDArray[np.bool_]:
    """Which packets' address on that side lies in a host or prefix."""
    high, low = key(target)
    free = (1 << target.max_prefixlen - target.prefixlen) - 1
    masks = (np.uint64(~(free >> 64) & _ALL), np.uint64(~free & _ALL))
    same_low = (entries[f"{side}_low"] & masks[1]) == np.uint64(low)
    found: NDArray[np.bool_] = same_low & ((entries[f"{side}_high"] & masks[0]) == np.uint64(high))
    return found
