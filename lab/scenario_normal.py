"""Normal traffic that is hard to tell from attacks: what networks carry all day, in both directions, as rows. Pure.

Outside addresses lie in the same networks as those of attackers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.headers import SYN
from lab.packets import Packets, blank, drawn, merged
from lab.scenario_flows import TCP, UDP, Ends, Talk, conversations
from lab.scenario_order import outside
from rules.match import Family, Network

_TLS = bytes.fromhex("160301020001000001fc0303")
_DNS = bytes.fromhex("1a2b818000010001000000000377777707657861")
_GRE, _ESP = 47, 50


@dataclass(frozen=True, slots=True)
class Service:
    """A talk, who begins it, and with how many others."""

    talk: Talk
    is_ours: bool = False
    """Whether the protected host is the client."""
    peers: int = 0
    """Distinct outside hosts; 0: another one for each conversation."""
    heavy: float = 4_000.0
    """Packets a second towards a protected host on a busy day."""


SERVICES: dict[str, Service] = {
    "web": Service(Talk(TCP, 443, 30, 2.0, 0.45, (0, 0, 0, 500), opening=_TLS), heavy=9_000),
    "upload": Service(Talk(TCP, 443, 4000, 20.0, 0.65, (1448,), (0,), steady=True), peers=2, heavy=20_000),
    "download": Service(Talk(TCP, 443, 4000, 20.0, 0.33, (0,), (1448,), steady=True), True, 3, heavy=20_000),
    "http": Service(
        Talk(TCP, 80, 12, 1.0, 0.5, (0, 0, 420), opening=b"GET /index.html HTTP/1.1\r\nHost: e"), heavy=8_000
    ),
    "mail": Service(Talk(TCP, 25, 24, 3.0, 0.5, (0, 60, 1200), (0, 80)), heavy=3_000),
    "ssh": Service(Talk(TCP, 22, 200, 10.0, 0.5, (0, 36, 76), (0, 36, 120), steady=True), heavy=3_000),
    "quic server": Service(Talk(UDP, 443, 40, 2.0, 0.4, (30, 40, 1252), (1252,), steady=True), heavy=6_000),
    "quic download": Service(Talk(UDP, 443, 3000, 10.0, 0.25, (34, 40), (1252,), steady=True), True, 4, heavy=6_500),
    "resolver": Service(Talk(UDP, 53, 2, 0.02, 0.5, (40, 52), (90, 180, 480), steady=True), True, 400, heavy=6_000),
    "authority": Service(Talk(UDP, 53, 2, 0.02, 0.5, (34, 60), (90, 480), opening=_DNS, steady=True), heavy=9_000),
    "time client": Service(
        Talk(UDP, 123, 2, 0.03, 0.5, (48,), (48,), client_port=123, steady=True), True, 30, heavy=2_000
    ),
    "openvpn": Service(
        Talk(UDP, 1194, 3000, 20.0, 0.5, (80, 600, 1380), (80, 1380), steady=True), peers=40, heavy=8_000
    ),
    "openvpn client": Service(Talk(UDP, 1194, 5000, 20.0, 0.3, (80, 600), (1380,), steady=True), True, 1, heavy=6_500),
    "wireguard": Service(
        Talk(UDP, 51820, 5000, 20.0, 0.5, (96, 1420), (96, 1420), client_port=51820, steady=True), peers=8, heavy=15_000
    ),
    "ipsec": Service(Talk(_ESP, 0, 5000, 20.0, 0.5, (120, 1400), (120, 1400), steady=True), peers=5, heavy=20_000),
    "gre": Service(Talk(_GRE, 0, 5000, 20.0, 0.5, (88, 1400), (88, 1400), steady=True), peers=2, heavy=20_000),
    "sip": Service(
        Talk(
            UDP,
            5060,
            6,
            1.0,
            0.5,
            (500, 700),
            (400, 600),
            opening=b"INVITE sip:a@b SIP/2.0",
            client_port=5060,
            steady=True,
        ),
        peers=60,
        heavy=1_500,
    ),
    "rtp": Service(Talk(UDP, 16400, 1500, 15.0, 0.5, (172,), (172,), steady=True), peers=80, heavy=6_000),
    "game server": Service(
        Talk(UDP, 27015, 900, 15.0, 0.5, (60, 90), (200, 900), steady=True), peers=120, heavy=10_000
    ),
    "gamers": Service(Talk(UDP, 27015, 900, 15.0, 0.5, (60, 90), (200, 900), steady=True), True, 6, heavy=4_000),
    "iperf": Service(Talk(UDP, 5201, 20000, 20.0, 1.0, (1448,), (0,), steady=True), peers=1, heavy=8_000),
    "iptv": Service(
        Talk(UDP, 5004, 20000, 20.0, 1.0, (1316,), (0,), client_port=5004, steady=True), peers=3, heavy=5_000
    ),
    "nfs": Service(
        Talk(UDP, 2049, 600, 10.0, 0.9, (4000,), (120,), client_port=871, steady=True, split=True), peers=3, heavy=3_000
    ),
    "dns transfer": Service(Talk(UDP, 53, 40, 2.0, 0.5, (60,), (3000,), steady=True), True, 3, heavy=1_500),
}
"""By name. Rates of `heavy` stay below the limits that zones have when nobody sets any."""
EVERYDAY = ("web", "http", "ssh", "resolver", "time client", "quic server", "download", "upload", "rtp", "mail")


def served(
    service: Service, host: Network, rate: float, span: tuple[float, float], random: np.random.Generator
) -> Packets:
    """About `rate` packets a second towards a host (more of the other direction), from `span`'s begin to end (s)."""
    talk, (begin, end) = service.talk, span
    inward = max(0.05, 1 - talk.asking if service.is_ours else talk.asking)
    lasting = talk.seconds if talk.steady else 0.0
    # Only whole flights of long conversations lie in a short span.
    flows = max(1, round(rate / inward * (end - begin + lasting) / talk.packets / (3 if talk.split else 1)))
    others = _others(service.peers, host, flows, random)
    own, ttls = drawn(host, flows, random), random.integers(44, 122, flows)
    inner = np.full(flows, 63)
    ends = Ends(own, others, inner, ttls) if service.is_ours else Ends(others, own, ttls, inner)
    return conversations(talk, ends, begin, end, random)


def _others(peers: int, host: Network, flows: int, random: np.random.Generator) -> NDArray[np.uint64]:
    pool = outside(Family.of(host), peers or flows, random)
    return pool[random.integers(0, peers, flows)] if peers else pool


def normal(host: Network, rate: float, span: tuple[float, float], random: np.random.Generator) -> Packets:
    """An everyday mix to a host, at about `rate` packets a second inwards."""
    parts = random.dirichlet(np.full(len(EVERYDAY), 0.8)) * rate
    return merged(
        [served(SERVICES[name], host, part, span, random) for name, part in zip(EVERYDAY, parts, strict=True)]
    )


def scan(network: Network, rate: float, span: tuple[float, float], random: np.random.Generator) -> Packets:
    """One address that tries ports all over a prefix, as happens at any time."""
    rows = blank(max(1, int(rate * (span[1] - span[0]))))
    rows["time"] = np.sort(random.uniform(span[0] * 1e9, span[1] * 1e9, len(rows))).astype(np.int64)
    rows["source"] = outside(Family.of(network), 1, random)
    rows["destination"] = drawn(network, len(rows), random)
    rows["protocol"], rows["flags"], rows["length"] = TCP, SYN, 40 if network.version == 4 else 60
    rows["source_port"] = 51_234
    rows["destination_port"] = random.choice((22, 23, 80, 443, 445, 3389, 8080), len(rows))
    return rows
