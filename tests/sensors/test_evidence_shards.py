"""What several shards kept of recent packets, read as one."""

import struct
from ipaddress import ip_address, ip_network

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rawframes import ethernet, ip, udp

from sensors import walk
from sensors.evidence_kernel import keep_batch
from sensors.evidence_ring import RecentBytes
from sensors.evidence_shards import RecentShards
from sensors.framing import ETHERNET
from sensors.tables import prefix_table

NETWORK = ip_network("198.51.100.0/22")
PREFIXES = prefix_table([(NETWORK, 0)])
KEPT = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=60)


def keep(ring: RecentBytes, microsecond: int, block: int) -> None:
    frame = ethernet(ip("192.0.2.1", f"198.51.{100 + block}.7", udp(1, microsecond + 1, bytes(20))))
    meta = np.array([(1_000, microsecond, 0, len(frame))], np.uint32).tobytes()
    keep_batch(*ring.arrays, PREFIXES, *walk.pcapy_batch(frame, meta), ETHERNET)


def stamps(content: bytes) -> list[int]:
    out, at = [], 0
    while at < len(content):
        _, nanoseconds, length, _ = struct.unpack_from("=IIII", content, at)
        out.append(nanoseconds // 1000)
        at += 16 + length
    return out


@given(kept=KEPT, every=st.integers(1, 3))
def test_records_of_all_rings_come_in_the_order_of_time(kept: list[tuple[int, int]], every: int) -> None:
    recent = RecentShards.within(6, 10.0, 3)
    for microsecond, (shard, block) in enumerate(kept):
        keep(recent.parts[shard], microsecond, block)
    span = recent.oldest, recent.position
    for text in ("198.51.100.0/22", "198.51.101.0/24", "198.51.102.7/32"):
        target = ip_network(text)
        mine = [number for number, (_, block) in enumerate(kept) if ip_address(f"198.51.{100 + block}.7") in target]
        assert recent.count(target, span) == len(mine)
        found = list(recent.read(target, span, 0, every, False))
        read = stamps(b"".join(one.content for one in found))
        assert read == sorted(read) and set(read) <= set(mine)
        assert sum(one.matching for one in found) == len(mine) and sum(one.packets for one in found) == len(read)
        if every == 1:
            assert read == mine
        if read:
            assert min(one.first_ns for one in found if one.packets) % 1_000_000_000 // 1000 == read[0]
            assert max(one.last_ns for one in found) % 1_000_000_000 // 1000 == read[-1]
    assert recent.kept == len(kept) and recent.one_of == 1
    assert not list(recent.read(NETWORK, (recent.position, recent.position), 0, 1, False))


def test_all_rings_together_take_what_one_would() -> None:
    whole, parts = RecentShards.within(16, 1.0, 1), RecentShards.within(16, 1.0, 4)
    assert sum(part.arrays[0].nbytes for part in parts.parts) == whole.parts[0].arrays[0].nbytes


def test_who_was_overtaken_in_one_ring_has_lost_something() -> None:
    recent = RecentShards.within(4, 1e-6, 2)
    begin = recent.position
    assert not recent.has_lost(begin)
    ring = recent.parts[1]
    ring.arrays[3][0] = 1_000  # as many segments later
    assert recent.has_lost(begin) and not recent.has_lost(recent.position)
