"""`stopbank sensor run` as a process on a veth: what it learned survives its death, and web servers' logs and slow
connections become attacks that `stopbank sensor top` shows."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from socket import AF_PACKET, SOCK_RAW, socket
from typing import Any

import numpy as np
import pytest
from rawframes import ACK, PUSH, SYN, ethernet, ip, tcp

from lab.appliance import KERNELS, STOPBANK
from lab.namespaces import Namespace, Port, join, namespaces, start, stop, wait_until
from rules.zone import Zone
from sensors import baseline_file, zone_cache
from sensors.baseline_file import Picture
from sensors.baseline_kept import Targets
from sensors.baseline_limits import Learning
from sensors.engine import Engine
from sensors.settings import Memory
from sensors.top import ask, plain

pytestmark = pytest.mark.peer

ZONE = Zone("web", (ip_network("203.0.113.0/24"),))
LINE = '{source} - - [22/Nov/2026:13:55:36 +0000] "GET /{path} HTTP/1.1" 200 612 "-" "curl/8"\n'
CONFIG = """
[paths]
state = "{state}"
[sensor]
name = "s"
interfaces = ["tap"]
ring_megabytes = 4
evidence_memory_megabytes = 8
memory_megabytes = 256
kernel_cache = "{kernels}"
[sensor.learning]
save_seconds = 10
[sensor.slow]
connections = 50
[[sensor.access_log]]
path = "{log}"
server = "203.0.113.7"
requests_per_second = 50
quiet_seconds = 2
"""


class Running:
    """A sensor in a namespace of its own, and who sends to it."""

    def __init__(self, folder: Path, tap: Namespace, sender: Namespace) -> None:
        self.state, self.log, self._tap, self.folder = folder / "state", folder / "access.log", tap, folder
        self.directory = self.state / "sensor"
        self.directory.mkdir(parents=True)
        self.config = folder / "stopbank.toml"
        self.keep_kernels(KERNELS)
        zone_cache.save(self.directory, (ZONE,))
        self._sending = sender.call(lambda: socket(AF_PACKET, SOCK_RAW, 0))
        self._sending.bind(("wire", 0))
        self._process: subprocess.Popen[bytes] | None = None

    def keep_kernels(self, kernels: Path) -> None:
        self.config.write_text(CONFIG.format(state=self.state, kernels=kernels, log=self.log))

    def launch(self) -> "subprocess.Popen[bytes]":
        argv = self._tap.command(STOPBANK, "sensor", "run", "--config", self.config)
        self._process = start(argv, self.folder / "sensor.log")
        return self._process

    def start(self) -> None:
        self.launch()
        wait_until(lambda: "learned_targets" in self.look().get("numbers", {}), "the sensor does not run", 240)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process:
            stop(self._process, how)
            self._process = None

    def hang_up(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self.stop()
        self._sending.close()

    def output(self) -> str:
        path = self.folder / "sensor.log"
        return path.read_text() if path.exists() else ""

    def look(self) -> dict[str, Any]:
        return ask(self.directory / "status.sock") or {}

    def sees(self, vector: str) -> bool:
        return any(vector in one["vectors"] for one in self.look().get("attacks", ()))

    def send(self, frame: bytes) -> None:
        self._sending.send(frame)


@pytest.fixture
def sensor(tmp_path: Path) -> Iterator[Running]:
    with namespaces("tap", "wire") as (tap, wire):
        join(Port(tap, "tap"), Port(wire, "wire"))
        running = Running(tmp_path, tap, wire)
        try:
            yield running
        finally:
            running.close()


def save_normal(directory: Path, count: int) -> None:
    """What an earlier run learned of so many hosts."""
    engine = Engine((ZONE,), lambda detection, attack: None, memory=Memory(4096, 1024, 1024), learning=Learning())
    assert engine.learned is not None
    hosts = engine.learned.parts[0]
    keys = np.stack([np.zeros(count, np.int64), (0xFFFF << 32) + 0xCB007100 + np.arange(count)], axis=1)
    levels = np.full((count, len(hosts.classes)), 2_000, np.uint16)
    hosts.restore(Targets(keys, levels, np.full(count, 9_000, np.uint16)))
    baseline_file.save(directory / "baseline-hosts.bin", Picture.take(hosts, (ZONE.name,)))


def test_what_was_learned_survives_kill_and_a_damaged_file_is_said(sensor: Running) -> None:
    save_normal(sensor.directory, 200)
    sensor.start()
    assert sensor.look()["learned"]["targets"] == 200
    wait_until(lambda: sensor.look()["numbers"]["learned_saves_total"] > 0, "nothing was saved", 30)
    assert "learned 200 targets" in plain(sensor.look())
    sensor.stop(signal.SIGKILL)
    written = (sensor.directory / "baseline-hosts.bin").read_bytes()
    sensor.start()
    assert sensor.look()["learned"]["targets"] == 200
    assert not [line for line in sensor.look()["troubles"] if "learned normal" in line]
    sensor.stop()
    assert {path.name for path in sensor.directory.glob("baseline-*")} == {
        f"baseline-{part}.bin" for part in ("hosts", "prefixes", "zones")
    }
    (sensor.directory / "baseline-hosts.bin").write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    sensor.start()
    shown = sensor.look()
    assert shown["learned"]["targets"] == 0
    assert any("baseline-hosts.bin can't be used, learning started afresh" in line for line in shown["troubles"])
    assert "unusable" in sensor.output()


def write(path: Path, count: int, name: str) -> None:
    with path.open("a") as file:
        file.write("".join(LINE.format(source=f"198.51.100.{number % 3}", path=name) for number in range(count)))


def test_a_flood_in_a_rotated_access_log_is_an_attack(sensor: Running) -> None:
    sensor.start()
    wait_until(lambda: any("No such file" in line for line in sensor.look()["troubles"]), "the missing log isn't said")
    sensor.log.touch()
    wait_until(lambda: not sensor.look()["troubles"] or "access log" not in str(sensor.look()["troubles"]), "still")
    written = 0
    for second in range(10):
        write(sensor.log, 100, "a")
        if second == 2:
            # As logrotate does it: renamed, written on for a while, begun anew.
            sensor.log.rename(sensor.log.with_suffix(".log.1"))
            write(sensor.log.with_suffix(".log.1"), 10, "b")
            written += 10
        written += 100
        time.sleep(0.5)
    wait_until(lambda: sensor.sees("http_flood"), "no flood")
    (attack,) = sensor.look()["attacks"]
    assert (attack["target"], attack["zone"], attack["sources"]) == ("203.0.113.7/32", "web", 3)
    wait_until(lambda: sensor.look()["numbers"]["accesslog_lines_total"] == written, "a line was lost or came twice")
    assert sensor.look()["numbers"]["accesslog_rotations_total"] == 1
    wait_until(lambda: not sensor.look()["attacks"], "it never ended", 30)
    spooled = [json.dumps(line) for line in sensor.output().splitlines() if "http_flood" in line]
    assert len(spooled) == 2, "started and over are logged"


def test_connections_that_send_a_byte_now_and_then_are_an_attack_with_evidence(sensor: Running) -> None:
    sensor.start()
    for port in range(100):
        sensor.send(ethernet(ip("192.0.2.9", "203.0.113.7", tcp(20_000 + port, 80, SYN))))
        sensor.send(ethernet(ip("192.0.2.9", "203.0.113.7", tcp(20_000 + port, 80, ACK))))
        sensor.send(
            ethernet(ip("192.0.2.9", "203.0.113.7", tcp(20_000 + port, 80, ACK | PUSH, b"GET / HTTP/1.1\r\n" * 9)))
        )
    for _ in range(4):
        for port in range(100):
            sensor.send(ethernet(ip("192.0.2.9", "203.0.113.7", tcp(20_000 + port, 80, ACK | PUSH, b"X-a: b\r\n"))))
        time.sleep(1)
    wait_until(lambda: sensor.sees("http_slow"), sensor.output())
    (attack,) = sensor.look()["attacks"]
    assert (attack["target"], attack["sources"]) == ("203.0.113.7/32", 1)
    sensor.stop()
    (said,) = [json.loads(path.read_text()) for path in (sensor.state / "evidence").glob("*.json")]
    assert said["target"] == "203.0.113.7/32" and said["packets"] > 300


def test_who_asks_it_to_read_its_settings_again_is_told_and_ends_no_watch(sensor: Running) -> None:
    sensor.start()
    before = sensor.look()["uptime_seconds"]
    sensor.hang_up()
    wait_until(lambda: "settings are read at start only" in sensor.output(), "nothing was said", 20)
    wait_until(lambda: sensor.look().get("uptime_seconds", 0.0) > before + 1, "it does not run any more", 20)


def test_a_hangup_while_it_compiles_ends_nothing_and_who_ends_it_then_waits_for_no_compiler(sensor: Running) -> None:
    kernels = sensor.folder / "kernels"
    sensor.keep_kernels(kernels)
    process = sensor.launch()
    # The first small functions are there, the large one is not.
    wait_until(lambda: any(kernels.rglob("*.nbc")) and "compiling" in sensor.output(), "nothing is compiled", 60)
    sensor.hang_up()
    wait_until(lambda: "settings are read at start only" in sensor.output(), "nothing was said", 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "ended before it ran" in sensor.output() and "Traceback" not in sensor.output()
    assert not sensor.look()
