"""Labelled scenarios: attacks of every family over time, in normal traffic, and what a detector ought to say of them.

A scenario follows from its family and seed alone. Attacks are as strong as a multiple of the limits that zones have
when nobody sets any. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

import numpy as np

from lab import scenario_floods as floods
from lab import scenario_sessions as sessions
from lab.packets import Packets, inside, merged
from lab.responses import RESPONSES
from lab.scenario_normal import SERVICES, normal, scan, served
from lab.scenario_order import Order, Spread
from lab.scenario_shapes import SHAPES, Shape
from rules.match import Family, Network
from rules.traffic import CONVERSATIONS

ZONE: tuple[Network, ...] = (ip_network("203.0.113.0/24"), ip_network("2001:db8::/48"))
BEGIN, END = 3.0, 5.0
"""When most attacks begin and end, seconds."""
SLOW_END = 15.0
"""When slow ones end: nobody is slow in two seconds."""

PACKETS_LIMIT = 100_000
LIMITS = {"syn_flood": 10_000, "tcp_connection_flood": 10_000, "tls_flood": 10_000, "icmp_flood": 5_000,
          "ip_fragment_flood": 5_000, "udp_flood": 60_000, "udp_amp": 10_000, "http_slow": 2_000}  # fmt: skip
"""Packets a second at which the family's own default limit stands (`rules.zone`), where it isn't all packets."""
_ANSWERING = ("syn_flood", "ack_flood", "fin_flood", "tcp_null", "tcp_xmas", "udp_flood")


@dataclass(frozen=True, slots=True)
class Wave:
    """One attack stream's truth."""

    label: int
    victim: Network
    """A host, or the prefix whose hosts are hit."""
    family: str
    """As in `rules.traffic`: `syn_flood`, `udp_amp:dns`."""
    begin: float
    """Seconds since the scenario began."""
    end: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """Traffic with the truth about it."""

    name: str
    seed: int
    packets: Packets
    """In the order of time; both directions."""
    waves: tuple[Wave, ...]
    """Empty: nothing but normal traffic."""
    scale: float = 1.0
    """Of all rates; limits must be as much smaller."""

    @property
    def victims(self) -> tuple[Network, ...]:
        """Each once."""
        return tuple(dict.fromkeys(wave.victim for wave in self.waves))

    def families(self, victim: Network) -> frozenset[str]:
        """What hits a victim."""
        return frozenset(wave.family for wave in self.waves if wave.victim == victim)

    def attack(self, victim: Network) -> Packets:
        """The attack's packets to a victim."""
        labels = [wave.label for wave in self.waves if wave.victim == victim]
        return self.packets[np.isin(self.packets["label"], labels) & inside(self.packets, victim)]

    def benign(self, victim: Network) -> Packets:
        """Normal packets to a victim, before and during the attack."""
        return self.packets[(self.packets["label"] < 0) & inside(self.packets, victim)]


@dataclass(frozen=True, slots=True)
class Hit:
    """One stream before it is drawn."""

    family: str
    victim: Network
    shape: Shape
    begin: float = BEGIN
    end: float = END
    hosts: int = 0
    factor: float | None = None
    """Times the family's limit; None: drawn."""


Plan = Callable[[np.random.Generator, Family], list[Hit]]


def host(random: np.random.Generator, family: Family) -> Network:
    """Some host of the zone."""
    number = int(random.integers(1, 250))
    base = ZONE[0 if family is Family.IPV4 else 1].network_address
    if family is Family.IPV4:
        return IPv4Network(int(base) + number)
    return IPv6Network(int(base) + (number << 64) + 7)


def family_of(seed: int) -> Family:
    """IPv4 and IPv6 in turns."""
    return Family.IPV6 if seed % 2 == 0 else Family.IPV4


def _single(family: str) -> Plan:
    end = SLOW_END if family == "http_slow" else END
    return lambda random, version: [Hit(family, host(random, version), SHAPES["steady"], end=end)]


def _any_family(random: np.random.Generator) -> str:
    return str(random.choice(("syn_flood", "udp_flood", "udp_amp:dns", "udp_amp:ntp", "icmp_flood", "udp_amp:ssdp")))


def _shaped(shape: str, end: float = END) -> Plan:
    def plan(random: np.random.Generator, version: Family) -> list[Hit]:
        return [Hit(_any_family(random), host(random, version), SHAPES[shape], end=end)]

    return plan


def _carpet(random: np.random.Generator, version: Family) -> list[Hit]:
    family = str(random.choice(("udp_flood", "udp_amp:dns", "udp_amp:ntp", "syn_flood")))
    # A /48 has more hosts than anybody can count: some bombers hit a known few hundred, some any.
    hosts = 0 if version is Family.IPV4 or random.random() < 0.5 else 400
    return [Hit(family, ZONE[version is Family.IPV6], SHAPES["steady"], hosts=hosts, factor=6.0)]


def _multi(random: np.random.Generator, version: Family) -> list[Hit]:
    victim = host(random, version)
    chosen = random.choice(("syn_flood", "udp_amp:dns", "udp_amp:ntp", "icmp_flood", "udp_flood"), 3, replace=False)
    return [Hit(str(family), victim, SHAPES["steady"]) for family in chosen]


def _switching(random: np.random.Generator, version: Family) -> list[Hit]:
    victim = host(random, version)
    chosen = random.choice(("syn_flood", "udp_amp:dns", "udp_amp:cldap", "icmp_flood", "udp_flood"), 2, replace=False)
    return [Hit(str(family), victim, SHAPES["steady"], BEGIN + 1.5 * at, BEGIN + 1.5 * (at + 1))
            for at, family in enumerate(chosen)]  # fmt: skip


def _several(random: np.random.Generator, version: Family) -> list[Hit]:
    victims = {host(random, version) for _ in range(8)}
    return [Hit(_any_family(random), victim, SHAPES["steady"], factor=1.5) for victim in sorted(victims, key=str)]


def _nothing(random: np.random.Generator, version: Family) -> list[Hit]:
    return []


PLANS: dict[str, Plan] = (
    {f"udp_amp:{service}": _single(f"udp_amp:{service}") for service in RESPONSES}
    | {family: _single(family) for family in (*floods.MAKERS, *sessions.MAKERS)}
    | {"carpet_bombing": _carpet, "multi_vector": _multi, "switching": _switching, "several victims": _several}
    | {name: _shaped(name) for name in ("stairs", "microbursts", "in a peak")}
    | {"pulses": _shaped("pulses", END + 2)}
)
"""Every kind of attack, by name."""
NORMAL = "normal"
"""The name of scenarios without an attack."""


def scenario(name: str, seed: int, scale: float = 1.0) -> Scenario:
    """One of `PLANS`, or `NORMAL`, all rates multiplied by `scale`; the same arguments give the same packets."""
    random = np.random.default_rng([seed, *name.encode()])
    version = family_of(seed)
    hits = (PLANS[name] if name != NORMAL else _nothing)(random, version)
    end = max([hit.end for hit in hits], default=END) + 0.3
    parts = [_background(hits, (0.0, end), version, random, scale)]
    waves = []
    for label, hit in enumerate(hits):
        drawn = _stream(hit, label, random, scale)
        parts += drawn
        named = hit.family if hit.family != "icmp_flood" or version is Family.IPV4 else "icmpv6_flood"
        waves.append(Wave(label, hit.victim, named, hit.begin, hit.end))
    return Scenario(name, seed, merged(parts), tuple(waves), scale)


def _background(
    hits: list[Hit], span: tuple[float, float], version: Family, random: np.random.Generator, scale: float
) -> Packets:
    """Normal traffic of the victims and others, one of them busy with something that looks like an attack, a scan."""
    hosts = [hit.victim for hit in hits if hit.victim.prefixlen == hit.victim.max_prefixlen]
    others = [one for one in (host(random, version) for _ in range(6)) if one not in hosts]
    parts = [normal(one, scale * random.uniform(300, 1_500), span, random) for one in dict.fromkeys(hosts)]
    parts += [normal(one, scale * random.uniform(50, 600), span, random) for one in others[1:]]
    name = str(random.choice(sorted(SERVICES)))
    parts.append(served(SERVICES[name], others[0], scale * SERVICES[name].heavy, span, random))
    parts.append(scan(ZONE[version is Family.IPV6], scale * 300, span, random))
    for hit in hits:
        if hit.shape is SHAPES["in a peak"]:
            # The victim's visitors come in crowds before the attack does.
            parts.append(served(SERVICES["web"], hit.victim, scale * 12_000, (1.0, span[1]), random))
    return merged(parts)


def _stream(hit: Hit, label: int, random: np.random.Generator, scale: float) -> list[Packets]:
    kind, _, service = hit.family.partition(":")
    factor = hit.factor or float(random.uniform(1.4, 2.4))
    # Packets from ports with ordinary traffic in bulk count as UDP, and as nothing more.
    rate = LIMITS.get("udp_flood" if service in CONVERSATIONS else kind, PACKETS_LIMIT) * factor * scale
    times = hit.shape(rate / _towards(kind), hit.begin, hit.end, random)
    spread = list(Spread)[int(random.choice(4, p=(0.08, 0.12, 0.35, 0.45)))]
    order = Order(hit.victim, times, random, spread, label, hit.hosts)
    if kind == "udp_amp":
        return [floods.amplified(order, service)]
    if kind in sessions.MAKERS:
        return [sessions.MAKERS[kind](order)]
    rows = floods.MAKERS[kind](order)
    answers = kind in _ANSWERING and hit.victim.prefixlen == hit.victim.max_prefixlen and random.random() < 0.5
    return [rows, floods.backscatter(rows, 0.3, random)] if answers else [rows]


def _towards(kind: str) -> float:
    """Of a session flood's packets to the victim, the part that counts against its limit."""
    return {"tcp_connection_flood": 0.28, "tls_flood": 0.25}.get(kind, 1.0)
