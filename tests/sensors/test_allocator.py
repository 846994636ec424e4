"""Freed arrays must not stay in the process."""

import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys
from sensors import allocator
if sys.argv[1] == "held":
    allocator.keep_small()
first = bytearray(2 << 20)
del first
blocks = [bytearray(b"x") * (1 << 20) for _ in range(64)]
last = bytearray(b"x") * (1 << 20)
del blocks
print(int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20)
"""


def resident_megabytes(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc on Linux only")
def test_freed_blocks_go_back_to_the_system_while_a_later_one_is_in_use() -> None:
    assert resident_megabytes("loose") - resident_megabytes("held") > 50


_COMPILED = """
import numba
from sensors import allocator
from sensors.status import resident_bytes
@numba.njit
def doubled(x):
    return 2 * x
assert doubled(3) == 6
before = resident_bytes()
allocator.give_back()
given = before - resident_bytes() >> 20
assert doubled(4) == 8 and doubled(0.25) == 0.5
print(given)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="madvise of Linux")
def test_the_compilers_code_goes_back_and_still_works() -> None:
    command = [sys.executable, "-c", _COMPILED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) > 20
