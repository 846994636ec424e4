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


def test_a_kernel_cache_of_another_user_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir(mode=0o500)
    program = "import sys; from pathlib import Path; from sensors import live; live.use_kernel_cache(Path(sys.argv[1]))"
    confined = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*confined, sys.executable, "-c", program, str(tmp_path / "kernels")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("PermissionError: [Errno 13] this user can't keep the packet kernel")


def test_a_second_sensor_with_the_same_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
        first.bind(str(path))
        first.listen()
        with pytest.raises(Refused, match="another sensor runs with this directory"):
            ready.check(replace(settings("lo"), status_socket=path))
    # What a killed one leaves is no sensor.
    assert path.exists() and not [*ready._alone(path)]


def test_a_metrics_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=rf"sensor\.metrics_port: '{port}': can't be listened on: Address already"):
            metrics.serve("127.0.0.1", port, StatusDocument())


class StatusDocument:
    """A board without numbers."""

    def __init__(self) -> None:
        self.document: dict[str, object] = {}
