"""Answers are no attack on who asked, never more of them than questions; visitors become too many at some point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segments import SECOND, SERVER, segments

from sensors.answers import solicited
from sensors.headers import HAS_ICMP, HAS_PORTS, HEADER, MAPPED, Kind
from sensors.judge import belonging, judge
from sensors.tables import ANY

VICTIMS, ATTACKER = 0xC6336400, 0xCB007109


def packets(kind: Kind, count: int, source: ANY | int, destination: ANY | int, icmp_type: int = 0) -> ANY:
    """So many in a second."""
    protocols = {Kind.UDP: 17, Kind.ICMP: 1}
    out = np.zeros(count, HEADER)
    out["time"] = np.linspace(0, SECOND, count, endpoint=False).astype(np.int64)
    out["source_low"], out["destination_low"] = MAPPED | source, MAPPED | destination
    out["kind"], out["protocol"], out["weight"], out["length"] = kind, protocols.get(kind, 6), 1, 60
    out["marks"] = HAS_ICMP if kind is Kind.ICMP else HAS_PORTS
    out["icmp_type"], out["source_port"], out["destination_port"] = icmp_type, np.arange(count) % 50_000 + 1_000, 7
    return out


@settings(max_examples=40)
@given(sent=st.integers(0, 20_000), errors=st.integers(1, 20_000), peers=st.integers(1, 60))
def test_refusals_are_answers_up_to_as_many_as_were_provoked(sent: int, errors: int, peers: int) -> None:
    flood = packets(Kind.UDP, sent, ATTACKER, VICTIMS + np.arange(sent) % peers)
    refusals = packets(Kind.ICMP, errors, VICTIMS + np.arange(errors) % peers, ATTACKER, 3)
    meant = solicited(refusals, flood, 1.0)
    if errors <= sent - peers:
        assert meant.all()
        assert not judge(refusals, flood, 1.0).guilty
    elif errors > 1.2 * sent + 11 * peers:
        assert not meant.any()


def test_routers_on_the_way_answer_who_reaches_nobody_and_not_who_is_in_conversation() -> None:
    errors = packets(Kind.ICMP, 8_000, 0x0A000000 + np.arange(8_000) % 900, ATTACKER, 11)
    sent = packets(Kind.UDP, 20_000, ATTACKER, VICTIMS + np.arange(20_000) % 50)
    assert solicited(errors, sent, 1.0).all()
    talk = packets(Kind.UDP, 20_000, VICTIMS + np.arange(20_000) % 50, ATTACKER)
    both = np.concatenate([errors, talk])
    assert not solicited(both, sent, 1.0)[: len(errors)].any()
    assert judge(both, sent, 1.0).attack[: len(errors)].all()


@pytest.mark.parametrize("reflex", [Kind.SYN_ACK, Kind.RST])
def test_what_stacks_send_to_anybody_makes_no_conversation_of_a_flood(reflex: Kind) -> None:
    bots = 0x08000000 + np.arange(12_000) % 40
    flood = packets(Kind.ACK, 12_000, bots, SERVER)
    answers = packets(reflex, 12_000, SERVER, bots)
    assert judge(flood, answers, 1.0).attack.all()
    assert not judge(flood, packets(Kind.ACK, 6_000, SERVER, bots[:6_000]), 1.0).guilty


def visitors(count: int, bots: int) -> ANY:
    """Connections that are made, and say nothing."""
    ids = np.arange(count)
    return np.concatenate(
        [segments(ids, kind, at, bots=bots) for kind, at in ((Kind.SYN, 0), (Kind.ACK, 0.4), (Kind.FIN, 0.9))]
    )


def test_visitors_are_an_attack_from_the_limits_of_zones_on_and_a_load_test_is_none() -> None:
    crowd, rush, test = visitors(9_000, 900), visitors(11_000, 900), visitors(11_000, 4)
    nothing = crowd[:0]
    assert not judge(crowd, nothing, 1.0).guilty
    assert not judge(test, nothing, 1.0).guilty
    found = judge(rush, nothing, 1.0)
    assert found.sessions.all()
    assert not belonging(rush, nothing, {Kind.UDP}).any()
    assert belonging(rush, nothing, {Kind.UDP}, sessions=True).all()
