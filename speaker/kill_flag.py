"""The kill switch's flag: a file that the speaker obeys whatever else is dead. One that can't be read is a freeze."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rules.messages import KillMode

FLAG = "kill.json"
LINK_LENGTH = 50
"""What file systems keep in the inode itself: ext4 59 bytes, others more."""


@dataclass(frozen=True, slots=True)
class Flag:
    """What stands in `kill.json`."""

    mode: KillMode
    by: str = ""
    at: str = ""


def read(state: Path) -> Flag:
    """The flag as it stands; no file is normal, and a file that can't be read is a freeze: doubt announces nothing."""
    path = state / FLAG
    try:
        if path.is_symlink():
            mode, _, by = str(path.readlink()).partition(" ")
            return Flag(KillMode(mode), by)
        value = json.loads(path.read_bytes())
        return Flag(KillMode(value["mode"]), str(value.get("by", "")), str(value.get("at", "")))
    except FileNotFoundError:
        return Flag(KillMode.NORMAL)
    except OSError as error:
        return Flag(KillMode.FREEZE, by=f"unreadable: {error.strerror}")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Flag(KillMode.FREEZE, by="unreadable")


def write(state: Path, mode: KillMode, by: str, now: datetime) -> None:
    """Sets or lifts the flag, on disk when this returns, also on a full one. Raises `OSError`."""
    path, draft = state / FLAG, state / f".{FLAG}.{os.getpid()}"
    if mode is KillMode.NORMAL:
        path.unlink(missing_ok=True)
    else:
        draft.unlink(missing_ok=True)
        try:
            with draft.open("w") as file:
                json.dump({"mode": mode.value, "by": by, "at": now.isoformat()}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(0o660)
        except OSError:
            # A short symbolic link lies in its inode and needs no room on the disk.
            draft.unlink(missing_ok=True)
            draft.symlink_to(f"{mode.value} {by}"[:LINK_LENGTH])
        draft.replace(path)
    directory = os.open(state, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Watch:
    """The speaker's half: looks at the flag each second."""

    def __init__(self, state: Path, changed: Callable[[Flag], None]) -> None:
        self._state, self._changed = state, changed
        self.flag = Flag(KillMode.NORMAL)
        self._looked_at = -1e9

    def look(self, now: float, at_once: bool = False, by: str = "") -> None:
        """Read the flag if a second has passed, and tell of a change. `by`: who lifts it, which no file says."""
        if not at_once and now - self._looked_at < 1.0:
            return
        self._looked_at = now
        flag = read(self._state)
        if flag.mode is KillMode.NORMAL:
            flag = replace(flag, by=by)
        if flag != self.flag and not flag.mode is self.flag.mode is KillMode.NORMAL:
            self.flag = flag
            self._changed(flag)
