"""What a sensor asks of its machine is looked at before anything slow, and all that is missing is said at once."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rules.errors import Refused
from sensors import metrics, ready
from sensors.settings import Capturing, SensorSettings

ROOT = Path(__file__).resolve().parents[2]


def settings(*interfaces: str, fanout: int = 1, cpus: tuple[int, ...] = ()) -> SensorSettings:
    return SensorSettings("s", Capturing(interfaces, fanout=fanout), (), cpus=cpus)


def test_every_interface_that_is_missing_is_named_beside_all_else() -> None:
    too_many = len(os.sched_getaffinity(0)) + 1
    with pytest.raises(Refused) as error:
        ready.check(settings("lo", "nosuch0", "nosuch1", fanout=too_many))
    found = [(one.field, one.value) for one in error.value.problems]
    assert found[:3] == [("sensor.fanout", str(too_many)), ("interfaces", "nosuch0"), ("interfaces", "nosuch1")]


def test_nothing_is_compiled_before_it_is_known_that_packets_can_be_had(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from sensors import live; from sensors.settings import *\n"
        "from rules.errors import Refused\n"
        "try: live.run(SensorSettings('s', Capturing(('nosuch0',)), (), kernel_cache=Path(sys.argv[1])))\n"
        "except Refused as error: print(error)\n"
        "print('numba' in sys.modules)\n"
    )
    confined = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*confined, sys.executable, "-c", program, str(tmp_path / "cache")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "interfaces: 'nosuch0': there is no such interface on this machine",
        "interfaces: 'nosuch0': capturing needs CAP_NET_RAW: run this as root, or by its systemd unit",
        "False",
    ]
    assert not (tmp_path / "cache").exists()


def kept_in(kernels: Path) -> list[str]:
    """What a process without privileges says that looks where it may keep compiled code; nothing where it may."""
    program = (
        "import sys; from pathlib import Path; from sensors import live; live.use_kernel_cache(Path(sys.argv[1]))\n"
        "from sensors import framing"
    )
    confined = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*confined, sys.executable, "-c", program, str(kernels)], cwd=ROOT, capture_output=True, text=True
    )
    return done.stderr.splitlines()


def test_a_kernel_cache_of_another_user_is_said_in_a_line(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    kernels.mkdir(mode=0o500)
    line = "PermissionError: [Errno 13] this user can't keep the packet kernel there: "
    assert kept_in(kernels)[-1] == f"{line}'{kernels}'"
    kernels.chmod(0o700)
    assert kept_in(kernels) == []
    (version,) = kernels.glob("stopbank-*")
    (folder,) = version.iterdir()
    for one in (folder, version):
        one.chmod(0o500)
        assert kept_in(kernels)[-1] == f"{line}'{one}'"
    # An older version's is nobody's business.
    version.rename(kernels / "stopbank-0000")
    assert kept_in(kernels) == []


HOLDING = """
import sys, time
from pathlib import Path
from sensors import ready
ready.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def refused(asked: SensorSettings) -> list[str]:
    """The fields of what is refused."""
    with pytest.raises(Refused) as error:
        ready.check(asked)
    return [one.field for one in error.value.problems]


def test_a_second_sensor_with_the_same_directory_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    # Longer than a socket's name may be.
    directory = tmp_path / ("n" * 120)
    asked = replace(settings("nosuch0"), status_socket=directory / "status.sock")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout is not None and first.stdout.readline() == "held\n"
            found = refused(asked)
            assert found[0] == "interfaces" and found[-1] == "paths.state"
            with pytest.raises(Refused, match="another sensor runs with this directory"):
                ready.hold(directory)
        finally:
            first.kill()
    assert "paths.state" not in refused(asked)


def test_who_is_refused_makes_no_directory_and_holds_none(tmp_path: Path) -> None:
    directory = tmp_path / "sensor"
    asked = replace(settings("nosuch0"), status_socket=directory / "status.sock")
    assert "paths.state" not in refused(asked)
    assert not directory.exists()
    directory.mkdir()
    assert "paths.state" not in refused(asked)
    held = ready.hold(directory)
    assert not os.get_inheritable(held)
    os.close(held)


def test_a_state_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refused, match=r"paths\.state: '.*/file/sensor': can't be used: Not a directory"):
        ready.hold(tmp_path / "file" / "sensor")


def found(asked: SensorSettings) -> dict[str, str]:
    """The fields of what is refused beside a missing interface, and why."""
    with pytest.raises(Refused) as error:
        ready.check(asked)
    return {one.field: one.reason for one in error.value.problems if one.field != "interfaces"}


@pytest.mark.parametrize(
    "words", ["tcp port 80 or udp", "vlan 5 and tcp", "wlan type mgt", "not ether host 0:0:0:0:0:1"]
)
def test_a_filter_that_some_kind_of_interface_knows_may_be_tried(words: str) -> None:
    assert found(SensorSettings("s", Capturing(("nosuch0",), filter=words), ())) == {}


def test_a_filter_that_no_interface_knows_and_a_port_that_is_taken_are_said_with_all_else() -> None:
    capture = Capturing(("nosuch0",), filter="tcp port foo and")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        why = found(SensorSettings("s", capture, (), metrics_port=port))
    assert why == {
        "filter": "is no filter libpcap knows: unknown port 'foo'",
        "sensor.metrics_port": "can't be listened on: Address already in use",
    }
    # Now that it is free, it can be looked at again and again, and taken.
    for _ in range(2):
        assert "sensor.metrics_port" not in found(SensorSettings("s", capture, (), metrics_port=port))
    socket.create_server(("127.0.0.1", port)).close()


def test_a_metrics_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=rf"sensor\.metrics_port: '{port}': can't be listened on: Address already"):
            metrics.serve("127.0.0.1", port, StatusDocument())


class StatusDocument:
    """A board without numbers."""

    def __init__(self) -> None:
        self.document: dict[str, object] = {}
