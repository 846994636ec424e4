"""A process that writes to a store, for tests of several at once: `store_writer.py DATABASE ACTOR FIRST COUNT`.

It waits for a line on stdin, admits COUNT rules from number FIRST on, and prints `admitted ID` or `refused ID` for
each, after its transaction. The functions start and lead such processes.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stored import admitted, rule

from rules.findings import Objected
from store.store import Store

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120


@contextmanager
def writer(path: Path, actor: str, first: int, count: int) -> Iterator[subprocess.Popen[str]]:
    """Such a process, killed at the end if it still runs."""
    command = [sys.executable, "-W", "error", __file__, str(path), actor, str(first), str(count)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'lib'}"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)


def ready(process: subprocess.Popen[str]) -> None:
    """Waits until it has opened the store."""
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line == "ready\n", process.stderr.read()


def go(process: subprocess.Popen[str]) -> None:
    """Lets it write."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def outcomes(process: subprocess.Popen[str]) -> list[str]:
    """Lets it write, waits for its end, and gives what it printed."""
    output, errors = process.communicate("go\n", timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    return output.splitlines()


def main(database: str, actor: str, first: str, count: str) -> None:
    """Admits the rules."""
    with Store.open(Path(database)) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(int(first), int(first) + int(count)):
            try:
                outcome = f"admitted {admitted(store, number, actor=actor).id}"
            except Objected:
                outcome = f"refused {rule(number).id}"
            print(outcome, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
