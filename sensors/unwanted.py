"""What surely nobody wants, whoever sends it: what the host refuses, what comes from addresses that nobody has, what
knocks at one port and never comes in. Pure.

Beside such proof, a rate below that of ordinary use is enough for an attack.
"""

import numpy as np
from numpy.typing import NDArray

from sensors.headers import HAS_PORTS, IS_IPV6, Kind
from sensors.origins import folded
from sensors.tables import ANY

BOOLS = NDArray[np.bool_]
WEIGHTS = NDArray[np.float64]

_MOSTLY = 0.5
"""Share of a sender's segments that are answered with RST, if nothing it sends has a use."""
_MANY_ERRORS = 100.0
"""Port unreachables a second, from which on whole ports are closed. Linux sends each destination one a second and a
thousand in all, so that few of forged senders get one."""
_FORGED_SHARE = (0.05, 0.5)
"""Share of packets from addresses that no host has: IPv4 drawn evenly has 13 %, an anonymised capture may have all."""
_FRESH = 0.9
"""Share of packets from senders that send no other."""
_UNREACHABLE = {Kind.ICMP: 3, Kind.ICMPV6: 1}
_TCP, _UDP = 6, 17


def refused(incoming: ANY, outgoing: ANY, seconds: float) -> BOOLS:
    """Which TCP and UDP packets a host got only to refuse them: RSTs for segments, ICMP errors for datagrams and never
    an answer."""
    out = np.zeros(len(incoming), bool)
    if not len(incoming) or not len(outgoing):
        return out
    known, places = np.unique(folded(incoming, "source"), return_inverse=True)
    towards = folded(outgoing, "destination")
    to = np.minimum(np.searchsorted(known, towards), len(known) - 1)
    met = known[to] == towards

    def gave(part: BOOLS) -> WEIGHTS:
        some = part & met
        return np.bincount(to[some], outgoing["weight"][some], minlength=len(known)).astype(np.float64)

    kinds, protocol = outgoing["kind"], outgoing["protocol"]
    segments = incoming["protocol"] == _TCP
    got = np.bincount(places[segments], incoming["weight"][segments], minlength=len(known))
    resets = gave(kinds == Kind.RST)
    out |= segments & ((resets > 0) & (resets >= _MOSTLY * got))[places]
    errors = np.zeros(len(outgoing), bool)
    for kind, number in _UNREACHABLE.items():
        errors |= (kinds == kind) & (outgoing["icmp_type"] == number)
    told = gave(errors)
    datagrams = (incoming["protocol"] == _UDP) & (gave(protocol == _UDP) == 0)[places]
    out |= datagrams & (told > 0)[places]
    if told.sum() >= _MANY_ERRORS * seconds:
        out |= datagrams & _closed(incoming[out & datagrams], outgoing)[incoming["destination_port"]]
    return out


def _closed(turned_away: ANY, outgoing: ANY) -> BOOLS:
    """For each port, whether what went there was turned away and nothing was ever sent from it."""
    closed = np.zeros(65_536, bool)
    closed[turned_away["destination_port"][turned_away["marks"] & HAS_PORTS != 0]] = True
    closed[outgoing["source_port"][outgoing["protocol"] == _UDP]] = False
    return closed


def forged(part: ANY) -> bool:
    """Whether these come from addresses drawn at random: hardly any twice, and some that no host has (RFC 6890: "this
    network", loopback, groups, reserved). Private ones don't count: many networks have them inside."""
    if not len(part) or (part["marks"] & IS_IPV6 != 0).any():
        return False
    first = part["source_low"] >> np.uint64(24) & np.uint64(0xFF)
    impossible = float(((first == 0) | (first == 127) | (first >= 224)).mean())
    if not _FORGED_SHARE[0] <= impossible <= _FORGED_SHARE[1]:
        return False
    counts = np.unique(folded(part, "source"), return_counts=True)[1]
    return float((counts == 1).sum()) >= _FRESH * len(part)


def insisting(part: ANY, weights: WEIGHTS) -> bool:
    """Whether most go to one port: who looks for open ones goes on to the next."""
    ports = np.bincount(part["destination_port"], weights)
    return bool(len(part)) and float(ports.max()) >= _MOSTLY * float(weights.sum())
