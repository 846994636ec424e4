"""The compiled part of what each target usually gets: one pass over the targets whose turn it is.

Arrays in, arrays changed; nothing is made here.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import math

from sensors.compiled import kernel
from sensors.headers import COLUMNS
from sensors.tables import ATTACKED, PINNED, REBORN


@kernel
def visit(rows, table, counted, average, visited, now, shift, memory_seconds, bits, values, rates, same, seconds):
    """Moves the averages of these rows, and takes what they counted; writes who is still the same target, their mean
    rates since the visit before, and the seconds that passed. `bits` and `values` are one place, for a float's bits and
    the float."""
    for number in range(len(rows)):
        row = rows[number]
        passed = (now - visited[row]) / 1e9
        is_same = table[row, REBORN] == 0 and visited[row] > 0 and passed > 0
        pull = 0.0 if table[row, PINNED] & ATTACKED else 1.0 - math.exp(-passed / memory_seconds)
        for column in range(COLUMNS):
            count = table[row, column] >> shift[column] & 0xFFFFFFFF
            moved = 0
            if is_same:
                rate = ((count - counted[row, column] & 0xFFFFFFFF) << shift[column]) / passed
                rates[number, column] = rate
                bits[0] = average[row, column] << 16
                values[0] += (rate - values[0]) * pull
                moved = bits[0] >> 16
            average[row, column] = moved
            counted[row, column] = count
        table[row, REBORN] = 0
        visited[row], same[number], seconds[number] = now, is_same, passed
