"""Floods that complete their handshakes, as rows: connections, HTTP requests, slow HTTP, TLS handshakes. Pure.

Each comes from real machines, answers of the victim included, as a mirror sees it.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lab.packets import Packets, drawn
from lab.scenario_flows import TCP, Ends, Talk, conversations
from lab.scenario_order import Order, outside

_TLS = bytes.fromhex("1603010200010001fc0303")
_REQUESTS = (b"GET /?q=8213 HTTP/1.1\r\nHost: shop.exa", b"POST /login HTTP/1.1\r\nHost: shop.exam",
             b"HEAD / HTTP/1.1\r\nHost: www.example.or")  # fmt: skip


def _from_bots(order: Order, talk: Talk, bots: int, flows: int = 0) -> Packets:
    """Conversations of bots with the target, as many packets towards it as the order has times; or so many flows."""
    begin, end = int(order.times[0]) / 1e9, int(order.times[-1]) / 1e9 + 1e-6
    wanted = order.count / talk.asking
    # Of long conversations a part lies beyond the end.
    flows = flows or max(50, int(1.1 * wanted / talk.packets))
    pool = outside(order.family, bots, order.random)
    ttls = order.random.integers(44, 122, bots)
    chosen = order.random.integers(0, bots, flows)
    servers = drawn(order.target, flows, order.random)
    ends = Ends(pool[chosen], servers, ttls[chosen], np.full(flows, 63))
    rows = conversations(talk, ends, begin, end, order.random, order.label)
    return rows[np.argsort(rows["time"], kind="stable")]


def connections(order: Order) -> Packets:
    """Handshake, perhaps a byte, and the end, over and over."""
    talk = Talk(TCP, order.pick(80, 443, 22, 3306), 6, 0.2, 0.6, (0,), (0,))
    return _from_bots(order, talk, order.draw(200, 4000))


def http(order: Order) -> Packets:
    """Many connections that are kept, each with request after request."""
    request = _REQUESTS[order.draw(0, len(_REQUESTS))]
    talk = Talk(TCP, order.pick(80, 8080), order.pick(20, 60), 0.8, 0.55, (0, 280, 420), (0, 1400), request,
                repeats=True)  # fmt: skip
    return _from_bots(order, talk, order.draw(300, 6000))


def slow_http(order: Order) -> Packets:
    """Connections that stay, with a header's next byte every few seconds: in the end about half of them as slow as
    that, 1.4 to 2.4 times as many as a server may have. Over TLS each bot holds many of them."""
    flows = max(50, order.count // 25)
    if order.chance(0.3):
        drip = Talk(TCP, 443, 200, 120.0, 0.55, (30, 58), (0,), _TLS)
        return _from_bots(order, drip, order.draw(3, 20), flows=flows)
    talk = Talk(TCP, 80, 200, 120.0, 0.55, (1, 5), (0,), b"GET / HTTP/1.1\r\nHost: www.example.org\r\n")
    return _from_bots(order, talk, order.draw(20, 300), flows=flows)


def tls(order: Order) -> Packets:
    """Handshakes that get as far as the server's work: ClientHello, then gone."""
    talk = Talk(TCP, 443, 7, 0.3, 0.6, (0, 517), (0, 1400), _TLS)
    return _from_bots(order, replace(talk, packets=order.pick(5, 7)), order.draw(300, 6000))


MAKERS: dict[str, Callable[[Order], Packets]] = {
    "tcp_connection_flood": connections,
    "http_flood": http,
    "http_slow": slow_http,
    "tls_flood": tls,
}
