"""The least that can be hung under ExaBGP: sends a file of commands with 64 in flight, then says when and how it went.

Run by ExaBGP as `python windowed.py DIRECTORY`. It waits for DIRECTORY/commands, and writes DIRECTORY/answered when
every command has its answer. Knows no deadline, no database, no reconciliation: what they cost is compared with it.
"""

import sys
import threading
import time
from pathlib import Path

WINDOW = 64
_TURN_SECONDS = 0.001


def main() -> None:
    """Send, then stay and keep reading: a child that stops reading freezes the whole daemon."""
    directory = Path(sys.argv[1])
    room, answers, asked = threading.Semaphore(WINDOW), [0, 0], threading.Event()

    def read() -> None:
        for line in sys.stdin:
            answer = line.strip()
            if answer in ("done", "error"):
                answers[answer == "error"] += 1
                room.release()
        asked.set()

    threading.Thread(target=read, daemon=True).start()
    commands = directory / "commands"
    while not commands.exists():
        time.sleep(_TURN_SECONDS)
    lines = commands.read_text().splitlines()
    for line in lines:
        room.acquire()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    while sum(answers) < len(lines):
        time.sleep(_TURN_SECONDS)
    (directory / "answered").write_text(f"{answers[0]} {answers[1]}\n")
    asked.wait()


if __name__ == "__main__":
    main()
