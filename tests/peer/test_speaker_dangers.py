"""What must not take a session, a router or the speaker down: poison rules, floods, and neighbours that announce."""

from dataclasses import replace

import pytest
from speaker_lab import SpeakerLab, flowspec, neighbour, speaker_lab

from lab.namespaces import wait_until
from rules.neighbour import SessionFamily
from rules.text import parse_flowspec

pytestmark = pytest.mark.peer

POISON = parse_flowspec(
    "match { destination 10.9.9.9/32; protocol =udp; source-port [ =1 =3 =5 =7 =9 =11 =13 =15 ]; } then { discard; }"
)
"""FRR resets the session on six or more values in a component."""


def matches_at(lab: SpeakerLab, name: str) -> int:
    return len(lab.routers[name].flowspec())


def test_a_rule_beyond_a_platforms_profile_goes_to_the_others_only() -> None:
    with speaker_lab("bird", "frr") as lab:
        lab.wait_up()
        lab.want(POISON)
        lab.wait_active(1, "bird0")
        wait_until(lambda: matches_at(lab, "bird0") == 1, "BIRD does not get it")
        assert lab.neighbour("frr1")["rules"] == {"unfit": 1}
        assert lab.neighbour("frr1")["flaps"] == 0
        assert matches_at(lab, "frr1") == 0
        wait_until(
            lambda: (
                {one.neighbour: one.phase.value for one in lab.store.announcements(POISON.id)}
                == {"bird0": "active", "frr1": "unfit"}
            ),
            "the status is not written",
        )


def test_a_poison_rule_is_found_by_bisection_and_kept_from_that_neighbour_alone() -> None:
    # The wrong profile: nobody knows yet that this router is an FRR.
    neighbours = (neighbour("bird", 0), replace(neighbour("frr", 1), profiles=("bird",)))
    with speaker_lab("bird", "frr", neighbours=neighbours) as lab:
        lab.wait_up()
        good = [flowspec(number) for number in range(10)]
        lab.want(*good[:5], wake=False)
        lab.want(POISON, wake=False)
        lab.want(*good[5:])
        wait_until(
            lambda: lab.neighbour("frr1").get("quarantined") == [POISON.id], f"not found: {lab.neighbour('frr1')}", 90
        )
        wait_until(lambda: matches_at(lab, "frr1") == 10, f"good rules stay out: {lab.neighbour('frr1')}", 90)
        assert lab.neighbour("frr1")["rules"] == {"active": 10, "unfit": 1}
        wait_until(lambda: matches_at(lab, "bird0") == 11, "BIRD lost something")
        assert lab.neighbour("bird0")["flaps"] == 0
        lab.stop()
        lab.start()
        lab.wait_up()
        wait_until(lambda: matches_at(lab, "frr1") == 10, "a successor does not get it right")
        assert lab.neighbour("frr1")["quarantined"] == [POISON.id]
        assert lab.neighbour("frr1")["flaps"] == 0, "a successor tried the poison again"


def test_a_neighbour_that_announces_raises_an_alarm_and_changes_nothing() -> None:
    neighbours = (replace(neighbour("gobgp", 0), peer_as=64501),)
    with speaker_lab("gobgp", neighbours=neighbours) as lab:
        lab.wait_up()
        lab.want(flowspec(1))
        lab.wait_active(1, "gobgp0")
        lab.routers["gobgp0"].namespace.run("gobgp", "global", "rib", "add", "198.51.100.0/24", "-a", "ipv4")
        wait_until(lambda: lab.neighbour("gobgp0").get("inbound_updates", 0) >= 1, f"no alarm: {lab.log[-2000:]}")
        assert lab.neighbour("gobgp0")["rules"] == {"active": 1}
        assert SessionFamily.IPV4_UNICAST.value in lab.neighbour("gobgp0")["families"]
