"""The compiled part of the learned normal: one pass over all targets, since a pass for each step over a million
numbers would take ten times as long.

Arrays in, arrays changed; nothing is made here. `told` holds the settings, as numbered below.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import numpy as np

from sensors.compiled import inlined, kernel

FACTOR, YOUNG, JUDGED, GROWN, QUANTILE, STEP, FIRST, DITHER, EARLY = range(9)
"""Places in `told`: factor, young factor, ages in units of ten seconds, quantile, usual and first step in levels for
one unit, what is added before a step loses its fraction, until which age it is early."""
TOLD = 9
EARLY_QUANTILE, EARLY_GAIN = 0.5, 0.25
"""Of a target known for hours only the middle is learned: an attack that was there from the start lasts less than half
of that time, and is forgotten. Times the first step, which may be smaller in the middle than where little happens."""
UNIT_SECONDS = 10.0
CALM, ABOVE, WRONG = 1, 2, 4
"""What came of a target: it was learned from; above a learned limit; above a static one, or by what nobody sends
in earnest."""
OLDEST = 65_535
LARGEST_STEP = 1024.0
"""One octave."""


@inlined
def _limit(level, age, kind, zone, values, floors, typical, has_typical, shape, told):
    """The learned limit of one class, per second."""
    found = values[level] * told[FACTOR]
    if age < told[GROWN]:
        # Known for less than a day: its own, generously, or the zone's. For less than an hour: the zone's alone.
        usual = values[np.int64(typical[zone, kind])] * told[FACTOR]
        if age >= told[JUDGED]:
            found = max(found, usual) if has_typical[zone] else found
            # What has no more than the floor's level needs no generosity; levels are a thousandth apart.
            found *= told[YOUNG] if found > floors[kind] * 1.01 else 1.0
        else:
            found = usual if has_typical[zone] else np.inf
    return max(found * shape[zone, kind], floors[kind])


@kernel
def limits_of(rows, zones, measures, out, levels, ages, met, wanted, values, floors, typical, has_typical, shape, told):
    """Writes the limits of some targets to `out`, row by measure."""
    for number in range(len(rows)):
        row, zone = rows[number], zones[number]
        if not wanted[zone]:
            continue
        age = np.int64(ages[row]) if met[row] else np.int64(0)
        for kind in range(len(measures)):
            level = np.int64(levels[row, kind])
            out[number, measures[kind]] = _limit(
                level, age, kind, zone, values, floors, typical, has_typical, shape, told
            )


@kernel
def learn(which, rows, rates, zones, frozen, seconds, terms, weights, found, outcome,
          levels, ages, lowest, adoptable, static, wanted, values, floors, typical, has_typical, shape, told,
          sums, known, exceeding):  # fmt: skip
    """Takes one observation of each target that `which` names: moves levels and ages where it was calm, writes
    `outcome`, and adds what the zones need, by class and times seconds: usual rates, targets known for long enough,
    those above the typical."""
    classes = levels.shape[1]
    for at in range(len(which)):
        number = which[at]
        row, zone = rows[number], zones[number]
        age = np.int64(ages[row])
        for kind in range(classes):
            found[kind] = 0.0
        for term in range(len(terms)):
            found[terms[term, 0]] += rates[number, terms[term, 1]] * weights[term]
        what = 0
        for kind in range(classes):
            if found[kind] > static[zone, kind]:
                what |= WRONG
            # Below the floor nothing is above a limit, which is the case of nearly all.
            if found[kind] > floors[kind] and wanted[zone]:
                level = np.int64(levels[row, kind])
                if found[kind] > _limit(level, age, kind, zone, values, floors, typical, has_typical, shape, told):
                    what |= ABOVE if adoptable[kind] else ABOVE | WRONG
        if what == 0 and not frozen[number]:
            what = CALM
        outcome[number] = what
        for kind in range(classes):
            # An attacked target counts with what it would usually get.
            usual = found[kind]
            if what != CALM and usual > 0.0:
                usual = min(usual, values[np.int64(levels[row, kind])] * shape[zone, kind])
            sums[zone, kind] += usual * seconds[number]
        if age >= told[JUDGED]:
            known[zone] += seconds[number]
            for kind in range(classes):
                if levels[row, kind] > typical[zone, kind]:
                    exceeding[zone, kind] += seconds[number]
        if what == CALM:
            _move(row, age, seconds[number] / UNIT_SECONDS, found, levels, ages, lowest, values, shape, zone, told)


@inlined
def _move(row, age, units, found, levels, ages, lowest, values, shape, zone, told):
    """One step of each class towards the quantile, and of the age."""
    step, quantile = told[STEP], told[QUANTILE]
    if age < told[GROWN]:
        step = max(step, told[FIRST] / (1.0 + age))
    if age < told[EARLY]:
        step, quantile = step * EARLY_GAIN, EARLY_QUANTILE
    step = min(units * step, LARGEST_STEP)
    up = np.int64(step * quantile + told[DITHER])
    down = np.int64(step * (1.0 - quantile) + told[DITHER])
    for kind in range(levels.shape[1]):
        level = np.int64(levels[row, kind])
        # Nothing is above no level. The table of their rates is not in the caches: it is asked as seldom as can be.
        is_above = found[kind] > 0.0 and found[kind] > values[level] * shape[zone, kind]
        moved = level + up if is_above else level - down
        # A level below the floor's would change no limit, and would have to grow first when the target does.
        levels[row, kind] = min(max(moved, np.int64(lowest[kind])), OLDEST)
    ages[row] = min(age + np.int64(units + told[DITHER]), OLDEST)
