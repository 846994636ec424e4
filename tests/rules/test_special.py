"""Zones hold addresses of somebody, no half of the world, and no rule goes where a link keeps itself together."""

from ipaddress import IPv4Address, ip_network

import pytest

from rules.guard import Origin, Request, Surroundings, objections
from rules.neighbour import Neighbour, SessionFamily
from rules.rule import parse
from rules.special import reach_problems, special
from rules.zone import Zone

NOBODYS = ("0.0.0.0/8", "127.0.0.0/8", "169.254.7.0/24", "224.0.0.0/24", "239.1.1.1/32", "255.255.255.255/32",
           "240.0.0.0/8", "::1/128", "fe80::/64", "ff02::/32", "ff02::5/128")  # fmt: skip
HALVES = ("0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "::/1", "2000::/3", "2000::/15", "100.0.0.0/7")


@pytest.mark.parametrize("prefix", [*NOBODYS, *HALVES, "0.0.0.0/0", "::/0"])
def test_no_zone_is_made_of_nobodys_addresses_or_of_half_the_world(prefix: str) -> None:
    (problem,) = reach_problems((ip_network("203.0.113.0/24"), ip_network(prefix)))
    assert (problem.field, problem.value) == ("prefixes", prefix) and "name your own prefixes" in problem.reason


@pytest.mark.parametrize(
    "prefix", ["10.0.0.0/8", "100.64.0.0/10", "192.168.0.0/16", "64:ff9b::/96", "2001::/16", "fd00::/16"]
)
def test_what_networks_own_or_use_may_be_a_zone(prefix: str) -> None:
    assert special(ip_network(prefix)) is None
    assert reach_problems((ip_network(prefix),)) == []


def errors(text: str, *zone: str, origin: Origin = Origin.OPERATOR, person: bool = False) -> list[str]:
    edge = Neighbour("edge", IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2"), 64500, 64500,
                     IPv4Address("203.0.113.2"), frozenset(SessionFamily) - {SessionFamily.IPV6_UNICAST,
                     SessionFamily.IPV4_UNICAST})  # fmt: skip
    zones = (Zone("web", tuple(map(ip_network, zone))),)
    request = Request(parse(text), "operator", origin, 600, is_operator=not origin.is_automatic, collateral=0.0,
                      person_decides=person)  # fmt: skip
    return [one.id for one in objections(request, Surroundings(zones, (edge,))) if one.is_error]


@pytest.mark.parametrize("prefix", ["224.0.0.5/32", "ff02::1/128", "127.0.0.1/32"])
def test_no_rule_goes_where_a_link_keeps_itself_together(prefix: str) -> None:
    protocol = "next-header" if ":" in prefix else "protocol"
    text = f"match {{ destination {prefix}; {protocol} =17; }} then {{ discard; }}"
    assert "guard.reach.special" in errors(text, "203.0.113.0/24")


OWN = "match {{ destination 203.0.113.2/32; protocol ={}; }} then {{ discard; }}"


def test_the_machine_does_not_cut_off_the_machine() -> None:
    zone = "203.0.113.0/24"
    for port in (22, 8443):
        # Clients' ports only: with BGP's among them the rule would be refused for that.
        text = OWN.format(f"tcp; destination-port ={port}; source-port >=1024")
        assert errors(text, zone, origin=Origin.SENSOR) == ["guard.protected.own"]
        assert errors(text, zone) == [] == errors(text, zone, origin=Origin.SENSOR, person=True)
    assert errors(OWN.format("udp; destination-port =5000; source-port =53"), zone, origin=Origin.SENSOR) == []
