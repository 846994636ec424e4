"""`stopbank status`: what stands where, and each thing that is wrong in one line with what to do about it.

Reads and changes nothing. It tells what it can when the database, the speaker or both are gone.
"""

from datetime import timedelta
from typing import Any

import typer

from rules.counted import counted
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import REFUSED, fail, show


def status(config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False) -> None:
    """Sessions, rules, incidents, sensors, and what is wrong with what to do; exit 1 when anything is."""
    page = _page(loaded(config))
    show(page, as_json, "\n".join(_lines(page)))
    if page["problems"]:
        raise typer.Exit(REFUSED)


def _page(found: configuration.Config) -> dict[str, Any]:
    from speaker import report
    from stopbank import beside, doors, local, opened, wiring
    from webui.app import composed

    settings, state, now = wiring.web(found), found.paths.state, opened.now()
    enforcing, watching, working = beside.enforce(found, now), beside.sensor(found), beside.worker(found, now)
    problems = [one for part in (enforcing, watching, working) for one in (part or {}).get("problems", ())]
    problems += doors.problems(found)
    apart = watching.get("name") if watching else None
    speaker = local.status(state)
    told = report.document(speaker, now) if speaker else None
    try:
        with opened.existing(found) as store:
            page = composed(settings, store, now, apart=apart, told=told).as_json()
    except opened.Unopened as error:
        if not (state / "status.json").exists():
            fail(f"database: {error}")
        lost = f"The database can't be used: {error}. {_NO_DATABASE}"
        page = composed(settings, None, now, (lost,), told=told).as_json()
    page["problems"] = [*page["problems"], *problems]
    return page | {"speaker": speaker, "enforce": enforcing, "sensor": watching, "worker": working}


_NO_DATABASE = (
    "Rules on routers end at their deadlines; `stopbank kill` works; `stopbank restore` brings a backup back."
)


def _lines(page: dict[str, Any]) -> list[str]:
    from stopbank import beside
    from webui.present import duration

    lines = [f"problem: {one}" for one in page["problems"]] or ["nothing is wrong"]
    lines += [f"lately: {one}" for one in page["lately"]]
    lines += [
        f"mode {page['mode']}, {counted(page['rules_wanted'], 'rule')} wanted, "
        f"{counted(page['incidents_open'], 'incident')} open",
    ]
    lines += [
        f"neighbour {one['name']}: {one['state']}, {counted(one['announced'], 'rule')}" for one in page["neighbours"]
    ]
    if page["speaker"]:
        lines.append(f"speaker: runs for {duration(timedelta(seconds=page['speaker'].get('seconds', 0)))}")
    for one in page["programs"]:
        told = f"runs for {one['since']}" if one["running"] else "does not run"
        told += f", restarted {counted(one['restarts'], 'time')}, {one['last']}" if one["restarts"] else ""
        lines.append(f"program {one['name']}: {told}")
    for one in page["sensors"]:
        learned = f", {one['learned']} targets learned" if one["learned"] else ""
        told = f"{one['packets'] or 0} packets, {one['dropped'] or 0} dropped{learned}"
        lines.append(f"sensor {one['name']}: last heard {one['seen']}, {told}")
    lines += [
        f"incident {one['id']}: {one['target']} {one['vectors']} {one['state']} {one['rate']}".rstrip()
        for one in page["incidents"]
        if one["open"]
    ]
    return lines + beside.lines(page["enforce"], page["sensor"])
