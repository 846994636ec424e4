"""`stopbank run|stop|reload|kill` and the processes they are made of."""

import os
import signal
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rules.counted import counted
from rules.errors import Refused
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import REFUSED, fail, refuse, show

STOP_SECONDS = 20.0


class KillName(StrEnum):
    """What `stopbank kill` takes."""

    freeze = "freeze"
    withdraw_automatic = "withdraw-automatic"
    withdraw_all = "withdraw-all"
    normal = "normal"


def run(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """The appliance, until SIGTERM or Ctrl-C: ExaBGP with the speaker, intake, web, worker, and the local sensor."""
    from stopbank import appliance
    from stopbank.supervisor import running_pid

    found = loaded(config)
    wiring_problems(found)
    if running_pid(found.paths.state / appliance.PIDFILE):
        fail("Stopbank is running already with this state directory", REFUSED)
    try:
        appliance.run(found, config)
    except Refused as error:
        refuse(error, code=2)
    except OSError as error:
        fail(f"{error.filename or found.paths.state}: {error.strerror}")


def stop(
    withdraw: Annotated[bool, typer.Option("--withdraw", help="End all rules and see them gone first")] = False,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Stops the appliance. Without --withdraw routers keep what graceful restart lets them keep."""
    from stopbank.appliance import PIDFILE
    from stopbank.supervisor import running_pid

    found = loaded(config)
    pid = running_pid(found.paths.state / PIDFILE)
    if pid is None:
        fail("Stopbank is not running with this state directory", REFUSED)
    untold = _withdraw_everything(found) if withdraw else ""
    _signal(pid, signal.SIGTERM)
    if not _until(lambda: running_pid(found.paths.state / PIDFILE) is None):
        fail(f"process {pid} has not ended after {STOP_SECONDS:.0f} s", REFUSED)
    shown = "stopped" + (", everything withdrawn" if withdraw else "") + (f"; {untold}" if untold else "")
    show({"ok": True, "withdrawn": withdraw, "note": untold}, as_json, shown)


def reload(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Has the running appliance read its configuration again; a bad one is refused here and changes nothing."""
    from stopbank.appliance import PIDFILE
    from stopbank.supervisor import running_pid

    found = loaded(config)
    wiring_problems(found)
    pid = running_pid(found.paths.state / PIDFILE)
    if pid is None:
        fail("Stopbank is not running with this state directory", REFUSED)
    _signal(pid, signal.SIGHUP)
    show({"ok": True, "pid": pid}, as_json, "told to read its configuration again; its log says what it did")


def wiring_problems(found: configuration.Config) -> None:
    """What no process could start with ends the command with exit 2."""
    from stopbank import wiring

    try:
        wiring.check(found)
    except Refused as error:
        refuse(error, code=2)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        fail(f"process {pid} is another user's: run this as root or as the user Stopbank runs as")


def _withdraw_everything(found: configuration.Config) -> str:
    """Ends every rule and waits until no neighbour holds any; what can't be verified ends the command.

    Says which neighbours have no session, and can't have heard of it.
    """
    from speaker import killswitch
    from stopbank import local, opened
    from store.records import RuleFilter

    with opened.standing(found) as store:
        store.withdraw_many(RuleFilter(), opened.actor(), "stop --withdraw", opened.now())
    local.wake(found.paths.state)
    if not _until(lambda: _announced(found) == 0):
        left = _announced(found)
        shown = (
            "the speaker does not answer"
            if left is None
            else f"{counted(left, 'announcement is', 'announcements are')} still out"
        )
        fail(f"{shown}; not stopped. `stopbank kill withdraw-all` forces it", REFUSED)
    return killswitch.untold(local.status(found.paths.state) or {})


def _announced(found: configuration.Config) -> int | None:
    """How many rules the speaker's neighbours hold; None when it can't be known."""
    from stopbank import local

    document = local.status(found.paths.state)
    neighbours = document.get("neighbours") if document else None
    if not isinstance(neighbours, list):
        return None
    gone = {"ended", "unfit", "proposed"}
    return sum(int(count) for one in neighbours for phase, count in one["rules"].items() if phase not in gone)


def _until(claim: Any) -> bool:
    deadline = time.monotonic() + STOP_SECONDS
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def kill(
    mode: Annotated[KillName, typer.Argument(help="What to do at once, whatever else is dead")],
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """The kill switch: works without web, intake and database, and kills a speaker that does not answer."""
    from rules.messages import KillMode
    from speaker import killswitch
    from stopbank import opened

    found = loaded(config)
    try:
        report = killswitch.throw(found.paths.state, KillMode(mode.value), opened.actor(), opened.now())
    except OSError as error:
        fail(f"kill.json can't be written in {found.paths.state}: {error.strerror}")
    shown = mode.value
    if mode is KillName.withdraw_all:
        shown += f": {report.clear} of {counted(report.neighbours, 'neighbour')} hold nothing any more"
    shown += ", the speaker did not answer and was killed" if report.was_killed else ""
    shown += "".join(f"; {word}" for word in (report.problem, report.note) if word)
    document = {"ok": not report.problem, "mode": mode.value, "clear": report.clear, "neighbours": report.neighbours}
    show(document | {"was_killed": report.was_killed, "problem": report.problem, "note": report.note}, as_json, shown)
    if report.problem:
        raise typer.Exit(REFUSED)


def speaker(
    state: Annotated[Path, typer.Option(help="The state directory, known even where the configuration can't be read")],
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """The speaker; ExaBGP starts it, and talks to it over standard input and output."""
    from stopbank import speaking

    speaking.speak(state, config)


def intake(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """The sensors' door."""
    from intake.server import run as run_intake
    from stopbank import opened, wiring

    found = loaded(config)
    with opened.store(found) as store:
        try:
            run_intake(wiring.intake(found), store.zones)
        except OSError as error:
            fail(f"intake: {found.intake.listen}:{found.intake.port}: {error.strerror}")


def worker(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Tells webhook and syslog what happened."""
    from stopbank import opened, wiring
    from worker.main import run as run_worker

    found = loaded(config)
    with opened.store(found) as store:
        run_worker(wiring.worker(found), store)


def web(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """The pages."""
    from stopbank import opened, wiring
    from webui.serve import run as run_web

    found = loaded(config)
    with opened.store(found):
        # Its server opens the database itself, once it has forked: here a bad one still ends in a clear line.
        settings = wiring.web(found)
    run_web(settings)
