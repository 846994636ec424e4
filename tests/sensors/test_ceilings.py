"""A sensor held to memory and processors stays there, whatever comes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import Refused
from sensors.settings import HOST_BYTES, PROCESS_MEGABYTES, Memory

ROOT = Path(__file__).resolve().parents[2]
FLOOD = """
import sys
from datetime import UTC, datetime
from ipaddress import ip_network
import numpy as np
from rawframes import ethernet, ip, udp
from rules.zone import Zone
from sensors import walk
from sensors.engine import Engine
from sensors.framing import ETHERNET
from sensors.settings import Memory
from sensors.status import resident_bytes

memory = Memory.within(int(sys.argv[1]))
engine = Engine((Zone("z", (ip_network("10.0.0.0/8"),)),), lambda *told: None, memory=memory)
engine.warm_up()
before, frame, count = resident_bytes(), ethernet(ip("192.0.2.1", "10.0.0.1", udp(1, 2))), memory.hosts * 2
frames, number = np.tile(np.frombuffer(frame, np.uint8), (count, 1)), np.arange(count)
frames[:, 31], frames[:, 32], frames[:, 33] = number >> 16 & 255, number >> 8 & 255, number & 255
own = resident_bytes() - before
engine.start(0)
for tick in range(1, 40):
    now = tick * 40_000_000
    meta = np.zeros((count, 4), np.uint32)
    meta[:, 0], meta[:, 1], meta[:, 2], meta[:, 3] = 1_000, now // 1_000, number * len(frame), len(frame)
    walk.batch(*engine.tables.arrays, frames.reshape(-1), meta, ETHERNET, 1, 0, walk.NEVER)
    engine.tick(now, datetime.now(UTC))
print(resident_bytes() - before - own - meta.nbytes)
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "lib")))
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": path}
    )  # fmt: skip


@given(st.integers(PROCESS_MEGABYTES, 65_536))
def test_tables_are_as_large_as_the_memory_allows_and_no_larger(megabytes: int) -> None:
    memory, room = Memory.within(megabytes), megabytes - PROCESS_MEGABYTES << 20
    assert memory.hosts * HOST_BYTES <= room or memory.hosts == 1_024
    assert memory.hosts * 2 * HOST_BYTES > room


def test_less_memory_than_the_process_takes_is_refused() -> None:
    with pytest.raises(Refused, match=r"sensor\.memory_megabytes: '199': the process itself takes 200"):
        Memory.within(PROCESS_MEGABYTES - 1)
    with pytest.raises(Refused, match="takes 224"):
        Memory.within(PROCESS_MEGABYTES + 23, shards=4)


def test_more_hosts_than_fit_take_no_more_memory() -> None:
    done = run(FLOOD, "300")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < (300 - PROCESS_MEGABYTES) << 20


PLACE = """
import os, sys
from pathlib import Path
from sensors.ready import take_place
from sensors.settings import Capturing, SensorSettings
take_place(SensorSettings("s", Capturing(("lo",)), (), cpus=eval(sys.argv[1]), nice=eval(sys.argv[2])))
print(sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0))
"""


def test_it_keeps_to_its_processors_and_priority() -> None:
    one = min(os.sched_getaffinity(0))
    assert run(PLACE, f"({one},)", "7").stdout.strip() == f"[{one}] 7"


@pytest.mark.parametrize(("cpus", "nice", "said"), [("(4095,)", "None", "sensor.cpus"), ("()", "-5", "sensor.nice")])
def test_what_it_may_not_have_is_refused_by_name(cpus: str, nice: str, said: str) -> None:
    drop = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "lib")))
    done = subprocess.run(
        [*drop, sys.executable, "-c", PLACE, cpus, nice],
        capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 1 and f"Refused: {said}: " in done.stderr
