"""Whether this machine gives what the settings ask for: looked at before anything that takes long."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from rules.errors import Problem, Refused
from sensors.settings import SensorSettings


def check(settings: SensorSettings) -> None:
    """Takes the place that is asked for, and raises `Refused` with everything that is not there, or not for us."""
    _raise([*_place(settings), *_interfaces(settings.capture.interfaces), *_alone(settings.status_socket)])


def take_place(settings: SensorSettings) -> None:
    """Processors and priority; raises `Refused` with all that this process may not have."""
    _raise([*_place(settings)])


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise Refused.all(problems)


def _place(settings: SensorSettings) -> Iterator[Problem]:
    yield from _processors(settings)
    yield from _priority(settings.nice)


def _processors(settings: SensorSettings) -> Iterator[Problem]:
    there = sorted(os.sched_getaffinity(0))
    if settings.cpus:
        try:
            os.sched_setaffinity(0, settings.cpus)
        except OSError:
            yield Problem("sensor.cpus", str(list(settings.cpus)), f"this process may use {' '.join(map(str, there))}")
            return
    processors = len(os.sched_getaffinity(0))
    if settings.capture.fanout > processors:
        reason = f"this process may use {processors} processors; more threads than that only wait for each other"
        yield Problem("sensor.fanout", str(settings.capture.fanout), reason)


def _priority(nice: int | None) -> Iterator[Problem]:
    if nice is None:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError:
        reason = "needs CAP_SYS_NICE; use Nice= in the systemd unit, or a value above the present one"
        yield Problem("sensor.nice", str(nice), reason)


def _interfaces(names: tuple[str, ...]) -> Iterator[Problem]:
    for name in names:
        try:
            socket.if_nametoindex(name)
        except (OSError, ValueError):
            yield Problem("interfaces", name, "there is no such interface on this machine")
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        reason = "capturing needs CAP_NET_RAW: run this as root, or by its systemd unit"
        yield Problem("interfaces", " ".join(names), reason)


def _alone(status_socket: Path | None) -> Iterator[Problem]:
    """Two sensors would write over each other's spool and over what the other learned."""
    if status_socket is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(status_socket))
        except OSError:
            return
    yield Problem("paths.state", str(status_socket.parent), "another sensor runs with this directory")
