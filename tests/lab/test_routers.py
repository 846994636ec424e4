"""What the lab reads back from routers, and the lab as a whole with real traffic."""

from ipaddress import IPv4Address, ip_interface, ip_network

import pytest

from lab.bird_text import read_match
from lab.exabgp import ScriptedExaBgp
from lab.frr import read_flowspec
from lab.namespaces import Port, join, namespace, wait_until
from lab.routers import Bird, Configuration, Frr, GoBgp, Router, Session, Validity
from lab.sender import BENIGN, Stream
from lab.topology import TARGET_IPV4, lab
from rules.action import Discard, RateLimit
from rules.match import Family, Match

TARGET = ip_network(f"{TARGET_IPV4}/32")
NEIGHBOUR = ip_network("203.0.113.9/32")


@pytest.mark.parametrize(
    ("bird", "ours"),
    [
        ("dst 203.0.113.7/32; proto 6,17; dport 53,8000..8010;",
         "destination 203.0.113.7/32; protocol [ =tcp =udp ]; destination-port [ =53 >=8000&<=8010 ];"),
        ("dst 203.0.113.7/32; tcp flags !0x0/0x2 && 0x0/0x10;", "destination 203.0.113.7/32; tcp-flags syn&!ack;"),
        ("dst 203.0.113.7/32; tcp flags 0x12/0x12 || !0x4/0x4;",
         "destination 203.0.113.7/32; tcp-flags [ =syn+ack !=rst ];"),
        ("dst 203.0.113.7/32; fragment !!is_fragment || first_fragment;",
         "destination 203.0.113.7/32; fragment [ is-fragment =first-fragment ];"),
        ("src 192.0.2.0/28; sport > 1024; port > 0 && != 80;", "source 192.0.2.0/28; port >0&!=80; source-port >1024;"),
        ("dst 203.0.113.7/32; proto 1; icmp type 3; icmp code 1;",
         "destination 203.0.113.7/32; protocol =icmp; icmp-type =3; icmp-code =1;"),
    ],
)  # fmt: skip
def test_birds_text_is_read_as_the_value_it_stands_for(bird: str, ours: str) -> None:
    assert read_match(bird, Family.IPV4).meaning() == Match.parse(f"match {{ {ours} }}").meaning()


def test_frrs_text_is_cut_into_components_and_action() -> None:
    printed = """BGP flowspec entry: (flags 0x418)
\tDestination Address 203.0.113.20/32
\tIP Protocol = 17\u0020
\tFS:rate 125000.000000
\treceived for 00:00:01
\tnot installed in PBR

BGP flowspec entry: (flags 0x418)
\tDestination Address 203.0.113.21/32
\tFS:rate 0.000000
\treceived for 00:00:01
"""
    one, two = read_flowspec(printed, Family.IPV4)
    assert (one.text, one.action) == ("Destination Address 203.0.113.20/32\nIP Protocol = 17", RateLimit(125000))
    assert (two.text, two.action) == ("Destination Address 203.0.113.21/32", Discard())


@pytest.mark.peer
def test_the_lab_mirrors_everything_and_a_blackhole_stops_the_attack_alone(daemons: None) -> None:
    with lab() as up, ScriptedExaBgp(up.stopbank, up.neighbours) as exabgp:
        for router in (up.bird, up.frr, up.gobgp):
            router.wait_established(60)
        victim, sensor = up.receiver(), up.mirrored()
        streams = (Stream("syn_flood", TARGET, 5_000, 4), Stream(BENIGN, NEIGHBOUR, 500, 4))
        attack = up.attack(streams)
        wait_until(lambda: victim.counts().attack.packets > 2_000, "the attack reaches the victim")
        exabgp.send(f"announce route {TARGET} next-hop 192.0.2.254 community [ 65535:666 ]")
        sent = {one.name: one for one in up.sent(attack)}
        assert (sent["syn_flood"].packets, sent[BENIGN].packets) == (20_000, 2_000)
        wait_until(lambda: sensor.counts().attack.packets >= 20_000, "the mirror's last packets")
        seen, reached = sensor.stop(), victim.stop()
        assert seen.dropped == reached.dropped == 0
        assert (seen.attack.packets, seen.benign.packets) == (20_000, 2_000), "the mirror looks before the filter"
        assert 2_000 < reached.attack.packets < 20_000
        assert (reached.benign.packets, reached.benign_lost) == (2_000, 0)
        assert up.bird.blackholes() == up.frr.blackholes() == up.gobgp.blackholes() == (TARGET,)


@pytest.mark.peer
def test_a_validating_router_marks_a_rule_without_a_destination_of_its_own(daemons: None) -> None:
    good, bad = "destination 203.0.113.7/32; protocol =udp;", "source 192.0.2.0/24;"
    with lab() as up, ScriptedExaBgp(up.stopbank, up.neighbours) as exabgp:
        up.bird.wait_established(60)
        exabgp.send(*(f"announce flow route {{ match {{ {match} }} then {{ discard; }} }}" for match in (good, bad)))
        wait_until(lambda: len(up.bird.flowspec()) == 2, "both rules")
        verdicts = {held.match: held.validity for held in up.bird.flowspec()}
        assert verdicts[Match.parse(f"match {{ {good} }}")] is Validity.ACCEPTED
        assert verdicts[Match.parse(f"match {{ {bad} }}")] is Validity.INVALID


@pytest.mark.peer
@pytest.mark.parametrize("router", [Bird, Frr, GoBgp])
def test_a_killed_router_is_never_taken_for_an_empty_one(daemons: None, router: type[Router]) -> None:
    with namespace("edge") as edge:
        address = IPv4Address("10.98.0.2")
        join(Port(edge, "up", (ip_interface("10.98.0.2/30"),)), Port(edge, "other"))
        session = Session(address, IPv4Address("10.98.0.1"), 65000, 65000)
        with router(edge, Configuration(address, (session,))) as running:
            assert (running.is_whole, running.established(), running.flowspec()) == (True, False, ())
            running.kill()
            assert not running.established()
            with pytest.raises(RuntimeError, match="not running"):
                running.flowspec()
            running.start()
            assert running.flowspec() == ()
