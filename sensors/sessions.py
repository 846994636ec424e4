"""Attacks over completed TCP connections, told from headers: requests, TLS handshakes, connections that say nothing.

A SYN flood leaves its connections half open. Where most handshakes are completed, sources are real and the attack is on
the service, not on the stack. Pure.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rules.traffic import Vector
from sensors.headers import HAS_PAYLOAD, IS_HTTP, IS_TLS, Kind
from sensors.origins import flows
from sensors.tables import ANY

SUBSTANCE = 0.3
"""Share of the TCP packets that such connections must make: visitors beside a flood of packets are no attack."""
COMPLETED = 0.5
"""Share of connections begun in the sample that must go on, for it to be no SYN flood."""
FEWEST = 50
"""Connections, or requests, below which nothing is said."""
_REQUESTS = 0.1
"""Share of the packets with payload that begin a request or a handshake, beyond which it is about those; a page with
its pictures has 0.05 on the way to the server, and a flood of requests one in every packet or two."""
_WORDLESS = 0.1
"""Share of connections that may carry data in a flood of connections."""


Found = tuple[Vector, NDArray[np.bool_]]


def session_vector(sample: ANY, member: NDArray[np.bool_], beside: ANY) -> Found | None:
    """The vector of what comes over completed connections, and which entries of the sample belong to it; `member`:
    which of them are TCP; `beside`: all that the target got. None where connections aren't completed."""
    # A few visitors' requests beside a flood of connections that say nothing are no flood of requests.
    substance = SUBSTANCE * member.sum()
    return next((found for found in _candidates(sample, member, beside) if found[1].sum() >= substance), None)


def _candidates(sample: ANY, member: NDArray[np.bool_], beside: ANY) -> Iterator[Found]:
    tcp = beside[(beside["protocol"] == 6) & (beside["fragment"] & 2 == 0)]
    begun = np.unique(flows(tcp[tcp["kind"] == Kind.SYN]))
    going = np.unique(flows(tcp[np.isin(tcp["kind"], (Kind.ACK, Kind.FIN))]))
    opened = begun[np.isin(begun, going, assume_unique=True)]
    talking = tcp[tcp["marks"] & HAS_PAYLOAD != 0]
    requests, hellos = (int((talking["marks"] & bit != 0).sum()) for bit in (IS_HTTP, IS_TLS))
    mine = flows(sample)
    if requests >= FEWEST and requests >= _REQUESTS * len(talking) and requests >= hellos:
        asked = np.unique(flows(talking[talking["marks"] & IS_HTTP != 0]))
        yield Vector("http_flood"), member & np.isin(mine, asked)
    if len(begun) < FEWEST or len(opened) < COMPLETED * len(begun):
        return
    if hellos >= FEWEST and hellos >= _REQUESTS * len(talking):
        greeted = np.unique(flows(talking[talking["marks"] & IS_TLS != 0]))
        yield Vector("tls_flood"), member & np.isin(mine, greeted)
    if len(np.intersect1d(opened, np.unique(flows(talking)))) <= _WORDLESS * len(opened) and _marks_payload(tcp):
        yield Vector("tcp_connection_flood"), member & np.isin(mine, opened)


def _marks_payload(tcp: ANY) -> bool:
    """Whether nothing long goes unmarked: without marks, silence proves nothing."""
    return bool(((tcp["marks"] & HAS_PAYLOAD != 0) | (tcp["length"] <= 120)).all())
