"""FlowSpec rules as one nftables transaction, in the JSON that `nft -j -f -` reads: typed values throughout, nothing to
quote, and no construct missing.

The shape: one base chain before defragmentation looks the destination up in a map of disjoint ranges and jumps to the
chain of the narrowest prefix that has rules; that chain goes on to the next wider prefix, and what no chain decided
meets the rules without a plain destination. Since a more specific destination takes precedence (RFC 8955 §5.1), walking
outwards is the RFC's order, and a packet to an address without rules costs one lookup. The first match decides.

Never a linear list of all rules (100 of them cut forwarding to 40 %), and never anything outside the table `stopbank`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from rules.match import Family, Network
from rules.nft_rule import BURST, TABLE, Compiled, over_name
from rules.rule import RuleId
from rules.segments import Nesting, nest

PRIORITY = -450
"""Before defragmentation (-400), so that fragments are seen as they came."""

DEEPEST = 8
"""Chains that follow each other; the kernel ends at 16. Nests deeper than this copy the rules of the outer prefixes."""

_BASE = "arrivals"
_TAILS = {Family.IPV4: "other_ipv4", Family.IPV6: "other_ipv6"}


@dataclass(frozen=True, slots=True)
class Table:
    """What the kernel shall hold: a pure value, compared with the one before to find what must change."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Rules of each chain, JSON lists of expressions, by name; the base chain is one of them."""
    sets: dict[str, str] = field(default_factory=dict)
    """The JSON that adds each; a set's name follows from its content."""
    counters: frozenset[str] = frozenset()
    limits: dict[str, int] = field(default_factory=dict)
    """Bytes per second, by name; the name holds the rate."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a rule has met since it was first enforced."""

    packets: int = 0
    bytes: int = 0
    """IP packet lengths, without the link layer."""
    dropped_packets: int = 0
    """Equal to `packets` for a discard."""
    dropped_bytes: int = 0


def build(rules: Iterable[Compiled]) -> Table:
    """The table for a set of rules; of several with one id the strictest counts."""
    distinct = _strictest(rules)
    by_target: dict[Network, list[Compiled]] = {}
    others: dict[Family, list[Compiled]] = {}
    for rule in distinct:
        if rule.target is not None:
            by_target.setdefault(rule.target, []).append(rule)
        else:
            others.setdefault(rule.family, []).append(rule)
    nestings = {family: nest(one for one in by_target if Family.of(one) is family) for family in Family}
    chains = {_BASE: tuple(_base_chain(nestings, others))}
    for nesting in nestings.values():
        chains |= _target_chains(nesting, by_target)
    chains |= {_TAILS[family]: _statements(own) for family, own in others.items()}
    limited = [rule for rule in distinct if rule.rate]
    return Table(
        chains | {rule.limit: _policer(rule) for rule in limited},
        {name: text for rule in distinct for name, text in rule.sets},
        frozenset([rule.met for rule in distinct] + [rule.over for rule in limited]),
        {rule.limit: rule.rate for rule in limited},
    )


def transaction(wanted: Table, present: Table | None = None) -> str:
    """The JSON that turns `present` into `wanted`, atomically; rules that stay keep their counters and buckets.

    Without `present`, whatever stands under the table's name is replaced. Equal tables give an empty transaction.
    """
    start = [] if present is not None else [_table("add"), _table("delete"), _table("add")]
    return _document([*start, *_additions(wanted, present or Table()), *_deletions(wanted, present or Table())])


def removal() -> str:
    """The JSON that removes the table and all it holds, whether or not it is there."""
    return _document([_table("add"), _table("delete")])


def read_tallies(listing: str) -> dict[RuleId, Tally]:
    """Counters per rule, from the answer to `nft -j list counters table inet stopbank`."""
    found = {
        entry["counter"]["name"]: (entry["counter"]["packets"], entry["counter"]["bytes"])
        for entry in json.loads(listing)["nftables"]
        if "counter" in entry
    }
    tallies = {}
    for name, met in found.items():
        kind, _, given = name.partition("_")
        if kind == "met":
            rule_id = RuleId(given)
            tallies[rule_id] = Tally(*met, *found.get(over_name(rule_id), met))
    return tallies


# ----------------------------------------------------------------------------------------------------------- chains


def _strictest(rules: Iterable[Compiled]) -> list[Compiled]:
    distinct: dict[RuleId, Compiled] = {}
    for rule in rules:
        known = distinct.setdefault(rule.id, rule)
        if rule.rate < known.rate:
            distinct[rule.id] = rule
    return [distinct[rule_id] for rule_id in sorted(distinct)]


def _base_chain(nestings: dict[Family, Nesting], others: dict[Family, list[Compiled]]) -> Iterator[str]:
    # What the machine says to itself never came from the network.
    yield json.dumps([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}, {"accept": None}])
    for family, header in ((Family.IPV4, "ip"), (Family.IPV6, "ip6")):
        if elements := list(_elements(nestings[family], family)):
            key = {"payload": {"protocol": header, "field": "daddr"}}
            yield json.dumps([{"vmap": {"key": key, "data": {"set": elements}}}])
    for family in Family:
        if family in others:
            of_family = {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": family.label}
            yield json.dumps([{"match": of_family}, {"jump": {"target": _TAILS[family]}}])


def _elements(nesting: Nesting, family: Family) -> Iterator[list[object]]:
    address = IPv4Address if family is Family.IPV4 else IPv6Address
    for one in nesting.segments:
        first, last = str(address(one.first)), str(address(one.last))
        yield [first if first == last else {"range": [first, last]}, {"jump": {"target": _target_name(one.prefix)}}]


def _target_chains(nesting: Nesting, by_target: dict[Network, list[Compiled]]) -> dict[str, tuple[str, ...]]:
    """A chain for each prefix, which goes on to the one around it."""
    depths: dict[Network, int] = {}
    own = {target: _statements(by_target[target]) for target in nesting.parents}
    chains = {}
    for target, parent in nesting.parents.items():
        depths[target] = depths[parent] + 1 if parent is not None else 0
        statements = own[target]
        while parent is not None and depths[parent] >= DEEPEST:
            statements += own[parent]
            parent = nesting.parents[parent]
        if parent is not None:
            statements += (json.dumps([{"goto": {"target": _target_name(parent)}}]),)
        chains[_target_name(target)] = statements
    return chains


def _statements(rules: list[Compiled]) -> tuple[str, ...]:
    in_order = sorted(rules, key=lambda rule: rule.precedence)
    return tuple(statement for rule in in_order for statement in rule.statements)


def _policer(rule: Compiled) -> tuple[str, ...]:
    return (
        json.dumps([{"limit": rule.limit}, {"counter": rule.over}, {"drop": None}]),
        json.dumps([{"accept": None}]),
    )


def _target_name(target: Network) -> str:
    """nftables' names hold no colons."""
    address = target.network_address
    return f"to_{address if address.version == 4 else address.packed.hex()}/{target.prefixlen}"


# --------------------------------------------------------------------------------------------------------- commands


def _additions(wanted: Table, present: Table) -> Iterator[str]:
    yield from (_named("add", "counter", name) for name in sorted(wanted.counters - present.counters))
    yield from (_limit(name, rate) for name, rate in wanted.limits.items() if name not in present.limits)
    yield from (text for name, text in wanted.sets.items() if name not in present.sets)
    yield from (_chain(name) for name in wanted.chains if name not in present.chains)
    changed = [name for name, rules in wanted.chains.items() if present.chains.get(name) != rules]
    yield from (_named("flush", "chain", name) for name in changed if name in present.chains)
    for name in changed:
        head = json.dumps({"family": "inet", "table": TABLE, "chain": name})[:-1]
        yield from (f'{{"add": {{"rule": {head}, "expr": {rule}}}}}}}' for rule in wanted.chains[name])


def _deletions(wanted: Table, present: Table) -> Iterator[str]:
    gone = [name for name in present.chains if name not in wanted.chains]
    yield from (_named("flush", "chain", name) for name in gone)
    yield from (_named("delete", "chain", name) for name in gone)
    yield from (_named("delete", "set", name) for name in present.sets if name not in wanted.sets)
    yield from (_named("delete", "limit", name) for name in present.limits if name not in wanted.limits)
    yield from (_named("delete", "counter", name) for name in sorted(present.counters - wanted.counters))


def _document(commands: list[str]) -> str:
    return '{"nftables": [' + ",\n".join(commands) + "]}"


def _table(verb: str) -> str:
    return json.dumps({verb: {"table": {"family": "inet", "name": TABLE}}})


def _named(verb: str, kind: str, name: str, **more: object) -> str:
    return json.dumps({verb: {kind: {"family": "inet", "table": TABLE, "name": name, **more}}})


def _chain(name: str) -> str:
    if name != _BASE:
        return _named("add", "chain", name)
    return _named("add", "chain", name, type="filter", hook="prerouting", prio=PRIORITY, policy="accept")


def _limit(name: str, rate: int) -> str:
    over = {"rate": rate, "rate_unit": "bytes", "per": "second", "burst": BURST, "burst_unit": "bytes", "inv": True}
    return _named("add", "limit", name, **over)
