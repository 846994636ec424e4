"""What `stopbank sensor top` shows: asks the sensor of this machine, and makes tables of what it says.

Needs nothing but the sensor's socket: no speaker, no database, none of the compiled kernel.
"""

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Document = dict[str, Any]

SOCKET = "status.sock"
"""In the sensor's directory."""
_NAMES = ("ZONE", "VECTORS")
"""Columns that give way to the others."""
_IPV4 = len("255.255.255.255/32")


def ask(path: Path, timeout_seconds: float = 2.0) -> Document | None:
    """What the sensor that listens there says of itself; None when none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(timeout_seconds)
        try:
            asking.connect(str(path))
            said = b"".join(iter(lambda: asking.recv(65536), b""))
            found = json.loads(said)
        except (OSError, ValueError):
            return None
    return found if isinstance(found, dict) and found else None


def render(shown: Document) -> RenderableType:
    """The whole page."""
    numbers = shown["numbers"]
    head = Text(
        f"sensor {shown['sensor']}  up {_duration(shown['uptime_seconds'])}  zones {len(shown['zones'])}  "
        f"cpu {numbers['process_cpu_share']:.1%}  {numbers['process_cpu_nanoseconds_per_packet']:.0f} ns/packet  "
        f"memory {numbers['resident_bytes'] / 1e6:.0f} MB  suspicions {numbers.get('suspicions_total', 0)}",
        style="bold",
    )
    parts: list[RenderableType] = [
        head,
        _link(shown),
        _learned(shown.get("learned")),
        _interfaces(shown["interfaces"]),
        _attacks(shown["attacks"]),
    ]
    parts += [_targets(shown["targets"]), *(Text(f"! {trouble}", style="yellow") for trouble in shown["troubles"])]
    return Group(*parts)


def plain(shown: Document) -> str:
    """The page for a terminal that can't be drawn on, or a file."""
    from rich.console import Console

    console = Console(width=130, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(render(shown))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _link(shown: Document) -> Text:
    link = shown["link"]
    if link is None:
        return Text("link none", style="dim")
    state = "up" if link["connected"] else "down"
    skew = link.get("clock_skew_seconds")
    told = f"link {state}  waiting {link['waiting']}  acknowledged {link['counts'].get('acknowledged', 0)}"
    told += f"  clock {skew:+.1f} s" if skew is not None else ""
    recording = shown["evidence"]["recording"] if shown["evidence"] else None
    told += f"  recording {recording}" if recording is not None else "  no evidence"
    return Text(told, style="" if link["connected"] else "yellow")


def _learned(learned: Document | None) -> Text:
    if learned is None:
        return Text("nothing is learned", style="dim")
    age = learned["saved_age_seconds"]
    saved = "not saved yet" if age is None else f"saved {_duration(age)} ago"
    return Text(f"learned {learned['targets']:,} targets  {learned['bytes'] / 1e6:.1f} MB  {saved}")


def _table(*columns: str, targets: Iterable[str] = ()) -> Table:
    """Where there is no room names take several lines, and long addresses: one that is cut off helps nobody."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    is_long = max(map(len, targets), default=0) > _IPV4
    for number, column in enumerate(columns):
        gives_way = column in _NAMES or (is_long and number == 0)
        table.add_column(
            column,
            justify="left" if number == 0 else "right",
            no_wrap=not gives_way,
            overflow="fold" if gives_way else "ellipsis",
        )
    return table


def _interfaces(lines: list[Document]) -> Table:
    table = _table("INTERFACE", "STATE", "PACKETS/S", "BITS/S", "DROPS/S", "DROPPED", "RING")
    for one in lines:
        state = "up" if one["up"] else "[red]down[/]"
        dropped = f"[red]{one['dropped_per_second']:,}[/]" if one["dropped_per_second"] else "0"
        table.add_row(
            escape(one["name"]), state, f"{one['packets_per_second']:,}", bits(one["bits_per_second"]), dropped,
            f"{one['dropped_total']:,}", f"{one['ring_filled']:.0%}",
        )  # fmt: skip
    return table


def _attacks(lines: list[Document]) -> RenderableType:
    if not lines:
        return Text("no attacks", style="green")
    columns = ("ATTACK ON", "ZONE", "VECTORS", "SEVERITY", "PACKETS/S", "BITS/S", "SOURCES")
    table = _table(*columns, targets=(one["target"] for one in lines))
    for one in lines:
        table.add_row(
            f"[red]{escape(one['target'])}[/]", escape(one["zone"]), escape(" ".join(one["vectors"])),
            f"{one['severity']:.1f}", _rate(one), bits(one["bits_per_second"]), f"{one['sources']:,}",
        )  # fmt: skip
    return table


def _targets(lines: list[Document]) -> Table:
    columns = ("TARGET", "ZONE", "SEVERITY", "PACKETS/S", "BITS/S")
    table = _table(*columns, targets=(one["target"] for one in lines))
    for one in lines:
        table.add_row(
            escape(one["target"]), escape(one["zone"] or "-"), f"{one['severity']:.2f}", _rate(one),
            bits(one["bits_per_second"]),
        )  # fmt: skip
    return table


def _rate(line: Document) -> str:
    interval = line["interval_percent"]
    suffix = " ±?" if interval is None else f" ±{interval:.0f}%" if interval else ""
    return f"{line['packets_per_second']:,}{suffix}"


def bits(value: float) -> str:
    """A rate in bits per second, with a prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000 or prefix == "T":
            break
        value /= 1000
    return f"{value:.1f} {prefix}" if prefix else f"{value:.0f} "


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
