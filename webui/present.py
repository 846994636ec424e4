"""From the store's values to what pages and JSON show: one representation for both. Pure; `now` is an argument."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from rules.counted import counted
from rules.guard import Origin
from rules.lifecycle import Phase
from store.records import AnnouncementRecord, IncidentRecord, Intent, RuleRecord, SensorRecord
from webui.troubles import SENSOR_SILENCE

if TYPE_CHECKING:
    from webui.programs import ProgramView

_TONES = {
    Phase.ACTIVE: "good",
    Phase.ANNOUNCING: "wait",
    Phase.WITHDRAWING: "wait",
    Phase.EXPELLING: "wait",
    Phase.PROPOSED: "wait",
    Phase.UNFIT: "bad",
    Phase.STUCK: "bad",
    Phase.ENDED: "plain",
}
_UNKNOWN = "session unknown"
_DECIDED = {
    Origin.OPERATOR: "a person",
    Origin.API: "a program, by API",
    Origin.SENSOR: "automatic",
    Origin.PLAYBOOK: "automatic, playbook",
}


@dataclass(frozen=True, slots=True)
class Spot:
    """A rule at one neighbour."""

    name: str
    phase: str
    """What ExaBGP was told and has accepted."""
    standing: str
    """What that is worth: the phase, or that there is no session to a router that could have it."""
    tone: str
    detail: str


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule, its intent and where it stands."""

    id: str
    text: str
    origin: str
    decided: str
    """Who decided it, in words."""
    owner: str
    """Whose it is: a tenant's, or the operator's own."""
    zone: str | None
    state: str
    tone: str
    wanted: bool
    deadline: str
    left: str
    reason: str
    incident: int | None
    neighbours: tuple[Spot, ...]


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident in one line, and why what was done was done."""

    id: int | None
    target: str
    zone: str
    vectors: str
    rate: str
    peak: str
    sources: str
    opened: str
    seen: str
    state: str
    open: bool
    why: str


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """A session as the speaker reports it."""

    name: str
    state: str
    up: bool
    families: str
    announced: int
    reason: str


@dataclass(frozen=True, slots=True)
class SensorView:
    """A sensor's last word."""

    name: str
    alive: bool
    seen: str
    packets: str
    dropped: str
    learned: str
    """Targets whose usual traffic it knows; empty where it doesn't learn."""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything on the overview."""

    at: str
    is_silent: bool
    """The speaker does not report: what stands at routers is not known."""
    mode: str
    rules_wanted: int
    """All of them, also where the list below is cut."""
    rules_hidden: int
    """Living rules that the list leaves out."""
    problems: tuple[str, ...]
    """A line for each trouble, with what to do about it."""
    lately: tuple[str, ...]
    """A line for what went wrong not long ago, and is well again."""
    incidents_open: int
    """All of them, also where the list below is cut."""
    incidents_hidden: int
    """Open ones that the list leaves out."""
    incidents: tuple[IncidentView, ...]
    rules: tuple[RuleView, ...]
    neighbours: tuple[NeighbourView, ...]
    sensors: tuple[SensorView, ...]
    programs: tuple["ProgramView", ...] = ()
    """What the supervisor of this machine keeps running."""

    @property
    def sessions_up(self) -> int:
        return sum(one.up for one in self.neighbours)

    @property
    def sessions_total(self) -> int:
        return len(self.neighbours)

    @property
    def sensors_alive(self) -> int:
        return sum(one.alive for one in self.sensors)

    @property
    def sensors_total(self) -> int:
        return len(self.sensors)

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)


def rule_views(
    records: Iterable[RuleRecord],
    announcements: Iterable[AnnouncementRecord],
    neighbours: Iterable[NeighbourView],
    now: datetime,
) -> tuple[RuleView, ...]:
    """Wanted and proposed rules first, newest first among equals."""
    spots: dict[str, list[Spot]] = defaultdict(list)
    sessions = {one.name: one for one in neighbours}
    for one in announcements:
        spots[one.rule].append(_spot(one, sessions.get(one.neighbour)))
    ordered = sorted(records, key=lambda one: (one.intent is Intent.ENDED, -one.created.timestamp()))
    return tuple(_rule_view(one, tuple(spots[one.id]), now) for one in ordered)


def _spot(one: AnnouncementRecord, session: NeighbourView | None) -> Spot:
    """A rule that ExaBGP has and no router can is not active there."""
    standing, tone = one.phase.value, _TONES[one.phase]
    if one.phase is Phase.ACTIVE and session is not None and not session.up:
        standing, tone = _UNKNOWN if session.state == "unknown" else "session down", "bad"
    return Spot(one.neighbour, one.phase.value, standing, tone, one.detail)


def _rule_view(record: RuleRecord, spots: tuple[Spot, ...], now: datetime) -> RuleView:
    ended = record.intent is Intent.ENDED
    state, tone = _rule_state(record, spots)
    return RuleView(
        id=record.id,
        text=str(record.rule),
        origin=record.origin.value,
        decided=_DECIDED[record.origin],
        owner=record.owner,
        zone=record.zone,
        state=state,
        tone=tone,
        wanted=record.intent is Intent.WANTED,
        deadline=moment(record.ended or record.deadline),
        left="" if ended else remaining(record.deadline - now),
        reason=(record.ended_why if ended else record.reason) or "",
        incident=record.incident,
        neighbours=() if ended and all(spot.phase == Phase.ENDED.value for spot in spots) else spots,
    )


def _rule_state(record: RuleRecord, spots: tuple[Spot, ...]) -> tuple[str, str]:
    """What an operator calls it: wanted is not announced until a neighbour has it."""
    active = sum(spot.standing == Phase.ACTIVE.value for spot in spots)
    match record.intent:
        case Intent.PROPOSED:
            return "waits for approval", "wait"
        case Intent.ENDED:
            lingering = [spot for spot in spots if spot.phase != Phase.ENDED.value and spot.phase != Phase.UNFIT.value]
            return ("being withdrawn", "wait") if lingering else ("ended", "plain")
        case Intent.WANTED:
            if active:
                return f"active at {active} of {len(spots)}", "good"
            told = {spot.standing for spot in spots if spot.phase == Phase.ACTIVE.value}
            if not told:
                return "not announced yet", "wait"
            return ("not known where", "bad") if _UNKNOWN in told else ("no session that holds it", "bad")


def incident_views(records: Iterable[IncidentRecord]) -> tuple[IncidentView, ...]:
    """Open ones first, then the newest."""
    ordered = sorted(records, key=lambda one: (one.closed is not None, -one.opened.timestamp()))
    return tuple(_incident_view(one) for one in ordered)


def _incident_view(record: IncidentRecord) -> IncidentView:
    document = record.document
    rate = document.get("rate") if isinstance(document.get("rate"), Mapping) else {}
    assert isinstance(rate, Mapping)
    return IncidentView(
        id=record.id,
        target=record.target,
        zone=record.zone,
        vectors=record.vector,
        rate=_rate(rate.get("packets_per_second"), rate.get("bits_per_second")) if record.closed is None else "",
        peak=_rate(record.peak_packets_per_second, record.peak_bits_per_second),
        sources=_count(document["sources"]) if "sources" in document else "",
        opened=moment(record.opened),
        seen=moment(record.closed or record.updated),
        state=record.state,
        open=record.closed is None,
        why=str(document.get("why", "")),
    )


def sensor_views(records: Iterable[SensorRecord], now: datetime) -> tuple[SensorView, ...]:
    """By name; a sensor that has been silent for ten seconds is not alive."""
    return tuple(
        SensorView(
            name=one.name,
            alive=now - one.last_seen <= SENSOR_SILENCE,
            seen=f"{duration(now - one.last_seen)} ago",
            packets=_count(one.statistics.get("packets_total")),
            dropped=_count(one.statistics.get("packets_dropped_total")),
            learned=_count(one.statistics.get("learned_targets")),
        )
        for one in sorted(records, key=lambda one: one.name)
    )


def neighbour_views(status: Mapping[str, Any] | None, *, is_silent: bool) -> tuple[NeighbourView, ...]:
    """From the speaker's status document; of a speaker that is silent now, no session is known to be up."""
    return tuple(
        NeighbourView(
            name=str(one.get("name", "")),
            state="unknown" if is_silent else "up" if one.get("up") is True else "down",
            up=one.get("up") is True and not is_silent,
            families=", ".join(map(str, one.get("families", ()))),
            announced=int(one.get("rules", {}).get(Phase.ACTIVE.value, 0)),
            reason=_reason(one),
        )
        for one in (status or {}).get("neighbours", ())
    )


def _reason(neighbour: Mapping[str, Any]) -> str:
    """Why a session is down, and what else a person should look at."""
    words = [str(neighbour.get("reason") or "")] if neighbour.get("up") is not True else []
    if quarantined := neighbour.get("quarantined"):
        words.append(f"{counted(len(quarantined), 'rule')} in quarantine for resetting this router")
    if neighbour.get("inbound_updates"):
        words.append("announces routes to us, which it should not")
    return "; ".join(filter(None, words))


def with_code(text: str) -> Markup:
    """HTML of a text whose `commands` stand between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(one) if odd % 2 else one for odd, one in enumerate(parts))


def moment(when: datetime) -> str:
    """UTC, to the second."""
    return when.strftime("%Y-%m-%d %H:%M:%S")


def remaining(left: timedelta) -> str:
    """How long a rule has left; `due` once it is over."""
    return "due" if left < timedelta(seconds=1) else f"{duration(left)} left"


def duration(given: timedelta) -> str:
    """A duration in its largest two units; a negative one counts as none."""
    minutes, seconds = divmod(max(0, int(given.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _rate(packets: Any, bits: Any) -> str:
    if not isinstance(packets, int | float) or not isinstance(bits, int | float):
        return ""
    return f"{scaled(packets)}pps {scaled(bits)}bit/s"


def scaled(value: float) -> str:
    """A number with an SI prefix, three significant digits: `1.25 M`, `980 `."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor * 0.9995:  # what would round up to 1000 takes the next prefix
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


def _count(value: Any) -> str:
    return f"{int(value):,}" if isinstance(value, int | float) else "–"
