import json
import os
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, ip_network
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import Packet, packets, selects
from strategies import flowspecs, matches, networks

from lab.namespaces import CommandFailed, Namespace, namespace
from rules.action import Discard, RateLimit
from rules.components import Numeric
from rules.match import Family, Match, Network
from rules.nft import DEEPEST, Table, Tally, build, read_tallies, removal, transaction
from rules.nft_match import alternatives
from rules.nft_rule import FASTEST, compile_rule
from rules.rule import FlowSpec, parse
from rules.segments import nest

GOLDEN = Path(__file__).parents[1] / "golden" / "nft"

LISTED = ("nft", "-j", "list", "table", "inet", "stopbank")


def table(*rules: FlowSpec | str) -> Table:
    return build(compile_rule(_flowspec(rule)) for rule in rules)


def _flowspec(given: FlowSpec | str) -> FlowSpec:
    rule = parse(given) if isinstance(given, str) else given
    assert isinstance(rule, FlowSpec)
    return rule


def targets(chains: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """Where each chain goes on to."""
    found: dict[str, set[str]] = {}
    for name, rules in chains.items():
        found[name] = {target for rule in rules for target in _targets(json.loads(rule))}
    return found


def _targets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("target"), str):
            yield node["target"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


# --------------------------------------------------------------------------------------------------------- segments


@given(st.lists(networks(Family.IPV4), max_size=12), st.lists(st.integers(0, 2**32 - 1), max_size=8))
def test_a_segment_names_the_longest_prefix_around_an_address(prefixes: list[Network], addresses: list[int]) -> None:
    nesting = nest(prefixes)
    edges = [int(p.network_address) for p in prefixes] + [int(p.broadcast_address) for p in prefixes]
    for number in {*addresses, *edges, *(edge + 1 for edge in edges), *(edge - 1 for edge in edges)}:
        if not 0 <= number < 2**32:
            continue
        around = [p for p in prefixes if isinstance(p, IPv4Network) and IPv4Address(number) in p]
        expected = max(around, key=lambda p: p.prefixlen, default=None)
        found = [one.prefix for one in nesting.segments if one.first <= number <= one.last]
        assert found == ([expected] if expected else [])


@given(st.lists(networks(), max_size=12))
def test_segments_ascend_without_overlap(prefixes: list[Network]) -> None:
    for family in Family:
        segments = nest(p for p in prefixes if Family.of(p) is family).segments
        assert all(one.first <= one.last for one in segments)
        assert all(one.last < other.first for one, other in pairwise(segments))


# ------------------------------------------------------------------------------------------------------------ table


@given(st.lists(flowspecs(), max_size=8))
def test_chains_exist_are_used_and_do_not_go_too_deep(rules: list[FlowSpec]) -> None:
    wanted = table(*rules)
    onward = targets(wanted.chains)
    used = set().union(*onward.values())
    assert used <= set(wanted.chains)
    assert _depth("arrivals", onward) <= DEEPEST + 4
    limited = {name for name in wanted.chains if name.startswith("rate_")}
    assert set(wanted.chains) - used - limited == {"arrivals"}


def _depth(name: str, onward: dict[str, set[str]]) -> int:
    return 1 + max((_depth(one, onward) for one in onward[name]), default=0)


def test_thirty_nested_prefixes_stay_within_the_kernels_depth() -> None:
    nested = [ip_network((int(IPv4Address("203.0.113.7")) >> (32 - n) << (32 - n), n)) for n in range(1, 33)]
    wanted = table(*(FlowSpec(Match(destination=one), Discard()) for one in nested))
    assert _depth("arrivals", targets(wanted.chains)) <= 12
    innermost = wanted.chains["to_203.0.113.7/32"]
    assert len(innermost) == 32 - DEEPEST + 1


@given(st.lists(flowspecs(), max_size=6))
def test_a_table_that_stays_needs_no_commands(rules: list[FlowSpec]) -> None:
    wanted = table(*rules)
    assert json.loads(transaction(wanted, wanted)) == {"nftables": []}
    assert table(*reversed(rules)) == wanted


@given(flowspecs())
def test_one_rule_more_leaves_the_chains_of_other_targets_alone(rule: FlowSpec) -> None:
    others = [f"match {{ destination 192.0.2.{n}/32; protocol =udp; }} then {{ discard; }}" for n in range(3)]
    commands = json.loads(transaction(table(*others, rule), table(*others)))["nftables"]
    touched = {one["flush"]["chain"]["name"] for one in commands if "flush" in one}
    bystanders = {f"to_192.0.2.{n}/32" for n in range(3)}
    if rule.target is not None and str(rule.target) not in {f"192.0.2.{n}/32" for n in range(3)}:
        same_nest = isinstance(rule.target, IPv4Network) and rule.target.overlaps(IPv4Network("192.0.2.0/30"))
        assert same_nest or not touched & bystanders


@given(matches().flatmap(lambda match: st.tuples(st.just(match), packets(match))))
def test_a_match_that_holds_a_packet_is_never_left_out(pair: tuple[Match, Packet]) -> None:
    match, packet = pair
    if selects(match, packet):
        assert alternatives(match.normal(), with_destination=True)


def test_the_strictest_of_two_rules_for_one_match_counts() -> None:
    text = "match { destination 203.0.113.7/32; } then { %s; }"
    slow, slower, none = (text % action for action in ("rate-limit 20000", "rate-limit 10000", "discard"))
    assert table(slow, slower) == table(slower)
    assert table(slower, none, slow) == table(none)


def test_a_rate_the_kernel_cannot_count_is_cut() -> None:
    fast = FlowSpec(Match(destination=IPv4Network("203.0.113.7/32")), RateLimit(10**12))
    assert list(table(fast).limits.values()) == [FASTEST]


def test_tallies_tell_matched_from_dropped() -> None:
    def entry(name: str, packets: int, size: int) -> dict[str, object]:
        return {"counter": {"family": "inet", "name": name, "table": "stopbank", "packets": packets, "bytes": size}}

    listing = {"nftables": [{"metainfo": {}}, entry("met_aa", 5, 500), entry("met_bb", 9, 90), entry("over_bb", 2, 20)]}
    assert read_tallies(json.dumps(listing)) == {"aa": Tally(5, 500, 5, 500), "bb": Tally(9, 90, 2, 20)}


def test_the_golden_transactions_stand() -> None:
    """tests/golden/nft/NAME.in has a rule a line, NAME.ok the transaction that loads them."""
    cases = sorted(GOLDEN.glob("*.in"))
    assert cases
    for case in cases:
        written = transaction(table(*case.read_text().splitlines())) + "\n"
        expected = case.with_suffix(".ok")
        if os.environ.get("STOPBANK_GOLDEN") == "write":
            expected.write_text(written)
        assert written == expected.read_text(), case.name


# ------------------------------------------------------------------------------------------------------- the kernel


@pytest.fixture(scope="module")
def inside() -> Iterator[Namespace]:
    with namespace("nft") as made:
        yield made


def load(inside: Namespace, document: str) -> None:
    try:
        inside.run("nft", "-j", "-f", "-", given=document)
    except CommandFailed as failed:
        raise AssertionError(f"nft refuses: {failed}\n{document}") from failed


def listing(inside: Namespace) -> dict[str, list[object]]:
    """What stands in the table, without handles, counts, and the order in which the kernel lists objects and chains."""
    found: dict[str, list[object]] = {}
    for entry in json.loads(inside.run(*LISTED))["nftables"]:
        ((kind, value),) = entry.items()
        if kind == "metainfo":
            continue
        value.pop("handle", None)
        for volatile in ("packets", "bytes"):
            value.pop(volatile, None)
        key = f"{kind} {value.get('chain', '')}{value.get('name', '')}"
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.peer
@given(rules=st.lists(flowspecs(), min_size=1, max_size=6))
def test_nft_takes_whatever_rules_there_are(inside: Namespace, rules: list[FlowSpec]) -> None:
    document = transaction(table(*rules))
    try:
        inside.run("nft", "-j", "-c", "-f", "-", given=document)
    except CommandFailed as failed:
        raise AssertionError(f"nft refuses {[str(rule) for rule in rules]}: {failed}\n{document}") from failed


@pytest.mark.peer
@given(steps=st.lists(st.lists(flowspecs(), max_size=5), min_size=2, max_size=4))
def test_changes_lead_to_the_same_table_as_a_fresh_start(inside: Namespace, steps: list[list[FlowSpec]]) -> None:
    present: Table | None = None
    for rules in _growing(steps):
        wanted = table(*rules)
        load(inside, transaction(wanted, present))
        present = wanted
    changed = listing(inside)
    assert present is not None
    load(inside, transaction(present))
    assert changed == listing(inside)
    load(inside, removal())


def _growing(steps: Iterable[list[FlowSpec]]) -> Iterator[list[FlowSpec]]:
    """Each step keeps half of the one before, so that rules stay, come and go."""
    kept: list[FlowSpec] = []
    for step in steps:
        kept = kept[::2] + step
        yield kept


@pytest.mark.peer
def test_removal_leaves_nothing_and_does_not_mind_nothing(inside: Namespace) -> None:
    load(inside, transaction(table("match { destination 203.0.113.7/32; } then { rate-limit 1000; }")))
    load(inside, removal())
    load(inside, removal())
    assert "stopbank" not in inside.run("nft", "list", "tables")


@pytest.mark.peer
def test_counters_outlive_changes_of_other_rules(inside: Namespace) -> None:
    one = compile_rule(FlowSpec(Match(destination=IPv4Network("203.0.113.7/32")), Discard()))
    two = compile_rule(FlowSpec(Match(destination=IPv4Network("203.0.113.0/24"), protocol=Numeric.only(17)), Discard()))
    load(inside, transaction(build([one])))
    before = json.loads(inside.run(*LISTED))["nftables"]
    load(inside, transaction(build([one, two]), build([one])))
    after = json.loads(inside.run(*LISTED))["nftables"]
    handle = [entry for entry in before if "counter" in entry]
    assert handle and all(entry in after for entry in handle), "the counter must be the same object"
    load(inside, removal())
