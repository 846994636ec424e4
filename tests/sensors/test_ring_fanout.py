"""Capture on several processors, on a real veth pair: every packet counted once, in its target's shard, and found as
with one."""

import json
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from rawframes import ACK, SYN, Fragment, ethernet, ip, tcp, udp
from steering_model import end_of, steered
from virtual_link import tunnel, veth, wait_for

from rules.errors import Refused
from rules.match import Network
from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors import fanout, walk
from sensors.evidence_settings import EvidenceSettings
from sensors.headers import Column, Total
from sensors.loop import Sensor
from sensors.rings import Rings
from sensors.sampling import Sampling
from sensors.settings import Capturing, Detecting, SensorSettings
from sensors.status import StatusBoard
from sensors.tables import FIRST_ROW, LINE, Tables, prefix_table
from sensors.targets import TargetRates

pytestmark = pytest.mark.peer
PATIENCE_SECONDS = 20
V4, V6 = ip_network("198.51.100.0/22"), ip_network("2001:db8::/44")
PROTECTED: list[tuple[Network, int]] = [(V4, 0), (V6, 1)]


@contextmanager
def captured(shards: int, **more: object) -> Iterator[tuple[Rings, Tables, socket.socket]]:
    """Rings that count already, their tables, and a socket that sends to them."""
    with veth() as (interface, sending):
        settings = Capturing((interface,), ring_megabytes=8 * shards, fanout=shards, **more)  # type: ignore[arg-type]
        source, into = Rings(settings), fanout.make(PROTECTED, shards=shards, rows=4096, ring=4096, normal=128)
        source.feed(into, walk.NEVER)
        try:
            yield source, into, sending
        finally:
            source.close()


def fed(source: Rings, into: Tables, packets: int) -> None:
    """Feeds until so many have come."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while into.totals[Total.PACKETS] < packets and time.monotonic() < deadline:
        source.wait(0.02)
        source.feed(into, walk.NEVER)
    assert into.totals[Total.PACKETS] == packets


def hosts(into: Tables, shard: Tables, column: Column) -> dict[str, int]:
    """What a shard has counted for each host."""
    first = int(shard.state[FIRST_ROW])
    return {
        str(shard.host(row).network_address): int(into.rows[row, column])
        for row in range(first, first + shard.used)
        if into.rows[row, LINE] == 0 and into.rows[row, column]
    }


def mixed(count: int) -> list[tuple[str, str, bytes]]:
    """Packets of every kind: source, destination, frame."""
    out = []
    for number in range(count):
        block, host = number % 4, number // 4 % 50 + 1
        ours = f"198.51.{100 + block}.{host}" if number % 3 else str(V6[(block << 80) + host])
        theirs = f"192.0.2.{number % 200 + 1}" if number % 3 else f"2001:db8:ffff::{number % 200 + 1:x}"
        source, destination = (theirs, ours) if number % 5 else (ours, theirs)
        fragment = Fragment(10 * (number % 2), True) if number % 7 == 0 else None
        tags = [(), ((0x8100, 7),), ((0x88A8, 7), (0x8100, 9)), ((0x9100, 3),)][number % 4]
        frame = ethernet(ip(source, destination, udp(number % 999 + 1, 9, bytes(30)), fragment=fragment), *tags)
        out.append((source, destination, frame))
    return out


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_every_packet_is_counted_once_and_in_its_shard(shards: int) -> None:
    packets = mixed(6_000)
    prefixes = [prefix for prefix, _ in PROTECTED]
    expected: dict[Column, Counter[tuple[int, str]]] = {Column.PACKETS: Counter(), Column.OUTGOING: Counter()}
    with captured(shards) as (source, into, sending):
        for start in range(0, len(packets), 1_000):
            for theirs, ours, frame in packets[start : start + 1_000]:
                sending.send(frame)
                shard = steered(theirs, ours, prefixes, shards)
                if any(ip_network(ours).network_address in prefix for prefix in prefixes):
                    expected[Column.PACKETS][shard, ours] += 1
                elif any(ip_network(theirs).network_address in prefix for prefix in prefixes):
                    expected[Column.OUTGOING][shard, theirs] += 1
            fed(source, into, start + 1_000)
        assert source.losses().dropped == 0
        for column, counted in expected.items():
            found = [hosts(into, shard, column) for shard in into.shards]
            assert {(number, host): count for number, one in enumerate(found) for host, count in one.items()} == counted
        assert source.interfaces()[0].packets == 6_000 and into.totals[Total.OUTGOING] > 0


def test_packets_that_this_machine_sends_are_steered_too_where_they_count() -> None:
    with captured(2, keep_outgoing=True) as (source, into, _):
        interface = source.interfaces()[0].name
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as near:
            near.bind((interface, 0))
            for number in range(400):
                near.send(ethernet(ip("192.0.2.1", f"198.51.{100 + number % 4}.7", udp(1, 2))))
        fed(source, into, 400)
        for number, shard in enumerate(into.shards):
            found = hosts(into, shard, Column.PACKETS)
            assert len(found) == 2 and {end_of(host, 2) for host in found} == {number}


def test_zones_that_change_while_packets_flow_lose_none_and_count_none_twice() -> None:
    zones = [prefix_table(PROTECTED), prefix_table([(ip_network("192.0.2.0/24"), 0), *PROTECTED[:1]])]
    frames = [
        ethernet(ip(f"192.0.2.{n % 250 + 1}", f"198.51.{100 + n % 4}.{n % 9 + 1}", udp(1, 2))) for n in range(300)
    ]
    sent = 0
    with captured(2) as (source, into, sending):
        for turn in range(40):
            for frame in frames:
                sending.send(frame)
            sent += len(frames)
            into = into.protecting(zones[turn % 2])
            source.feed(into, walk.NEVER)
        fed(source, into, sent)
        assert source.losses().dropped == 0
        counted = sum(sum(hosts(into, shard, Column.PACKETS).values()) for shard in into.shards)
        assert counted == sent


def test_an_interface_that_goes_away_comes_back_whole() -> None:
    with captured(2) as (source, into, sending):
        interface = source.interfaces()[0].name
        sending.send(ethernet(ip("192.0.2.1", "198.51.100.1", udp(1, 2))))
        fed(source, into, 1)
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        source.wait(0.01)
        assert not source.interfaces()[0].is_up and source.interfaces()[0].packets == 1
        subprocess.run(["ip", "link", "set", interface, "up"], check=True)
        source._gone[interface] -= 2

        def returned() -> bool:
            source.wait(0.02)
            return source.interfaces()[0].is_up

        wait_for(returned)
        wait_for(lambda: _reaches(sending, source, into))
        assert all(end_of(host, 2) == number for number, shard in enumerate(into.shards)
                   for host in hosts(into, shard, Column.PACKETS))  # fmt: skip


def _reaches(sending: socket.socket, source: Rings, into: Tables) -> bool:
    for number in range(20):
        sending.send(ethernet(ip("192.0.2.1", f"198.51.{100 + number % 4}.1", udp(1, 2))))
    source.wait(0.02)
    source.feed(into, walk.NEVER)
    return all(hosts(into, shard, Column.PACKETS) for shard in into.shards)


def test_a_super_frame_goes_to_its_shard_and_counts_as_the_packets_it_was_made_from() -> None:
    with captured(2) as (source, into, sending):
        # PACKET_VNET_HDR: the frame comes with a virtio-net header, as offloads make them, and lies in several pieces
        sending.setsockopt(263, 15, 1)
        for block in range(4):
            frame = ethernet(ip("192.0.2.1", f"198.51.{100 + block}.7", tcp(80, 9, ACK, bytes(14_000))))
            virtio = b"\x01\x01" + (54).to_bytes(2, "little") + (1_400).to_bytes(2, "little") + b"\x22\x00\x10\x00"
            sending.send(virtio + frame)
        fed(source, into, 40)
        for number, shard in enumerate(into.shards):
            found = hosts(into, shard, Column.ACK)
            assert list(found.values()) == [10, 10] and {end_of(host, 2) for host in found} == {number}


def test_bare_ip_of_a_tunnel_is_divided_both_ways() -> None:
    with tunnel() as (name, far):
        source = Rings(Capturing((name,), filter="udp", ring_megabytes=8, fanout=2, keep_outgoing=True))
        into = fanout.make(PROTECTED, shards=2, rows=4096, ring=4096, normal=128)
        source.feed(into, walk.NEVER)
        for number in range(8):
            far.write(ip("192.0.2.1", f"198.51.{100 + number % 4}.7", udp(1, 2)))
        far.write(ip("2001:db8:ffff::1", str(V6[(3 << 80) + 1]), udp(1, 2)))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
            for number in range(8):
                sending.sendto(b"out", (f"198.51.{100 + number % 4}.9", 9))
        fed(source, into, 17)
        for number, shard in enumerate(into.shards):
            found = hosts(into, shard, Column.PACKETS)
            assert len(found) == 4 + number and {end_of(host, 2) for host in found} == {number}
        source.close()


def test_one_capability_is_enough_for_several_shards() -> None:
    program = (
        "from sensors import fanout, walk; from sensors.rings import Rings; from sensors.settings import Capturing; "
        "source = Rings(Capturing(('lo',), fanout=2)); "
        "source.feed(fanout.make(shards=2, rows=64, ring=64, normal=64), walk.NEVER); source.close()"
    )
    root = Path(__file__).resolve().parents[2]
    confined = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw"]
    done = subprocess.run(
        [*confined, str(root / ".venv/bin/python"), "-c", program], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_evidence_of_an_attack_holds_both_directions_in_the_order_of_time(tmp_path: Path) -> None:
    said: list[Detection] = []

    def send(detection: Detection) -> bool:
        said.append(detection)
        return True

    with veth() as (interface, sending):
        capture = Capturing((interface,), ring_megabytes=16, fanout=2)
        zone = Zone("z", (V4,), limits=((Metric.SYN_PACKETS, 2_000),))
        evidence = EvidenceSettings(tmp_path, after_seconds=2.0, least_free_bytes=0)
        settings = SensorSettings("s", capture, (zone,), evidence=evidence, detecting=Detecting(quiet_seconds=0.3))
        sensor, stop = Sensor(settings, send), threading.Event()
        board, rates = StatusBoard(settings, sensor, lambda: None), TargetRates(Sampling(1, 50))
        thread = threading.Thread(target=sensor.run, args=(stop,))
        thread.start()
        try:
            flood = [ethernet(ip(f"10.0.0.{n % 250}", "198.51.101.7", tcp(n + 1, 80, SYN))) for n in range(99)]
            # An answer to a neighbour in the other shard, which counts it.
            flood += [ethernet(ip("198.51.101.7", "198.51.100.9", tcp(80, 9, ACK)))]
            rates.look(sensor.tables, (zone,), time.monotonic())
            run_until(sending, flood, 6_000, lambda: bool(started(said)))
            busiest = rates.look(sensor.tables, (zone,), time.monotonic())
            shown = board.look(time.monotonic())
            wait_for(lambda: any(one.state is State.OVER for one in said))
        finally:
            stop.set()
            thread.join()
    assert busiest[0]["target"] == "198.51.101.7"
    assert len(shown["interfaces"]) == 1 and shown["interfaces"][0]["up"]
    description = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert description["packets"] == description["packets_matching"] and not description["truncated"]
    stamps, answers = [], 0
    for stamp, frame in records(next(tmp_path.glob("*.pcap")).read_bytes()):
        stamps.append(stamp)
        answers += frame[26:30] == bytes([198, 51, 101, 7])
    assert stamps == sorted(stamps) and len(stamps) == description["packets"]
    assert 0 < answers < len(stamps) / 20 and description["in_order"]


def records(content: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Of a capture file with nanoseconds: time and frame."""
    at = 24
    while at < len(content):
        seconds, nanoseconds, length, _ = struct.unpack_from("=IIII", content, at)
        yield (seconds, nanoseconds), content[at + 16 : at + 16 + length]
        at += 16 + length


def test_losses_of_all_shards_are_told() -> None:
    with captured(2, snap_bytes=2_000) as (source, into, sending):
        for number in range(16_000):
            sending.send(ethernet(ip("192.0.2.1", f"198.51.{100 + number % 4}.1", udp(1, 2, bytes(1_400)))))
        dropped = source.losses().dropped
        assert dropped > 500 and source.interfaces()[0].dropped == dropped
        assert source.helpers_seconds == 0
        fed(source, into, 16_000 - dropped)
        assert source.helpers_seconds > 0, "with so much to do, nobody helped"
        for number, shard in enumerate(into.shards):
            found = hosts(into, shard, Column.PACKETS)
            assert len(found) == 2 and {end_of(host, 2) for host in found} == {number}


def test_tables_for_another_number_of_shards_are_refused() -> None:
    with captured(2) as (source, _, _), pytest.raises(ValueError, match="1 shards, and packets for 2"):
        source.feed(fanout.make(rows=64, ring=64, normal=64), walk.NEVER)


def test_a_link_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(Refused, match=r"sensor\.fanout"):
        Capturing(("lo",), with_libpcap=True, fanout=2)


@pytest.mark.parametrize("shards", [1, 2])
def test_attacks_are_found_as_with_one_processor(shards: int) -> None:
    said: list[Detection] = []

    def send(detection: Detection) -> bool:
        said.append(detection)
        return True

    limits, total = ((Metric.SYN_PACKETS, 2_000), (Metric.UDP_PACKETS, 2_000)), ((Metric.UDP_PACKETS, 6_000),)
    zone = Zone("z", (V4,), limits=limits, total_limits=total)
    with veth() as (interface, sending):
        capture = Capturing((interface,), ring_megabytes=16, fanout=shards)
        before = (Zone("before", (ip_network("10.0.0.0/8"),)),)
        settings = SensorSettings("s", capture, before, detecting=Detecting(quiet_seconds=0.3))
        sensor, stop = Sensor(settings, send), threading.Event()
        thread = threading.Thread(target=sensor.run, args=(stop,))
        thread.start()
        try:
            sensor.protect((zone,))
            flood = [
                ethernet(ip(f"10.0.{n % 256}.{n // 256}", "198.51.101.7", tcp(n + 1, 80, SYN))) for n in range(999)
            ]
            run_until(sending, flood, 6_000, lambda: "198.51.101.7/32" in started(said))
            wait_for(lambda: any(one.state is State.OVER for one in said))
            carpet = [ethernet(ip(f"10.9.{n % 256}.1", f"198.51.{100 + n % 4}.{n // 4 % 250 + 1}", udp(n % 99 + 1, 9)))
                      for n in range(4_000)]  # fmt: skip
            run_until(sending, carpet, 12_000, lambda: len(started(said)) > 1)
            wait_for(lambda: sum(one.state is State.OVER for one in said) == len(started(said)))
        finally:
            stop.set()
            thread.join()
    assert started(said) == ["198.51.101.7/32", "198.51.100.0/22"]
    first = next(one for one in said if one.state is State.STARTED)
    assert str(first.vector) == "syn_flood" and first.signatures[0].coverage == 1.0
    assert sensor.numbers["packets_dropped_total"] == 0 and sensor.numbers["cpu_seconds_total"] > 0
    assert not [one.name for one in threading.enumerate() if one.name.startswith("capture")]


def started(said: list[Detection]) -> list[str]:
    """The targets of attacks, in order."""
    return [str(one.target) for one in said if one.state is State.STARTED]


def run_until(sending: socket.socket, frames: list[bytes], rate: int, is_over: Callable[[], bool]) -> None:
    """Sends at a rate until it is over."""
    began, sent = time.monotonic(), 0
    while time.monotonic() - began < PATIENCE_SECONDS:
        for _ in range(int((time.monotonic() - began) * rate) - sent):
            sending.send(frames[sent % len(frames)])
            sent += 1
        if is_over():
            return
        time.sleep(0.001)
    raise AssertionError("it was never over")
