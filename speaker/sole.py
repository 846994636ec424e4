"""One speaker for one state directory: two would write one journal, and each would take the other's rules for gone."""

import fcntl
import os
from pathlib import Path


def claim(state: Path) -> int | None:
    """A lock on the directory that lasts as long as this process; None while another one has it. Raises `OSError`.

    On the directory itself, since a full disk has no room for a file of its own.
    """
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor
