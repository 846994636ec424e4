"""How far a rule may reach and what it must mean: each objection by example."""

from dataclasses import replace

import pytest
from guarded import HOST, V6, WORLD, match, neighbour, say

from rules.findings import Severity
from rules.guard import Origin

# ------------------------------------------------------------------------------------------------- reach, by example


def test_a_good_rule_gives_no_finding_at_all() -> None:
    assert say(match(HOST + "protocol =udp; source-port [ =53 =123 ];")) == {}
    assert say("blackhole { prefix 203.0.113.7/32; }") == {}


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("destination 203.0.113.0/23; protocol =udp;", "guard.breadth.floor"),
        ("destination 203.0.112.0/23; protocol =udp;", "guard.ownership.outside"),
        ("destination 192.0.2.7/32; protocol =udp;", "guard.ownership.outside"),
        ("destination 0.0.0.0/0; protocol =udp;", "guard.breadth.universal"),
        (HOST + "source 0.0.0.0/0; protocol =udp;", "guard.breadth.universal"),
        ("protocol =udp; source-port =53;", "guard.destination.missing"),
        ("destination ::7/128/64; next-header =17;", "guard.prefix.offset"),
        ("destination 203.0.113.64/32; protocol =udp;", "guard.protected.overlap"),
        ("destination 203.0.113.0/24; protocol =udp;", "guard.protected.overlap"),
        (HOST + "source 192.0.2.0/24; protocol =udp;", "guard.protected.overlap"),
        ("destination 203.0.113.1/32;", "guard.infrastructure.flow"),
        ("destination 203.0.113.1/32; protocol =tcp; tcp-flags syn;", "guard.infrastructure.flow"),
        ("destination 203.0.113.0/26; protocol =89;", "guard.infrastructure.flow"),
        ("destination 2001:db8:f:ffff::1/128; next-header =58; icmp-type =135;", "guard.infrastructure.flow"),
        (HOST + "source 198.51.100.1/32; protocol =tcp; port =179;", "guard.infrastructure.flow"),
    ],
)
def test_these_reach_too_far(text: str, id: str) -> None:
    if "203.0.113.0/23" in text:
        text = text.replace("203.0.113.0/23", "198.51.100.0/23")
    assert say(match(text))[id].is_error


def test_rules_that_spare_the_protocols_may_reach_a_router() -> None:
    assert say(match("destination 203.0.113.1/32; protocol =udp; source-port =123; destination-port =80;")) == {}


ROUTER = "destination 203.0.113.1/32; "


@pytest.mark.parametrize(
    ("rest", "stopped"),
    [
        ("protocol =udp; source-port =53;", None),
        ("protocol =udp; source-port [ =123 =389 =1900 =11211 ];", None),
        ("protocol =udp; destination-port =161;", None),
        ("protocol =tcp; port =80;", "BGP"),
        ("protocol =tcp; destination-port =80; source-port =1024;", None),
        ("protocol =tcp; source-port =179;", "BGP"),
        ("protocol =tcp; destination-port [ <=178 >=180 ];", "BGP"),
        ("protocol =udp; destination-port =3784;", "BFD"),
        ("protocol =udp; source-port >=1024;", "BFD"),
        ("protocol =udp; source-port =3785;", "BFD"),
        ("protocol =udp; destination-port =6784;", "BFD"),
        ("protocol =udp; port =646;", "LDP hellos"),
        ("protocol =udp; source-port =520;", "RIP"),
        ("fragment first-fragment;", "BGP"),
        ("protocol =89; fragment !is-fragment;", "OSPF"),
    ],
)
def test_a_router_may_be_spared_a_reflection_and_keeps_its_neighbours(rest: str, stopped: str | None) -> None:
    found = say(match(ROUTER + rest)).get("guard.infrastructure.flow")
    assert (found is None) == (stopped is None)
    assert found is None or stopped is None or stopped in found.reason


def test_the_addresses_of_neighbours_count_as_infrastructure() -> None:
    world = replace(WORLD, neighbours=(neighbour("edge", peer="203.0.113.9"),))
    assert say("blackhole { prefix 203.0.113.9/32; }", world)["guard.infrastructure.flow"].is_error
    assert "guard.infrastructure.flow" not in say("blackhole { prefix 203.0.113.10/32; }", world)


def test_a_tenant_reaches_his_own_zone_only() -> None:
    text = match(HOST + "protocol =udp; source-port =53;")
    assert say(text, owner="tenant-a", is_operator=False) == {}
    assert "guard.ownership.tenant" in say(text, owner="tenant-b", is_operator=False)
    assert "guard.ownership.tenant" not in say(text, owner="tenant-b", is_operator=True)


def test_a_blackhole_is_for_single_addresses() -> None:
    assert say("blackhole { prefix 203.0.113.8/31; }")["guard.breadth.floor"].is_error
    assert say("blackhole { prefix 2001:db8:1::/64; }")["guard.breadth.floor"].is_error
    assert say("blackhole { prefix 2001:db8:1::7/128; }") == {}


def test_rules_by_source_alone_are_for_operators_with_a_source_of_ours() -> None:
    text = match("source 203.0.113.7/32; protocol =udp; destination-port =53;")
    assert set(say(text)) == {"guard.destination.by-source"}
    assert "guard.destination.source-only" in say(text, is_operator=False, owner="tenant-a")
    assert "guard.destination.source-only" in say(text, origin=Origin.PLAYBOOK)
    assert "guard.ownership.outside" in say(match("source 192.0.2.7/32; protocol =udp; destination-port =53;"))


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        (HOST + "protocol =icmp;", True),
        (HOST + "protocol [ =icmp =udp ];", True),
        (HOST + "protocol =icmp; icmp-type =3;", True),
        (HOST + "protocol =icmp; icmp-type =3; icmp-code =1;", False),
        (HOST + "protocol =icmp; icmp-type [ =0 =8 ];", False),
        (HOST + "protocol =icmp; icmp-type [ <=2 >=4 ];", False),
        (HOST + "protocol =icmp; fragment is-fragment;", False),
        (HOST + "protocol =udp; packet-length >=1000;", False),
        ("destination 2001:db8:1::7/128; next-header =58;", True),
        ("destination 2001:db8:1::7/128; next-header =58; icmp-type >=2;", True),
        ("destination 2001:db8:1::7/128; next-header =58; icmp-type [ =0 >=3&<=132 >=138 ];", False),
    ],
)
def test_icmp_that_hosts_need_is_an_error_for_automation_and_a_warning_for_people(text: str, stops: bool) -> None:
    id = "guard.icmp.essential"
    automatic = say(match(text), origin=Origin.SENSOR, collateral=0.0).get(id)
    manual = say(match(text)).get(id)
    assert (automatic is not None and automatic.is_error) == stops
    assert (manual is not None and manual.severity is Severity.WARNING) == stops
    assert manual is None or "icmp-type [" in manual.fix


# ---------------------------------------------------------------------------------------------- semantics, by example


@pytest.mark.parametrize(
    ("text", "id", "severity"),
    [
        (HOST + "source-port =53;", "guard.semantics.port-protocol", Severity.ERROR),
        (HOST + "protocol [ =udp =50 ]; source-port =53;", "guard.semantics.port-protocol", Severity.ERROR),
        (HOST + "protocol >=6&<=17; source-port =53;", "guard.semantics.port-protocol", Severity.ERROR),
        (HOST + "protocol =udp; port =53; source-port =53;", "guard.semantics.port-twice", Severity.ERROR),
        (HOST + "tcp-flags syn;", "guard.semantics.flags-protocol", Severity.ERROR),
        (HOST + "protocol [ =tcp =udp ]; tcp-flags syn;", "guard.semantics.flags-protocol", Severity.ERROR),
        (HOST + "icmp-type =8;", "guard.semantics.icmp-protocol", Severity.ERROR),
        (HOST + "protocol =58; icmp-type =128;", "guard.semantics.icmp-protocol", Severity.ERROR),
        (V6 + "next-header =icmp; icmp-type =8;", "guard.semantics.icmp-protocol", Severity.ERROR),
        (V6 + "next-header =icmp;", "guard.semantics.icmp-family", Severity.WARNING),
        (HOST + "protocol =udp; source-port =53; fragment is-fragment;", "guard.semantics.fragment-transport",
         Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags syn; fragment !first-fragment;", "guard.semantics.fragment-transport",
         Severity.ERROR),
        (HOST + "protocol =udp; packet-length >1000&<500;", "guard.semantics.empty", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags syn&!syn;", "guard.semantics.empty", Severity.ERROR),
        (HOST + "fragment =is-fragment+first-fragment;", "guard.semantics.empty", Severity.ERROR),
        (HOST + "protocol >=0;", "guard.semantics.universal", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags [ syn !syn ];", "guard.semantics.universal", Severity.ERROR),
        (HOST + "fragment [ is-fragment !is-fragment ];", "guard.semantics.universal", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags [ syn 0x0 ];", "guard.semantics.no-flag", Severity.ERROR),
        (HOST + "protocol =tcp; tcp-flags syn; fragment is-fragment&!last-fragment;",
         "guard.semantics.fragment-transport", Severity.ERROR),
        (HOST + "protocol =udp; packet-length =19;", "guard.length.range", Severity.ERROR),
        (V6 + "next-header =17; packet-length =39;", "guard.length.range", Severity.ERROR),
        (V6 + "next-header [ =0 =44 ];", "guard.semantics.extension-header", Severity.WARNING),
        (HOST + "protocol =udp; packet-length >9216;", "guard.length.mtu", Severity.WARNING),
        (HOST, "guard.discard.destination-only", Severity.WARNING),
    ],
)  # fmt: skip
def test_matches_that_do_not_mean_what_they_say(text: str, id: str, severity: Severity) -> None:
    assert say(match(text))[id].severity is severity


@pytest.mark.parametrize(
    "text",
    [
        HOST + "protocol =udp; source-port =53; fragment !is-fragment;",
        HOST + "protocol =udp; source-port =53; fragment dont-fragment;",
        HOST + "protocol =tcp; tcp-flags syn&!ack;",
        HOST + "protocol =udp; packet-length [ =20 >=1000&<=9216 ];",
        HOST + "fragment [ is-fragment first-fragment ];",
        V6 + "next-header =17; packet-length =40;",
        V6 + "next-header =58; icmp-type =128;",
        HOST + "protocol =udp; packet-length <=100;",
    ],
)
def test_sensible_matches_pass_without_a_word(text: str) -> None:
    assert say(match(text)) == {}


@pytest.mark.parametrize("lengths", [">=100&<=50", ">=0"])
def test_a_length_that_nothing_or_everything_has_is_not_called_short(lengths: str) -> None:
    assert "guard.length.range" not in say(match(HOST + f"protocol =udp; packet-length {lengths};"))


def test_low_rates_are_worth_a_warning_and_show_both_units() -> None:
    finding = say(match(HOST + "protocol =udp;", "rate-limit 9599"))["guard.rate.low"]
    assert finding.severity is Severity.WARNING and "76792 bit/s" in finding.value
    assert say(match(HOST + "protocol =udp;", "rate-limit 9600")) == {}


def test_everything_wrong_is_said_at_once() -> None:
    found = say(match("destination 192.0.2.0/23; icmp-type =8; tcp-flags syn; packet-length =5;"), lifetime_seconds=0)
    assert {
        "guard.breadth.floor",
        "guard.ownership.outside",
        "guard.protected.overlap",
        "guard.semantics.icmp-protocol",
        "guard.semantics.flags-protocol",
        "guard.length.range",
        "guard.lifetime.missing",
    } <= set(found)
