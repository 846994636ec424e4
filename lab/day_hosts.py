"""The hosts of a simulated network and what each gets in a busy hour, as components: one kind of packet, one rate.

Rates are heavy-tailed (lognormal), as measured traffic of customers is: a tenth of them get most of it. Pure, from a
seed.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Network

import numpy as np
from numpy.typing import NDArray

from lab.frames import Numbers

FLOATS = NDArray[np.float64]
NETWORK = IPv4Network("10.64.0.0/16")
"""Where the hosts are, 250 to each /24."""
PER_NETWORK = 250
LINES = ((50e6, 0.3), (100e6, 0.4), (250e6, 0.25), (500e6, 0.05))
"""Speed of subscribers' lines in bit/s, and how many have it."""
_ACK, _SYN, _SYN_ACK, _FIN, _RST, _PUSH = 0x10, 0x02, 0x12, 0x11, 0x04, 0x18
_HTTP, _TLS = 32, 64


class Template(Enum):
    """Kinds of packets: protocol, ports (0: any), TCP flags, length, what the payload is (`sensors.headers`), fragment
    bits as in FlowSpec."""

    DATA = (6, 443, 0, _ACK, 1460, 0, 0)
    ACKS = (6, 0, 443, _ACK, 52, 0, 0)
    SYN = (6, 0, 443, _SYN, 60, 0, 0)
    SYN_ACK = (6, 443, 0, _SYN_ACK, 60, 0, 0)
    FIN = (6, 0, 443, _FIN, 52, 0, 0)
    RST = (6, 0, 443, _RST, 40, 0, 0)
    HTTP = (6, 0, 80, _PUSH, 600, _HTTP, 0)
    TLS = (6, 0, 443, _PUSH, 580, _TLS, 0)
    ODD_TCP = (6, 0, 443, 0, 40, 0, 0)
    QUIC = (17, 443, 0, 0, 1250, 0, 0)
    GAME = (17, 0, 27_500, 0, 120, 0, 0)
    MEDIA = (17, 0, 40_000, 0, 1100, 0, 0)
    FLOOD = (17, 0, 0, 0, 400, 0, 0)
    DNS = (17, 53, 0, 0, 180, 0, 0)
    AMPLIFIED = (17, 53, 0, 0, 1400, 0, 0)
    PING = (1, 0, 0, 0, 84, 0, 0)
    FRAGMENT = (17, 0, 0, 0, 1480, 0, 2)
    ESP = (50, 0, 0, 0, 1400, 0, 0)


TEMPLATES = tuple(Template)


class Role(Enum):
    """What a host is: part of the network, hour of its peak (UTC), and how little of the peak its night has."""

    SUBSCRIBER = (0.80, 20, 0.15)
    WEB = (0.12, 14, 0.25)
    GAME = (0.03, 21, 0.05)
    RESOLVER = (0.01, 20, 0.2)
    GATEWAY = (0.02, 11, 0.1)
    CONFERENCE = (0.01, 10, 0.02)
    IDLE = (0.01, 12, 1.0)


ROLES = tuple(Role)


@dataclass(frozen=True, slots=True)
class Components:
    """Columns of the same length: who gets which packets how often."""

    hosts: Numbers
    templates: Numbers
    """Places in `TEMPLATES`."""
    rates: FLOATS
    """Packets per second, in a busy hour."""


@dataclass(frozen=True, slots=True)
class Population:
    """The hosts and their usual traffic."""

    roles: Numbers
    """Place in `ROLES`, by host."""
    lines: FLOATS
    """Bit/s, by host."""
    usual: Components

    def of(self, role: Role) -> Numbers:
        """The hosts with a role."""
        return np.flatnonzero(self.roles == ROLES.index(role))


def population(count: int, seed: int) -> Population:
    """So many hosts."""
    random = np.random.default_rng([seed, count, 1])
    roles = random.choice(len(ROLES), count, p=[role.value[0] for role in ROLES])
    speeds, shares = zip(*LINES, strict=True)
    lines = random.choice(speeds, count, p=shares)
    parts = []
    for number, role in enumerate(ROLES):
        hosts = np.flatnonzero(roles == number)
        for template, rates in _traffic(role, len(hosts), random).items():
            parts.append((hosts, np.full(len(hosts), TEMPLATES.index(template)), rates))
    hosts, templates, rates = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Nobody usually gets more than half of the line.
    most = np.where(roles[hosts] == 0, lines[hosts] / 2 / 8 / lengths()[templates], np.inf)
    return Population(roles, lines, Components(hosts, templates, np.minimum(rates, most)))


def _traffic(role: Role, count: int, random: np.random.Generator) -> dict[Template, FLOATS]:
    def heavy(median: float, sigma: float, most: float) -> FLOATS:
        return np.minimum(median * random.lognormal(0, sigma, count), most)

    match role:
        case Role.SUBSCRIBER:
            # A subscriber gets 2 to 3 Mbit/s on average in busy hours, a third of it over QUIC, few of them much more.
            download = heavy(110, 1.2, 8_000)
            return {
                Template.DATA: download * 0.62, Template.QUIC: download * 0.33, Template.ACKS: download * 0.1,
                Template.SYN_ACK: download * 0.01, Template.DNS: heavy(0.5, 1, 30), Template.PING: heavy(0.05, 1, 2),
                Template.GAME: np.where(random.random(count) < 0.1, 60.0, 0.0),
            }  # fmt: skip
        case Role.WEB:
            connections = heavy(4, 1.6, 500)
            return {
                Template.SYN: connections, Template.FIN: connections, Template.ACKS: connections * 12,
                Template.TLS: connections, Template.HTTP: connections * 0.4, Template.RST: connections * 0.1,
                Template.DATA: connections * 4, Template.PING: heavy(0.2, 1, 10),
            }  # fmt: skip
        case Role.GAME:
            # 40 packets a second from each player.
            return {Template.GAME: 40 * heavy(12, 1.2, 150), Template.PING: heavy(1, 1, 20)}
        case Role.RESOLVER:
            return {Template.DNS: heavy(200, 1.2, 2_500), Template.GAME: heavy(200, 1.2, 2_500)}
        case Role.GATEWAY:
            return {Template.ESP: heavy(300, 1.3, 8_000), Template.SYN: heavy(1, 1, 20)}
        case Role.CONFERENCE:
            return {Template.MEDIA: heavy(500, 1.2, 6_000), Template.ACKS: heavy(50, 1, 500)}
        case Role.IDLE:
            return {Template.PING: heavy(0.1, 1, 1), Template.SYN: heavy(0.05, 1, 1)}


@cache
def lengths() -> FLOATS:
    """IP bytes of each template's packets."""
    return np.array([template.value[4] for template in TEMPLATES], float)


def rhythm(hour: float) -> FLOATS:
    """The share of the busy hour's rate that each role has at an hour of the day."""
    peaks, nights = (np.array([role.value[at] for role in ROLES]) for at in (1, 2))
    wave = (1 + np.cos((hour - peaks) / 12 * np.pi)) / 2
    found: FLOATS = nights + (1 - nights) * wave**1.5
    return found


def address(hosts: Numbers) -> Numbers:
    """The hosts' addresses."""
    found: Numbers = int(NETWORK[0]) + hosts // PER_NETWORK * 256 + hosts % PER_NETWORK + 1
    return found


def host_at(number: int) -> int:
    """The host of an address."""
    offset = number - int(NETWORK[0])
    return offset // 256 * PER_NETWORK + offset % 256 - 1
