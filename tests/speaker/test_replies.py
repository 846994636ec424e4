import json
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rules.neighbour import SessionFamily
from speaker import replies
from speaker.replies import (
    Done,
    EndOfRib,
    Error,
    Negotiated,
    Neighbours,
    NotificationReceived,
    PeerState,
    RefreshRequest,
    Session,
    Shutdown,
    Unestablished,
    Unknown,
    UpdateReceived,
    UpdateSent,
    Version,
    Waits,
)

PEER = ip_address("192.0.2.1")
_NEIGHBOUR = {"address": {"local": "192.0.2.9", "peer": "192.0.2.1"}, "asn": {"local": 1, "peer": 2}}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["neighbor", "type", "route", "peer", "address", "nlri", "attributes", "message", "update", "fsm", "rules"]
    ), inner, max_size=4),
)  # fmt: skip


def event(kind: str, **about: object) -> bytes:
    return json.dumps({"exabgp": "5.0.0", "type": kind, "neighbor": {**_NEIGHBOUR, **about}}).encode()


@given(st.binary())
@example(b"")
@example(b"{" * 100_000)
@example(b'{ "exabgp": "5.0.0", "type": "state", "neighbor": 3 }')
def test_arbitrary_bytes_give_a_value(line: bytes) -> None:
    assert isinstance(replies.parse(line), replies.Reply)


@given(json_values)
def test_arbitrary_json_gives_a_value(value: object) -> None:
    assert isinstance(replies.parse(json.dumps(value).encode()), replies.Reply)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"done", Done()),
        (b"error", Error()),
        (b"exabgp 5.0.15", Version("5.0.15")),
        (b"done ", Unknown(b"done ")),
        (event("state", state="up"), PeerState(PEER, Session.UP)),
        (event("state", state="connected"), PeerState(PEER, Session.CONNECTED)),
        (event("state", state="down", reason="reset"), PeerState(PEER, Session.DOWN, "reset")),
        (
            event("negotiated", negotiated={"families": ["ipv4 flow", "ipv4 mpls-vpn"]}),
            Negotiated(PEER, frozenset({SessionFamily.IPV4_FLOW})),
        ),
        (
            event("notification", direction="receive", notification={"code": 3, "subcode": 9, "data": ""}),
            NotificationReceived(PEER, 3, 9),
        ),
        (event("update", direction="receive", message={"update": {"announce": {}}}), UpdateReceived(PEER)),
        (event("update", direction="receive", message={"eor": {"afi": "ipv4", "safi": "flow"}}), EndOfRib(PEER)),
        (
            event(
                "update",
                direction="send",
                message={"update": {"announce": {"ipv4 flow": {"": [{}, {}]}}, "withdraw": {"ipv4 flow": [{}]}}},
            ),
            UpdateSent(PEER, 2, 1),
        ),
        (event("refresh", direction="receive"), RefreshRequest(PEER)),
        (b'{ "exabgp": "5.0.0", "type": "notification", "notification": "shutdown" }', Shutdown()),
        (
            json.dumps([
                {"peer": {"address": "192.0.2.1"}, "fsm": "ESTABLISHED", "families": ["ipv4 unicast"]},
                {"peer": {"address": "192.0.2.2"}, "fsm": "IDLE", "families": []},
                {"peer": {"address": "192.0.2.3"}, "fsm": "OPENSENT", "families": []},
            ]).encode(),
            Neighbours(
                (Negotiated(PEER, frozenset({SessionFamily.IPV4_UNICAST})),),
                (
                    Unestablished(ip_address("192.0.2.2"), Waits.CONNECTION),
                    Unestablished(ip_address("192.0.2.3"), Waits.OPEN),
                ),
            ),
        ),
    ],
)  # fmt: skip
def test_every_kind_of_line_is_read(line: bytes, value: object) -> None:
    assert replies.parse(line) == value
