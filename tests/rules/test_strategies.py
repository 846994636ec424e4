"""The shared strategies give what they promise."""

from hypothesis import given
from strategies import OWN, detections, neighbours, networks, rules, sensible_rules, zones

from rules.match import Match, Network
from rules.neighbour import Neighbour
from rules.rule import FlowSpec, Rule
from rules.traffic import Detection
from rules.zone import Zone


@given(rules(), zones(), neighbours(), detections(), networks(shortest=9, longest=20))
def test_every_strategy_builds_valid_values(
    rule: Rule, zone: Zone, neighbour: Neighbour, detection: Detection, network: Network
) -> None:
    assert str(rule) and zone.prefixes and neighbour.families and detection.vectors
    assert 9 <= network.prefixlen <= 20


@given(sensible_rules())
def test_sensible_rules_have_a_target_inside_our_prefixes(rule: Rule) -> None:
    target = rule.target
    assert isinstance(target, Network)
    assert Zone("own", OWN).holds(target)
    assert not isinstance(rule, FlowSpec) or isinstance(rule.match, Match)
