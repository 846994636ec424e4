"""Namespaces come and go whole, whatever happens in between."""

import os
import signal
import socket
import subprocess
import sys
from ipaddress import ip_interface
from pathlib import Path

import pytest

from lab.namespaces import CommandFailed, Namespace, Port, join, namespace, namespaces, running, sweep, wait_until

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("root")]


def exists(name: str) -> bool:
    return Path("/run/netns", name).exists()


def test_two_joined_namespaces_reach_each_other_at_once_over_both_families() -> None:
    with namespaces("left", "right") as (left, right):
        ends = ("10.1.0.{}/30", "fd01::{}/64")
        here, there = (tuple(ip_interface(end.format(n)) for end in ends) for n in (1, 2))
        join(Port(left, "wire", here), Port(right, "wire", there))
        for family, one in ((socket.AF_INET, there[0]), (socket.AF_INET6, there[1])):
            server = right.call(lambda family=family: socket.socket(family))  # type: ignore[misc]
            client = left.call(lambda family=family: socket.socket(family))  # type: ignore[misc]
            with server, client:
                server.bind((str(one.ip), 0))
                server.listen()
                client.settimeout(5)
                client.connect(server.getsockname()[:2])


def test_an_exception_removes_namespaces_and_the_processes_inside(tmp_path: Path) -> None:
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError), namespaces("one", "two") as made:
        seen += [one.name for one in made]
        sleeper = made[0].command("sleep", "600")
        with running(sleeper, tmp_path / "log") as pid:
            wait_until(
                lambda: bool(subprocess.run(["ip", "netns", "pids", seen[0]], capture_output=True).stdout), "pid"
            )
            1 / 0  # noqa: B018
    assert not any(map(exists, seen))
    assert not Path(f"/proc/{pid}").exists()


def test_a_sweep_removes_what_a_killed_run_left_and_nothing_of_the_living() -> None:
    code = "import os, signal\nfrom lab.namespaces import namespace\n"
    code += "with namespace('orphan') as n: print(n.name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    with namespace("living") as living:
        died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert died.returncode == -signal.SIGKILL
        orphan = died.stdout.strip()
        assert exists(orphan)
        # Another test's sweep may have been faster; gone is what counts.
        sweep()
        assert not exists(orphan)
        assert exists(living.name)


def test_a_namespace_of_somebody_else_is_never_removed() -> None:
    from lab.namespaces import remove

    with pytest.raises(ValueError, match="no namespace of the lab"):
        remove(Namespace("production"))


def test_a_failing_command_says_which_and_why() -> None:
    with namespace("fails") as one, pytest.raises(CommandFailed, match=r"no-such.*does not exist"):
        one.ip("link", "show", "dev", "no-such")


def test_the_owner_is_in_the_name() -> None:
    with namespace("mine") as one:
        assert one.name.startswith("sb")
        assert one.name.endswith(f"-{os.getpid()}-mine")
        assert one.label == "mine"
