"""Desired minus announced: which command comes next, what an answer means, where each rule stands at each neighbour.

Level-triggered: it is told what is wanted and what ExaBGP holds, in any order and as often as you like, and names the
next command. Sends nothing and reads no clock. It never announces what a neighbour can't hold, and a rule's life at a
neighbour follows `rules.lifecycle` alone.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Set

from rules.lifecycle import Announcement, Effect, Event, Phase
from rules.neighbour import Address, Neighbour
from rules.rule import Rule, RuleId
from speaker.commands import Route
from speaker.due import Due, Entry
from speaker.fitness import Fitness, Key
from speaker.orders import Command, Status, Verb

SETTLING_SECONDS = 5.0
"""A rule's attributes change no sooner than this after the last command about it: ExaBGP queues by attributes, and a
change that meets an unsent announcement of the same rule may reach the router before it."""

RETRY_SECONDS = 60.0
"""How long a withdrawal that kept failing rests."""


class Ledger:
    """Every rule at every neighbour."""

    def __init__(self) -> None:
        self.neighbours: dict[Address, Neighbour] = {}
        self.is_blind = True
        """No configuration yet: what is wanted stays where it is, and nothing is announced."""
        self.is_paused = True
        """No command goes out: what ExaBGP holds is not known yet."""
        self._wanted: dict[RuleId, Rule] = {}
        self._expected: set[RuleId] = set()
        """Rules that may be wanted: nobody has judged them yet."""
        self._fitness = Fitness()
        self._entries: dict[Key, Entry] = {}
        self._by_rule: dict[RuleId, dict[Address, None]] = {}
        self._taken: dict[Address, set[RuleId]] = {}
        """Neighbour -> rules that count against its budget."""
        self._waiting: dict[Address, dict[RuleId, None]] = {}
        """Neighbour -> rules that found its budget used up, first come first served."""
        self._due = Due(self._entries, self._by_rule)
        self._later: list[tuple[float, Key]] = []
        self._busy: dict[Address, int] = {}
        """Neighbour -> entries with something to be said or in flight."""
        self.counts: Counter[tuple[Address, Phase]] = Counter()
        """How many rules stand at each neighbour in each phase."""
        self._changes: dict[Key, Status] = {}
        self.alarms: list[str] = []

    # ------------------------------------------------------------------------------------------------ what is wanted

    def set_neighbours(self, neighbours: Iterable[Neighbour], now: float) -> None:
        """Who is there; everything is looked at again, by `found` where what ExaBGP holds is not known yet."""
        self.neighbours = {one.peer_address: one for one in neighbours}
        self.is_blind = False
        if not self.is_paused:
            self.settle_all(now)

    def set_missing(self, peers: frozenset[Address], now: float) -> None:
        """Neighbours that ExaBGP has no session for: it would say `done` and tell nobody."""
        if self._fitness.set_missing(peers):
            self.settle_all(now)

    def expect(self, rules: Set[RuleId], now: float) -> None:
        """Exactly these may be wanted, which is not known yet: where they stand they stay, and nobody is told them."""
        before, self._expected = self._expected, set(rules)
        for rule in (before - rules) & self._by_rule.keys():
            self.settle(rule, now)

    def want(self, rule: Rule, now: float) -> None:
        """This rule shall stand at every neighbour that can hold it."""
        self._wanted[rule.id] = rule
        self.settle(rule.id, now)

    def unwant(self, rule: RuleId, now: float) -> None:
        """This rule shall stand nowhere."""
        self._expected.discard(rule)
        if self._wanted.pop(rule, None) is not None or rule in self._by_rule:
            self.settle(rule, now)

    def bar(self, peer: Address, reasons: Mapping[RuleId, str], now: float) -> None:
        """Exactly these rules must not stand at this neighbour, because…"""
        for rule in self._fitness.bar(peer, reasons):
            self._settle_at(peer, rule, now)

    def settle_all(self, now: float) -> None:
        """Look at everything again."""
        for rule in [*self._wanted, *(rule for rule in self._by_rule if rule not in self._wanted)]:
            self.settle(rule, now)

    def settle(self, rule: RuleId, now: float) -> None:
        """Bring the announcements of one rule nearer to what is wanted."""
        for peer in {**self.neighbours, **self._by_rule.get(rule, {})}:
            self._settle_at(peer, rule, now)

    # ---------------------------------------------------------------------------------------------- what is announced

    def found(self, listed: Mapping[Key, tuple[Route, bool]], now: float) -> None:
        """What ExaBGP holds, each route with whether it was read exactly: all answers still due are void.

        Afterwards commands may go out.
        """
        for key, entry in list(self._entries.items()):
            held = listed.get(key)
            is_same = held is not None and held[1] and held[0] == entry.route
            if is_same and entry.announcement.phase is Phase.ANNOUNCING:
                self._release(key, entry)
                self._step(key, entry, Event.ANNOUNCED, now)
            elif held is None and entry.announcement.phase in (Phase.WITHDRAWING, Phase.EXPELLING, Phase.STUCK):
                if entry.announcement.phase is Phase.STUCK:
                    self._step(key, entry, Event.RETRIED, now)
                self._release(key, entry)
                self._step(key, entry, Event.WITHDRAWN, now)
            elif entry.in_flight or not (is_same and entry.announcement.phase is Phase.ACTIVE):
                self._release(key, entry)
                if entry.announcement.phase not in (Phase.PROPOSED, Phase.UNFIT, Phase.ENDED):
                    self._step(key, entry, Event.RESTARTED, now)
        for key, (route, _) in listed.items():
            known = self._entries.get(key)
            if known is None or not known.announcement.may_be_on_the_router:
                self._new(key, Entry(route, Announcement(Phase.ACTIVE)))
        self.is_paused = False
        self.settle_all(now)

    def next_command(self, now: float) -> Command | None:
        """The next line to send, withdrawals first; None when there is nothing to say."""
        if self.is_paused:
            return None
        self._wake(now)
        command = self._due.take()
        if command is not None:
            for key, _ in command.routes:
                entry = self._entries[key]
                entry.effect, entry.in_flight, entry.told_at = None, True, now
        return command

    def answered(self, command: Command, accepted: bool, now: float) -> None:
        """The answer to a command that `next_command` gave."""
        for key, route in command.routes:
            entry = self._entries.get(key)
            if entry is None or not entry.in_flight:
                continue
            entry.in_flight = False
            self._busy[key[0]] -= 1
            if entry.effect is not None:
                # Decided while the answer was due: it goes out now.
                pending, entry.effect = entry.effect, None
                self._queue(key, entry, pending)
            elif not accepted and len(command.routes) > 1:
                entry.alone = True
                self._queue(key, entry, Effect.ANNOUNCE if command.verb is Verb.ANNOUNCE else Effect.WITHDRAW)
                continue
            if not accepted and command.verb is Verb.ANNOUNCE:
                heapq.heappush(self._later, (self._fitness.refused(key, route, now), key))
            self._step(key, entry, _ANSWERS[command.verb, accepted], now)
            if not self._stands(key, entry, route):
                self._settle_at(*key, now)

    @property
    def waiting(self) -> int:
        """How many announcements are still to be told."""
        return self._due.announcements

    def is_settled(self, peer: Address) -> bool:
        """Whether nothing is to be said to a neighbour any more and every answer is there."""
        return not self.is_paused and not self._busy.get(peer)

    def may_hold(self, peer: Address) -> bool:
        """Whether a neighbour may hold any rule."""
        return bool(self._taken.get(peer))

    def held_by(self, peer: Address) -> dict[RuleId, float]:
        """The rules a neighbour may hold, each with when ExaBGP was last told about it."""
        return {
            rule: self._entries[peer, rule].told_at
            for rule in self._taken.get(peer, ())
            if (peer, rule) in self._entries
        }

    def name(self, peer: Address) -> str:
        """A neighbour's name; its address where no configuration names it."""
        return self.neighbours[peer].name if peer in self.neighbours else str(peer)

    def statuses(self) -> tuple[Status, ...]:
        """Where everything stands."""
        return tuple(self._status(key, entry) for key, entry in self._entries.items())

    def take_changes(self) -> tuple[Status, ...]:
        """What changed since the last time, each announcement once."""
        changes = tuple(self._changes.values())
        self._changes.clear()
        return changes

    # -------------------------------------------------------------------------------------------------------- inside

    def _stands(self, key: Key, entry: Entry, route: Route) -> bool:
        """Whether it is active as it is wanted: what most answers come to."""
        is_wanted = self._wanted.get(key[1]) is route.rule and not self._fitness.is_barred(key)
        return is_wanted and entry.announcement.phase is Phase.ACTIVE and entry.route is route

    def _settle_at(self, peer: Address, rule_id: RuleId, now: float) -> None:
        key = (peer, rule_id)
        entry = self._entries.get(key)
        rule, neighbour = self._wanted.get(rule_id), self.neighbours.get(peer)
        if self.is_blind if rule is not None else rule_id in self._expected:
            return
        if rule is None or neighbour is None:
            if entry is not None:
                self._end(key, entry, now)
            return
        taken = self._taken.setdefault(peer, set())
        fit = self._fitness.judge(key, rule, neighbour, len(taken) - (rule_id in taken), now)
        if fit.is_full:
            self._waiting.setdefault(peer, {})[rule_id] = None
        if entry is None or entry.announcement.phase is Phase.ENDED:
            entry = self._new(key, Entry(fit.route))
        if fit.reason:
            self._expel(key, entry, fit.reason, now)
        else:
            self._offer(key, entry, fit.route, now)

    def _offer(self, key: Key, entry: Entry, route: Route, now: float) -> None:
        phase = entry.announcement.phase
        if phase in (Phase.PROPOSED, Phase.UNFIT):
            entry.route, entry.detail = route, ""
            self._step(key, entry, Event.APPROVED, now)
        elif phase is Phase.ANNOUNCING and not entry.in_flight:
            entry.route = route
        elif phase is Phase.ACTIVE and entry.route != route:
            if now < entry.told_at + SETTLING_SECONDS:
                heapq.heappush(self._later, (entry.told_at + SETTLING_SECONDS, key))
                return
            entry.route = route
            self._step(key, entry, Event.CHANGED, now)

    def _expel(self, key: Key, entry: Entry, reason: str, now: float) -> None:
        if (entry.announcement.phase, entry.detail) == (Phase.UNFIT, reason):
            return
        entry.detail = reason
        self._step(key, entry, Event.UNFIT, now)

    def _end(self, key: Key, entry: Entry, now: float) -> None:
        if entry.announcement.phase not in (Phase.ENDED, Phase.WITHDRAWING):
            self._step(key, entry, Event.ENDED, now)
        if not entry.announcement.may_be_on_the_router:
            self._forget(key)

    def _step(self, key: Key, entry: Entry, event: Event, now: float) -> None:
        before = entry.announcement.phase
        entry.announcement, effect = entry.announcement.step(event)
        phase = entry.announcement.phase
        self.counts[key[0], before] -= 1
        self.counts[key[0], phase] += 1
        if effect is Effect.ALARM:
            self.alarms.append(f"{self.name(key[0])} may still hold {key[1]}: its withdrawal keeps failing")
            heapq.heappush(self._later, (now + RETRY_SECONDS, key))
        elif effect is not None:
            self._queue(key, entry, effect)
        self._count(key, entry, now)
        if phase is not before or event is Event.UNFIT:
            self._changes[key] = self._status(key, entry)

    def _status(self, key: Key, entry: Entry) -> Status:
        phase = entry.announcement.phase
        detail = "" if phase is Phase.ACTIVE else entry.detail
        return Status(key[1], key[0], self.name(key[0]), phase, detail)

    def _count(self, key: Key, entry: Entry, now: float) -> None:
        """Keep the neighbour's budget, and let somebody in when there is room again."""
        peer, rule = key
        taken = self._taken.setdefault(peer, set())
        if entry.announcement.may_be_on_the_router:
            taken.add(rule)
            return
        if rule not in taken:
            return
        taken.discard(rule)
        room = len(taken)
        for candidate in list(self._waiting.get(peer, ())):
            self._waiting[peer].pop(candidate)
            if candidate != rule and candidate in self._wanted:
                self._settle_at(peer, candidate, now)
            if len(taken) > room or candidate in self._waiting[peer]:
                return

    def _queue(self, key: Key, entry: Entry, effect: Effect) -> None:
        if entry.effect is None and not entry.in_flight:
            self._busy[key[0]] = self._busy.get(key[0], 0) + 1
        self._due.drop(key)
        entry.effect = effect
        if not entry.in_flight:
            self._due.add(key, Verb.ANNOUNCE if effect is Effect.ANNOUNCE else Verb.WITHDRAW)

    def _release(self, key: Key, entry: Entry) -> None:
        """No answer will come, and nothing is queued."""
        if entry.in_flight or entry.effect is not None:
            self._due.drop(key)
            entry.in_flight, entry.effect = False, None
            self._busy[key[0]] -= 1

    def _new(self, key: Key, entry: Entry) -> Entry:
        if key in self._entries:
            self.counts[key[0], self._entries[key].announcement.phase] -= 1
        self.counts[key[0], entry.announcement.phase] += 1
        self._entries[key] = entry
        self._by_rule.setdefault(key[1], {})[key[0]] = None
        self._busy.setdefault(key[0], 0)
        if entry.announcement.may_be_on_the_router:
            self._taken.setdefault(key[0], set()).add(key[1])
        return entry

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self.counts[key[0], entry.announcement.phase] -= 1
        self._release(key, entry)
        self._taken.get(key[0], set()).discard(key[1])
        self._fitness.forget(key)
        peers = self._by_rule.get(key[1], {})
        peers.pop(key[0], None)
        if not peers:
            self._by_rule.pop(key[1], None)

    def _wake(self, now: float) -> None:
        """What had to wait and needn't any more."""
        while self._later and self._later[0][0] <= now:
            _, key = heapq.heappop(self._later)
            entry = self._entries.get(key)
            if entry is not None and entry.announcement.phase is Phase.STUCK:
                self._step(key, entry, Event.RETRIED, now)
            self._settle_at(*key, now)


_ANSWERS = {
    (Verb.ANNOUNCE, True): Event.ANNOUNCED,
    (Verb.ANNOUNCE, False): Event.REFUSED,
    (Verb.WITHDRAW, True): Event.WITHDRAWN,
    (Verb.WITHDRAW, False): Event.KEPT,
}
