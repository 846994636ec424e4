"""The compiled part of the watch: a tick in which nobody comes and nobody goes, which is the case of nearly all.

Arrays in, arrays changed; nothing is made here.
"""

# mypy: disable-error-code="no-untyped-def,operator"

from sensors.compiled import inlined, kernel
from sensors.tables import EPOCH, WARM, WARM_AT, WATCH

LAST_EPOCH = 0x3FFFFF


@inlined
def _stays(table, row, warm_at, now):
    """The slot of a row that is worth a look, -1: it has none."""
    slot = table[row, WATCH] - 1
    if slot >= 0:
        warm_at[slot] = now
    return slot


@kernel
def touch(table, state, rows, warm_at, wanted, tracked, always, now):
    """Notes who is warm, marks the slots of `tracked` in `wanted`, and begins the next epoch. False: not all of them
    have slots, or some slots are nobody's any more; then the epoch is still the same."""
    for slot in range(len(rows)):
        if table[rows[slot], WATCH] != slot + 1:
            return False
        wanted[slot] = False
    for place in range(state[WARM]):
        if _stays(table, state[WARM_AT + place], warm_at, now) < 0:
            return False
    for number in range(len(tracked)):
        slot = _stays(table, tracked[number], warm_at, now)
        if slot < 0:
            return False
        wanted[slot] = True
    for number in range(len(always)):
        if _stays(table, always[number], warm_at, now) < 0:
            return False
    state[WARM] = 0
    state[EPOCH] = (state[EPOCH] + 1) & LAST_EPOCH
    return True
