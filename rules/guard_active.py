"""The rules that are wanted now, indexed by destination, so that a new one meets only those it can have to do with.

Holds no deadline and no state of announcements; whoever loads it decides what counts as wanted.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from rules.match import Match, Network, OffsetPrefix
from rules.relations import Prepared, prepared
from rules.rule import Rule, RuleId


class Origin(Enum):
    """Who asked for a rule."""

    OPERATOR = "operator"
    API = "api"
    SENSOR = "sensor"
    """Straight from a detection."""
    PLAYBOOK = "playbook"
    """From the steps of an incident."""

    @property
    def is_automatic(self) -> bool:
        """Whether no person looked at it."""
        return self in (Origin.SENSOR, Origin.PLAYBOOK)


_UNKNOWN = RuleId("")


@dataclass(frozen=True, slots=True)
class Held:
    """A rule that is wanted already."""

    rule: Rule
    owner: str
    origin: Origin
    zone: str | None = None
    id: RuleId = _UNKNOWN
    """Computed unless given; whoever knows it saves the time."""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", self.rule.id)


_Start = tuple[int, int, RuleId]
"""First address, prefix length, id."""


class ActiveRules:
    """The wanted rules, to be asked which of them touch a new one. Not changed after it was built."""

    __slots__ = ("_anywhere", "_automatic", "_by_id", "_by_origin", "_by_zone", "_lengths", "_prepared", "_starts")

    def __init__(self, held: Iterable[Held] = ()) -> None:
        self._by_id = {one.id: one for one in held}
        self._by_origin = Counter(one.origin for one in self._by_id.values())
        self._by_zone = Counter((one.zone, one.origin) for one in self._by_id.values())
        self._anywhere: list[RuleId] = []
        """Without a plain destination: related to every rule."""
        self._starts: dict[int, list[_Start]] = {4: [], 6: []}
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}
        self._prepared: dict[RuleId, Prepared] = {}
        for one in self._by_id.values():
            self._index(one)
        for starts in self._starts.values():
            starts.sort()

    def _index(self, held: Held) -> None:
        target = held.rule.target
        if target is None or isinstance(target, OffsetPrefix):
            self._anywhere.append(held.id)
            return
        self._starts[target.version].append((int(target.network_address), target.prefixlen, held.id))
        self._lengths[target.version].add(target.prefixlen)

    def changed(self, added: Iterable[Held], removed: Iterable[Held]) -> "ActiveRules":
        """Those without the removed ones and with the added ones; dear parts that stay the same are shared."""
        added, removed = tuple(added), tuple(removed)
        if 4 * (len(added) + len(removed)) > len(self):
            gone = {one.id for one in removed}
            return ActiveRules((*(one for one in self if one.id not in gone), *added))
        made = ActiveRules()
        made._by_id, made._prepared = self._by_id.copy(), self._prepared.copy()
        made._by_origin, made._by_zone = self._by_origin.copy(), self._by_zone.copy()
        made._anywhere = self._anywhere.copy()
        made._starts = {version: starts.copy() for version, starts in self._starts.items()}
        made._lengths = {version: lengths.copy() for version, lengths in self._lengths.items()}
        for one in removed:
            made._drop(one.id)
        for one in added:
            made._drop(one.id)
            made._add(one)
        return made

    def _add(self, held: Held) -> None:
        self._by_id[held.id] = held
        self._by_origin[held.origin] += 1
        self._by_zone[held.zone, held.origin] += 1
        target = held.rule.target
        if target is None or isinstance(target, OffsetPrefix):
            self._anywhere.append(held.id)
            return
        insort(self._starts[target.version], (int(target.network_address), target.prefixlen, held.id))
        self._lengths[target.version].add(target.prefixlen)

    def _drop(self, id: RuleId) -> None:
        held = self._by_id.pop(id, None)
        if held is None:
            return
        self._by_origin[held.origin] -= 1
        self._by_zone[held.zone, held.origin] -= 1
        self._prepared.pop(id, None)
        target = held.rule.target
        if target is None or isinstance(target, OffsetPrefix):
            self._anywhere.remove(id)
            return
        # A length that no rule has any more stays known: it costs a look and changes no answer.
        starts = self._starts[target.version]
        del starts[bisect_left(starts, (int(target.network_address), target.prefixlen, id))]

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._by_id.values())

    def get(self, id: RuleId) -> Held | None:
        """The rule with this id, if it is wanted."""
        return self._by_id.get(id)

    def count(self, origin: Origin | None = None, zone: str | None = None) -> int:
        """How many are wanted: of one origin, for one zone, or both."""
        if zone is not None:
            return sum(self._by_zone[zone, one] for one in Origin if origin in (None, one))
        return len(self._by_id) if origin is None else self._by_origin[origin]

    def count_automatic(self, zone: str | None = None) -> int:
        """How many no person looked at, for one zone or all."""
        return sum(self.count(origin, zone) for origin in Origin if origin.is_automatic)

    def related(self, rule: Rule) -> tuple[Held, ...]:
        """Those whose destination shares an address with this rule's, the rule itself included where it is wanted."""
        target = rule.target
        if target is None or isinstance(target, OffsetPrefix):
            return tuple(self._by_id.values())
        found = [*self._inside(target), *self._around(target), *self._anywhere]
        return tuple(self._by_id[id] for id in found)

    def prepared(self, held: Held, match: Match) -> Prepared:
        """A held rule's match ready to be compared, worked out at the first use."""
        if held.id not in self._prepared:
            self._prepared[held.id] = prepared(match)
        return self._prepared[held.id]

    def _inside(self, target: Network) -> Iterator[RuleId]:
        """The same prefix and its subnets: they start inside."""
        starts = self._starts[target.version]
        first, last = int(target.network_address), int(target.broadcast_address)
        at = bisect_left(starts, (first, target.prefixlen))
        while at < len(starts) and starts[at][0] <= last:
            yield starts[at][2]
            at += 1

    def _around(self, target: Network) -> Iterator[RuleId]:
        """Shorter prefixes that hold it: at most one network for each length in use."""
        starts = self._starts[target.version]
        bits, first = target.max_prefixlen, int(target.network_address)
        for length in self._lengths[target.version]:
            if length < target.prefixlen:
                start = first >> (bits - length) << (bits - length)
                low, high = bisect_left(starts, (start, length)), bisect_right(starts, (start, length + 1))
                yield from (id for _, _, id in starts[low:high])
