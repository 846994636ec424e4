"""What looks like a host's ordinary use, seen in one direction only: streams, calls, games, tunnels, questions to name
and time servers and their answers, datagrams in parts. Pure.

Works on remembered headers of packets that nothing the host sent explains; without the other direction, what floods
don't look like is all there is to tell by.
"""

import numpy as np
from numpy.typing import NDArray

from rules.traffic import AMPLIFICATION_SERVICES, CONVERSATIONS
from sensors.headers import HAS_PORTS, IS_IPV6, Kind
from sensors.origins import flows, folded
from sensors.tables import ANY

BOOLS = NDArray[np.bool_]
WEIGHTS = NDArray[np.float64]

_FLOW_PACKETS = 10
"""An established flow has more packets than this in a second; those of a flood seldom do."""
_RECURS = 3
"""Of many who keep a port of their own each, be they devices that log or players, this says so: forgers keep none, and
bots are faster."""
_SLOW, _LONG = 500.0, 300.0
"""A stream of short packets is slow (calls 50 a second, games 128); a fast one has long packets (video, downloads)."""
_QUESTIONS = {53: 120.0, 123: 80.0}
"""Ports of servers that many ask, each little, and mean lengths up to which they are ordinary questions."""
_ANSWERS = {53: 300.0, 123: 80.0}
"""Source ports whose answers are ordinary up to this mean length, if neither most go to one port nor most are of one
length: reflectors are asked the same again and again, who asks for itself asks ever other things from ever other ports.
"""
_SERVERS = 20
"""From so many on, servers of names are nobody's own."""
_SERVERS_PORTS = 1_024
"""Below this only servers speak (RFC 6056 §3.2)."""
_OF_A_KIND = 50
"""Servers of one service that nobody asks all at once from one port."""
_TRIED, _EACH, _ONCE, _OWN = 100, 3.0, 0.99, 4
"""Who scans tries so many ports, each at most so often; nearly each but once, or from so few ports of its own."""
_SHORT = 100.0
"""Bytes that its packets have at most, on average."""
_SCANNERS, _DECOYS = 20, 128
"""More of them at once are a flood, or forged; but a scanner hides among as many forged ones that try the same ports
(nmap takes no more)."""
_TRAINS = 0.8
"""Where as many datagrams begin as end, fragments are the parts of something; floods send any parts."""
_BULK = CONVERSATIONS | {"dns", "snmp", "tftp", "memcached"}
RARE = [port for port, name in AMPLIFICATION_SERVICES.items() if name not in _BULK]
"""Ports of services that nobody gets thousands of answers from in a second, one server's or many's."""
_TALKING = [port for port, name in AMPLIFICATION_SERVICES.items() if name in CONVERSATIONS]
_CONNECTIONLESS = [port for port, name in AMPLIFICATION_SERVICES.items() if name not in CONVERSATIONS]


def begun(incoming: ANY) -> NDArray[np.uint64]:
    """Flows that began with a SYN."""
    return flows(incoming[incoming["kind"] == Kind.SYN])


def lasting(seconds: float) -> float:
    """More packets than this in so many seconds has a flow that goes on and on."""
    return max(1.0, _FLOW_PACKETS * min(seconds, 1.0))


def streams(part: ANY, weights: WEIGHTS, seconds: float) -> BOOLS:
    """Which packets are of flows that go on and on as those of calls, games, video, tunnels and downloads do."""
    going_on = steady(part, seconds)
    if not going_on.any():
        return going_on
    _, places = np.unique(flows(part), return_inverse=True)
    packets = np.bincount(places, weights)
    lengths = np.bincount(places, weights * part["length"]) / np.maximum(packets, 1)
    out: BOOLS = going_on & ((packets <= _SLOW * seconds) | (lengths >= _LONG))[places]
    return out


def steady(part: ANY, seconds: float) -> BOOLS:
    """Which packets are of flows that go on and on, fast ones of short packets as well: of a few senders a test of the
    line, what meters and logs say, a tunnel of calls; of many a flood."""
    # Where nobody talks for long, a reflector's many answers are no call.
    if not len(part) or np.isin(part["source_port"], _CONNECTIONLESS).mean() > 0.5:
        return np.zeros(len(part), bool)
    _, places, counts = np.unique(flows(part), return_inverse=True, return_counts=True)
    # Where all have the same port, one tool may have written it, unless both sides have it by custom.
    is_forged = _one_value(part["source_port"]) and float(among_equals(part).mean()) < 0.5
    fewest = lasting(seconds) if is_forged else max(1.0, _RECURS * min(seconds, 1.0))
    return (counts > fewest)[places] & ~asked_by_one(part)


def asked_by_one(part: ANY) -> BOOLS:
    """Which packets come from one server's port on many hosts to one other port: nobody talks to so many of a kind at
    once from there, but who forges questions writes the same port into all of them."""
    ours, theirs = part["destination_port"].astype(np.int64), part["source_port"].astype(np.int64)
    served = ((theirs < _SERVERS_PORTS) | np.isin(theirs, list(AMPLIFICATION_SERVICES))) & (ours != theirs)
    out = np.zeros(len(part), bool)
    if served.any():
        pairs, places = np.unique((theirs << 16 | ours)[served], return_inverse=True)
        out[served] = (_distinct(places, folded(part[served], "source"), len(pairs)) >= _OF_A_KIND)[places]
    return out


def among_equals(part: ANY) -> BOOLS:
    """Which packets are talk between a service's port and the same port: of phones, gateways, tunnels."""
    out: BOOLS = (part["source_port"] == part["destination_port"]) & np.isin(part["source_port"], _TALKING)
    return out


def scans(part: ANY) -> BOOLS:
    """Which packets are of sources that go from port to port, or from host to host, with little or nothing to say. Who
    picks ports at random hits some twice, unless it keeps to its own port."""
    out = np.zeros(len(part), bool)
    if len(part) < _TRIED:
        return out
    names, who = np.unique(folded(part, "source"), return_inverse=True)
    sent = np.bincount(who, minlength=len(names)).astype(np.float64)
    tried = folded(part, "destination") * np.uint64(65_537) ^ part["destination_port"]
    places = _distinct(who, tried, len(names))
    own = _distinct(who, part["source_port"], len(names))
    short = np.bincount(who, part["length"], minlength=len(names)) <= _SHORT * sent
    found = (places >= _TRIED) & (sent <= _EACH * places) & short & ((places >= _ONCE * sent) | (own <= _OWN))
    # Of many packets not all may be here: each one's part of the ports is another.
    each = float(np.median(places[found])) * float(part["weight"].mean()) if found.any() else 0.0
    among = found[who]
    distinct = len(np.unique(tried[among]))
    are_decoys = found.sum() <= _DECOYS and distinct <= 1.5 * each
    if found.sum() > 2 and not are_decoys and _one_value(part["source_port"][among]):
        # One tool's senders, that share the ports among them, or are forged and know nothing of each other.
        found &= distinct >= _ONCE * among.sum()
    if found.sum() <= _SCANNERS or are_decoys:
        out = (found & (np.bincount(who, part["marks"] & HAS_PORTS, minlength=len(names)) == sent))[who]
    return out


def _distinct(who: NDArray[np.int64], values: ANY, count: int) -> NDArray[np.int64]:
    """How many different values each one has."""
    pairs = values.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93) ^ who.astype(np.uint64) << np.uint64(44)
    _, firsts = np.unique(pairs, return_index=True)
    return np.bincount(who[firsts], minlength=count)


def modest(part: ANY, weights: WEIGHTS) -> BOOLS:
    """Which packets are what servers of names and of time get all day, and what those get who ask them."""
    out = np.zeros(len(part), bool)
    # IPv6 has longer headers for the same question.
    lengths = part["length"] - np.where(part["marks"] & IS_IPV6 != 0, 20.0, 0.0)
    for field, ports in (("destination_port", _QUESTIONS), ("source_port", _ANSWERS)):
        for port, longest in ports.items():
            some = part[field] == port
            if not some.any():
                continue
            mean = (weights[some] * lengths[some]).sum() / max(weights[some].sum(), 1.0)
            alike = _one_value(part["destination_port"][some]) or _one_value(part["length"][some])
            # One's own servers are few, and may be asked the same all day.
            alike &= len(np.unique(folded(part[some], "source"))) >= _SERVERS
            if mean <= longest and (field == "destination_port" or port == 123 or not alike):
                out |= some
    return out


def _one_value(values: ANY) -> bool:
    return bool(np.bincount(values).max() >= 0.5 * len(values))


def are_trains(part: ANY, weights: WEIGHTS) -> bool:
    """Whether these fragments are whole datagrams, long ones."""
    begin, end = (float(weights[part["fragment"] & bit != 0].sum()) for bit in (4, 8))
    return begin > 0 and min(begin, end) >= _TRAINS * max(begin, end) and float(part["length"].mean()) >= _LONG
