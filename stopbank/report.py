"""The report of `stopbank analyze` for people: one block for each attack, rules as they can be copied, and at the end
what was not counted and why. On a terminal, a bar shows how far long files are read."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from sensors.progress import telling

_TOP = 5
"""Sources, ports and such that are shown."""
_PLAIN_SECONDS = 600
"""From which on nobody counts in seconds."""
_LONGEST_NAME = 28
_NARROWEST = 20
_COMPILING = "compiling, once: a minute or two"
_OBSERVED = {
    "source_ports": "source ports",
    "destination_ports": "to ports",
    "lengths": "lengths",
    "ttls": "hop limits",
}


@contextmanager
def watching(path: str, compiles: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, for as long as the file is read; nothing where nobody watches. `compiles`: when nothing
    is read for seconds, that is why."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    name = Path(path).name
    # A longer one leaves no room for the bar.
    shown = escape(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(shown, total=None)
        is_reading = not compiles

        def tell(done: int, size: int) -> None:
            nonlocal is_reading
            is_reading = True
            bar.update(task, description=shown, completed=done, total=size)

        def excuse(seconds: float) -> None:
            if not is_reading:
                bar.update(task, description=_COMPILING)

        with telling(excuse):
            yield tell


def print_report(report: dict[str, Any]) -> None:
    """Writes the report on a capture (`findings.Report.to_json`) to stdout, as wide as the terminal is."""
    _print(report, f"{report['capture']}: {report['packets']:,} packets in {_seconds(report['duration_s'])}", _lines)


def print_log_report(report: dict[str, Any]) -> None:
    """The same for access logs (`analyze_logs.LogReport.to_json`)."""
    logs = ", ".join(f"{log} ({format})" for log, format in zip(report["access_logs"], report["formats"], strict=True))
    _print(report, f"{logs}: {report['requests']:,} requests in {_seconds(report['duration_s'])}", _log_lines)


def _print(
    report: dict[str, Any], looked_at: str, lines: Callable[[dict[str, Any]], Iterator[tuple[str, str]]]
) -> None:
    # What is piped goes to files and pagers, which wrap as they like.
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
    incidents = report["incidents"]
    found = f"{len(incidents)} attack{'s' * (len(incidents) != 1)}" if incidents else "no attack found"
    console.print(Text(f"{looked_at}: {found}", style="bold"), soft_wrap=True)
    for incident in incidents:
        console.print()
        _print_incident(console, incident, lines(incident))
    if suspicions := report.get("counters", {}).get("suspicions"):
        console.print()
        console.print(Text(_suspected(suspicions)))
    if report["notes"]:
        console.print()
        console.print(Text("Not counted, or not as it stands:", style="bold"))
        for note in report["notes"]:
            console.print(Padding(Text(note), (0, 0, 0, 2), expand=False))


def _print_incident(console: Console, incident: dict[str, Any], lines: Iterator[tuple[str, str]]) -> None:
    target = incident["target"] or "the server"
    console.print(Text.assemble((target, "bold red"), "  ", (incident["vector"], "bold")), soft_wrap=True)
    rows = list(lines)
    label = max(len(name) for name, _ in rows)
    for name, value in rows:
        for one in _wrapped(value, console.width - label - 4):
            console.print(Text.assemble("  ", (f"{name:{label}}", "dim"), "  ", one), soft_wrap=True)
            name = ""
    for rule in incident["rules"]:
        console.print(Padding(Text(f"rule: {_shares(rule)}", style="dim"), (0, 0, 0, 2), expand=False))
        # One line whatever the width: a rule is there to be copied.
        console.print(Text(f"  {rule['flowspec']}", style="green"), soft_wrap=True)


def _wrapped(value: str, width: int) -> list[str]:
    """Its lines, none of which begins with what belongs to the name before."""
    glued = value.replace(" (", "\N{NO-BREAK SPACE}(")
    lines = textwrap.wrap(glued, max(width, _NARROWEST), break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _suspected(count: int) -> str:
    return f"{count:,} suspicion{'s' * (count != 1)}: a limit was passed, and a closer look found no attack"


def _log_lines(incident: dict[str, Any]) -> Iterator[tuple[str, str]]:
    peak = f"{incident['peak_rps']:,.0f} requests/s, {_bits(incident['peak_bps'])} answered"
    yield "peak", f"{peak}; {incident['requests']:,} requests in all"
    yield "when", _when(incident)
    yield "sources", f"{incident['sources']:,}{_SPOOFED[incident['spoofed']]}"
    details = incident["ioc"]
    yield "", ", ".join(f"{one['address']} ({one['requests']:,})" for one in details["sources"][:_TOP])
    for key, name in (("hosts", "sites"), ("statuses", "answers")):
        if details[key]:
            yield name, ", ".join(f"{_shown(value)} ({count:,})" for value, count in [*details[key].items()][:_TOP])
    if not incident["target"]:
        yield "rules", "need the server's address: --zone ADDRESS"


def _shown(text: str) -> str:
    """What clients wrote, without what a terminal would take for a command."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def _when(incident: dict[str, Any]) -> str:
    first, last = (datetime.fromisoformat(incident[key]) for key in ("first_seen", "last_seen"))
    return f"{first:%Y-%m-%d %H:%M:%S.%f} UTC, for {_seconds((last - first).total_seconds())}"


def _lines(incident: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "vectors", ", ".join(_vector(one) for one in incident["vectors"])
    peak = f"{incident['peak_pps']:,.0f} packets/s, {_bits(incident['peak_bps'])}"
    yield "peak", f"{peak}; {incident['packets']:,} packets in all"
    yield "when", _when(incident)
    yield "sources", f"{incident['sources']:,}{_SPOOFED[incident['spoofed']]}"
    details = incident["ioc"]
    if details.get("sources"):
        yield "", ", ".join(f"{one['address']} ({one['packets']:,})" for one in details["sources"][:_TOP])
    if "confidence" in incident:
        yield "confidence", f"{incident['confidence']:.0%}"
    if details.get("connections"):
        yield "connections", f"{details['connections']:,} at its worst"
    if details.get("targets"):
        most = ", ".join(f"{host} ({count:,})" for host, count in details["targets"].items())
        yield "hosts", f"{details['target_count']:,}, most of it to {most}"
    for key, name in _OBSERVED.items():
        if details.get(key):
            yield name, ", ".join(f"{value} ({count:,})" for value, count in list(details[key].items())[:_TOP])
    if not incident["rules"]:
        yield "rules", "none: nothing that FlowSpec matches tells the attack from visitors"


_SPOOFED = {True: ", forged by all signs", False: ", real", None: ""}


def _vector(share: dict[str, Any]) -> str:
    return f"{share['id']} ({share['share_packets']:.0%} of packets, {share['share_bytes']:.0%} of bytes)"


def _shares(rule: dict[str, Any]) -> str:
    covers = f"covers {rule['coverage']:.1%} of the attack"
    if rule["collateral"] is None:
        return f"{covers}; how much of normal traffic is not known"
    return f"{covers} and {rule['collateral']:.1%} of normal traffic"


def _bits(rate: float) -> str:
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6)):
        if rate >= size:
            return f"{rate / size:,.1f} {unit}"
    return f"{rate / 1e3:,.1f} kbit/s"


def _seconds(seconds: float) -> str:
    for size, unit, part, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= max(size, _PLAIN_SECONDS):
            return f"{seconds // size:,.0f} {unit} {seconds % size // part:.0f} {smaller}"
    return f"{seconds:,.1f} s" if seconds >= 100 else f"{seconds:.3f} s"
