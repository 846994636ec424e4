"""Which packets a host gets in answer to what it sends itself, where a capture shows both directions. Pure.

An answer is no attack, be it a refusal, a handshake's second step or an error message; but nobody gets more answers
than it asked for, and what a victim sends back to those who flood it makes no conversation of the flood.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensors import ordinary
from sensors.headers import HAS_FLAGS, Kind
from sensors.origins import flows, folded
from sensors.tables import ANY
from sensors.unwanted import refused

BOOLS = NDArray[np.bool_]
FLOATS = NDArray[np.float64]

TOO_SHORT = 0.1
"""Seconds in which no client gets its own answer yet."""
_TCP_CONVERSATION = (Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN)
_ANSWERED = 0.02
"""A host takes part in a conversation when it sends this many packets for one that it gets: receivers of bulk TCP
acknowledge every second packet, with offloading every fortieth."""
_WHOLE_HEADERS = 40
"""Length of the shortest TCP segment there is, with its IPv4 header."""
_REFLEX = (Kind.RST, Kind.SYN_ACK)
"""What stacks send to whoever sends them anything: no conversation."""
_ERRORS = {Kind.ICMP: (3, 4, 11, 12), Kind.ICMPV6: (1, 2, 3, 4)}
"""ICMP types that tell a sender what became of its packet (RFC 792, RFC 4443)."""
_REPLY, _REQUEST = {Kind.ICMP: 0, Kind.ICMPV6: 129}, {Kind.ICMP: 8, Kind.ICMPV6: 128}
_SLACK, _FEW = 1.1, 10.0
"""Answers come one for one; some were asked for before anybody looked."""


@dataclass(frozen=True, slots=True)
class _Peers:
    """Who sent a host something, and what it got from and sent to each."""

    known: NDArray[np.uint64]
    places: NDArray[np.int64]
    """Which of them sent each incoming entry."""
    incoming: ANY
    outgoing: ANY
    to: NDArray[np.int64]
    """To which of them each outgoing entry goes; -1: to none."""

    @classmethod
    def of(cls, incoming: ANY, outgoing: ANY) -> "_Peers":
        known, places = np.unique(folded(incoming, "source"), return_inverse=True)
        towards = folded(outgoing, "destination")
        at = np.minimum(np.searchsorted(known, towards), max(len(known) - 1, 0))
        found = known[at] == towards if len(known) else np.zeros(len(towards), bool)
        return cls(known, places, incoming, outgoing, np.where(found, at, -1))

    def got(self, part: BOOLS) -> FLOATS:
        """Packets from each peer, of a part of the incoming ones."""
        return _summed(self.places[part], self.incoming["weight"][part], len(self.known))

    def gave(self, part: BOOLS) -> FLOATS:
        """Packets to each peer, of a part of the outgoing ones."""
        part = part & (self.to >= 0)
        return _summed(self.to[part], self.outgoing["weight"][part], len(self.known))


def solicited(incoming: ANY, outgoing: ANY, seconds: float) -> BOOLS:
    """Which incoming packets belong to conversations that the host, or a prefix, takes part in; of `seconds`."""
    kinds, sent = incoming["kind"], outgoing["kind"]
    peers = _Peers.of(incoming, outgoing)
    tcp, mine = incoming["protocol"] == 6, (outgoing["protocol"] == 6) & ~np.isin(sent, _REFLEX)
    out = (np.isin(kinds, _TCP_CONVERSATION) | are_cut(incoming)) & _answered(peers, tcp, mine)
    if tcp.any():
        out[tcp] |= _completed(incoming[tcp], outgoing, seconds)
    for protocol in np.unique(incoming["protocol"]).tolist():
        if protocol not in (1, 6, 58):
            part = incoming["protocol"] == protocol
            out |= part & _answered(peers, part, outgoing["protocol"] == protocol)
    if seconds < TOO_SHORT or _sampled(incoming):
        out |= _served(incoming, outgoing, "destination_port", "source_port")
        out |= _served(incoming, outgoing, "source_port", "destination_port")
    for kind in (Kind.ICMP, Kind.ICMPV6):
        member = kinds == kind
        if member.any() and len(outgoing):
            out |= _replies(peers, kind, member) | _refusals(peers, kind, member)
    return out


def are_cut(entries: ANY) -> BOOLS:
    """Which are TCP segments whose flags the capture left out: what it didn't keep says nothing against them."""
    cut: BOOLS = (entries["kind"] == Kind.TCP_OTHER) & (entries["marks"] & HAS_FLAGS == 0)
    return cut & (entries["length"] >= _WHOLE_HEADERS)


def are_errors(entries: ANY) -> BOOLS:
    """Which are ICMP errors."""
    out = np.zeros(len(entries), bool)
    for kind, types in _ERRORS.items():
        out |= (entries["kind"] == kind) & np.isin(entries["icmp_type"], types)
    return out


def _answered(peers: _Peers, part: BOOLS, mine: BOOLS) -> BOOLS:
    """Whether the host sends enough to an entry's source for the two to be in conversation."""
    gave = peers.gave(mine)
    talking: BOOLS = (gave > 0) & (gave >= _ANSWERED * peers.got(part))
    return talking[peers.places]


def _completed(tcp: ANY, outgoing: ANY, seconds: float) -> BOOLS:
    """Which TCP packets belong to handshakes that were completed, or to flows that go on and on."""
    kinds = tcp["kind"]
    _, flow, counts = np.unique(flows(tcp), return_inverse=True, return_counts=True)
    has = {kind: _among(flow, kinds == kind, len(counts)) for kind in (Kind.SYN, Kind.ACK)}
    # A handshake that is completed was meant, and so is what follows one.
    out: BOOLS = (kinds == Kind.SYN) & has[Kind.ACK]
    out |= np.isin(kinds, (Kind.ACK, Kind.RST, Kind.FIN)) & has[Kind.SYN]
    # Who is answered and goes on sending is somebody's server; reflectors have nothing more to say.
    out |= (kinds == Kind.SYN_ACK) & has[Kind.ACK]
    # One-way captures show no answers, but floods have no long flows, unless they keep their ports and are refused.
    acks = np.bincount(flow[kinds == Kind.ACK], minlength=len(counts))
    going_on = (kinds == Kind.ACK) & (acks > ordinary.lasting(seconds))[flow]
    out |= going_on & ~ordinary.asked_by_one(tcp) & ~refused(tcp, outgoing, seconds)
    return out


def _among(flow: NDArray[np.int64], some: BOOLS, count: int) -> BOOLS:
    """For each entry, whether its flow has some of these."""
    has = np.zeros(count, bool)
    has[flow[some]] = True
    return has[flow]


def _sampled(incoming: ANY) -> bool:
    """Whether entries stand for more than themselves: then a packet may be seen and its answer not."""
    return bool(len(incoming)) and int(incoming["weight"].min()) > 1


def _served(incoming: ANY, outgoing: ANY, came: str, went: str) -> BOOLS:
    """UDP of services, by the host's ports (`came` is the destination's) or by those of others, that get about as much
    as they give: in a few milliseconds no client gets its own answer yet, in a sampled stream few do."""
    got, gave = (
        np.bincount(entries[field], entries["weight"] * (entries["protocol"] == 17), minlength=65_536)
        for entries, field in ((incoming, came), (outgoing, went))
    )
    serving = (gave > 0) & (gave >= 0.5 * got)
    out: BOOLS = (incoming["protocol"] == 17) & serving[incoming[came]]
    return out


def _replies(peers: _Peers, kind: Kind, member: BOOLS) -> BOOLS:
    """Answers to pings, no more of them than pings."""
    replies = member & (peers.incoming["icmp_type"] == _REPLY[kind])
    asked = (peers.outgoing["kind"] == kind) & (peers.outgoing["icmp_type"] == _REQUEST[kind])
    gave = peers.gave(asked)
    fair = (gave > 0) & (peers.got(replies) <= _SLACK * gave + _FEW)
    out: BOOLS = replies & fair[peers.places]
    return out


def _refusals(peers: _Peers, kind: Kind, member: BOOLS) -> BOOLS:
    """Errors from those who were sent something, no more of them than packets; and from routers on the way, no more
    of them than packets that got no other answer."""
    errors = member & np.isin(peers.incoming["icmp_type"], _ERRORS[kind])
    if not errors.any():
        return errors
    meant = ~are_errors(peers.outgoing)
    got, gave = peers.got(errors), peers.gave(meant)
    fair = (gave > 0) & (got <= _SLACK * gave + _FEW)
    silent = peers.got(~errors) == 0
    unanswered = meant & np.where(peers.to >= 0, silent[np.maximum(peers.to, 0)] & ~fair[np.maximum(peers.to, 0)], True)
    on_the_way = got[~fair].sum() <= _SLACK * float(peers.outgoing["weight"][unanswered].sum())
    out: BOOLS = errors if on_the_way else errors & fair[peers.places]
    return out


def _summed(places: NDArray[np.int64], weights: ANY, count: int) -> FLOATS:
    out: FLOATS = np.bincount(places, weights, minlength=count).astype(np.float64)
    return out
