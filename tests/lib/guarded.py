"""A world for the tests of the guard: zones, protected addresses, our routers; and how to ask it."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from rules.findings import Finding
from rules.guard import ActiveRules, Held, Origin, Request, Surroundings, objections
from rules.neighbour import Neighbour, Role, SessionFamily
from rules.rule import parse
from rules.zone import Zone

PROTECTED = (ip_network("203.0.113.64/28"), ip_network("192.0.2.53/32"), ip_network("2001:db8:0:53::/64"))
INFRASTRUCTURE = (ip_network("203.0.113.1/32"), ip_network("198.51.100.0/30"), ip_network("2001:db8:f:ffff::/64"))
ZONES = (
    Zone("alpha", (ip_network("203.0.113.0/24"), ip_network("2001:db8::/44")), owner="tenant-a", blackhole=True,
         blackhole_bits_per_second=10**9),
    Zone("beta", (ip_network("198.51.100.0/22"),), owner="tenant-b", automatic_rules=2),
)  # fmt: skip
WORLD = Surroundings(ZONES, protected=PROTECTED, infrastructure=INFRASTRUCTURE)


def errors_of(request: Request, world: Surroundings = WORLD) -> set[str]:
    return {finding.id for finding in objections(request, world) if finding.is_error}


def say(text: str, world: Surroundings = WORLD, **changes: object) -> dict[str, Finding]:
    """The findings about a rule that an operator asks for, by id."""
    request = Request(parse(text), "operator", Origin.OPERATOR, 600, is_operator=True)
    return {finding.id: finding for finding in objections(replace(request, **changes), world)}  # type: ignore[arg-type]


def match(text: str, then: str = "discard") -> str:
    return f"match {{ {text} }} then {{ {then}; }}"


HOST = "destination 203.0.113.7/32; "
V6 = "destination 2001:db8:1::7/128; "
DNS = match(HOST + "protocol =udp; source-port =53;")
DNS_LIMITED = match(HOST + "protocol =udp; source-port =53;", "rate-limit 100000")


def world_with(*texts: str, owner: str = "operator", origin: Origin = Origin.OPERATOR) -> Surroundings:
    held = [Held(parse(text), owner, origin, "alpha") for text in texts]
    return replace(WORLD, active=ActiveRules(held))


def neighbour(name: str, role: Role = Role.OWN_EDGE, peer: str = "192.0.2.1", **changes: object) -> Neighbour:
    base = Neighbour(
        name=name,
        peer_address=ip_address(peer),
        local_address=ip_address("192.0.2.254"),
        peer_as=65001,
        local_as=65001,
        router_id=ip_address("192.0.2.254"),  # type: ignore[arg-type]
        families=frozenset(SessionFamily),
        role=role,
        permitted=(ip_network("203.0.113.0/24"),) if role is Role.UPSTREAM else (),
        next_hop_ipv4=ip_address("192.0.2.200"),  # type: ignore[arg-type]
        next_hop_ipv6=ip_address("100::1"),  # type: ignore[arg-type]
    )
    return replace(base, **changes)  # type: ignore[arg-type]
