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
