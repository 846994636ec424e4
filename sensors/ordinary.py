"""What looks like a host's ordinary use, seen in one direction only: streams, calls, games, tunnels, questions to name
and time servers and their answers, datagrams in parts. Pure.

Works on remembered headers of packets that nothing the host sent explains; without the other direction, what floods
don't look like is all there is to tell by.
"""

import numpy as np
from numpy.typing import NDArray

from rules.traffic import AMPLIFICATION_SERVICES, CONVERSATIONS
from sensors.headers import Kind
from sensors.origins import folded
from sensors.tables import ANY

BOOLS = NDArray[np.bool_]
WEIGHTS = NDArray[np.float64]

_FLOW_PACKETS = 10
"""An established flow has more packets than this in a second; those of a flood seldom do."""
_SLOW, _LONG = 500.0, 300.0
"""A stream of short packets is slow (calls 50 a second, games 128); a fast one has long packets (video, downloads)."""
_QUESTIONS = {53: 120.0, 123: 80.0}
"""Ports of servers that many ask, each little, and mean lengths up to which they are ordinary questions."""
_ANSWERS = {53: 300.0, 123: 80.0}
"""Source ports whose answers are ordinary up to this mean length, if neither most go to one port nor most are of one
length: reflectors are asked the same again and again, who asks for itself asks ever other things from ever other ports.
"""
_TRAINS = 0.8
"""Where as many datagrams begin as end, fragments are the parts of something; floods send any parts."""
_CONNECTIONLESS = [port for port, name in AMPLIFICATION_SERVICES.items() if name not in CONVERSATIONS]


def flows(entries: ANY) -> NDArray[np.uint64]:
    """Source, source port and destination port as one number each."""
    ports = entries["source_port"].astype(np.uint64) << np.uint64(16) | entries["destination_port"]
    out: NDArray[np.uint64] = folded(entries, "source") * np.uint64(0xD6E8FEB86659FD93) ^ ports
    return out


def begun(incoming: ANY) -> NDArray[np.uint64]:
    """Flows that began with a SYN."""
    return flows(incoming[incoming["kind"] == Kind.SYN])


def lasting(seconds: float) -> float:
    """More packets than this in so many seconds has a flow that goes on and on."""
    return max(1.0, _FLOW_PACKETS * min(seconds, 1.0))


def streams(part: ANY, weights: WEIGHTS, seconds: float) -> BOOLS:
    """Which packets are of flows that go on and on as those of calls, games, video, tunnels and downloads do."""
    # Where nobody talks for long, a reflector's many answers are no call.
    if not len(part) or np.isin(part["source_port"], _CONNECTIONLESS).mean() > 0.5:
        return np.zeros(len(part), bool)
    _, places, counts = np.unique(flows(part), return_inverse=True, return_counts=True)
    packets = np.bincount(places, weights)
    lengths = np.bincount(places, weights * part["length"]) / np.maximum(packets, 1)
    out: BOOLS = ((counts > lasting(seconds)) & ((packets <= _SLOW * seconds) | (lengths >= _LONG)))[places]
    return out


def modest(part: ANY, weights: WEIGHTS) -> BOOLS:
    """Which packets are what servers of names and of time get all day, and what those get who ask them."""
    out = np.zeros(len(part), bool)
    for field, ports in (("destination_port", _QUESTIONS), ("source_port", _ANSWERS)):
        for port, longest in ports.items():
            some = part[field] == port
            if not some.any():
                continue
            mean = (weights[some] * part["length"][some]).sum() / max(weights[some].sum(), 1.0)
            alike = _one_value(part["destination_port"][some]) or _one_value(part["length"][some])
            if mean <= longest and (field == "destination_port" or port == 123 or not alike):
                out |= some
    return out


def _one_value(values: ANY) -> bool:
    return bool(np.bincount(values).max() >= 0.5 * len(values))


def are_trains(part: ANY, weights: WEIGHTS) -> bool:
    """Whether these fragments are whole datagrams, long ones."""
    begin, end = (float(weights[part["fragment"] & bit != 0].sum()) for bit in (4, 8))
    return begin > 0 and min(begin, end) >= _TRAINS * max(begin, end) and float(part["length"].mean()) >= _LONG
