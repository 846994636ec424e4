"""Whether TCP from web ports is what middleboxes answer in a server's name: block pages and resets for a request whose
sender was forged. Pure.

Firewalls and censors that see one direction only answer requests that no handshake came before, with whole pages to
somebody who never asked (Bock et al., "Weaponizing Middleboxes for TCP Reflected Amplification", USENIX Security 2021).
Such answers come from the addresses of many servers, mostly from port 80, a few to each flow and of other lengths from
each. Who fetches pages from many servers got their SYN-ACKs before.
"""

import numpy as np
from numpy.typing import NDArray

from sensors.headers import HAS_PAYLOAD, HAS_PORTS, Kind
from sensors.ordinary import asked_by_one
from sensors.origins import flows, folded, varied
from sensors.tables import ANY

BOOLS = NDArray[np.bool_]

PORTS = (80, 443)
"""In whose traffic middleboxes look for what they block, by host name: in requests and in TLS handshakes."""
MANY, VARIED = 50, 4.0
"""Servers that nobody fetches pages from all at once. A few of them may send most (some answer without end), but not
one."""
_PAGES = 0.3
"""Share of the packets that carry something: with less, they are mostly resets of closed ports."""
_STAYS = 10
"""A flow with more packets than this is a download."""
_ONE_LENGTH = 0.9
"""Share of one length beyond which, without a reset, one tool made them all."""
_KINDS = (Kind.ACK, Kind.FIN, Kind.RST)


def middlebox_answers(sample: ANY, beside: ANY) -> BOOLS:
    """Which packets of a sample are such answers: all that come from the ports in question, or none. `beside`: all
    that the target got."""
    ported = (sample["protocol"] == 6) & (sample["marks"] & HAS_PORTS != 0) & (sample["fragment"] & 2 == 0)
    found: BOOLS = ported & np.isin(sample["source_port"], PORTS) & np.isin(sample["kind"], _KINDS)
    # Between equal ports nobody browses, and to a server's own port visitors come from any port.
    found &= sample["destination_port"] != sample["source_port"]
    part = sample[found]
    return found if len(part) and _are_answers(part, beside) else np.zeros(len(sample), bool)


def _are_answers(part: ANY, beside: ANY) -> bool:
    talks = part["marks"] & HAS_PAYLOAD != 0
    weights = part["weight"].astype(np.float64)
    if weights[talks].sum() < _PAGES * weights.sum():
        return False
    if len(np.unique(folded(part, "source"))) < MANY or varied(part, "source") < VARIED:
        return False
    pages = part[talks]
    alike = float(np.bincount(pages["length"], pages["weight"]).max()) >= _ONE_LENGTH * weights.sum()
    if alike:
        return False
    mine, places, counts = np.unique(flows(pages), return_inverse=True, return_counts=True)
    stays = (counts > _STAYS)[places] & ~asked_by_one(pages)
    if stays.mean() >= 0.5:
        return False
    asked = np.unique(flows(beside[beside["kind"] == Kind.SYN_ACK]))
    return float(np.isin(mine, asked, assume_unique=True).mean()) < 0.5
