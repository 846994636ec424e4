"""FastNetMon Community as a peer: started in a namespace of the lab with its own configuration, never as a daemon.

The configuration is the shipped one with a few words changed, so that what is measured is what its users run.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.namespaces import Namespace, running
from rules.match import Network

PROGRAM = shutil.which("fastnetmon", path="/usr/sbin:/usr/local/sbin:/usr/bin")
SHIPPED = Path("/etc/fastnetmon.conf")
TUNED: Mapping[str, str] = {"average_calculation_time": "1", "enable_connection_tracking": "off"}
"""What an operator changes who wants it fast."""
FIRST = "echo -20 > /proc/self/autogroup; renice -n -20 -p $$ >/dev/null; "
"""Sender and consumers, each in a session of its own, go before all else on the machine (sched(7)): its other work
shall not decide who loses packets. For a shell."""
# Two servers with fixed ports and a report to the network: all off.
_ALONE = {"enable_api": "off", "disable_usage_report": "on", "prometheus": "off", "mirror_afpacket": "on"}


def configuration(interface: str, directory: Path, changes: Mapping[str, str]) -> str:
    """The shipped configuration for one interface; what it doesn't have yet is added."""
    wanted = {
        **_ALONE,
        "interfaces": interface,
        "networks_list_path": str(directory / "networks"),
        "white_list_path": str(directory / "allowed"),
        "notify_script_path": str(directory / "nobody"),
        "pid_path": str(directory / "pid"),
        "cli_stats_file_path": str(directory / "shown"),
        "cli_stats_ipv6_file_path": str(directory / "shown6"),
        **changes,
    }
    text = SHIPPED.read_text()
    for key in wanted:
        text = re.sub(rf"(?m)^\s*{key}\s*=.*\n?", "", text)
    return text + "\n" + "".join(f"{key} = {value}\n" for key, value in wanted.items())


@contextlib.contextmanager
def fastnetmon(
    inside: Namespace, interface: str, network: Network, directory: Path, cpu: int, changes: Mapping[str, str]
) -> Iterator[int]:
    """A running one, its pid; it is ended with the context. Raises `FileNotFoundError` where it isn't installed."""
    if PROGRAM is None or not SHIPPED.exists():
        raise FileNotFoundError("fastnetmon is not installed: deploy/install-packages bench")
    directory.mkdir()
    (directory / "networks").write_text(f"{network}\n")
    (directory / "allowed").touch()
    config = directory / "fastnetmon.conf"
    config.write_text(configuration(interface, directory, changes))
    # Its folder for attacks is fixed; mounts in here are seen by nobody else (ip-netns(8)).
    alone = f"{FIRST}mount -t tmpfs none /var/log && exec taskset -c {cpu} {PROGRAM}"
    alone += f" --configuration_file={config} --log_to_console --disable_pid_logic"
    with running(inside.command("sh", "-c", alone), directory / "log") as pid:
        yield pid
