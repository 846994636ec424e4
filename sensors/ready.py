"""Whether this machine gives what the settings ask for: looked at before anything that takes long."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pcapy

from rules.errors import Problem, Refused
from sensors.settings import SensorSettings

_KINDS = (1, 12, 105, 127)
"""Ethernet, bare IP, 802.11 without and with what the radio says: libpcap's numbers of what interfaces hand over."""
_WHOLE = 65_535


def check(settings: SensorSettings) -> int | None:
    """Takes the place and the state directory that are asked for, and raises `Refused` with everything that is not
    there, or not for us. Gives the descriptor that holds the directory for as long as it is open, so for the life of
    the process; None where there is no such directory."""
    problems = [
        *_place(settings),
        *_interfaces(settings.capture.interfaces),
        *_filter(settings.capture.filter),
        *_metrics(settings),
    ]
    directory, held = _state_directory(settings), None
    # Who is refused anyway makes no directory: it would be the wrong user's after a try by root.
    if directory and (not problems or os.access(directory, os.F_OK)):
        try:
            held = hold(directory)
        except Refused as error:
            problems += error.problems
    if problems and held is not None:
        os.close(held)
    _raise(problems)
    return held


def hold(directory: Path) -> int:
    """A descriptor that keeps other sensors out of the directory while it is open: two would write over each other's
    spool and over what the other learned. The lock is on the directory itself, since a full disk has no room for a
    file. Raises `Refused`."""
    descriptor = None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        is_taken = isinstance(error, BlockingIOError)
        reason = "another sensor runs with this directory" if is_taken else f"can't be used: {error.strerror}"
        raise Refused("paths.state", str(directory), reason) from error
    return descriptor


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


def _filter(text: str | None) -> Iterator[Problem]:
    """One that holds for no kind of interface; whether it holds for these, their rings say."""
    reason = ""
    for kind in _KINDS if text else ():
        try:
            pcapy.compile(kind, _WHOLE, text, 1, 0xFFFFFFFF)
        except (pcapy.BPFError, pcapy.PcapError) as error:
            reason = reason or str(error)
        else:
            return
    if reason:
        yield Problem("filter", text or "", f"is no filter libpcap knows: {reason}")


def _metrics(settings: SensorSettings) -> Iterator[Problem]:
    port = settings.metrics_port
    if port is None:
        return
    try:
        family, kind, _, _, place = socket.getaddrinfo(settings.metrics_address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind(place)
            # A port that somebody listens on can be bound, with that option.
            trying.listen(1)
    except OSError as error:
        yield Problem("sensor.metrics_port", str(port), f"can't be listened on: {error.strerror}")


def _state_directory(settings: SensorSettings) -> Path | None:
    if settings.status_socket:
        return settings.status_socket.parent
    return settings.learning.directory if settings.learning else None
