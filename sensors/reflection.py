"""Whether UDP from a reflector's port is a reflection, or what a host gets from such ports anyway. Pure.

A host that browses over QUIC, resolves names, keeps its clock or runs a game server gets packets from "reflector ports"
all day. Reflectors are many, answer unasked and at length; partners in a conversation are few, or stay.
"""

import numpy as np

from rules.traffic import CONVERSATIONS
from sensors.origins import flows, folded, varied
from sensors.tables import ANY

MANY = 12.0
"""Sources, as varied as so many alike, from which on they are no few big talkers."""
_STAYS = 10
"""A flow with more packets than this is a conversation."""
_LONG = {"dns": 300.0, "ntp": 120.0}
"""Bytes from which on the mean answer is an amplified one: answers to a resolver's own questions have some 150, to a
clock's 76."""
_NO_KEEPALIVE = 400.0
"""Between equal ports (27015 to 27015, 500 to 500) both sides speak the same protocol, in short packets."""
_WORDY = ("sip",)
"""What is said at length between equal ports, by phones and their registrar."""
_SERVERS_PORTS = 1_024
"""Below this nobody's own port lies (RFC 6056 §3.2) from which another service is asked."""
_ONE_EACH = 2.5
"""Packets of a flow, on average, up to which nobody talks to anybody: an answer may take two, and
random ports come twice by chance."""


def is_reflection(service: str, part: ANY) -> bool:
    """Whether these packets, all from the service's port, look like answers that nobody asked for."""
    if service in CONVERSATIONS:
        return (_from_many(part) or _is_unasked(part)) and not _converses(service, part)
    if service not in _LONG:
        return True
    weights = part["weight"].astype(np.float64)
    mean = float((weights * part["length"]).sum() / max(float(weights.sum()), 1e-9))
    begun = float((part["fragment"] & 4 != 0).mean())
    if mean >= _LONG[service] or begun >= 0.02:
        return True
    # Short answers: resolvers ask ever other things from ever other ports, and who serves the time is asked on the
    # service's own port.
    asked_alike = _one_port(part) or (service == "dns" and _one_length(part))
    return _from_many(part) and asked_alike and _symmetric(part) < 0.5


def _from_many(part: ANY) -> bool:
    return varied(part, "source") >= MANY


def _is_unasked(part: ANY) -> bool:
    """Whether it comes from several, if one sends most of it, and no question can have gone before: to ports that
    nobody asks from, or ever to another port."""
    if len(np.unique(folded(part, "source"))) < MANY:
        return False
    from_here = (part["destination_port"] < _SERVERS_PORTS) & (part["destination_port"] != part["source_port"])
    return bool(from_here.mean() >= 0.5) or len(part) <= _ONE_EACH * len(np.unique(flows(part)))


def _one_port(part: ANY) -> bool:
    """Whether most go to one port, as when the questions were forged with it."""
    counts = np.unique(part["destination_port"], return_counts=True)[1]
    return bool(counts.max() >= 0.5 * counts.sum())


def _one_length(part: ANY) -> bool:
    """Whether most are equally long, as answers to one question are."""
    return bool(np.bincount(part["length"]).max() >= 0.5 * len(part))


def _symmetric(part: ANY) -> float:
    return float((part["source_port"] == part["destination_port"]).mean())


def _converses(service: str, part: ANY) -> bool:
    """Whether it is many long flows to several ports of the host, or talk among equals."""
    if _symmetric(part) >= 0.5:
        return service in _WORDY or float(part["length"].mean()) < _NO_KEEPALIVE
    _, places, counts = np.unique(flows(part), return_inverse=True, return_counts=True)
    stays = float((counts > _STAYS)[places].mean())
    return stays >= 0.5 and not _one_port(part)
