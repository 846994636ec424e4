"""What works beside the speaker on this machine, for `stopbank status`: the enforcer, the sensor, the worker.

Each works without the speaker and may run under another state directory: what was never set up here is not a problem,
what is configured here and doesn't run is one.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from rules.counted import counted
from stopbank import wiring
from stopbank.config import Config

ENFORCE_AGE_SECONDS = 30.0
"""It writes every second, slower only with thousands of rules."""
WORKER_AGE_SECONDS, OLDEST_DELIVERY_SECONDS = 60.0, 300.0
"""The worker writes every five seconds."""

Part = dict[str, Any]


def enforce(config: Config, now: datetime) -> Part | None:
    """What `stopbank enforce` reports, with `age_seconds` and `problems`; None where it never ran and isn't set up."""
    path = config.paths.state / "enforce" / "enforce.json"
    try:
        document: Part = json.loads(path.read_text())
        age = (now - datetime.fromisoformat(document["at"])).total_seconds()
        trouble = [f"Enforcer: {document['trouble']}. Look at its log."] if document["trouble"] else []
        down = [
            f"Enforcer: no session with {one['address']}, so no rules of that speaker. Look at both ends' logs."
            for one in document["speakers"]
            if not one["up"]
        ]
        refused = [
            f"Enforcer: refuses {one['rule']}: {one['reason']}. Rewrite or withdraw the rule."
            for one in document["refused"]
        ]
    except FileNotFoundError:
        if config.enforce.local_address is None:
            return None
        return {"problems": ["Enforcer: set up here, and it never ran. Start it: `stopbank enforce`."]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"problems": [f"Enforcer: {path} can't be read: {error}"]}
    silent = [
        f"Enforcer: silent, its last report is {age:.0f} s old: this machine filters nothing when it has ended. Start "
        "it: `stopbank enforce`."
    ]
    is_silent = age > ENFORCE_AGE_SECONDS
    return document | {"age_seconds": age, "problems": silent if is_silent else [*trouble, *down, *refused]}


def sensor(config: Config) -> Part | None:
    """The sensor of this machine: what waits for the intake, the captures kept as evidence (files and bytes), and what
    it says is wrong; None where none ran and none is set up."""
    state = config.paths.state
    places = {"spool": state / "sensor" / "spool", "evidence": state / "evidence"}
    held: Part = {name: _held(place) for name, place in places.items() if place.is_dir()}
    if not held and not config.sensor.interfaces:
        return None
    return held | _said(config)


def _said(config: Config) -> Part:
    from sensors.top import SOCKET, ask

    directory = wiring.sensor_directory(config)
    shown = ask(directory / SOCKET)
    if shown is not None:
        name = str(shown["sensor"])
        problems = [f"Sensor {name}: {one}." for one in shown["troubles"]]
        return {"name": name, "learned": shown["learned"], "link": shown["link"], "problems": problems}
    if not config.sensor.interfaces:
        return {"problems": []}
    if not (directory / "intake.json").exists():
        advice = "`stopbank sensor token NAME` on the intake's machine, `stopbank sensor enroll TOKEN` here"
        return {"problems": [f"Sensor of this machine: has interfaces, and isn't enrolled. Do: {advice}."]}
    return {"problems": ["Sensor of this machine: does not run, or may not be asked. Start it: `stopbank sensor run`."]}


def _held(directory: Path) -> dict[str, int]:
    sizes = []
    for path in directory.rglob("*"):
        try:
            sizes += [path.stat().st_size] if path.is_file() else []
        except FileNotFoundError:
            # Sent, or removed to make room, since it was listed.
            continue
    return {"files": len(sizes), "bytes": sum(sizes)}


def worker(config: Config, now: datetime) -> Part | None:
    """Whether people are told; None where nobody is to be."""
    told = config.worker
    if not told.enabled or not (told.webhook_url or told.syslog):
        return None
    path = config.paths.state / "worker.prom"
    try:
        numbers = _prometheus(path.read_text())
    except FileNotFoundError:
        return {"problems": ["Worker: never ran, so nobody is told of anything. Start it: `stopbank run`."]}
    except (OSError, UnicodeDecodeError) as error:
        return {"problems": [f"Worker: {path} can't be read: {error}"]}
    age = now.timestamp() - numbers.get("stopbank_worker_written_timestamp_seconds", 0.0)
    if age > WORKER_AGE_SECONDS:
        return {"problems": [f"Worker: silent for {age:.0f} s, so nobody is told of anything. Look at its log."]}
    problems = []
    if (oldest := numbers.get("stopbank_delivery_oldest_seconds", 0.0)) > OLDEST_DELIVERY_SECONDS:
        problems.append(f"Worker: a notice has waited for {oldest:.0f} s. Look at the webhook or syslog server.")
    if lost := numbers.get("stopbank_deliveries_given_up_total"):
        problems.append(
            f"Worker: {counted(lost, 'notice was', 'notices were')} given up since it started. Look at its log."
        )
    return {"problems": problems}


def _prometheus(text: str) -> dict[str, float]:
    """The largest value of each name, whatever its labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            plain = name.partition("{")[0]
            try:
                found[plain] = max(found.get(plain, float("-inf")), float(value))
            except ValueError:
                continue
    return found


def lines(enforcing: Part | None, watching: Part | None) -> list[str]:
    """Enforcer and sensor for people."""
    told = []
    if enforcing is not None and "rules" in enforcing:
        up = sum(one["up"] for one in enforcing["speakers"])
        rules, speakers = counted(len(enforcing["rules"]), "rule"), counted(len(enforcing["speakers"]), "session")
        told.append(f"enforce: {rules} in nftables, {up} of {speakers} up")
    for name in ("spool", "evidence"):
        if held := (watching or {}).get(name):
            told.append(
                f"sensor of this machine, {name}: {counted(held['files'], 'file')}, {held['bytes'] / 1e6:.1f} MB"
            )
    if learned := (watching or {}).get("learned"):
        told.append(f"sensor of this machine, learned: {counted(learned['targets'], 'target')}")
    return told
