"""Log lines as all processes write them, JSON on stderr, made by hand: a speaker that starts again while routers wait
has no time for a library that is an eighth of its start.
"""

import json
import sys
import traceback
from datetime import UTC, datetime


def info(event: str, **fields: object) -> None:
    """Something went as it should."""
    _write("info", event, fields)


def warning(event: str, **fields: object) -> None:
    """Something a person may want to know."""
    _write("warning", event, fields)


def error(event: str, **fields: object) -> None:
    """Something a person should know."""
    _write("error", event, fields)


def exception(event: str, **fields: object) -> None:
    """The same, with the traceback of the exception that is being handled."""
    _write("error", event, {**fields, "exception": traceback.format_exc().rstrip()})


def _write(level: str, event: str, fields: dict[str, object]) -> None:
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = json.dumps({**fields, "event": event, "level": level, "timestamp": at}, default=repr)
    # One write for one line: threads of ours, ExaBGP and its supervisor share the file.
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
