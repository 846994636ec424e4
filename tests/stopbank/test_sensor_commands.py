"""`stopbank sensor …` on the intake's machine, and settings of a sensor that can't be."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from virtual_link import wait_for

from intake.authority import Authority
from intake.registry import Registry
from rules.errors import Refused
from rules.messages_enrolment import EnrolmentToken, secret_digest
from rules.zone import Metric
from sensors.enroll import Request
from stopbank import wiring
from stopbank.config import parse

Run = Callable[..., Any]


@pytest.fixture
def zones(run: Run) -> None:
    """Two zones, `web` and `mail`."""
    assert run("zone", "add", "web", "--prefix", "203.0.113.0/24").code == 0
    assert run("zone", "add", "mail", "--prefix", "198.51.100.0/24").code == 0


def enrol(tmp_path: Path, token: str) -> None:
    directory, now = tmp_path / "state" / "intake", datetime.now(UTC)
    digest = secret_digest(EnrolmentToken.parse(token).secret)
    request = Request.new(None).pem
    Registry(directory).enrol(digest, request, Authority.open(directory, now), timedelta(days=1), now)


@pytest.mark.usefixtures("zones")
def test_a_token_for_a_zone_that_is_not_there_is_refused_and_names_those_that_are(run: Run, tmp_path: Path) -> None:
    done = run("sensor", "token", "edge-1", "--zone", "wbe", "--zone", "web", "--zone", "nozone")
    assert done.code == 1 and "'wbe'" in done.err and "'nozone'" in done.err and "mail, web" in done.err
    assert not (tmp_path / "state" / "intake").exists()
    assert run("sensor", "token", "edge-1", "--zone", "web").code == 0


@pytest.mark.usefixtures("zones")
def test_open_tokens_are_listed_without_their_secrets_and_can_be_voided(run: Run) -> None:
    token = run("sensor", "token", "edge-1", "--zone", "web").out.strip()
    done = run("sensor", "tokens")
    assert done.out.startswith("edge-1  zones web  until ")
    secret = EnrolmentToken.parse(token).secret
    assert secret not in done.out + run("sensor", "tokens", "--json").out
    assert run("sensor", "revoke", "edge-1").code == 0
    assert run("sensor", "tokens").out.strip() == "no open tokens"
    assert run("sensor", "revoke", "edge-1").code == 1


@pytest.mark.usefixtures("zones")
def test_tokens_and_their_end_are_told_as_json(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("sensor", "token", "edge-1", "--zone", "web", "--json").out)
    assert (made["sensor"], made["zones"]) == ("edge-1", ["web"])
    assert str(EnrolmentToken.parse(made["token"])) == made["token"]
    assert datetime.fromisoformat(made["expires"]) > datetime.now(UTC)
    enrol(tmp_path, made["token"])
    bound = json.loads(run("sensor", "bind", "edge-1", "--zone", "mail", "--json").out)
    assert bound == {"name": "edge-1", "zones": ["mail"]}
    assert json.loads(run("sensor", "revoke", "edge-1", "--json").out) == {"ok": True, "revoked": "edge-1"}
    for arguments in (("token", "edge-1", "--zone", "wbe"), ("revoke", "edge-1"), ("enroll", "no token")):
        done = run("sensor", *arguments, "--json")
        assert done.code == 1 and json.loads(done.out)["ok"] is False


@pytest.mark.parametrize("given", ["no token\n", "", "x" * 100_000])
def test_a_token_may_come_from_standard_input(given: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(given))
    piped = run("sensor", "enroll", "-")
    named = run("sensor", "enroll", given.strip()[:4_096])
    assert (piped.code, piped.err) == (1, named.err) and named.err.startswith("error: ")


@pytest.mark.usefixtures("zones")
def test_an_enrolled_sensor_can_be_bound_to_other_zones(run: Run, tmp_path: Path) -> None:
    enrol(tmp_path, run("sensor", "token", "edge-1", "--zone", "web").out.strip())
    assert run("sensor", "bind", "edge-1", "--zone", "mail", "--zone", "web").out.strip() == "edge-1: zones mail web"
    (listed,) = json.loads(run("sensor", "list", "--json").out)
    assert (listed["name"], listed["zones"]) == ("edge-1", ["mail", "web"])
    assert run("sensor", "bind", "edge-1", "--zone", "nozone").code == 1
    assert run("sensor", "bind", "edge-2", "--zone", "web").code == 1
    assert run("sensor", "bind", "edge-1", "--zone", "*").code == 0
    assert json.loads(run("sensor", "list", "--json").out)[0]["zones"] == ["*"]


def test_where_no_sensor_answers_top_says_why_in_a_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "state" / "sensor" / "status.sock"

    def said(*extra: str) -> str:
        done = run("sensor", "top", *extra)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        return str(done.err)

    for extra in ((), ("--once",), ("--json",)):
        assert said(*extra) == f"error: no sensor runs here, or it still starts: there is no {path}\n"
    path.parent.mkdir(parents=True)
    with closing(listening(path)):
        pass
    assert said() == f"error: no sensor runs here: nobody answers at {path}\n"


def test_who_may_not_ask_the_sensor_is_told_to_be_another_user(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "sensor"
    directory.mkdir(parents=True)
    confined = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program = [*confined, sys.executable, "-c", "from stopbank.cli import main; main()", "sensor", "top"]
    environment = os.environ | {"STOPBANK_PATHS__STATE": str(tmp_path / "state")}
    path = directory / "status.sock"
    with closing(listening(path)):
        for one, mode in ((path, 0o400), (directory, 0o600)):
            one.chmod(mode)
            done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: {path}: Permission denied: ask as root, or as the user")
    directory.chmod(0o700)


def test_who_compiles_is_not_held_by_ctrl_c(tmp_path: Path) -> None:
    program = "from stopbank.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "sensor", "compile", "--cache", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as compiling:  # fmt: skip
        try:
            wait_for(lambda: any(tmp_path.rglob("*.nbc")))
            compiling.send_signal(signal.SIGINT)
            assert compiling.wait(20) == 130
            assert compiling.stdout is not None and "Traceback" not in compiling.stdout.read()
        finally:
            compiling.kill()


def listening(path: Path) -> socket.socket:
    """A socket there, as a sensor's."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("fanout = 0", "sensor.fanout"),
        ("sampling = 0", "sensor.sampling"),
        ("snap_bytes = 10", "sensor.snap_bytes"),
        ("evidence_memory_megabytes = 1", "sensor.evidence_memory_megabytes"),
        ("memory_megabytes = 199", "sensor.memory_megabytes"),
        ("cpus = [-1]", "sensor.cpus[0]"),
        ("nice = 40", "sensor.nice"),
        ("learning = {forget = 1}", "sensor.learning.forget"),
        ("learning = {save_seconds = 1}", "sensor.learning.save_seconds"),
        ("slow = {connections = 0}", "sensor.slow.connections"),
        ('access_log = [{path = "/a", server = "web"}]', "sensor.access_log[0].server"),
        ('access_log = [{path = "/a", server = "192.0.2.1", format = "iis"}]', "sensor.access_log[0].format"),
        ('access_log = [{server = "192.0.2.1"}]', "sensor.access_log[0].path"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(line: str, field: str) -> None:
    with pytest.raises(Refused) as error:
        parse(f"[sensor]\n{line}\n", "test")
    assert [problem.field for problem in error.value.problems] == [field]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("learning = {factor = 0.1}", "sensor.learning.factor"),
        ("learning = {floors = {outgoing_packets = 5}}", "sensor.learning.floors.outgoing_packets"),
        ('access_log = [{path = "/a", server = "192.0.2.1", requests_per_second = 0}]',
         "sensor.access_log[0].requests_per_second"),
        ('access_log = [{path = "/a", server = "192.0.2.1", ports = []}]', "sensor.access_log[0].ports"),
        ("fanout = 2\nlibpcap = true", "sensor.fanout"),
        ("fanout = 2\nmemory_megabytes = 207", "sensor.memory_megabytes"),
        ("fanout = 5\nevidence_memory_megabytes = 8", "sensor.evidence_memory_megabytes"),
    ],
)  # fmt: skip
def test_what_only_the_sensor_can_judge_is_named_too(line: str, field: str) -> None:
    with pytest.raises(Refused) as error:
        wiring.sensor(parse(f'[sensor]\ninterfaces = ["eth1"]\n{line}\n', "test"), ())
    assert [problem.field for problem in error.value.problems] == [field]


def test_learning_slow_http_and_access_logs_reach_the_sensor(tmp_path: Path) -> None:
    text = f"""
    [paths]
    state = "{tmp_path}"
    [sensor]
    interfaces = ["eth1"]
    kernel_cache = "{tmp_path}/kept"
    [sensor.learning]
    factor = 8
    floors = {{ syn_packets = 500 }}
    [sensor.slow]
    connections = 99
    [[sensor.access_log]]
    path = "/var/log/nginx/access.log"
    server = "2001:db8::7"
    """
    made = wiring.sensor(parse(text, "test"), ())
    assert made.learning is not None and made.learning.learning.factor == 8
    floors = dict(made.learning.learning.floors)
    assert (floors[Metric.SYN_PACKETS], floors[Metric.RST_PACKETS]) == (500, 3_000)
    assert made.slow is not None and made.slow.connections == 99
    (log,) = made.access_logs
    assert (str(log.server), log.format.value, log.requests_per_second) == ("2001:db8::7/128", "combined", 500)
    assert made.kernel_cache == tmp_path / "kept"
    off = "learning = {enabled = false}\nslow = {enabled = false}\n"
    made = wiring.sensor(parse('[sensor]\ninterfaces = ["eth1"]\n' + off, "test"), ())
    assert made.learning is None and made.slow is None and made.access_logs == ()


def test_every_setting_reaches_the_sensor() -> None:
    text = """
    [sensor]
    interfaces = ["eth1"]
    filter = "ip"
    outgoing = true
    promiscuous = false
    sampling = 128
    sampling_least_packets = 30
    memory_megabytes = 1024
    cpus = [0]
    nice = 5
    evidence_disk_megabytes = 64
    evidence_before_seconds = 3.5
    """
    made = wiring.sensor(parse(text, "test"), ())
    assert (made.capture.weight, made.capture.least_sampled, made.capture.filter) == (128, 30, "ip")
    assert made.capture.keep_outgoing and not made.capture.promiscuous
    assert (made.cpus, made.nice) == ((0,), 5)
    assert made.evidence is not None and made.evidence.total_bytes == 64 << 20 and made.evidence.before_seconds == 3.5
    assert made.memory.hosts == 1 << 19
    off = wiring.sensor(parse('[sensor]\ninterfaces = ["eth1"]\nevidence = false\n', "test"), ())
    assert off.evidence is None


@pytest.mark.parametrize(("fanout", "least"), [(1, 200), (2, 208), (8, 256)])
def test_the_least_memory_that_is_taken_is_enough_to_start_with(fanout: int, least: int) -> None:
    text = f'[sensor]\ninterfaces = ["a"]\nmemory_megabytes = {least}\nfanout = {fanout}\nevidence = false\n'
    assert wiring.sensor(parse(text, "test"), ()).memory.hosts == 1_024


def test_several_processors_share_what_memory_there_is() -> None:
    one, four = (
        wiring.sensor(parse(f'[sensor]\ninterfaces = ["a"]\nmemory_megabytes = 1024\nfanout = {count}\n', "test"), ())
        for count in (1, 4)
    )
    assert (one.capture.fanout, four.capture.fanout) == (1, 4)
    assert four.memory.hosts <= one.memory.hosts


def test_everything_that_is_wrong_with_a_sensor_is_said_at_once() -> None:
    text = """
    [sensor]
    interfaces = ["eth1", "eth2", "eth1"]
    memory_megabytes = 255
    fanout = 8
    evidence_memory_megabytes = 8
    learning = { factor = 0.1, floors = { nonsense = 3 } }
    """
    with pytest.raises(Refused) as error:
        wiring.sensor(parse(text, "test"), ())
    assert [one.field for one in error.value.problems] == [
        "interfaces", "sensor.evidence_memory_megabytes", "sensor.learning.floors.nonsense", "sensor.learning.factor",
        "sensor.memory_megabytes",
    ]  # fmt: skip
    assert "count twice" in error.value.problems[0].reason


def test_libpcap_takes_one_interface() -> None:
    with pytest.raises(Refused, match="one interface"):
        wiring.sensor(parse('[sensor]\ninterfaces = ["a", "b"]\nlibpcap = true\n', "test"), ())
