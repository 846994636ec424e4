"""How near each target came to its limits since the last tick, compiled by Numba.

Each packet adds its share of the limits that it counts for, so that what stays cool can't have crossed any: a tick
looks at warm rows only. Flows that begin are told by a recency table, here too since it is asked for each packet.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import fetch_ahead, inlined, kernel
from sensors.headers import COLUMNS, IS_HTTP, IS_OUTGOING, IS_TLS, Column
from sensors.tables import (
    BASES_AT,
    EPOCH,
    FLOW_WORDS,
    FLOWS_AT,
    HEAT,
    HOT,
    LINE,
    LINES,
    MOST_WARM,
    MOST_ZONES,
    SCREEN_AT,
    SCREEN_BYTES,
    SCREEN_OUTGOING_BYTES,
    SCREEN_WORDS,
    SEED,
    UNWATCHED_AT,
    WARM,
    WARM_AT,
    ZONE,
)

HTTP, TLS, FLOWS, SENT = map(int, (Column.HTTP, Column.TLS, Column.FLOWS, Column.OUTGOING))
HEAT_BITS = 40
FLOW_SECONDS = 8
"""How long a flow is known after its last packet, if nothing else takes its place in the recency table."""


@kernel
def _warm(rows, state, row):
    """Notes that a row is worth a look, and what it has counted so far."""
    place = state[WARM]
    if place >= MOST_WARM:
        state[UNWATCHED_AT] += 1
        return
    state[WARM_AT + place] = row
    for column in range(COLUMNS):
        state[BASES_AT + place * COLUMNS + column] = rows[row, column]
    state[WARM] = place + 1


@inlined
def heated(rows, state, row, kind, marks, fresh, packets, size):
    """Adds what these packets bring a row nearer to its zone's limits. It is warm before they are counted."""
    word = rows[row, HEAT]
    heat = word & ((1 << HEAT_BITS) - 1) if word >> HEAT_BITS == state[EPOCH] else np.int64(0)
    # A target under attack is hot from the first packets of a tick on, and there is no more to tell of it.
    if heat < HOT:
        line = min(rows[row, ZONE], MOST_ZONES) * LINES + rows[row, LINE]
        at = SCREEN_AT + line * SCREEN_WORDS
        # Far more than makes warm, and no overflow.
        many, much = min(packets, 1 << 20), min(size, 1 << 24)
        if marks & IS_OUTGOING:
            heat += state[at + SENT] * many + state[at + SCREEN_OUTGOING_BYTES] * much
        else:
            heat += state[at + kind] * many + state[at + SCREEN_BYTES] * much
            if marks & IS_HTTP:
                heat += state[at + HTTP] * many
            elif marks & IS_TLS:
                heat += state[at + TLS] * many
            if fresh:
                heat += state[at + FLOWS] * many
        if heat >= HOT:
            heat = np.int64(HOT)
            _warm(rows, state, row)
        rows[row, HEAT] = state[EPOCH] << HEAT_BITS | heat


@inlined
def _fingerprint(state, sh, sl, dh, dl, protocol, ports):
    """A number that depends on every bit of a flow."""
    mixed = (sl ^ np.uint64(state[SEED])) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= (dl ^ sh) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(29)
    mixed = (mixed ^ dh ^ np.uint64(ports << 8 | protocol)) * np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ mixed >> np.uint64(32)


@inlined
def _flow_word(mixed):
    return FLOWS_AT + np.int64(mixed & np.uint64(FLOW_WORDS - 1))


@inlined
def expect_flow(state, sl, dl, protocol, ports):
    """Soon a packet of this IPv4 flow will come."""
    zero = np.uint64(0)
    fetch_ahead(state, (_flow_word(_fingerprint(state, zero, sl, zero, dl, protocol, ports)),))


@inlined
def is_fresh(state, now, sh, sl, dh, dl, protocol, ports):
    """Whether a flow begins, as far as the recency table knows: two places for each fingerprint, in one word, the older
    one is given away."""
    mixed = _fingerprint(state, sh, sl, dh, dl, protocol, ports)
    at = _flow_word(mixed)
    second = now // 1_000_000_000 & 0xFF
    print_ = np.int64(mixed >> np.uint64(24)) & 0xFFFFFF
    word = state[at]
    one, other = word & 0xFFFFFFFF, word >> 32 & 0xFFFFFFFF
    age, other_age = (second - one) & 0xFF, (second - other) & 0xFF
    mine = print_ << 8 | second
    if one >> 8 == print_ and age <= FLOW_SECONDS:
        if age:
            state[at] = other << 32 | mine
        return False
    if other >> 8 == print_ and other_age <= FLOW_SECONDS:
        if other_age:
            state[at] = mine << 32 | one
        return False
    # In a tie one of the two goes by the fingerprint: always the same one would make the other useless. Which it will
    # be the processor can't guess, so it should not: both are computed.
    keeps_one = (other_age > age) | ((other_age == age) & (print_ & 1 != 0))
    state[at] = (mine << 32 | one) if keeps_one else (other << 32 | mine)
    return True
