"""What the guard says of a rule beside those that stand."""

from dataclasses import replace

import pytest
from guarded import DNS, DNS_LIMITED, HOST, WORLD, match, say, world_with

from rules.findings import Severity
from rules.guard import ActiveRules, Held, Origin
from rules.rule import parse


def test_nobody_overwrites_the_rule_of_another_owner() -> None:
    world, id = world_with(DNS, owner="tenant-a"), parse(DNS).id
    assert say(DNS, world)["guard.interaction.foreign"].is_error
    assert say(DNS_LIMITED, world)["guard.interaction.foreign"].is_error
    replaced = say(DNS_LIMITED, world, replaces=id)
    assert set(replaced) == {"guard.interaction.replaces"}
    tenant = say(DNS_LIMITED, world, replaces=id, owner="tenant-b", is_operator=False)
    assert tenant["guard.interaction.foreign"].is_error


def test_the_same_match_is_replaced_openly_or_not_at_all() -> None:
    world, id = world_with(DNS), parse(DNS).id
    assert say(DNS, world)["guard.interaction.duplicate"].is_error
    assert say(DNS_LIMITED, world)["guard.interaction.action"].is_error
    assert say(DNS_LIMITED, world, replaces=id)["guard.interaction.replaces"].severity is Severity.NOTE
    assert say(DNS, world, replaces=id) == {}, "a held rule can be checked again"


@pytest.mark.parametrize(
    ("held", "ours", "id", "severity"),
    [
        (match(HOST + "protocol =udp;"), match(HOST + "packet-length =60; protocol =udp;"), "redundant", None),
        (match(HOST + "protocol =udp; dscp =1;"), match(HOST + "protocol =udp;", "rate-limit 100000"), "excepted",
         Severity.WARNING),
        (match(HOST + "protocol =udp;"), match(HOST + "protocol =udp; dscp =1;", "rate-limit 100000"), "exception",
         Severity.WARNING),
        (match(HOST + "protocol =udp;"), match(HOST + "protocol =udp; dscp =1;"), "subsumed", Severity.NOTE),
        (match(HOST + "protocol =udp; dscp =1;"), match(HOST + "protocol =udp;"), "subsumes", Severity.NOTE),
        (match(HOST + "protocol [ =tcp =udp ]; port =53;"),
         match(HOST + "protocol =udp; port =53;", "rate-limit 100000"), "shadowed", Severity.WARNING),
        (match(HOST + "protocol [ =tcp =udp ]; port =53;"), match(HOST + "protocol =udp; port =53;"), "redundant",
         Severity.NOTE),
        (match(HOST + "protocol =udp; port =53;"),
         match(HOST + "protocol [ =tcp =udp ]; port =53;", "rate-limit 100000"), "shadows", Severity.WARNING),
        (match(HOST + "protocol =udp; port =53;"), match(HOST + "protocol [ =tcp =udp ]; port =53;"), "shadows-same",
         Severity.NOTE),
        (match(HOST + "protocol =udp; source-port =53;"),
         match(HOST + "protocol =udp; destination-port =80;", "rate-limit 100000"), "overlaps", Severity.WARNING),
    ],
)  # fmt: skip
def test_rules_in_each_others_way_are_named(held: str, ours: str, id: str, severity: Severity | None) -> None:
    found = say(ours, world_with(held))
    if severity is None:  # RFC 8955 §5.1 puts the longer list of components first
        assert set(found) == {"guard.interaction.subsumed"}
        return
    assert set(found) == {f"guard.interaction.{id}"}
    finding = found[f"guard.interaction.{id}"]
    assert finding.severity is severity and parse(held).id in finding.reason


def test_rules_that_share_packets_and_do_the_same_are_left_alone() -> None:
    assert say(match(HOST + "protocol =udp; destination-port =80;"), world_with(DNS)) == {}
    assert say(match("destination 203.0.113.8/32; protocol =udp; source-port =53;"), world_with(DNS)) == {}


def test_many_rules_in_the_way_become_one_finding() -> None:
    held = [match(HOST + f"protocol =udp; source-port ={port}; dscp =1;") for port in range(1, 21)]
    found = say(match(HOST + "protocol =udp;", "rate-limit 100000"), world_with(*held))
    assert set(found) == {"guard.interaction.excepted"}
    assert "and 17 more" in found["guard.interaction.excepted"].reason


def test_flowspec_and_blackholes_that_meet_are_pointed_out() -> None:
    hole, wide = "blackhole { prefix 203.0.113.7/32; }", match("destination 203.0.113.0/27; protocol =50; dscp =1;")
    assert set(say(DNS, world_with(hole))) == {"guard.interaction.blackhole"}
    assert set(say(wide, world_with(hole))) == {"guard.interaction.blackhole-inside"}
    assert set(say(hole, world_with(DNS))) == {"guard.interaction.blackhole"}
    assert set(say(hole, world_with(wide))) == {"guard.interaction.blackhole-inside"}
    assert say(hole, world_with("blackhole { prefix 203.0.113.8/32; }")) == {}


def test_a_new_rule_is_compared_with_its_neighbourhood_and_not_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    from rules import guard_interaction, relations

    texts = [match(f"destination 198.51.{100 + n // 250}.{n % 250}/32; protocol =udp;") for n in range(1000)]
    ports = [
        text.replace("=udp;", f"=udp; source-port ={port};") for text in texts for port in (53, 123, 161, 389, 1900)
    ]
    active = ActiveRules(Held(parse(text), "operator", Origin.OPERATOR) for text in ports)
    assert len(active) == 5000
    calls, compare = [0], relations.compare

    def counted(*arguments: object) -> object:
        calls[0] += 1
        return compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(guard_interaction, "compare", counted)
    say(match("destination 198.51.102.7/32; protocol =udp; source-port =111;"), replace(WORLD, active=active))
    assert 0 < calls[0] <= 10
