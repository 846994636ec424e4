"""A closer look at a host above a limit, where the capture shows both directions: is it attacked, or does it take part?

What a host gets in answer to what it sends itself is no attack on it, so a victim's answers never make the attacker a
victim, and bulk transfer is no flood. What remains must reach a rate that depends on how many send: traffic of many
sources is an attack earlier than that of a few. Used where no zone says whom to protect; declared limits of zones are
honoured as they stand.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from sensors import ordinary
from sensors.answers import are_cut, are_errors, solicited
from sensors.floors import (
    CROWD,
    ERRORS_EACH,
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
)
from sensors.headers import Kind
from sensors.origins import flows
from sensors.sessions import session_vector
from sensors.tables import ANY
from sensors.unwanted import forged, insisting
from sensors.view import ASKED, BOOLS, SHORTEST, Verdict, View

_SESSION_KINDS = (Kind.SYN, Kind.ACK, Kind.FIN)

SMALLEST, SEEN = 100, 20
"""Fewer packets are no attack, however fast they came, nor fewer records of a sampled stream."""

_SYN_WITH_OPTIONS = 48
_UDP = 17
_ACK = 16


def judge(incoming: ANY, outgoing: ANY, seconds: float, floor: float | None = None) -> Verdict:
    """Looks at what a host got and sent in `seconds`; `floor` replaces all rates (an explicit threshold)."""
    view = View.of(incoming, outgoing, seconds)
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


def _lone_errors(view: View) -> BOOLS:
    errors = are_errors(view.incoming)
    if not errors.any() or view.is_diffuse(errors):
        return np.zeros(len(errors), bool)
    _, places = np.unique(view.sources, return_inverse=True)
    each = np.bincount(places[errors], view.weights[errors], minlength=int(places.max()) + 1)
    out: BOOLS = errors & (each <= ERRORS_EACH * max(view.seconds, SHORTEST.concentrated))[places]
    return out


def _condemned(view: View, kind: Kind, member: BOOLS) -> BOOLS:
    """Which of a kind's packets are an attack by the floors: none, all, or those that are no ordinary use."""
    scanned = np.zeros(len(member), bool)
    scanned[member] = ordinary.scans(view.incoming[member])
    if scanned.any() and not view.above(scanned, ORDINARY):
        member = member & ~scanned
    if kind in ASKED:
        return _condemned_udp(view, kind, member)
    if kind is Kind.SYN and not view.is_diffuse(retrying := member & _retrying(view)):
        member = member if view.above(retrying, ORDINARY) else member & ~retrying
    guilty = view.above(member, FLOORS[kind])
    if kind is Kind.SYN:
        knocking = member & ~_retrying(view)
        is_one_port = insisting(view.incoming[knocking], view.weights[knocking])
        half_open = view.above(member, HALF_OPEN) or (is_one_port and view.above(knocking, INSISTING))
        guilty |= half_open and view.goes_nowhere(member)
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


def _are_refusals(view: View, resets: BOOLS) -> bool:
    """Whether most of a few hosts' RSTs acknowledge something: so a host refuses what it gets, and those who flood or
    scan it are no victims."""
    part, weights = view.incoming[resets], view.weights[resets]
    return 2 * float(weights[part["tcp_flags"] & _ACK != 0].sum()) >= float(weights.sum())


def _retrying(view: View) -> BOOLS:
    """SYNs with options that are refused: a client whose server is down comes again at once, and some never tire."""
    out: BOOLS = view.refused & (view.incoming["length"] >= _SYN_WITH_OPTIONS)
    return out


def _unwanted(view: View, member: BOOLS) -> bool:
    """Whether most of it is proven to be of no use, and enough to matter."""
    turned_away = member & view.refused & ~_unheard_errors(view, member & view.refused)
    if view.above(turned_away, REFUSED) and 2 * view.weights[turned_away].sum() >= view.weights[member].sum():
        return True
    return view.above(member, FORGED) and forged(view.incoming[member])


def _unheard_errors(view: View, turned_away: BOOLS) -> BOOLS:
    """Datagrams of flows that nobody hears and that go on: who calls, logs or measures asks for no errors. Those of
    calls have a port each; those to one port are a flood at the rate of those that end."""
    datagrams: BOOLS = turned_away & (view.incoming["protocol"] == _UDP)
    going_on = datagrams.copy()
    going_on[datagrams] = ordinary.steady(view.incoming[datagrams], view.seconds)
    is_one_port = insisting(view.incoming[going_on], view.weights[going_on])
    if is_one_port and view.above(going_on, FLOORS[Kind.UDP]):
        return np.zeros(len(going_on), bool)
    return going_on


def _of_streams(view: View, kind: Kind) -> Floor:
    """For tunnels that go on and on. Those of ESP carry as much as anybody likes; but who has one sends something."""
    if kind is not Kind.ESP:
        return FLOORS[kind]
    return Floor(PACKETS, PACKETS) if view.sends else Floor(np.inf, np.inf)


def _condemned_udp(view: View, kind: Kind, member: BOOLS) -> BOOLS:
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


def _too_many_sessions(view: View) -> BOOLS:
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
