"""The programs of this machine as their supervisor reports them: how each fares, and what is wrong with it. Pure."""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rules.counted import counted
from webui.present import duration

REPORT_AGE = timedelta(seconds=15)
"""The supervisor writes every five seconds."""
RECENT = timedelta(minutes=10)
"""A death is told of for so long after the restart: whoever looks every five minutes sees it."""
_NAMES = {"exabgp": "ExaBGP with the speaker"}


@dataclass(frozen=True, slots=True)
class ProgramView:
    """One program."""

    name: str
    running: bool
    since: str
    """How long it runs; empty while it doesn't."""
    restarts: int
    """How often it ended by itself since the supervisor began."""
    last: str
    """How and when it last ended; empty where it never did."""


def program_views(report: Mapping[str, Any] | None, now: datetime) -> tuple[ProgramView, ...]:
    """Those that the supervisor keeps; none where there is no supervisor, or one that is silent."""
    if report is None or _is_silent(report, now):
        return ()
    return tuple(_view(one, now) for one in _programs(report))


def troubles(report: Mapping[str, Any] | None, now: datetime) -> Iterator[str]:
    """A line for each that does not run, or does not keep running."""
    if report is None:
        return
    if _is_silent(report, now):
        age = duration(now - datetime.fromisoformat(report["at"]))
        yield (
            f"The supervisor is silent, its last report is {age} old: what ends now is not started again. "
            "Look whether `stopbank run` lives, and at its log."
        )
        return
    for one in _programs(report):
        yield from _trouble(one, now)


def lately(report: Mapping[str, Any] | None, now: datetime) -> Iterator[str]:
    """A line for each that ended by itself not long ago, and is well again."""
    if report is None or _is_silent(report, now):
        return
    for one in _programs(report):
        view, ended = _view(one, now), _moment(one.get("ended"))
        if _is_well(one, view) and ended is not None and now - ended < RECENT:
            yield f"{_name(view)}: {view.last}, and was started again. {_how_often(view)}Its log says why."


def _programs(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (one for one in report.get("programs", ()) if isinstance(one, Mapping))


def _trouble(one: Mapping[str, Any], now: datetime) -> Iterator[str]:
    view = _view(one, now)
    name = _name(view)
    if one.get("problem"):
        yield f"{name}: can't be started ({one['problem']}). Look at the installation; it is tried again."
    elif not view.running:
        yield f"{name}: does not run ({view.last}), and is started again. {_how_often(view)}Look at its log."
    elif not _is_well(one, view):
        yield f"{name}: keeps ending ({view.last}), and was started again. {_how_often(view)}Look at its log."


def _is_well(one: Mapping[str, Any], view: ProgramView) -> bool:
    return view.running and not one.get("problem") and one.get("is_steady") is not False


def _name(view: ProgramView) -> str:
    return _NAMES.get(view.name, view.name.capitalize())


def _how_often(view: ProgramView) -> str:
    return f"It ended {counted(view.restarts, 'time')} since `stopbank run` began. " if view.restarts > 1 else ""


def _view(one: Mapping[str, Any], now: datetime) -> ProgramView:
    since, ended = _moment(one.get("since")), _moment(one.get("ended"))
    is_running = one.get("pid") is not None
    return ProgramView(
        name=str(one.get("name", "")),
        running=is_running,
        since=duration(now - since) if is_running and since is not None else "",
        restarts=int(one.get("deaths") or 0),
        last="" if ended is None else f"ended {_how(one.get('status'))}, {duration(now - ended)} ago",
    )


def _how(status: Any) -> str:
    if not isinstance(status, int):
        return "nobody knows how"
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo is not None else None


def _is_silent(report: Mapping[str, Any], now: datetime) -> bool:
    return now - datetime.fromisoformat(report["at"]) > REPORT_AGE
