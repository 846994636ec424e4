"""Whether those can be reached that take connections on this machine, intake and page: for `stopbank status`.

Connects to nobody: an intake would log each look as a sensor that hung up. The kernel says who listens.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from stopbank import runfile
from stopbank.config import Config
from webui.app import read_dated

STARTING_SECONDS = 20.0
"""What a process may need to open its door."""
_LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp, proc(5)."""


def problems(config: Config) -> Iterator[str]:
    """Those that the supervisor of this machine runs for long enough, and nobody listens on their ports."""
    report = read_dated(config.paths.state / runfile.FILE)
    if report is None:
        return
    at, ports = datetime.fromisoformat(report["at"]), {"intake": config.intake.port, "web": config.web.port}
    for one in report["programs"]:
        port = ports.get(one["name"])
        if port is None or one["pid"] is None:
            continue
        age = (at - datetime.fromisoformat(one["since"])).total_seconds()
        if age > STARTING_SECONDS and not is_open(one["pid"], port):
            yield f"{one['name'].capitalize()}: runs, and takes no connections on port {port}. Look at its log."


def is_open(pid: int, port: int) -> bool:
    """Whether somebody listens on this TCP port where that process lives; True where that can't be seen."""
    try:
        tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    except OSError:
        return True
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    return any(row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port for row in rows)
