"""Rules reach real routers and leave them."""

import pytest
from speaker_lab import blackhole, flowspec, speaker_lab

from lab.namespaces import wait_until
from rules.action import Discard, RateLimit
from rules.text import parse_flowspec

pytestmark = pytest.mark.peer

IPV6 = parse_flowspec(
    "match { destination 2001:db8::7/128; next-header =udp; source-port =123; } then { rate-limit 125000; }"
)


def test_rules_reach_bird_and_frr_with_one_command_and_leave_them_again() -> None:
    with speaker_lab("bird", "frr") as lab:
        lab.wait_up()
        lab.want(flowspec(1), IPV6, blackhole(1))
        for name, router in lab.routers.items():
            lab.wait_active(3, name)
            wait_until(lambda router=router: len(router.flowspec()) == 2, "FlowSpec does not arrive")  # type: ignore[misc]
            wait_until(lambda router=router: blackhole(1).prefix in router.blackholes(), "RTBH does not arrive")  # type: ignore[misc]
            assert {held.action for held in router.flowspec()} == {Discard(), RateLimit(125000)}
        assert {held.match for held in lab.routers["bird0"].flowspec()} == {flowspec(1).match, IPV6.match}
        lab.withdraw(flowspec(1), IPV6, blackhole(1))
        for name, router in lab.routers.items():
            lab.wait_active(0, name)
            wait_until(lambda router=router: not router.flowspec() and not router.blackholes(), "rules stay")  # type: ignore[misc]
