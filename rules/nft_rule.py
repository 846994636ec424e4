"""One FlowSpec rule made ready for nftables: names, JSON text and place in the order, computed once when it arrives.

A change of a few rules among thousands then costs joining text, not translating everything again.
"""

import hashlib
import json
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from rules.action import RateLimit
from rules.match import Family, Network
from rules.nft_match import Expression, Tests, alternatives
from rules.relations import Precedence, precedence
from rules.rule import FlowSpec, RuleId

TABLE = "stopbank"
"""The table's name, in family inet. It belongs to one enforcing process; whoever starts replaces it."""

FASTEST = 18_000_000_000
"""Bytes per second; nanoseconds times rate and burst must fit 64 bits in the kernel. Higher rates are cut to this."""

BURST = 1500
"""Bytes on top of the one second's worth that the kernel's bucket holds: without them a rate below a packet's length
would let nothing through."""

_SET_TYPES = {
    ("th", "dport"): "inet_service",
    ("th", "sport"): "inet_service",
    ("icmp", "type"): "icmp_type",
    ("icmp", "code"): "icmp_code",
    ("icmpv6", "type"): "icmpv6_type",
    ("icmpv6", "code"): "icmpv6_code",
}
"""Fields whose sets can have a name, for which libnftables' JSON wants a named type."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule and all that nftables needs for it."""

    rule: FlowSpec
    id: RuleId
    target: Network | None
    """The destination by which it is looked up; None: none, one with an offset, or everywhere (a map with one range
    over all addresses matches nothing in the kernel)."""
    family: Family
    precedence: Precedence
    """Sorts as RFC 8955 §5.1 and RFC 8956 §4 say, first match first."""
    rate: int
    """Bytes per second; 0 discards."""
    statements: tuple[str, ...]
    """nftables rules as JSON lists of expressions, alternatives of one meaning; none: no packet can match."""
    sets: tuple[tuple[str, str], ...]
    """Named sets the statements refer to: name and JSON."""

    @property
    def met(self) -> str:
        """The counter of packets that matched."""
        return f"met_{self.id}"

    @property
    def over(self) -> str:
        """The counter of packets beyond the rate."""
        return over_name(self.id)

    @property
    def limit(self) -> str:
        """The rate limit, and the chain that applies it; the kernel changes no limit in place, so the rate is in it."""
        return f"rate_{self.id}_{self.rate}"


def over_name(rule_id: RuleId) -> str:
    """The name of the counter of packets beyond the rate."""
    return f"over_{rule_id}"


def compile_rule(rule: FlowSpec) -> Compiled:
    """Translate one rule."""
    rule_id, rate = rule.id, 0
    if isinstance(rule.action, RateLimit):
        rate = min(rule.action.bytes_per_second, FASTEST)
    target = rule.target if isinstance(rule.target, IPv4Network | IPv6Network) and rule.target.prefixlen else None
    rows, sets = _named(alternatives(rule.match, with_destination=target is None))
    verdict: Expression = {"goto": {"target": f"rate_{rule_id}_{rate}"}} if rate else {"drop": None}
    statements = tuple(json.dumps([*row, {"counter": f"met_{rule_id}"}, verdict]) for row in rows)
    return Compiled(
        rule, rule_id, target, rule.match.ip_family, precedence(rule.match), rate, statements, tuple(sets.items())
    )


def _named(rows: tuple[Tests, ...]) -> tuple[list[list[Expression]], dict[str, str]]:
    """The rows with sets replaced by names that equal sets share.

    The kernel numbers anonymous sets by scanning all others: a thousand of them cost as much as all the rest.
    """
    sets: dict[str, str] = {}
    named: list[list[Expression]] = []
    for row in rows:
        named.append([])
        for expression in row:
            test = expression["match"]
            kind = _set_type(test["left"])
            if kind and isinstance(test["right"], dict) and "set" in test["right"]:
                name, text = _set(kind, test["right"]["set"])
                sets[name] = text
                expression = {"match": {**test, "right": f"@{name}"}}
            named[-1].append(expression)
    return named, sets


def _set_type(left: Expression) -> str | None:
    if left == {"meta": {"key": "l4proto"}}:
        return "inet_proto"
    payload = left.get("payload", {})
    return _SET_TYPES.get((payload.get("protocol"), payload.get("field")))


def _set(kind: str, elements: list[object]) -> tuple[str, str]:
    name = f"{kind}_{hashlib.sha256(json.dumps(elements).encode()).hexdigest()[:16]}"
    flags = {"flags": ["interval"]} if any(isinstance(one, dict) for one in elements) else {}
    value = {"family": "inet", "table": TABLE, "name": name, "type": kind, **flags, "elem": elements}
    return name, json.dumps({"add": {"set": value}})
