"""What is due to be said, withdrawals first, and which announcements share one line of it. Sends nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rules.lifecycle import Announcement, Effect
from rules.neighbour import Address
from rules.rule import Blackhole, RuleId
from speaker import commands
from speaker.commands import BATCH_LIMIT, Route
from speaker.fitness import Key
from speaker.orders import Command, Verb

LOOK_AHEAD = 2_000
"""How far a blackhole looks for company in the queue."""


@dataclass(slots=True)
class Entry:
    """One rule at one neighbour."""

    route: Route
    """What ExaBGP was told last, or will be told next."""
    announcement: Announcement = field(default_factory=Announcement)
    effect: Effect | None = None
    in_flight: bool = False
    alone: bool = False
    """It shared a command that was refused: next time it gets its own."""
    told_at: float = -1e9
    detail: str = ""


class Due:
    """The queues of a ledger, over its entries and the neighbours of each rule."""

    def __init__(self, entries: Mapping[Key, Entry], by_rule: Mapping[RuleId, Mapping[Address, None]]) -> None:
        self._entries, self._by_rule = entries, by_rule
        self._queues: dict[Verb, dict[Key, None]] = {Verb.WITHDRAW: {}, Verb.ANNOUNCE: {}}

    @property
    def announcements(self) -> int:
        """How many are still to be told."""
        return len(self._queues[Verb.ANNOUNCE])

    def add(self, key: Key, verb: Verb) -> None:
        """This is to be said, after all else."""
        self._queues[verb][key] = None

    def drop(self, key: Key) -> None:
        """Nothing is to be said of it any more."""
        for queue in self._queues.values():
            queue.pop(key, None)

    def take(self) -> Command | None:
        """The next command, which is due no more; None when nothing is."""
        for verb, queue in self._queues.items():
            if queue:
                command = self._command(verb, next(iter(queue)))
                for key, _ in command.routes:
                    del queue[key]
                return command
        return None

    def _command(self, verb: Verb, key: Key) -> Command:
        """The command for this key, with as much company as one line may have."""
        entry = self._entries[key]
        peers = [key[0]] if entry.alone else self._in_company(verb, key, entry.route)
        rules = [key[1]]
        if isinstance(entry.route.rule, Blackhole) and not entry.alone:
            rules += self._batch(verb, key, entry.route, peers)
        routes = [self._entries[key[0], rule].route for rule in rules]
        write = commands.announce if verb is Verb.ANNOUNCE else commands.withdraw
        pairs = ((peer, rule) for peer in peers for rule in rules)
        return Command(write(routes, peers), verb, tuple((pair, self._entries[pair].route) for pair in pairs))

    def _in_company(self, verb: Verb, key: Key, route: Route) -> list[Address]:
        """Neighbours that are to be told the same route by the same verb."""
        peers = self._by_rule[key[1]]
        return [key[0], *(peer for peer in peers if peer != key[0] and self._is_due(verb, (peer, key[1]), route))]

    def _is_due(self, verb: Verb, key: Key, route: Route) -> bool:
        entry = self._entries.get(key)
        return entry is not None and key in self._queues[verb] and not entry.alone and entry.route == route

    def _batch(self, verb: Verb, key: Key, route: Route, peers: list[Address]) -> list[RuleId]:
        """Further blackholes with equal attributes that are due at exactly these neighbours."""
        found: list[RuleId] = []
        for looked, (peer, rule) in enumerate(self._queues[verb]):
            if looked > LOOK_AHEAD or len(found) >= BATCH_LIMIT - 1:
                break
            other = self._entries[peer, rule]
            if peer != key[0] or rule == key[1] or other.alone or not commands.may_share_line(route, other.route):
                continue
            if set(self._in_company(verb, (peer, rule), other.route)) == set(peers):
                found.append(rule)
        return found
