"""The compiled part of the windows: what changed for each watched target, which of them are worth a look, and how their
rates are to limits. One pass each, since a tick has some forty steps over a few hundred numbers.

Arrays in, arrays changed; nothing is made here.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import math

from sensors.compiled import inlined, kernel
from sensors.headers import Column

PACKETS, BYTES, SENT, SENT_BYTES = map(int, (Column.PACKETS, Column.BYTES, Column.OUTGOING, Column.OUTGOING_BYTES))
SHORT, MIDDLE, LONG, PLAIN = range(4)
"""Windows, and the bit behind theirs (`window.PLAIN`)."""
CROSSED, FAR_ABOVE, ABOVE = 1, 2, 4
"""Bits of `Judgement.loud`: some limit is crossed by more than chance, or `PLAIN`; is exceeded in the short window, by
packets enough; is exceeded in the shortest window that is long enough for it."""


@inlined
def _is_much(now, then, slot, seconds, packets, size):
    many, much = packets * seconds, size * seconds / 8.0
    return (
        now[slot, PACKETS] - then[slot, PACKETS] >= many
        or now[slot, SENT] - then[slot, SENT] >= many
        or now[slot, BYTES] - then[slot, BYTES] >= much
        or now[slot, SENT_BYTES] - then[slot, SENT_BYTES] >= much
    )


@inlined
def _is_near(now, then, slot, seconds, least, share):
    for column in range(now.shape[1]):
        if now[slot, column] - then[slot, column] >= least[column] * share * seconds:
            return True
    return False


@kernel
def look(table, rows, lines, wanted, now, short, middle, long, seconds, packets, size, least, shares, slots):
    """Copies what the watched `rows` count to `now`, and writes to `slots` which gained enough in one of the windows,
    or are `wanted` anyway; gives how many those are. `lines`: where a row says what kind of target it is. `packets`,
    `size` (in bits): below them nothing matters; `least`: the same by column, of which a line's `shares` count."""
    found = 0
    for slot in range(len(rows)):
        row = rows[slot]
        for column in range(now.shape[1]):
            now[slot, column] = table[row, column]
        share = shares[table[row, lines]]
        if wanted[slot] or (
            (
                _is_much(now, short, slot, seconds[SHORT], packets, size)
                or _is_much(now, middle, slot, seconds[MIDDLE], packets, size)
                or _is_much(now, long, slot, seconds[LONG], packets, size)
            )
            and (
                _is_near(now, short, slot, seconds[SHORT], least, share)
                or _is_near(now, middle, slot, seconds[MIDDLE], least, share)
                or _is_near(now, long, slot, seconds[LONG], least, share)
            )
        ):
            slots[found] = slot
            found += 1
    return found


@inlined
def _rates(now, then, slot, seconds, out):
    for column in range(len(out)):
        out[column] = (now[slot, column] - then[slot, column]) / seconds


@kernel
def read(table, rows, slots, zone, line, wanted, limits_of, now, short, middle, long, seconds,
         zones, lines, tracked, limits, rates):  # fmt: skip
    """Writes of each row and its slot what it is, whether it is wanted, its limits and what it gained a second in each
    window. `zone`, `line`: where a row says so."""
    for number in range(len(rows)):
        row, slot = rows[number], slots[number]
        zones[number], lines[number], tracked[number] = table[row, zone], table[row, line], wanted[slot]
        for measure in range(limits.shape[1]):
            limits[number, measure] = limits_of[table[row, zone], table[row, line], measure]
        _rates(now, short, slot, seconds[SHORT], rates[SHORT, number])
        _rates(now, middle, slot, seconds[MIDDLE], rates[MIDDLE, number])
        _rates(now, long, slot, seconds[LONG], rates[LONG, number])


@kernel
def judge(short, middle, long, terms, weights, limits, learned, units, seconds, minimum, enough, is_long, deviations,
          severity, fast, crossed, loud):  # fmt: skip
    """Writes how rates in three windows, row by column, are to limits, row by measure, as `window.Readings` has it.
    `terms`: measure, column, in order of measures, with their `weights`; `enough`: packets of the short window from
    which on it says something; `is_long`: judge all in the long one, chance is somebody else's; `seconds`: of the
    windows in name, and of the short one indeed."""
    for row in range(len(limits)):
        packets = (short[row, PACKETS] + short[row, SENT]) * seconds[PLAIN]
        at, how = 0, 0
        for measure in range(limits.shape[1]):
            one, two, three = 0.0, 0.0, 0.0
            while at < len(terms) and terms[at, 0] == measure:
                column, weight = terms[at, 1], weights[at]
                one += short[row, column] * weight
                two += middle[row, column] * weight
                three += long[row, column] * weight
                at += 1
            limit = limits[row, measure]
            chosen, gained = LONG, three
            if not is_long and limit * seconds[SHORT] >= minimum:
                chosen, gained = SHORT, one
            elif not is_long and limit * seconds[MIDDLE] >= minimum:
                chosen, gained = MIDDLE, two
            usual = three / learned[row, measure]
            worst = max(gained / limit, usual)
            severity[row, measure] = worst
            fast[row, measure] = one / limit if packets >= enough else 0.0
            how |= (FAR_ABOVE if fast[row, measure] >= 1 else 0) | (ABOVE if worst >= 1 else 0)
            if is_long:
                crossed[row, measure] = 1 if worst >= 1 else 0
                how |= CROSSED if worst >= 1 else 0
                continue
            bits = (1 << LONG if usual >= 1 else 0) | (1 << PLAIN if three >= limit else 0)
            spread = limit * units[measure]
            if one >= limit + deviations * math.sqrt(spread / seconds[SHORT]) and chosen <= SHORT:
                bits |= 1 << SHORT
            if two >= limit + deviations * math.sqrt(spread / seconds[MIDDLE]) and chosen <= MIDDLE:
                bits |= 1 << MIDDLE
            if three >= limit + deviations * math.sqrt(spread / seconds[LONG]):
                bits |= 1 << LONG
            crossed[row, measure] = bits
            how |= CROSSED if bits else 0
        loud[row] = how
