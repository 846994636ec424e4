"""Which rule resets a neighbour's session: found by withdrawing the suspects and letting them back by halves.

Pure: told of resets and of time passing, it says which rules must not stand at that neighbour now. Attacks flap
sessions too, so nothing is suspected without a NOTIFICATION 3/x (RFC 4271 §6.3), or a session that keeps dying young.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rules.rule import RuleId

RECENT_SECONDS = 30.0
"""Rules told so recently are suspected first."""

STABLE_SECONDS = 3.0
"""A session that stood so long after the last command has taken what it was told: routers reset within milliseconds."""

SHORT_LIFE_SECONDS = 2.0
SHORT_LIVES = 3
SHORT_LIVES_WINDOW = 60.0
"""So many sessions that died so young, within so long, are a reproduced reset."""


@dataclass(slots=True)
class Quarantine:
    """One neighbour."""

    sentenced: dict[RuleId, str] = field(default_factory=dict)
    """Found guilty, and why: stays out until the rule ends."""
    _groups: list[tuple[RuleId, ...]] = field(default_factory=list)
    """Suspects still to be tried, group by group."""
    _trial: tuple[RuleId, ...] = ()
    """The group let back in now."""
    _up_since: float | None = None
    _is_deaf: bool = False
    """Until the session has been quiet: what happens now was caused by what is being withdrawn."""
    _deaths: list[float] = field(default_factory=list)

    @property
    def is_searching(self) -> bool:
        """Whether suspects are kept out or on trial."""
        return bool(self._groups or self._trial)

    @property
    def is_watching(self) -> bool:
        """Whether `tick` has anything to do."""
        return self.is_searching or self._is_deaf

    def barred(self) -> dict[RuleId, str]:
        """Rules that must not stand there now, each with the reason."""
        waiting = {
            rule: "kept back while the rule that resets this session is searched"
            for group in self._groups
            for rule in group
        }
        return waiting | self.sentenced

    def forget(self, rule: RuleId) -> None:
        """The rule has ended: a new one with the same match is a new case."""
        self.sentenced.pop(rule, None)
        self._groups = [rest for group in self._groups if (rest := tuple(one for one in group if one != rule))]
        self._trial = tuple(one for one in self._trial if one != rule)

    def up(self, now: float) -> None:
        """The session came up."""
        self._up_since = now

    def down(self, held: Mapping[RuleId, float], now: float) -> bool:
        """The session went down; says whether the rules barred have changed."""
        lived = now - self._up_since if self._up_since is not None else None
        self._up_since = None
        if lived is None or lived > SHORT_LIFE_SECONDS:
            return False
        self._deaths = [at for at in self._deaths if now - at < SHORT_LIVES_WINDOW] + [now]
        if len(self._deaths) < SHORT_LIVES:
            return False
        self._deaths.clear()
        return self._blame(held, f"the session died within {SHORT_LIFE_SECONDS:.0f} s, {SHORT_LIVES} times", now)

    def notified(self, code: int, subcode: int, held: Mapping[RuleId, float], now: float) -> bool:
        """The neighbour sent a NOTIFICATION; says whether the rules barred have changed."""
        if code != 3:
            return False
        return self._blame(held, f"NOTIFICATION {code}/{subcode}", now)

    def tick(self, is_settled: bool, last_told: float, now: float) -> bool:
        """Time passes, with every command to this neighbour answered or not; says whether the rules barred changed."""
        is_quiet = (
            is_settled
            and self._up_since is not None
            and now - self._up_since >= STABLE_SECONDS
            and now - last_told >= STABLE_SECONDS
        )
        if not is_quiet:
            return False
        self._is_deaf = False
        if not self.is_searching:
            return False
        self._trial = self._groups.pop(0) if self._groups else ()
        return True

    def _blame(self, held: Mapping[RuleId, float], why: str, now: float) -> bool:
        if self._is_deaf:
            # The suspects are being withdrawn; the session may die some more on what was sent before.
            return False
        if self._trial:
            suspects, self._trial = self._trial, ()
        else:
            free = {rule: told for rule, told in held.items() if rule not in self.sentenced}
            suspects = tuple(rule for rule, told in free.items() if now - told < RECENT_SECONDS) or tuple(free)
        if not suspects:
            return False
        self._is_deaf = True
        if len(suspects) == 1:
            self.sentenced[suspects[0]] = f"it resets this session: {why}"
            return True
        half = len(suspects) // 2
        self._groups[:0] = [suspects[:half], suspects[half:]]
        return True
