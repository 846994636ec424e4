"""What a sensor shows of itself: rates that are true, on a socket that answers, for people and for Prometheus."""

import json
import secrets
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import pytest
from kernel_rig import A, B, counted
from rawframes import SYN, ethernet, ip, tcp, udp
from virtual_link import veth

from rules.zone import Metric, Zone
from sensors import live
from sensors.evidence_settings import EvidenceSettings
from sensors.loop import Sensor
from sensors.sampling import Sampling
from sensors.settings import Capturing, Detecting, SensorSettings
from sensors.status import StatusBoard
from sensors.targets import TargetRates
from sensors.top import ask, plain

ZONE = Zone("z", (ip_network("198.51.100.0/24"),), limits=((Metric.SYN_PACKETS, 1_000), (Metric.BITS, 80_000)))


def test_rates_are_the_differences_between_two_looks() -> None:
    rates, where = TargetRates(Sampling()), counted(ethernet(ip(A, B, tcp(1, 80, SYN))))
    assert rates.look(where, (ZONE,), 10.0) == []
    counted(*[ethernet(ip(A, B, tcp(1, 80, SYN)))] * 500, *[ethernet(ip(B, A, udp(1, 2)))] * 100, where=where)
    first, second = rates.look(where, (ZONE,), 10.5)
    assert first | {"interval_percent": 0.0} == {
        "target": B, "zone": "z", "packets_per_second": 1_000, "bits_per_second": 320_000, "severity": 4.0,
        "interval_percent": 0.0,
    }  # fmt: skip
    assert (second["target"], second["packets_per_second"]) == (A, 200)
    assert rates.look(where, (ZONE,), 11.0) == []


def test_who_asks_where_nobody_answers_is_told_nothing(tmp_path: Path) -> None:
    assert ask(tmp_path / "absent.sock") is None


@contextmanager
def running(settings: SensorSettings) -> Iterator[None]:
    """A sensor as `stopbank sensor run` runs it, without a link."""
    stop = threading.Event()
    thread = threading.Thread(target=live.run, args=(settings, None, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        found: str = answer.read().decode()
        return found


def soon(look: Callable[[], Any]) -> Any:
    """What it gives as soon as it gives something."""
    deadline = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


@pytest.mark.peer
def test_a_running_sensor_shows_an_attack_and_keeps_its_packets(tmp_path: Path) -> None:
    with veth() as (interface, sending), socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        settings = SensorSettings(
            "s",
            Capturing((interface,), ring_megabytes=8),
            (ZONE,),
            detecting=Detecting(quiet_seconds=2.0),
            status_socket=tmp_path / "status.sock",
            metrics_port=port,
            evidence=EvidenceSettings(tmp_path / "evidence", memory_megabytes=4, least_free_bytes=0),
        )
        with running(settings):
            soon(lambda: ask(tmp_path / "status.sock"))
            sending.send(ethernet(ip("192.0.2.77", "198.51.100.3", tcp(77, 80, SYN))))
            for number in range(6_000):
                sending.send(ethernet(ip(f"10.1.{number % 256}.1", "198.51.100.3", tcp(number, 80, SYN))))
                time.sleep(0.0001)
            shown = soon(lambda: (found := ask(tmp_path / "status.sock")) and found["targets"] and found)
            assert shown["sensor"] == "s" and shown["zones"] == ["z"]
            assert [one["name"] for one in shown["interfaces"]] == [interface] and shown["interfaces"][0]["up"]
            found = soon(lambda: (found := ask(tmp_path / "status.sock") or {}) and found["attacks"] and found)
            assert "ATTACK ON" in plain(found) and "198.51.100.3/32" in plain(found) and "syn_flood" in plain(found)
            soon(lambda: (ask(tmp_path / "status.sock") or {})["numbers"].get("detections_total"))
            said = json.loads(soon(lambda: [*(tmp_path / "evidence").glob("*.json")])[0].read_text())
            seen = f'stopbank_sensor_interface_packets_total{{interface="{interface}"}} 6001.0'
            metrics = soon(lambda: found if seen in (found := scraped(port)) else "")
        assert "stopbank_sensor_detections_total 1.0" in metrics
        assert "stopbank_sensor_unwatched_total 0.0" in metrics
        for name in ("resident_bytes", "process_cpu_seconds_total", "evidence_lost_total", "packets_dropped_total"):
            assert f"stopbank_sensor_{name} " in metrics
        assert said["target"] == "198.51.100.3/32" and said["packets"] > 5_900
        content = (tmp_path / "evidence" / said["file"]).read_bytes()
        first_source = content[24 + 16 + 26 : 24 + 16 + 30]
        assert first_source == socket.inet_aton("192.0.2.77"), "the packet before the attack stands first"
        assert struct.unpack_from("=I", content, 20) == (1,)
        assert ask(tmp_path / "status.sock") is None


class Busy:
    """A sensor that can't look at all that is busy, as far as the board asks."""

    interfaces = attacks = beside = raised = troubles = zones = ()
    evidence = learned = None
    beaten, numbers = 0.0, dict[str, int | float]()

    def beat(self, unwatched: int) -> None:
        self.beaten += 2.0
        self.numbers = {"records_total": 1, "unwatched_total": unwatched}


def test_busy_targets_that_are_not_looked_at_are_a_trouble_as_long_as_there_are_any() -> None:
    sensor, settings = Busy(), SensorSettings("s", Capturing(("lo",)), (ZONE,))
    board = StatusBoard(settings, cast(Sensor, sensor), lambda: None)
    told = []
    for unwatched in (0, 0, 300, 300):
        sensor.beat(unwatched)
        told.append(board.look(time.monotonic()))
    missed = [one["numbers"]["unwatched_per_second"] for one in told]
    assert missed == [0, 0, 150, 0]
    named = [any("too many busy targets: 150 looks/s" in trouble for trouble in one["troubles"]) for one in told]
    assert named == [False, False, True, False]


@pytest.mark.peer
def test_an_interface_that_vanishes_and_comes_back_is_shown_and_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    with veth() as (interface, _):
        settings = SensorSettings("s", Capturing((interface,), ring_megabytes=4), (ZONE,), status_socket=path)

        def up(expected: bool) -> bool:
            found = ask(path)
            return bool(found) and found is not None and found["interfaces"][0]["up"] is expected

        with running(replace(settings, heartbeat_seconds=0.1)):
            soon(lambda: up(True))
            subprocess.run(["ip", "link", "del", interface], check=True)
            soon(lambda: up(False))
            shown = ask(path)
            assert shown and f"interface {interface} is down or gone" in shown["troubles"]
            far = f"sbu{secrets.token_hex(4)}"
            subprocess.run(["ip", "link", "add", interface, "type", "veth", "peer", "name", far], check=True)
            for end in (interface, far):
                subprocess.run(["ip", "link", "set", end, "up"], check=True)
            soon(lambda: up(True))
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
                sending.bind((far, 0))
                sending.send(ethernet(ip(A, "198.51.100.9", udp(1, 2))))
            soon(lambda: (ask(path) or {})["interfaces"][0]["packets_total"])
