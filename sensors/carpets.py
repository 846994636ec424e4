"""A closer look at a prefix above a limit, where nobody says whom to protect: are many of its hosts attacked, each with
so little that it isn't one by itself? Pure.
"""

from ipaddress import ip_network

import numpy as np

from rules.match import Network
from sensors.answers import solicited
from sensors.floors import FACTOR, ORDINARY, carpet, least_carpet
from sensors.headers import Kind
from sensors.origins import varied
from sensors.tables import ANY
from sensors.view import ASKED, SHORTEST, Verdict, View, nothing
from sensors.within import inside

_HOSTS = 4.0
"""As evenly as among so many must a carpet lie."""
_MULTICAST: dict[int, Network] = {4: ip_network("224.0.0.0/4"), 6: ip_network("ff00::/8")}
"""What is sent to groups, at any rate, somebody asked for."""


def judge_prefix(target: Network, incoming: ANY, outgoing: ANY, seconds: float) -> Verdict:
    """Looks at what a prefix got and sent: many of its hosts, more than zones allow by themselves."""
    part = float(target.max_prefixlen - target.prefixlen) / (8 if target.version == 4 else 80)
    view, span = View.of(incoming, outgoing, seconds), max(seconds, SHORTEST.concentrated)
    weights = view.weights
    unsolicited = ~solicited(incoming, outgoing, seconds) & ~inside(_MULTICAST[target.version], incoming, "destination")
    attack = np.zeros(len(incoming), bool)
    for kind in map(Kind, np.unique(incoming["kind"]).tolist()):
        member = unsolicited & (incoming["kind"] == kind)
        if not view.sends:
            # Seen in one direction, downloads, calls and questions of many look no different.
            member &= ~view.streams(member)
            modest = member & view.modest(member) & (kind in ASKED)
            if weights[modest].sum() < ORDINARY.diffuse * FACTOR**part * span:
                member &= ~modest
        is_half_open = kind is Kind.SYN and view.goes_nowhere(member) and view.is_diffuse(member)
        limit = least_carpet(kind) if is_half_open else carpet(kind)
        if weights[member].sum() >= limit * FACTOR**part * span:
            attack |= member
    if varied(incoming[attack], "destination") < _HOSTS:
        return nothing(len(incoming))
    return Verdict(attack, float(weights[attack].sum()) / span, np.zeros(len(incoming), bool))
