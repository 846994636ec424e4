"""What the guard says of lifetimes, budgets, collateral, blackholes and who can take a rule."""

from dataclasses import replace

from guarded import DNS, DNS_LIMITED, V6, WORLD, errors_of, match, neighbour, say, world_with

from rules.findings import Finding, Severity
from rules.guard import ActiveRules, Held, Limits, Origin, Request
from rules.neighbour import Role, SessionFamily
from rules.rule import parse


def test_lifetimes_are_capped_by_origin() -> None:
    assert "guard.lifetime.cap" not in say(DNS, lifetime_seconds=86_400)
    assert say(DNS, lifetime_seconds=86_401)["guard.lifetime.cap"].is_error
    assert say(DNS, lifetime_seconds=3_601, origin=Origin.SENSOR, collateral=0.0)["guard.lifetime.cap"].is_error
    for nonsense in (0, -1, float("nan"), float("inf")):
        assert say(DNS, lifetime_seconds=nonsense)["guard.lifetime.missing"].is_error


def hosts_held(count: int, origin: Origin, zone: str = "beta") -> ActiveRules:
    texts = [match(f"destination 198.51.101.{n}/32; protocol =udp;") for n in range(count)]
    return ActiveRules(Held(parse(text), "operator", origin, zone) for text in texts)


def test_budgets_are_kept_in_total_by_origin_by_zone_and_by_minute() -> None:
    new = match("destination 198.51.103.1/32; protocol =udp; source-port =53;")
    small = Limits(total_rules=3, automatic_rules=2, per_minute=10)
    full = replace(WORLD, limits=small, active=hosts_held(3, Origin.OPERATOR))
    assert say(new, full)["guard.budget.total"].is_error
    assert say(new, replace(full, active=hosts_held(2, Origin.OPERATOR)))["guard.budget.total-near"]
    automatic = replace(full, active=hosts_held(2, Origin.SENSOR))
    assert say(new, automatic, origin=Origin.PLAYBOOK, collateral=0.0)["guard.budget.automatic"].is_error
    assert "guard.budget.automatic" not in say(new, automatic)
    zone = replace(WORLD, active=hosts_held(2, Origin.SENSOR))
    assert say(new, zone, origin=Origin.PLAYBOOK, collateral=0.0)["guard.budget.zone"].is_error
    assert "guard.budget.zone" not in say(new, zone)
    assert say(new, replace(full, active=ActiveRules(), recent=10))["guard.budget.minute"].is_error
    assert say(new, replace(full, active=ActiveRules(), recent=9)) == {}


def test_replacing_a_rule_needs_no_room() -> None:
    held = hosts_held(2, Origin.SENSOR)
    world = replace(WORLD, active=held, limits=Limits(total_rules=2, automatic_rules=2))
    one = next(iter(held))
    request = Request(one.rule, "operator", Origin.SENSOR, 600, is_operator=True, collateral=0.0, replaces=one.id)
    assert not errors_of(request, world)
    assert "guard.budget.total" in errors_of(replace(request, replaces=None), world)


def test_looking_again_at_a_held_rule_is_no_announcement() -> None:
    world = replace(world_with(DNS), recent=600)
    assert say(DNS, world, replaces=parse(DNS).id) == {}
    assert say(DNS_LIMITED, world, replaces=parse(DNS).id)["guard.budget.minute"].is_error


def test_automatic_rules_are_held_to_the_collateral_of_the_zone() -> None:
    def automatic(collateral: float | None) -> dict[str, Finding]:
        return say(DNS, origin=Origin.SENSOR, collateral=collateral)

    assert automatic(0.01) == {}
    assert automatic(0.011)["guard.collateral.limit"].is_error
    assert automatic(float("nan"))["guard.collateral.limit"].is_error
    assert automatic(None)["guard.collateral.unknown"].severity is Severity.WARNING
    assert say(DNS, collateral=1.0) == {}


def test_what_a_person_decides_on_may_have_more_collateral_than_automation_may_risk() -> None:
    asked = say(DNS, origin=Origin.SENSOR, collateral=0.05, person_decides=True)
    assert asked["guard.collateral.limit"].severity is Severity.WARNING


def test_automation_blackholes_only_where_the_zone_says_so() -> None:
    allowed, closed = "blackhole { prefix 203.0.113.7/32; }", "blackhole { prefix 198.51.101.7/32; }"
    assert say(allowed, origin=Origin.PLAYBOOK) == {}
    assert say(closed, origin=Origin.PLAYBOOK)["guard.rtbh.automatic"].is_error
    assert say(closed) == {}


def test_a_rule_that_nobody_can_take_is_an_error_and_one_left_out_a_warning() -> None:
    flow4 = neighbour("flow4", families=frozenset({SessionFamily.IPV4_FLOW}))
    both = neighbour("both")
    v6 = match(V6 + "next-header =17; source-port =53;")
    assert say(v6, replace(WORLD, neighbours=(flow4,)))["guard.neighbour.none"].is_error
    found = say(v6, replace(WORLD, neighbours=(flow4, both)))
    assert found["guard.neighbour.left-out"].value == "flow4"
    assert say(v6, replace(WORLD, neighbours=(both,))) == {}


def test_an_upstream_blackhole_needs_an_upstream_that_takes_it() -> None:
    hole = "blackhole { prefix 203.0.113.7/32; scope upstream; }"
    edge, provider = neighbour("edge"), neighbour("provider", Role.UPSTREAM)
    assert say(hole, replace(WORLD, neighbours=(edge,)))["guard.rtbh.no-upstream"].is_error
    assert say(hole, replace(WORLD, neighbours=(edge, provider))) == {}
    elsewhere = "blackhole { prefix 198.51.101.7/32; scope upstream; }"
    assert "guard.rtbh.no-upstream" in say(elsewhere, replace(WORLD, neighbours=(edge, provider)))
