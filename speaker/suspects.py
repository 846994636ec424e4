"""The quarantines of all neighbours, carried out: rules barred in the ledger, sentences in the journal.

`speaker.quarantine` finds the rule; here its word is kept across restarts, and forgotten when the rule ends.
"""

from collections.abc import Callable, Container

from rules.neighbour import Address
from rules.rule import RuleId
from speaker import journal
from speaker.fitness import Key
from speaker.journal import Journal
from speaker.quarantine import Quarantine
from speaker.reconcile import Ledger

Sentenced = Callable[[Address, RuleId, str], None]


class Suspects:
    """One quarantine for each neighbour."""

    def __init__(self, ledger: Ledger, diary: Journal, sentenced: Sentenced) -> None:
        self._ledger, self._journal, self._sentenced = ledger, diary, sentenced
        self._all: dict[Address, Quarantine] = {}
        self._written: dict[Key, str] = {}

    def load(self, quarantine: dict[Key, str], now: float) -> None:
        """What a predecessor found out."""
        self._written = dict(quarantine)
        for (peer, rule), why in quarantine.items():
            self.of(peer).sentenced[rule] = why
        for peer in {peer for peer, _ in quarantine}:
            self._ledger.bar(peer, self.of(peer).barred(), now)

    def of(self, peer: Address) -> Quarantine:
        """A neighbour's, made when there is none."""
        return self._all.setdefault(peer, Quarantine())

    def up(self, peer: Address, now: float) -> None:
        """A session came up."""
        self.of(peer).up(now)

    def down(self, peer: Address, now: float) -> None:
        """A session was lost."""
        if self.of(peer).down(self._ledger.held_by(peer), now):
            self._carry_out(peer, now)

    def notified(self, peer: Address, code: int, subcode: int, now: float) -> None:
        """A neighbour sent a NOTIFICATION."""
        if self.of(peer).notified(code, subcode, self._ledger.held_by(peer), now):
            self._carry_out(peer, now)

    def tick(self, now: float) -> None:
        """Time passes: whoever was kept back may be let in again."""
        for peer, quarantine in self._all.items():
            if quarantine.is_watching:
                last_told = max(self._ledger.held_by(peer).values(), default=-1e9)
                if quarantine.tick(self._ledger.is_settled(peer), last_told, now):
                    self._carry_out(peer, now)

    def forget_all_but(self, living: Container[RuleId], now: float) -> None:
        """Rules that have ended leave quarantine: the next of that match is a new case."""
        for peer, rule in list(self._written):
            if rule not in living:
                del self._written[peer, rule]
                self.of(peer).forget(rule)
                self._journal.append([journal.quarantined(peer, rule, "")])
                self._ledger.bar(peer, self.of(peer).barred(), now)

    def _carry_out(self, peer: Address, now: float) -> None:
        quarantine = self.of(peer)
        for rule, why in quarantine.sentenced.items():
            if (peer, rule) not in self._written:
                self._written[peer, rule] = why
                self._journal.append([journal.quarantined(peer, rule, why)])
                self._sentenced(peer, rule, why)
        self._ledger.bar(peer, quarantine.barred(), now)
