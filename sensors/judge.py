"""A closer look at a host above a limit, where the capture shows both directions: is it attacked, or does it take part?

What a host gets in answer to what it sends itself is no attack on it, so a victim's answers never make the attacker a
victim, and bulk transfer is no flood. What remains must reach a rate that depends on how many send: traffic of many
sources is an attack earlier than that of a few. Used where no zone says whom to protect; declared limits of zones are
honoured as they stand.
"""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_network

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors import ordinary
from sensors.answers import are_cut, are_errors, solicited
from sensors.floors import (
    CROWD,
    DIFFUSE_SOURCES,
    ERRORS_EACH,
    FACTOR,
    FLOORS,
    FORGED,
    FRESH,
    HALF_OPEN,
    INSISTING,
    OF_CROWD,
    ORDINARY,
    PACKETS,
    REFUSED,
    SESSIONS,
    TUNNELS,
    UNASKED,
    Floor,
    carpet,
    least_carpet,
)
from sensors.headers import Kind
from sensors.origins import flows, folded, varied
from sensors.sessions import session_vector
from sensors.tables import ANY, key
from sensors.unwanted import forged, insisting, refused

BOOLS = NDArray[np.bool_]

_HOSTS = 4.0
"""As evenly as among so many must a carpet lie."""
_MULTICAST: dict[int, Network] = {4: ip_network("224.0.0.0/4"), 6: ip_network("ff00::/8")}
"""What is sent to groups, at any rate, somebody asked for."""
_ASKED = (Kind.UDP, Kind.AMPLIFICATION)
"""Questions and answers."""
_SESSION_KINDS = (Kind.SYN, Kind.ACK, Kind.FIN)
_ALL = (1 << 64) - 1

SMALLEST, SEEN = 100, 20
"""Fewer packets are no attack, however fast they came, nor fewer records of a sampled stream."""

SHORTEST = Floor(0.02, 0.1)
"""Seconds over which packets are spread at least: a window of less tells no rate, and one sender's burst is short."""

_SYN_WITH_OPTIONS = 48
_UDP = 17
_ACK = 16
_GOING_ON = (Kind.ACK, Kind.SYN_ACK, Kind.FIN)
"""What follows where connections are made; an RST takes a handshake back."""


def is_prefix(target: Network) -> bool:
    """Whether a target is more than one host."""
    return target.prefixlen < target.max_prefixlen


@dataclass(frozen=True, slots=True)
class Verdict:
    """What remains of a host's incoming packets."""

    attack: NDArray[np.bool_]
    """Which entries of the sample are the attack."""
    rate: float
    """Of the attack, packets per second."""
    sessions: NDArray[np.bool_]
    """Which of them come over completed connections."""

    @property
    def guilty(self) -> bool:
        """Whether anything is."""
        return bool(self.attack.any())


def nothing(count: int) -> Verdict:
    """Not guilty, of so many packets."""
    none = np.zeros(count, bool)
    return Verdict(none, 0.0, none)


@dataclass(frozen=True, slots=True)
class _View:
    """A host's incoming packets, and over how long they came."""

    incoming: ANY
    sources: NDArray[np.uint64]
    weights: NDArray[np.float64]
    seconds: float
    sends: bool
    """Whether it is seen what the host sends, if anything."""
    refused: BOOLS
    """Which of them the host refuses."""

    @classmethod
    def of(cls, incoming: ANY, outgoing: ANY, seconds: float) -> "_View":
        weights = incoming["weight"].astype(np.float64)
        turned_away = refused(incoming, outgoing, seconds)
        return cls(incoming, folded(incoming, "source"), weights, seconds, len(outgoing) > 0, turned_away)

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

    def modest(self, part: BOOLS) -> BOOLS:
        """Those of a part that are questions or answers as anybody may send and get them."""
        out = part.copy()
        out[part] = ordinary.modest(self.incoming[part], self.weights[part])
        return out


def judge(incoming: ANY, outgoing: ANY, seconds: float, floor: float | None = None) -> Verdict:
    """Looks at what a host got and sent in `seconds`; `floor` replaces all rates (an explicit threshold)."""
    view = _View.of(incoming, outgoing, seconds)
    weights, attack = view.weights, np.zeros(len(incoming), bool)
    unsolicited = ~solicited(incoming, outgoing, seconds)
    if not view.sends:
        # Where nothing shows what the host sends, one host's errors are its answers.
        unsolicited &= ~_lone_errors(view)
    kinds, span = incoming["kind"], max(seconds, SHORTEST.concentrated)
    for kind in map(Kind, np.unique(kinds).tolist()):
        member = unsolicited & (kinds == kind)
        if floor is None:
            attack |= _condemned(view, kind, member)
        elif weights[member].sum() >= floor * span:
            attack |= member
    if floor is not None and not attack.any() and weights[unsolicited].sum() >= floor * span:
        attack = unsolicited
    sessions = _too_many_sessions(view) if floor is None else np.zeros(len(incoming), bool)
    attack |= sessions
    if weights[attack].sum() < SMALLEST or attack.sum() < SEEN:
        attack = np.zeros(len(incoming), bool)
        sessions = attack
    return Verdict(attack, float(weights[attack].sum()) / span, sessions)


def judge_prefix(target: Network, incoming: ANY, outgoing: ANY, seconds: float) -> Verdict:
    """Looks at what a prefix got and sent: many of its hosts, more than zones allow by themselves."""
    part = float(target.max_prefixlen - target.prefixlen) / (8 if target.version == 4 else 80)
    view, span = _View.of(incoming, outgoing, seconds), max(seconds, SHORTEST.concentrated)
    weights = view.weights
    unsolicited = ~solicited(incoming, outgoing, seconds) & ~inside(_MULTICAST[target.version], incoming, "destination")
    attack = np.zeros(len(incoming), bool)
    for kind in map(Kind, np.unique(incoming["kind"]).tolist()):
        member = unsolicited & (incoming["kind"] == kind)
        if not view.sends:
            # Seen in one direction, downloads, calls and questions of many look no different.
            member &= ~view.streams(member)
            modest = member & view.modest(member) & (kind in _ASKED)
            if weights[modest].sum() < ORDINARY.diffuse * FACTOR**part * span:
                member &= ~modest
        is_half_open = kind is Kind.SYN and _goes_nowhere(view, member) and view.is_diffuse(member)
        limit = least_carpet(kind) if is_half_open else carpet(kind)
        if weights[member].sum() >= limit * FACTOR**part * span:
            attack |= member
    if varied(incoming[attack], "destination") < _HOSTS:
        return nothing(len(incoming))
    return Verdict(attack, float(weights[attack].sum()) / span, np.zeros(len(incoming), bool))


def _lone_errors(view: _View) -> BOOLS:
    errors = are_errors(view.incoming)
    if not errors.any() or view.is_diffuse(errors):
        return np.zeros(len(errors), bool)
    _, places = np.unique(view.sources, return_inverse=True)
    each = np.bincount(places[errors], view.weights[errors], minlength=int(places.max()) + 1)
    out: BOOLS = errors & (each <= ERRORS_EACH * max(view.seconds, SHORTEST.concentrated))[places]
    return out


def _condemned(view: _View, kind: Kind, member: BOOLS) -> BOOLS:
    """Which of a kind's packets are an attack by the floors: none, all, or those that are no ordinary use."""
    scanned = np.zeros(len(member), bool)
    scanned[member] = ordinary.scans(view.incoming[member])
    if scanned.any() and not view.above(scanned, ORDINARY):
        member = member & ~scanned
    if kind in _ASKED:
        return _condemned_udp(view, kind, member)
    if kind is Kind.SYN and not view.is_diffuse(retrying := member & _retrying(view)):
        member = member if view.above(retrying, ORDINARY) else member & ~retrying
    guilty = view.above(member, FLOORS[kind])
    if kind is Kind.SYN:
        knocking = member & ~_retrying(view)
        is_one_port = insisting(view.incoming[knocking], view.weights[knocking])
        half_open = view.above(member, HALF_OPEN) or (is_one_port and view.above(knocking, INSISTING))
        guilty |= half_open and _goes_nowhere(view, member)
    elif kind is Kind.RST and guilty and not view.is_diffuse(member):
        guilty = not _are_refusals(view, member) or view.above(member, FLOORS[Kind.SYN_ACK])
    elif kind is Kind.ACK:
        # Where connections are made all the time, some were made before anybody looked.
        made = np.isin(flows(view.incoming), ordinary.begun(view.incoming))
        guilty &= view.weights[member].sum() >= 2 * view.weights[made].sum()
    elif kind is Kind.FRAGMENT and guilty and not view.is_diffuse(member):
        parts = ordinary.are_trains(view.incoming[member], view.weights[member])
        guilty = not parts or view.above(member, ORDINARY)
    elif kind is Kind.TCP_OTHER:
        cut = member & are_cut(view.incoming)
        guilty = view.above(member & ~cut, FLOORS[kind]) or view.above(cut & ~view.streams(cut), ORDINARY)
    elif kind in TUNNELS:
        streams = view.streams(member)
        guilty = view.above(member & ~streams, FRESH) or view.above(streams, _of_streams(view, kind))
    return member if guilty or _unwanted(view, member) else np.zeros(len(member), bool)


def _are_refusals(view: _View, resets: BOOLS) -> bool:
    """Whether most of a few hosts' RSTs acknowledge something: so a host refuses what it gets, and those who flood or
    scan it are no victims."""
    part, weights = view.incoming[resets], view.weights[resets]
    return 2 * float(weights[part["tcp_flags"] & _ACK != 0].sum()) >= float(weights.sum())


def _goes_nowhere(view: _View, syns: BOOLS) -> bool:
    """Whether SYNs are most of what comes over TCP: lost answers and sampling leave single ones behind, too."""
    others = view.weights[np.isin(view.incoming["kind"], _GOING_ON)].sum()
    return bool(others < view.weights[syns].sum())


def _retrying(view: _View) -> BOOLS:
    """SYNs with options that are refused: a client whose server is down comes again at once, and some never tire."""
    out: BOOLS = view.refused & (view.incoming["length"] >= _SYN_WITH_OPTIONS)
    return out


def _unwanted(view: _View, member: BOOLS) -> bool:
    """Whether most of it is proven to be of no use, and enough to matter."""
    turned_away = member & view.refused & ~_unheard_errors(view, member & view.refused)
    if view.above(turned_away, REFUSED) and 2 * view.weights[turned_away].sum() >= view.weights[member].sum():
        return True
    return view.above(member, FORGED) and forged(view.incoming[member])


def _unheard_errors(view: _View, turned_away: BOOLS) -> BOOLS:
    """Datagrams of flows that nobody hears and that go on: who calls, logs or measures asks for no errors. Those of
    calls have a port each; those to one port are a flood at the rate of those that end."""
    datagrams: BOOLS = turned_away & (view.incoming["protocol"] == _UDP)
    going_on = datagrams.copy()
    going_on[datagrams] = ordinary.steady(view.incoming[datagrams], view.seconds)
    is_one_port = insisting(view.incoming[going_on], view.weights[going_on])
    if is_one_port and view.above(going_on, FLOORS[Kind.UDP]):
        return np.zeros(len(going_on), bool)
    return going_on


def _of_streams(view: _View, kind: Kind) -> Floor:
    """For tunnels that go on and on. Those of ESP carry as much as anybody likes; but who has one sends something."""
    if kind is not Kind.ESP:
        return FLOORS[kind]
    return Floor(PACKETS, PACKETS) if view.sends else Floor(np.inf, np.inf)


def _condemned_udp(view: _View, kind: Kind, member: BOOLS) -> BOOLS:
    if _unwanted(view, member):
        return member
    modest = view.modest(member)
    streams = view.streams(member & ~modest)
    is_crowd = len(np.unique(view.sources[streams])) > CROWD
    if view.above(modest, ORDINARY) or view.above(streams, Floor(OF_CROWD, OF_CROWD) if is_crowd else ORDINARY):
        return member
    strange = member & ~modest & ~streams
    unasked = strange & (view.refused | np.isin(view.incoming["source_port"], ordinary.RARE))
    # Phones and gateways talk between equal ports, each little: no reflectors.
    among_equals = strange & ordinary.among_equals(view.incoming)
    guilty = view.above(strange & ~among_equals, FLOORS[kind]) or view.above(strange, FLOORS[Kind.UDP])
    guilty |= kind is Kind.AMPLIFICATION and view.above(unasked, UNASKED)
    return strange if guilty else np.zeros(len(member), bool)


def _too_many_sessions(view: _View) -> BOOLS:
    """Requests, handshakes or connections of many visitors, beyond what any host may get where nobody set limits."""
    span, kinds, weights = max(view.seconds, SHORTEST.concentrated), view.incoming["kind"], view.weights
    none = np.zeros(len(kinds), bool)
    if weights[kinds == Kind.SYN].sum() < SESSIONS * span and weights.sum() < PACKETS * span:
        return none
    found = session_vector(view.incoming, np.isin(kinds, _SESSION_KINDS), view.incoming)
    return found[1] if found and view.is_diffuse(found[1]) else none


def belonging(
    incoming: ANY, outgoing: ANY, kinds: Collection[Kind], sessions: bool = False, seconds: float = 1.0
) -> NDArray[np.bool_]:
    """Of a host that is attacked: the packets of these kinds that nothing it sent explains, and with `sessions` those
    that come over completed connections as the attack does."""
    out: NDArray[np.bool_] = ~solicited(incoming, outgoing, seconds) & np.isin(incoming["kind"], list(kinds))
    found = session_vector(incoming, np.isin(incoming["kind"], _SESSION_KINDS), incoming) if sessions else None
    return out | found[1] if found else out


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
