"""`stopbank bench`: runs benchmarks by name and prints figures. One that fails is reported, and the rest still run.

Every benchmark is a module with a function that yields results; it is imported when it runs, so that a missing program
or package harms nobody else.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.result import Result

Benchmark = Callable[[], Iterable[Result]]
FAILED, UNKNOWN = 1, 2
"""Exit codes."""


def _of(module: str) -> Benchmark:
    def measured() -> Iterator[Result]:
        yield from importlib.import_module(f"bench.{module}").run()

    return measured


def packet_cost() -> Iterator[Result]:
    """Its ratio is the peer's cost over ours: 8 is eight times cheaper."""
    from bench.packet_cost import run

    for line in run():
        value, peer_value, ratio = (float(str(line[key])) for key in ("value", "peer_value", "ratio"))
        note = "ratio is the peer's over ours"
        yield Result(str(line["metric"]), value, str(line["unit"]), str(line["peer"]), peer_value, ratio, note)


BENCHMARKS: Mapping[str, Benchmark] = {
    "offline_peers": _of("offline_peers"),
    "packet_cost": packet_cost,
    "fanout": _of("fanout"),
    "detection_latency": _of("detection_latency"),
    "time_to_detect": _of("time_to_detect"),
    "accuracy": _of("accuracy"),
    "full_sensor": _of("full_sensor"),
    "bounded_memory": _of("bounded_memory"),
    "tick_cost": _of("tick_cost"),
    "false_alarms": _of("false_alarms"),
    "rule_latency": _of("rule_latency"),
    "bulk": _of("bulk"),
    "deadlines": _of("deadlines"),
    "speaker_kill": _of("speaker_kill"),
    "exabgp_kill": _of("exabgp_kill"),
}


def main(name: str, as_json: bool, known: Mapping[str, Benchmark] = BENCHMARKS) -> int:
    """Runs one benchmark, or `all`; the exit code: 1 when one failed, 2 when there is none of that name."""
    if name != "all" and name not in known:
        print(f"no benchmark is called {name!r}: choose all, {', '.join(known)}", file=sys.stderr)
        return UNKNOWN
    chosen = known if name == "all" else {name: known[name]}
    # A list, since any() would stop at the first failure.
    worked = [_run(one, benchmark, as_json) for one, benchmark in chosen.items()]
    return 0 if all(worked) else FAILED


def _run(name: str, benchmark: Benchmark, as_json: bool) -> bool:
    """One benchmark with its figures printed as they come; whether it came to its end."""
    busy = load()
    print(f"{name}: before it, {busy}", file=sys.stderr, flush=True)
    results: list[Result] = []
    try:
        for result in benchmark():
            results.append(result)
            if as_json:
                print(json.dumps(result.as_json() | busy), flush=True)
    except Exception as error:  # noqa: BLE001 - a failing benchmark is an outcome: it is told, and the others run
        traceback.print_exc()
        print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return False
    finally:
        if results and not as_json:
            Console().print(table(name, results))
    return True


def load() -> dict[str, float]:
    """How busy the machine is with other things: below figures in seconds this decides what they are worth.

    The pressure is the share of the last minute, in percent, in which something waited for a processor.
    """
    found = {"load_average": round(os.getloadavg()[0], 2)}
    pressure = Path("/proc/pressure/cpu")
    if pressure.exists():
        # The kernel's form: some avg10=0.00 avg60=0.00 avg300=0.00 total=0
        found["processor_pressure"] = float(pressure.read_text().split()[2].removeprefix("avg60="))
    return found


def table(name: str, results: Iterable[Result]) -> Table:
    """The figures for people."""
    made = Table(title=name, title_justify="left")
    for heading, justify in (("metric", "left"), ("value", "right"), ("peer", "left"), ("ratio", "right")):
        made.add_column(heading, justify="right" if justify == "right" else "left")
    made.add_column("note", style="dim")
    for one in results:
        peer = f"{one.peer}: {one.peer_value:g} {one.unit}"
        made.add_row(one.metric, f"{one.value:,.4g} {one.unit}", peer, f"{one.ratio:.2f}", one.note)
    return made
