"""`make demo` as a user runs it: succeeds, and leaves nothing behind, also when it is interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.namespaces import wait_until

pytestmark = pytest.mark.peer
COMMAND = (str(Path(sys.executable).parent / "stopbank"), "demo")


def namespaces_of(pid: int) -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in listed if f"-{pid}-" in name]


def processes_with(text: str) -> list[str]:
    """Command lines of living processes that contain the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_the_demo_stops_the_attack_and_cleans_up() -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    for line in ("last attack packet at the victim", "rejects it", "nothing stayed announced"):
        assert line in " ".join(printed.split()), printed
    assert namespaces_of(process.pid) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(how: signal.Signals) -> None:
    with subprocess.Popen(
        COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        made: Callable[[], bool] = lambda: len(namespaces_of(process.pid)) == 6  # noqa: E731
        wait_until(made, "the lab does not come up", 60)
        directory = next(iter(_directories(process.pid)), None)
        os.kill(process.pid, how)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert namespaces_of(process.pid) == []
    if directory:
        assert not Path(directory).exists()
        wait_until(lambda: not processes_with(directory), f"processes still use {directory}", 20)


def _directories(pid: int) -> set[str]:
    """The run directories that the demo's own processes name."""
    words = (word for line in processes_with("stopbank-lab-") for word in line.split())
    return {str(Path(word).parent) for word in words if "stopbank-lab-" in word and pid}
