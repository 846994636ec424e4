"""A carpet over the whole chain: hosts of one prefix, each above its own limit, are one incident and one rule in real
routers, and their packets are dropped."""

from ipaddress import ip_network

import needs
import pytest

from lab.appliance import appliance, compile_kernel
from lab.namespaces import wait_until
from lab.sender import Stream
from lab.topology import PROTECTED, lab
from rules.rule import FlowSpec
from store.store import Store

pytestmark = pytest.mark.peer

LIMITS = ("packets=3000", "udp_packets=1000", "amplification_packets=500")
HOSTS, RATE, SECONDS = 48, 700, 6.0
"""Each gets 1.4 times its limit."""


def test_hosts_of_one_prefix_that_are_attacked_together_get_one_rule() -> None:
    needs.root_and("ip", "tc", "nft", "bird", "gobgpd", "gobgp")
    compile_kernel()
    base = int(PROTECTED[0].network_address)
    with lab() as up, appliance(up, LIMITS) as stopbank:
        receiver = up.receiver()
        carpet = [
            Stream("udp_amp:ntp", ip_network((base + number, 32)), RATE, SECONDS, 2.0, seed=number)
            for number in range(1, HOSTS + 1)
        ]
        process = up.attack([Stream("benign", PROTECTED[0], 1_000, 2.0 + SECONDS, seed=7), *carpet])
        wait_until(lambda: any(up.bird.flowspec()), "BIRD has a rule", 20)
        up.sent(process)
        held = [one.match for router in (up.bird, up.gobgp) for one in router.flowspec()]
        counts = receiver.stop()
        with Store.open(stopbank.database_url) as store:
            targets = [ip_network(one.target) for one in store.incidents()]
            matches = {one.rule.match for one in store.rules(limit=1_000) if isinstance(one.rule, FlowSpec)}
    [target] = targets
    assert len(matches) <= 3 and set(held) == matches
    assert {match.destination for match in matches} == {target} and target.prefixlen < 32
    assert 0 < counts.attack.packets < 0.3 * HOSTS * RATE * SECONDS
