"""What is wrong, and what to do about it: one line for each trouble, the same on the page and in `stopbank status`.

Pure; `now` is an argument. What is not known counts as wrong: a silent process is never taken for a healthy one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rules.counted import counted
from rules.lifecycle import Phase
from store.records import AnnouncementRecord, IncidentRecord, Intent, RuleRecord, SensorRecord, UnreadableRecord

FULL_BYTES, SCARCE_BYTES = 1_000_000, 50_000_000
"""Of free disk: SQLite's write-ahead log grows by a few MB; evidence and backups take more."""
STATUS_AGE = timedelta(seconds=10)
SENSOR_SILENCE = timedelta(seconds=10)
SLOWEST_ANNOUNCEMENT = timedelta(seconds=30)
"""A rule that stands at no router after so long doesn't take its time: something is in its way."""
CLOCK_TOLERANCE_SECONDS = 2.0
_SOON = 0.5
"""Share of the time without a person's word: a night passes before the rest of it does."""


def of_disk(state: Path, free_bytes: int | None) -> Iterator[str]:
    """A disk that is full, or soon will be: what it can't take is refused, and reports on it are old."""
    if free_bytes is not None and free_bytes < FULL_BYTES:
        yield (
            f"The disk of {state} is full ({free_bytes / 1e6:.1f} MB left): nothing new is accepted or announced, and "
            "reports may be old. Deadlines are kept and the kill switch works. Make room."
        )
    elif free_bytes is not None and free_bytes < SCARCE_BYTES:
        yield f"The disk of {state} is nearly full ({free_bytes / 1e6:.0f} MB left). Make room before it is."


def is_silent(status: Mapping[str, Any] | None, now: datetime) -> bool:
    """Whether the speaker's last report is missing, or its last word, or too old to believe."""
    return status is None or status.get("ended") is True or now - datetime.fromisoformat(str(status["at"])) > STATUS_AGE


def of_speaker(status: Mapping[str, Any] | None, now: datetime) -> Iterator[str]:
    """What the speaker itself reports as wrong, or its silence."""
    if status is None:
        yield (
            "The speaker has not reported: nothing can be announced or withdrawn until it runs. "
            "Start it (`stopbank run`); its log says what keeps it."
        )
        return
    if is_silent(status, now):
        if status.get("ended") is True:
            yield "The speaker has ended: nothing can be announced or withdrawn until it runs again (`stopbank run`)."
            return
        age = (now - datetime.fromisoformat(str(status["at"]))).total_seconds()
        yield (
            f"The speaker is silent, its last report is {age:.0f} s old: what stands at routers is not known, and "
            "nothing can be announced or withdrawn. Look whether Stopbank runs, and at its log."
        )
        return
    yield from map(str, status.get("problems", ()))
    for one in status.get("neighbours", ()):
        yield from _of_neighbour(one)


def _of_neighbour(one: Mapping[str, Any]) -> Iterator[str]:
    name = f"Neighbour {one.get('name', '')}"
    if one.get("up") is not True:
        yield f"{name}: {_down(one)}"
    if quarantined := one.get("quarantined"):
        kept_away = counted(len(quarantined), "rule is", "rules are")
        yield f"{name}: {kept_away} in quarantine for resetting this router. Withdraw, or write otherwise."
    if one.get("inbound_updates"):
        yield f"{name}: announces routes to us, which it should not. Filter what it exports to the speaker."


def _down(one: Mapping[str, Any]) -> str:
    """What keeps a session, as far as ExaBGP tells, and where to look."""
    why = f" ({one['reason']})" if one.get("reason") else ""
    if one.get("hangs") is not True:
        return f"the session is down{why}: nothing can be announced or withdrawn there. {_WHERE_TO_LOOK['']}"
    lasted = _lasted(float(one.get("for_seconds") or 0))
    waits_for = str(one.get("waits_for") or "")
    what = _KEEPS.get(waits_for, "it does not come up")
    return f"no session for {lasted}: {what}{why}. {_WHERE_TO_LOOK.get(waits_for, _WHERE_TO_LOOK[''])}"


_KEEPS = {
    "connection": "no TCP connection stands",
    "open": "TCP connects, and the router does not speak BGP to us or hangs up",
    "keepalive": "the router answers, and does not agree to what we propose",
}
_WHERE_TO_LOOK = {
    "": "Check addresses, AS numbers, password and the router's log; `stopbank doctor` looks at this end.",
    "connection": "Check addresses, port, password, filters between, the router's log; `stopbank doctor` looks here.",
    "open": "Check that BGP runs there and knows our address, and the router's log. It is tried again all the time.",
    "keepalive": "Check AS numbers, families and hold time at both ends, and the router's log.",
}


def of_empty_database(audit_entries: int, status: Mapping[str, Any] | None) -> Iterator[str]:
    """A file in the place of the database that was there: every rule was audited, so one with rules is never empty."""
    if audit_entries == 0 and status is not None and (rules := status.get("rules")):
        yield (
            f"The database is empty, and the speaker holds {counted(rules, 'rule')}: another file stands in its place. "
            "`stopbank stop`, then put the right one back or `stopbank restore` a backup; rules end at their deadlines."
        )


def of_kill_switch(mode: str) -> Iterator[str]:
    """A switch that was thrown and forgotten."""
    if mode != "normal":
        what = "no automatic rule is" if mode == "withdraw-automatic" else "no new rule is"
        yield f"The kill switch stands at {mode}: {what} announced until `stopbank kill normal`."


def of_rules(
    rules: Iterable[RuleRecord], announcements: Iterable[AnnouncementRecord], now: datetime, *, has_neighbours: bool
) -> Iterator[str]:
    """Rules that are wanted and stand nowhere, and announcements that don't get on."""
    active, stuck = set(), Counter[str]()
    for one in announcements:
        if one.phase is Phase.ACTIVE:
            active.add(one.rule)
        elif one.phase is Phase.STUCK:
            stuck[one.neighbour] += 1
    nowhere = [
        one.id
        for one in rules
        if one.intent is Intent.WANTED and one.id not in active and now - one.created > SLOWEST_ANNOUNCEMENT
    ]
    if nowhere:
        why = "`stopbank rules list --json` says why" if has_neighbours else "there is no [[neighbours]] section"
        stand = counted(len(nowhere), "wanted rule stands", "wanted rules stand")
        yield f"{stand} at no router (the first: {nowhere[0]}): {why}."
    for name, count in sorted(stuck.items()):
        unanswered = counted(count, "rule")
        yield f"Neighbour {name}: ExaBGP does not answer for {unanswered}. Look at its log; it is tried again."


def of_incidents(records: Iterable[IncidentRecord], now: datetime, alone: timedelta) -> Iterator[str]:
    """Attacks that the machine has dealt with alone for long: soon it will not go on without a person's word."""
    for one in records:
        since = one.document.get("alone_since")
        if one.closed is not None or not isinstance(since, str):
            continue
        stood = now - datetime.fromisoformat(since)
        if stood >= alone * _SOON:
            until = datetime.fromisoformat(since) + alone
            yield (
                f"Incident {one.id}: automatic rules hold for {one.target}, for {_lasted(stood.total_seconds())} "
                f"without a person's word, and are not renewed after {until:%Y-%m-%d %H:%M} UTC. See "
                "`stopbank rules list`; then `rules extend ID` (or `rules approve`) to go on, or `rules withdraw ID`."
            )


def of_sensors(records: Iterable[SensorRecord], now: datetime, apart: str | None = None) -> Iterator[str]:
    """Silent sensors, and what the others tell of themselves; `apart` was asked for itself already."""
    for one in records:
        name = f"Sensor {one.name}"
        if now - one.last_seen > SENSOR_SILENCE:
            silence = (now - one.last_seen).total_seconds()
            yield (
                f"{name}: silent for {_lasted(silence)}: what it watches is not seen. `stopbank sensor top` on its "
                f"machine; `stopbank sensor revoke {one.name}` if it is gone for good."
            )
        elif one.name != apart:
            yield from (f"{name}: {told}" for told in _of_sensor(one.statistics))


def _of_sensor(numbers: Mapping[str, int | float]) -> Iterator[str]:
    if dropped := numbers.get("dropped_per_second"):
        yield f"drops {dropped:,.0f} packets/s unseen. Give it processors, a filter, or `sampling` at the mirror."
    skew = numbers.get("link_clock_skew_seconds", 0.0)
    if abs(skew) >= CLOCK_TOLERANCE_SECONDS:
        yield f"its clock is {skew:+.1f} s off ours, and messages older than 10 s are never acted on. Run chrony."
    if numbers.get("link_spool_errors_total"):
        yield "could not write detections to its disk. Look at its disk and log."
    if lost := numbers.get("link_dropped_total"):
        were = counted(lost, "detection was", "detections were")
        yield f"{were} lost: its spool was full. Look at the link between it and the intake."
    if numbers.get("evidence_lost_total"):
        yield "could not write evidence to its disk. Look at its disk and log."
    if count := numbers.get("troubles"):
        yield f"{counted(count, 'trouble')}, which `stopbank sensor top` on its machine names."


def of_rows(records: Iterable[UnreadableRecord]) -> Iterator[str]:
    """Rows nobody can act on must not be invisible."""
    return (
        f"{one.table} {one.subject} can't be read and does not count: {one.problem}. Remove it and add it anew."
        for one in records
    )


def _lasted(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
