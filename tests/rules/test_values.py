"""Zones, neighbours, detections, refusals: what may be built, and that every problem is named."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from strategies import detections, neighbours, networks, zones

from rules.errors import Problem, Refused
from rules.findings import Objected, error, note, warning
from rules.match import Network
from rules.neighbour import Neighbour, Role, SessionFamily
from rules.traffic import Detection, Rate, Signature, Vector, VectorShare
from rules.zone import Metric, Zone


def fields(caught: "pytest.ExceptionInfo[Refused]") -> set[str]:
    return {problem.field for problem in caught.value.problems}


# -------------------------------------------------------------------------------------------------------------- zones


@given(zones(), networks())
def test_a_zone_holds_a_prefix_when_it_holds_its_first_and_last_address(zone: Zone, prefix: Network) -> None:
    inside = any(
        own.version == prefix.version and int(own[0]) <= int(prefix[0]) and int(prefix[-1]) <= int(own[-1])
        for own in zone.prefixes
    )
    assert zone.holds(prefix) == inside
    assert all(map(zone.holds, zone.prefixes))


def test_every_problem_of_a_zone_is_named() -> None:
    with pytest.raises(Refused) as caught:
        Zone(
            "Bad Name",
            (ip_network("0.0.0.0/0"),),
            limits=((Metric.BITS, 0), (Metric.BITS, 5)),
            rule_lifetime_seconds=5,
            collateral_limit=1.5,
            automatic_rules=-1,
            blackhole=True,
        )
    assert fields(caught) == {
        "name", "prefixes", "limits", "limits.bits", "rule_lifetime_seconds", "collateral_limit", "automatic_rules",
        "blackhole_bits_per_second",
    }  # fmt: skip


@pytest.mark.parametrize("threshold", [-5, 0, 10**15 + 1])
def test_what_counts_as_saturation_is_a_rate_that_can_be(threshold: int) -> None:
    with pytest.raises(Refused) as caught:
        Zone("zone", (ip_network("203.0.113.0/24"),), blackhole=True, blackhole_bits_per_second=threshold)
    assert fields(caught) == {"blackhole_bits_per_second"}


@pytest.mark.parametrize("owner", ["", "two\nlines", "x" * 257])
def test_a_zone_has_an_owner_that_can_be_written_down(owner: str) -> None:
    with pytest.raises(Refused) as caught:
        Zone("zone", (ip_network("203.0.113.0/24"),), owner=owner)
    assert fields(caught) == {"owner"}


def test_a_zone_needs_a_prefix() -> None:
    with pytest.raises(Refused, match="at least one"):
        Zone("zone", ())


# --------------------------------------------------------------------------------------------------------- neighbours


def edge(**changes: object) -> Neighbour:
    base = Neighbour(
        "edge", IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), 65001, 65001, IPv4Address("192.0.2.2"),
        frozenset({SessionFamily.IPV4_FLOW}),
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


@given(neighbours())
def test_a_neighbour_does_not_show_its_password(neighbour: Neighbour) -> None:
    shown = repr(replace(neighbour, md5_password="hush-hush-hush"))
    assert "hush" not in shown
    assert neighbour.is_internal == (neighbour.peer_as == neighbour.local_as)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"peer_address": IPv6Address("::1")}, "peer_address"),
        ({"peer_address": ip_address("192.0.2.2")}, "peer_address"),
        ({"next_hop_ipv6": IPv6Address("fe80::1%a\n}")}, "next_hop_ipv6"),
        ({"families": frozenset()}, "families"),
        ({"families": frozenset({SessionFamily.IPV4_UNICAST})}, "next_hop_ipv4"),
        ({"families": frozenset({SessionFamily.IPV6_UNICAST})}, "next_hop_ipv6"),
        ({"role": Role.UPSTREAM}, "permitted"),
        ({"peer_as": 0}, "peer_as"),
        ({"local_as": 2**32 - 1}, "local_as"),
        ({"budget": 0}, "budget"),
        ({"port": 0}, "port"),
        ({"hold_time_seconds": 2}, "hold_time_seconds"),
        ({"multihop_ttl": 1}, "multihop_ttl"),
        ({"gtsm_hops": 1, "multihop_ttl": 2}, "gtsm_hops"),
        ({"graceful_restart_seconds": 121}, "graceful_restart_seconds"),
        ({"blackhole_communities": ((65536, 1),)}, "blackhole_communities"),
        ({"md5_password": 'quote"'}, "md5_password"),
        ({"md5_password": "a b"}, "md5_password"),
        ({"md5_password": ""}, "md5_password"),
        ({"md5_password": "x" * 81}, "md5_password"),
        ({"md5_password": "brace}"}, "md5_password"),
    ],
)
def test_what_is_wrong_with_a_neighbour_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(Refused) as caught:
        edge(**changes)
    assert fields(caught) == {field}
    if password := changes.get("md5_password"):
        assert str(password) not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------ traffic


@given(detections())
def test_the_vector_of_a_detection_is_its_first_and_reads_as_written(detection: Detection) -> None:
    assert detection.vector == detection.vectors[0].vector
    assert Vector.parse(str(detection.vector)) == detection.vector


@pytest.mark.parametrize(
    "given_text", ["", "nonsense", "udp_amp", "udp_amp:", "udp_amp:DNS", "syn_flood:dns", "udp_amp:a:b"]
)
def test_vectors_outside_the_taxonomy_are_refused(given_text: str) -> None:
    with pytest.raises(Refused):
        Vector.parse(given_text)


@pytest.mark.parametrize("bad", [-1.0, 1.1, float("nan")])
def test_shares_lie_between_0_and_1(bad: float) -> None:
    with pytest.raises(Refused):
        VectorShare(Vector("syn_flood"), bad, 0)
    with pytest.raises(Refused):
        VectorShare(Vector("syn_flood"), 0, bad)


@pytest.mark.parametrize("bad", [(-1.0, 0.0), (0.0, float("inf")), (float("nan"), 0.0), (1e12, 0.0)])
def test_rates_are_finite_and_not_negative(bad: tuple[float, float]) -> None:
    with pytest.raises(Refused):
        Rate(*bad)


@given(detections())
def test_a_detection_refuses_naive_times_no_vectors_strange_ids_and_too_many_signatures(detection: Detection) -> None:
    for changes in (
        {"seen": datetime(2026, 1, 1)},
        {"first_seen": datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)},
        {"vectors": ()},
        {"attack": "with space"},
        {"attack": ""},
        {"confidence": 1.01},
        {"signatures": detection.signatures * 5} if detection.signatures else {"attack": "x" * 65},
    ):
        with pytest.raises(Refused) as caught:
            replace(detection, **changes)
        assert fields(caught) == set(changes)


def test_a_signature_without_a_normal_sample_has_no_collateral() -> None:
    from rules.match import Match

    match = Match(destination=IPv4Network("203.0.113.7/32"))
    assert Signature(match, 1.0, None).collateral is None
    with pytest.raises(Refused):
        Signature(match, 1.0, 1.01)


def test_a_signature_that_does_not_separate_carries_a_limit() -> None:
    from rules.match import Match

    match = Match(destination=IPv4Network("203.0.113.7/32"))
    assert Signature(match, 1.0, 0.0).separates
    assert not Signature(match, 1.0, 0.4, 10_000).separates
    with pytest.raises(Refused) as caught:
        Signature(match, 1.0, 0.4, 0)
    assert fields(caught) == {"rate_limit"}


# ------------------------------------------------------------------------------------------------ refusals, objections


def test_a_refusal_has_one_line_for_each_problem_and_tames_what_it_quotes() -> None:
    problems = (Problem("port", "7\n0", "is odd"), Problem("name", "x" * 500, "is long"))
    refusal = Refused.all(problems)
    lines = str(refusal).split("\n")
    assert refusal.problems == problems and len(lines) == 2
    assert all(len(line) < 150 for line in lines)


def test_a_refusal_without_a_problem_and_an_objection_without_an_error_cannot_be() -> None:
    with pytest.raises(AssertionError):
        Refused.all(())
    with pytest.raises(AssertionError):
        Objected((warning("a.b", "x", 1, "odd"), note("a.c", "y", 2, "well")))


def test_an_objection_has_one_line_for_each_finding() -> None:
    objected = Objected((error("a.b", "x", 1, "is bad", "make it good"), note("a.c", "y", "", "is so")))
    assert str(objected).split("\n") == ["error [a.b] x 1: is bad; make it good", "note [a.c] y: is so"]
