"""What is above its learned limit for a day on end, below every static limit and of a kind that applications send, is
the new normal: nobody is under attack for ever because a sensor learned too little.

Holds few targets only, a bounded number of them; the others wait until there is room. Pure.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOM = 4096
"""Targets that can wait at once."""
_UP, _DOWN = 1 / 16, 1 / 64
"""Octaves by which the candidate follows each observation: it ends where four fifths of them lie below."""

ROWS = NDArray[np.int64]
FLOATS = NDArray[np.floating[Any]]


class Waiting:
    """Targets above their learned limits, and for how long."""

    def __init__(self, classes: int, patience: float) -> None:
        """`patience`: seconds above a learned limit after which a rate is adopted."""
        self._patience = patience
        self._rows: ROWS = np.zeros(0, np.int64)
        self._held: NDArray[np.float64] = np.zeros(0)
        self._candidates: NDArray[np.float64] = np.zeros((0, classes))

    def __len__(self) -> int:
        return len(self._rows)

    def forget(self, rows: ROWS) -> None:
        """These rows belong to other targets now, or are out of the question."""
        if len(self._rows):
            self._keep(~np.isin(self._rows, rows))

    def over(self, rows: ROWS, rates: FLOATS, seconds: FLOATS) -> tuple[ROWS, NDArray[np.float64]]:
        """Takes one observation of targets above their limits (rates as in busy hours, and for how long): those whose
        time has come, and what is normal for them now, by class."""
        fresh = rows[~np.isin(rows, self._rows)][: max(0, ROOM - len(self._rows))]
        self._rows = np.concatenate((self._rows, fresh))
        self._held = np.concatenate((self._held, np.zeros(len(fresh))))
        self._candidates = np.concatenate((self._candidates, rates[np.isin(rows, fresh)]))
        order = np.argsort(rows)
        known = np.isin(self._rows, rows)
        places = order[np.searchsorted(rows, self._rows[known], sorter=order)]
        now = rates[places]
        candidates = self._candidates[known]
        # Nothing at all has no logarithm to follow.
        up = np.maximum(candidates, 1e-3) * 2**_UP
        self._candidates[known] = np.where(now > candidates, np.minimum(up, now), candidates * 2**-_DOWN)
        self._held[known] += seconds[places]
        done = self._held >= self._patience
        ready = self._rows[done], self._candidates[done]
        self._keep(~done)
        return ready

    def below(self, rows: ROWS, seconds: FLOATS) -> None:
        """These targets were below their limits: what they waited fades as it grew, so that quiet nights only
        lengthen the wait."""
        if len(self._rows):
            _, mine, theirs = np.intersect1d(self._rows, rows, return_indices=True)
            self._held[mine] -= seconds[theirs]
            self._keep(self._held >= 0)

    def _keep(self, which: NDArray[np.bool_]) -> None:
        self._rows, self._held, self._candidates = self._rows[which], self._held[which], self._candidates[which]
