"""What is gathered for who follows connections: all of it, or all of some connections, and never too much."""

import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segments import SECOND, segments

from rules.traffic import Detection, State
from rules.zone import Zone
from sensors import gathered, tables, walk
from sensors.connections import SlowWatch
from sensors.gathered import Gathering
from sensors.headers import HAS_PAYLOAD, HAS_PORTS, HEADER, MAPPED, Kind
from sensors.tables import ANY, Tables

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
ZONES = (Zone("web", (ip_network("203.0.113.0/24"),)),)
PORTS = (80, 443)
OPERATING = Path(__file__).resolve().parents[2] / "docs" / "operating.md"


def remembered(where: Tables, entries: ANY) -> None:
    """As if the kernel had written them."""
    for entry in walk.words(entries):
        where.ring[int(where.state[tables.RING_HEAD]) % len(where.ring)] = entry
        where.state[tables.RING_HEAD] += 1


def anything(random: np.random.Generator, count: int) -> ANY:
    out = random.integers(0, 256, count * HEADER.itemsize, dtype=np.uint8).view(HEADER).copy()
    out["protocol"] = random.choice([6, 6, 6, 17], count)
    out["destination_port"] = random.choice([80, 443, 22], count)
    out["source_low"] = random.integers(0, 50, count)
    out["source_port"], out["destination_low"] = 1_000, MAPPED
    return out


@pytest.mark.parametrize("most", [100, 1_000])
@given(seed=st.integers(0, 2**32), parts=st.lists(st.integers(0, 300), max_size=5))
def test_whole_connections_are_kept_and_never_more_than_there_is_room_for(
    most: int, seed: int, parts: list[int]
) -> None:
    random, where = np.random.default_rng(seed), tables.make(rows=64, ring=512, normal=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathered, "MOST", most)
        gathering, came = Gathering(where, PORTS), []
        for count in parts:
            came.append(anything(random, count))
            remembered(where, came[-1])
            gathering.feed(where)
        handed = gathering.take()
    whole = np.concatenate([np.zeros(0, HEADER), *came])
    matters = whole[
        (whole["protocol"] == 6) & np.isin(whole["destination_port"], PORTS) & (whole["fragment"] & 2 == 0)
        & (whole["marks"] & HAS_PORTS != 0)
    ]  # fmt: skip
    assert len(handed.entries) == len(handed.lots) <= most
    assert (handed.lots % handed.one_of == 0).all()
    fields = ["source_high", "source_low", "destination_low", "source_port", "destination_port"]
    kept = matters[np.isin(matters[fields], np.unique(handed.entries[fields]))]
    assert kept.tobytes() == handed.entries.tobytes()
    if handed.one_of == 1:
        assert len(kept) == len(matters)


@given(seed=st.integers(0, 2**32), count=st.integers(0, 400))
def test_of_what_servers_send_a_little_is_kept_with_the_lot_of_the_connection(seed: int, count: int) -> None:
    random, where = np.random.default_rng(seed), tables.make(rows=64, ring=1024, normal=64)
    gathering = Gathering(where, PORTS, answers=True)
    asked = anything(random, count)
    asked["protocol"], asked["destination_port"], asked["fragment"] = 6, 80, 0
    asked["marks"] |= HAS_PORTS
    back = asked.copy()
    for one, other in (("source", "destination"), ("destination", "source")):
        for part in ("high", "low", "port"):
            back[f"{one}_{part}"] = asked[f"{other}_{part}"]
    whole = np.concatenate([asked, back])
    remembered(where, whole)
    gathering.feed(where)
    handed = gathering.take()
    to, came = handed.entries["destination_port"] == 80, handed.entries["source_port"] == 80
    assert handed.entries[to].tobytes() == asked.tobytes()
    lots = {_ends(one): lot for one, lot in zip(handed.entries[to], handed.lots[to], strict=True)}
    told = [(lot, _what(one)) for one, lot in zip(handed.entries[came], handed.lots[came], strict=True)]
    assert [lot for lot, _ in told] == [lots[_ends(one)] for one in handed.entries[came]]
    # Two connections that share a place in the table may be told of twice.
    assert len(told) <= 1.05 * len(set(told)) + 2
    assert {(lots[_ends(one)], _what(one)) for one in back} == set(told)


@pytest.mark.skipif(not OPERATING.exists(), reason="docs are only in a checkout")
def test_all_is_followed_up_to_the_rate_that_the_manual_names() -> None:
    manual = OPERATING.read_text()
    (named,) = re.findall(r"Above ([0-9,]+) packets a second to these ports", manual)
    most = int(named.replace(",", ""))
    for count, one_of in ((most, 1), (most + 1, 2)):
        where = tables.make(rows=64, ring=16_384, normal=64)
        gathering = Gathering(where, PORTS)
        remembered(where, segments(np.arange(count), Kind.SYN, 0, 60))
        gathering.feed(where)
        assert gathering.take().one_of == one_of


def _ends(entry: ANY) -> frozenset[tuple[int, ...]]:
    return frozenset(tuple(int(entry[f"{side}_{part}"]) for part in ("high", "low", "port"))
                     for side in ("source", "destination"))  # fmt: skip


def _what(entry: ANY) -> str:
    if entry["kind"] in (Kind.FIN, Kind.RST):
        return "end"
    return "data" if entry["marks"] & HAS_PAYLOAD else "hears"


def slow_among(flood: int, connections: int = 6_000, looks: int = 8) -> tuple[list[Detection], int, Gathering]:
    """Crumbs in so many connections beside so many forged SYNs a second: what is told, how many are followed."""
    where = tables.make(rows=64, ring=65_536, normal=64)
    gathering, watch, random = Gathering(where, PORTS), SlowWatch(ZONES, "edge-1"), np.random.default_rng(5)
    told: list[Detection] = []
    ids = np.arange(connections)
    for second in range(looks):
        forged = segments(np.arange(flood), Kind.SYN, second, 60)
        forged["source_low"] = MAPPED | random.integers(1 << 24, 1 << 31, flood)
        mine = segments(ids, Kind.SYN if second == 0 else Kind.ACK, second, 60 if second == 0 else 46, second > 0, 50)
        for part in np.array_split(np.concatenate([mine, forged]), 8):
            remembered(where, part)
            gathering.feed(where)
        told += watch.look(gathering.take(), (second + 1) * SECOND, NOW + timedelta(seconds=second))
    return told, watch.followed, gathering


def test_a_slow_attack_is_found_beside_a_flood_and_its_size_is_told() -> None:
    told, followed, gathering = slow_among(20_000)
    assert gathering.one_of > 1
    assert [one.state for one in told][:1] == [State.STARTED]
    # Some 750 connections are followed, each for eight: within a fifth.
    assert told[-1].severity == pytest.approx(6_000 / 500, rel=0.2)
    assert followed < 3 * gathered.MOST


def test_forged_handshakes_alone_are_no_connections() -> None:
    told, followed, _ = slow_among(20_000, connections=0, looks=6)
    assert told == []
    assert followed <= 4 * gathered.MOST
