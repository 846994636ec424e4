"""The compiled part of covering prefixes: what was counted for each /29 of a divided /24, in its wider parts.

Arrays in, arrays changed; nothing is made here.
"""

# mypy: disable-error-code="no-untyped-def"

from sensors.compiled import kernel
from sensors.tables import PINNED

_LEAVES = 32
"""Where the /29 begin among the parts of a /24 (`tables.BLOCK_ROWS`)."""


@kernel
def add_up(rows, firsts):
    """Each part gets the sum of its halves; `firsts`: where the parts of each divided /24 begin."""
    for number in range(len(firsts)):
        first = firsts[number]
        for part in range(_LEAVES - 1, 1, -1):
            for column in range(PINNED):
                rows[first + part, column] = rows[first + 2 * part, column] + rows[first + 2 * part + 1, column]
