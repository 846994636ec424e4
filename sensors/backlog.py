"""In which order detections go out, and which of them an update makes needless. Pure: no clock, no I/O.

Of one attack one message is under way at a time, so that they arrive in order. While it waits, a newer update replaces
an older one; starts and ends are never replaced. Attacks take turns; those with news go before those that only have
history.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from rules.traffic import State


class _Entry(NamedTuple):
    number: int
    state: State


@dataclass(slots=True)
class _Attack:
    waiting: list[_Entry] = field(default_factory=list)
    under_way: _Entry | None = None


class Backlog:
    """Numbers of unsettled messages; the messages themselves are in the spool."""

    def __init__(self) -> None:
        self._attacks: dict[str, _Attack] = {}
        self._news: OrderedDict[str, None] = OrderedDict()
        self._history: OrderedDict[str, None] = OrderedDict()
        self._attack_of: dict[int, str] = {}
        self._under_way: set[str] = set()

    def __len__(self) -> int:
        return len(self._attack_of)

    def __contains__(self, number: int) -> bool:
        return number in self._attack_of

    @property
    def under_way(self) -> int:
        """How many were sent and not settled."""
        return len(self._under_way)

    def add(self, number: int, attack: str, state: State, is_news: bool = True) -> tuple[int, ...]:
        """A message to be sent; gives the numbers of those it makes needless, to be settled in the spool."""
        one = self._attacks.setdefault(attack, _Attack())
        one.waiting.append(_Entry(number, state))
        self._attack_of[number] = attack
        if is_news:
            self._history.pop(attack, None)
            self._news.setdefault(attack)
        elif attack not in self._news:
            self._history.setdefault(attack)
        return self._without_old_update(one, len(one.waiting) - 2)

    def take(self) -> int | None:
        """The number of the next message to send; it is under way from now on. None when nothing can be sent."""
        for order in (self._news, self._history):
            for attack in order:
                one = self._attacks[attack]
                if one.under_way is None and one.waiting:
                    one.under_way = one.waiting.pop(0)
                    self._under_way.add(attack)
                    # Else a few with news all the time would keep the others waiting for ever on a slow link.
                    order.move_to_end(attack)
                    return one.under_way.number
        return None

    def settle(self, numbers: Iterable[int]) -> None:
        """Messages taken, refused for good or given up."""
        for number in numbers:
            attack = self._attack_of.pop(number, None)
            if attack is None:
                continue
            one = self._attacks[attack]
            if one.under_way is not None and one.under_way.number == number:
                one.under_way = None
                self._under_way.discard(attack)
            one.waiting = [entry for entry in one.waiting if entry.number != number]
            if not one.waiting and one.under_way is None:
                del self._attacks[attack]
                self._news.pop(attack, None)
                self._history.pop(attack, None)

    def put_back(self, number: int) -> tuple[int, ...]:
        """A message under way was not taken and waits again; gives its number if an update has made it needless."""
        attack = self._attack_of.get(number)
        one = self._attacks[attack] if attack is not None else None
        if attack is None or one is None or one.under_way is None or one.under_way.number != number:
            return ()
        one.waiting.insert(0, one.under_way)
        one.under_way = None
        self._under_way.discard(attack)
        return self._without_old_update(one, 0)

    def put_back_all(self) -> tuple[int, ...]:
        """The link broke: everything under way waits again, and everything waiting is history until there is news."""
        replaced: tuple[int, ...] = ()
        for attack in list(self._under_way):
            entry = self._attacks[attack].under_way
            replaced += self.put_back(entry.number) if entry is not None else ()
        while self._news:
            self._history[self._news.popitem(last=False)[0]] = None
        return replaced

    def _without_old_update(self, one: _Attack, index: int) -> tuple[int, ...]:
        """Drops the update at the index when the next one is an update too."""
        if not 0 <= index < len(one.waiting) - 1:
            return ()
        entry, newer = one.waiting[index : index + 2]
        if entry.state is not State.ONGOING or newer.state is not State.ONGOING:
            return ()
        del one.waiting[index], self._attack_of[entry.number]
        return (entry.number,)
