"""`stopbank backup` and `restore`: keeping what was accepted."""

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rules.counted import counted
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import REFUSED, fail, show

if TYPE_CHECKING:
    from store.backup import BackupVerdict


def backup(
    target: Annotated[Path, typer.Argument(help="The file to write")],
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """A consistent copy of the database while everything runs, checked after writing."""
    from stopbank import opened

    try:
        if target.exists():
            fail(f"{target} exists already; name another file")
        with opened.standing(loaded(config)) as store:
            verdict = store.backup(target)
    except OSError as error:
        fail(f"{target}: {error.strerror}")
    if not verdict.is_sound:
        fail(f"the copy is not sound: {'; '.join(verdict.problems)}", REFUSED)
    document = {"ok": True, "file": str(target), "rules": verdict.rules, "audit_entries": verdict.audit.count}
    show(document, as_json, f"{target}: {_held(verdict)}")


def _held(verdict: "BackupVerdict") -> str:
    rules, entries = counted(verdict.rules, "rule"), counted(verdict.audit.count, "audit entry", "audit entries")
    return f"{rules} and {entries}"


def restore(
    source: Annotated[Path, typer.Argument(help="A file that `stopbank backup` wrote")],
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Replaces the database by a backup, after checking it; the one before is kept beside it. Stop Stopbank first."""
    from stopbank.opened import sqlite_path
    from stopbank.supervisor import running_pid
    from store.backup import check_backup
    from store.errors import StoreUnavailable

    found = loaded(config)
    if running_pid(found.paths.state / "run.pid"):
        fail("Stopbank is running: `stopbank stop` first, rules on routers stay until their deadlines", REFUSED)
    database = sqlite_path(found)
    if database is None:
        fail("only SQLite is restored from here; use the engine's own tools")
    try:
        verdict = check_backup(source)
    except StoreUnavailable as error:
        fail(str(error))
    if not verdict.is_sound:
        fail(f"{source} is not sound: {'; '.join(verdict.problems)}", REFUSED)
    try:
        _exchange(source, database)
    except OSError as error:
        fail(f"{database}: {error.strerror}; nothing was changed")
    document = {"ok": True, "rules": verdict.rules, "audit_entries": verdict.audit.count}
    show(document, as_json, f"restored {_held(verdict)} from {source}")


def _exchange(source: Path, database: Path) -> None:
    """Puts the copy in place in one rename; the old database and its write-ahead log move aside together."""
    database.parent.mkdir(mode=0o2770, parents=True, exist_ok=True)
    staged = database.with_suffix(".restoring")
    shutil.copyfile(source, staged)
    # Whoever runs Stopbank must be able to write it, and nobody else need read it.
    owner = (database if database.exists() else database.parent).stat()
    staged.chmod(stat.S_IMODE(owner.st_mode) if database.exists() else 0o660)
    with contextlib.suppress(PermissionError):
        os.chown(staged, owner.st_uid, owner.st_gid)
    with staged.open("rb") as copy:
        os.fsync(copy.fileno())
    for suffix in ("-wal", "-shm", ""):
        old = database.with_name(database.name + suffix)
        if old.exists():
            old.rename(database.with_name(f"{database.name}.before-restore{suffix}"))
    staged.rename(database)
