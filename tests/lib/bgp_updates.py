"""BGP UPDATE bodies and ExaBGP events, written by hand for tests."""

import json
import struct

from rules import action, wire
from rules.match import Family
from rules.rule import FlowSpec, parse

SPEAKER = "192.0.2.1"


def flowspec(text: str) -> FlowSpec:
    rule = parse(text)
    assert isinstance(rule, FlowSpec)
    return rule


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", 0x90, kind, len(value)) + value


def body(*attributes: bytes) -> bytes:
    together = b"".join(attributes)
    return struct.pack(">HH", 0, len(together)) + together


def reach(family: Family, *nlris: bytes) -> bytes:
    return attribute(14, struct.pack(">HBBB", family.value, 133, 0, 0) + b"".join(nlris))


def unreach(family: Family, *nlris: bytes) -> bytes:
    return attribute(15, struct.pack(">HB", family.value, 133) + b"".join(nlris))


def communities(rule: FlowSpec) -> bytes:
    return attribute(16, action.encode(rule.action))


def announcing(rule: FlowSpec) -> bytes:
    return body(reach(rule.match.ip_family, wire.encode(rule.match)), communities(rule))


def withdrawing(rule: FlowSpec) -> bytes:
    return body(unreach(rule.match.ip_family, wire.encode(rule.match)))


def _line(kind: str, peer: str, **more: object) -> bytes:
    neighbour = {"address": {"local": "192.0.2.2", "peer": peer}, "asn": {"local": 64500, "peer": 64500}, **more}
    return json.dumps({"exabgp": "5.0.0", "time": 1.0, "type": kind, "neighbor": neighbour}).encode() + b"\n"


def update_line(update: bytes, peer: str = SPEAKER) -> bytes:
    message = {"category": 2, "header": "0x" + "FF" * 16, "body": "0x" + update.hex().upper()}
    return _line("update", peer, direction="receive", message=message)


def state_line(state: str, peer: str = SPEAKER) -> bytes:
    return _line("state", peer, state=state)
