"""What routers can hold: the measured session killers, and that profiles only ever narrow."""

from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import flowspecs, matches, neighbours, sensible_rules

from rules import platforms
from rules.components import Bitmask, Numeric, Operator
from rules.errors import Refused
from rules.findings import Severity
from rules.guard import for_neighbour
from rules.match import Family, Match, OffsetPrefix
from rules.neighbour import Neighbour, SessionFamily
from rules.platforms import PROFILES, Profile, findings, intersect, match_findings
from rules.rule import Blackhole, FlowSpec, Rule, parse
from rules.wire import encode

HOST = "destination 203.0.113.21/32; protocol =tcp; "
V6 = "destination 2001:db8:b:1::20/128; "
names = st.lists(st.sampled_from(sorted(PROFILES)), min_size=1, max_size=3).map(tuple)


def errors_of(match: str, *profiles: str) -> set[str]:
    found = findings(parse(f"match {{ {match} }} then {{ discard; }}"), intersect(profiles))
    return {finding.id for finding in found if finding.is_error}


@pytest.mark.parametrize(
    ("match", "profile", "id"),
    [
        (HOST + "destination-port [ =1 =3 =5 =7 =9 =11 ];", "frr", "platform.values"),
        (HOST + "destination-port [ >=1&<=2 >=4&<=5 >=7&<=8 ];", "frr", "platform.values"),
        (HOST + "destination-port [ !=10&!=20&!=30 ];", "frr", "platform.values"),
        ("destination ::20/128/64;", "frr", "platform.offset"),
        ("destination ::20/128/64;", "bird", "platform.offset"),
        ("next-header =17; flow-label =5;", "bird", "platform.prefix"),
        ("destination ::20/128/64;", "gobgp", "platform.offset"),
        (V6 + "source ::1/128/120;", "frr", "platform.offset"),
        (HOST + "tcp-flags ns;", "gobgp", "platform.tcp-flags"),
    ],
)
def test_measured_session_killers_and_silent_drops_are_errors(match: str, profile: str, id: str) -> None:
    assert errors_of(match, profile) == {id}
    assert id in errors_of(match, "generic")
    assert id in errors_of(match, *sorted(PROFILES))


@pytest.mark.parametrize(
    ("match", "profile"),
    [
        (HOST + "destination-port [ =1 =3 =5 =7 =9 ];", "frr"),
        (HOST + "destination-port [ >=1&<=2 >=4&<=5 =7 ];", "frr"),
        (HOST + "destination-port !=80;", "frr"),
        (HOST + "fragment !is-fragment; tcp-flags !syn;", "frr"),
        (V6 + "fragment first-fragment;", "bird"),
        (HOST + "fragment dont-fragment;", "bird"),
        (V6 + "flow-label >100&<2000;", "generic"),
    ],
)
def test_what_was_measured_to_work_passes(match: str, profile: str) -> None:
    assert errors_of(match, profile) == set()


def ports(count: int) -> str:
    return HOST + "destination-port [ " + " ".join(f"={2 * n + 1000}" for n in range(count)) + " ];"


def test_gobgp_holds_239_bytes_of_nlri_and_not_one_more() -> None:
    # 6 bytes destination, 3 protocol, 1 type and 3 for each port.
    assert errors_of(ports(76), "gobgp") == set()
    assert errors_of(ports(77), "gobgp") == {"platform.nlri"}
    assert errors_of(ports(100), "bird") == set()
    assert errors_of(ports(1500), "bird") == {"platform.nlri"}


def test_not_equal_as_given_is_refused_where_it_resets_sessions() -> None:
    given_form = Match.parse("match { destination 203.0.113.21/32; protocol !=6; }")
    assert [finding.id for finding in match_findings(given_form, PROFILES["frr"])] == ["platform.not-equal"]
    assert match_findings(given_form.normal(), PROFILES["frr"]) == ()


@given(flowspecs())
def test_the_announced_form_never_has_not_equal(rule: FlowSpec) -> None:
    assert "platform.not-equal" not in {finding.id for finding in findings(rule, PROFILES["frr"])}


@given(flowspecs(), names)
def test_several_platforms_together_object_to_all_that_one_of_them_objects_to(
    rule: FlowSpec, chosen: tuple[str, ...]
) -> None:
    together = {finding.id for finding in findings(rule, intersect(chosen))}
    alone = {finding.id for name in chosen for finding in findings(rule, PROFILES[name])}
    assert together == alone


@given(flowspecs())
def test_what_generic_takes_every_measured_platform_takes(rule: FlowSpec) -> None:
    if any(finding.is_error for finding in findings(rule, PROFILES["generic"])):
        return
    for profile in PROFILES.values():
        assert not any(finding.is_error for finding in findings(rule, profile))


@given(flowspecs(matches()))
def test_what_a_platform_takes_is_within_its_measured_limits(rule: FlowSpec) -> None:
    for name in ("frr", "gobgp", "bird"):
        if any(finding.is_error for finding in findings(rule, PROFILES[name])):
            continue
        values = [value for _, value in rule.match.components()]
        if name == "frr":
            for value in values:
                if isinstance(value, Numeric):
                    assert sum(map(len, value.groups)) <= 5
                    assert all(one.operator is not Operator.NOT_EQUAL for one in value.comparisons())
        if name in ("frr", "gobgp"):
            assert not any(isinstance(value, OffsetPrefix) for value in values)
        if name == "gobgp":
            assert len(encode(rule.match)) <= 240
        fragment = rule.match.fragment
        if name == "bird" and rule.match.family is Family.IPV6 and isinstance(fragment, Bitmask):
            assert not fragment.mask() & 1


@given(names)
def test_intersecting_does_not_depend_on_order_or_repetition(chosen: tuple[str, ...]) -> None:
    one, two = intersect(chosen), intersect((*reversed(chosen), chosen[0]))
    for field in Profile.__dataclass_fields__:
        assert field == "name" or getattr(one, field) == getattr(two, field)


def test_no_profile_means_generic_and_unknown_ones_are_all_named() -> None:
    assert intersect(()) == PROFILES["generic"]
    with pytest.raises(Refused) as caught:
        intersect(("frr", "junk", "more"))
    assert [problem.value for problem in caught.value.problems] == ["junk", "more"]


def test_frr_ignores_rates_and_that_is_worth_a_warning() -> None:
    limited = parse(f"match {{ {HOST} }} then {{ rate-limit 100000; }}")
    found = findings(limited, PROFILES["frr"])
    assert [(finding.id, finding.severity) for finding in found] == [("platform.rate", Severity.WARNING)]
    assert findings(limited, PROFILES["bird"]) == ()


def test_a_family_a_platform_lacks_is_an_error() -> None:
    only4 = Profile("old", families=frozenset({Family.IPV4}))
    assert [f.id for f in match_findings(Match(destination=ip_network("::/64")), only4)] == ["platform.family"]


@given(neighbours(), sensible_rules(), st.integers(0, 200_000))
def test_for_neighbour_keeps_families_permitted_prefixes_and_budget(
    neighbour: Neighbour, rule: Rule, held_there: int
) -> None:
    if any(finding.is_error for finding in for_neighbour(rule, neighbour, held_there)):
        return
    assert held_there < neighbour.budget
    kind = "unicast" if isinstance(rule, Blackhole) else "flow"
    target = rule.target
    assert target is not None and not isinstance(target, OffsetPrefix)
    assert f"ipv{target.version} {kind}" in {family.value for family in neighbour.families}
    if neighbour.permitted:
        assert any(
            own.version == target.version and int(own[0]) <= int(target[0]) and int(target[-1]) <= int(own[-1])
            for own in neighbour.permitted
        )


def _edge() -> Neighbour:
    here, there = IPv4Address("192.0.2.2"), IPv4Address("192.0.2.1")
    return Neighbour("edge", there, here, 65001, 65001, here, frozenset({SessionFamily.IPV4_FLOW}))


@pytest.mark.parametrize(
    ("held", "ids"),
    [
        (0, set()),
        (79, set()),
        (80, {"guard.neighbour.budget-near"}),
        (99, {"guard.neighbour.budget-near"}),
        (100, {"guard.neighbour.budget"}),
    ],
)
def test_the_budget_of_a_neighbour_warns_before_it_refuses(held: int, ids: set[str]) -> None:
    rule = parse(f"match {{ {HOST} }} then {{ discard; }}")
    assert {finding.id for finding in for_neighbour(rule, _edge(), held)} == ids


def test_every_profile_is_known_by_its_own_name() -> None:
    assert all(profile.name == name for name, profile in PROFILES.items())
    assert {"generic", "frr", "bird", "gobgp"} <= set(platforms.PROFILES)
