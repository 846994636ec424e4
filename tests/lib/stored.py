"""Rules and requests that pass the guard, for tests that need a store with something in it."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

from rules.guard import Limits, Origin, Request
from rules.rule import Rule, parse
from rules.zone import Zone
from store.records import RuleRecord, World
from store.store import Store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=600)
WORLD = World((), limits=Limits(total_rules=100_000, per_minute=100_000))


def rule(number: int = 1) -> Rule:
    """One of 65,536 rules that pass the guard."""
    return parse(
        f"match {{ destination 203.0.{number // 256}.{number % 256}/32; protocol =udp; source-port =53; }}"
        " then { discard; }"
    )


def request(number: int = 1, owner: str = "operator", origin: Origin = Origin.OPERATOR) -> Request:
    """A request for it."""
    return Request(rule(number), owner, origin, 600, is_operator=owner == "operator")


def admitted(store: Store, number: int = 1, actor: str = "ann", proposed: bool = False) -> RuleRecord:
    """The rule of a number, let in."""
    record, _ = store.admit(
        request(number), WORLD, deadline=LATER, actor=actor, reason="test", now=NOW, proposed=proposed
    )
    return record


ZONE = Zone("campus", (ip_network("203.0.0.0/16"),))
