"""What crosses between processes: the requests and answers of the speaker's local socket, one JSON object a line.

Requests come from the intake, the command line and the web process of the same machine; still each is read strictly,
and bytes that are no request raise `Refused` with every problem. The JSON of the values inside is in
`rules.messages_values`, the frames between sensor and intake are in `rules.messages_link`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from rules.errors import Problem, Refused
from rules.messages_json import Fields, dumps, loads, read
from rules.messages_values import (
    JsonObject,
    Statistics,
    detection_from_json,
    detection_to_json,
    read_detection,
    read_name,
    read_statistics,
    statistics_to_json,
    zone_from_json,
    zone_to_json,
)
from rules.traffic import Detection

__all__ = [
    "LINE_LIMIT",
    "Accepted",
    "Answer",
    "Declined",
    "DetectionReport",
    "Heartbeat",
    "Kill",
    "KillMode",
    "Reload",
    "SpeakerRequest",
    "Statistics",
    "StatusQuery",
    "Wake",
    "detection_from_json",
    "detection_to_json",
    "parse_answer",
    "parse_request",
    "render_answer",
    "render_request",
    "statistics_to_json",
    "zone_from_json",
    "zone_to_json",
]

LINE_LIMIT = 1 << 20
"""The longest request or answer, in bytes, without the line's end."""


class KillMode(Enum):
    """What the kill switch does."""

    FREEZE = "freeze"
    """Nothing new goes out; what is announced stays until its deadline."""
    WITHDRAW_AUTOMATIC = "withdraw-automatic"
    """Rules that no person asked for are withdrawn, and none is made."""
    WITHDRAW_ALL = "withdraw-all"
    """Everything is withdrawn."""
    NORMAL = "normal"
    """The switch is lifted."""


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """A sensor's detection, admitted by the intake."""

    sensor: str
    """The name in the sensor's certificate; always `detection.sensor`."""
    detection: Detection
    is_history: bool = False
    """Too old to act on when it reached the intake: recorded and shown, never a reason to announce."""

    def __post_init__(self) -> None:
        if self.sensor != self.detection.sensor:
            raise Refused("sensor", self.sensor, f"the detection says it comes from {self.detection.sensor!r}")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sensor is alive and linked."""

    sensor: str
    statistics: Statistics = field(default_factory=Statistics)


@dataclass(frozen=True, slots=True)
class Wake:
    """The database changed: reconcile now."""


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """What the speaker sees; the answer's body holds it."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The kill switch."""

    mode: KillMode
    by: str
    """Who, as the audit shows it; 1 to 200 characters."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again."""


SpeakerRequest = DetectionReport | Heartbeat | Wake | StatusQuery | Kill | Reload


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request was taken; for a detection that means: it need not be sent again."""

    body: Mapping[str, object] = field(default_factory=dict)
    """JSON values beside `ok`."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The request was not taken."""

    problems: tuple[Problem, ...]
    retry: bool = False
    """Whether the same request may be taken later; false: it never will."""

    @classmethod
    def of(cls, error: Refused, retry: bool = False) -> "Declined":
        """The answer to a request that raised."""
        return cls(error.problems, retry)


Answer = Accepted | Declined


def render_request(request: SpeakerRequest) -> bytes:
    """The request as one line, with its end."""
    return dumps(_request_to_json(request)) + b"\n"


def _request_to_json(request: SpeakerRequest) -> JsonObject:
    match request:
        case DetectionReport(sensor, detection, is_history):
            body = detection_to_json(detection)
            return {"kind": "detection", "sensor": sensor, "detection": body, "history": is_history}
        case Heartbeat(sensor, statistics):
            return {"kind": "heartbeat", "sensor": sensor, "statistics": statistics_to_json(statistics)}
        case Wake():
            return {"kind": "wake"}
        case StatusQuery():
            return {"kind": "status"}
        case Kill(mode, by):
            return {"kind": "kill", "mode": mode.value, "by": by}
        case Reload():
            return {"kind": "reload"}
        case _:
            assert_never(request)


def parse_request(line: bytes) -> SpeakerRequest:
    """The request of one line, with or without its end; anything else raises `Refused`."""
    return read(loads(line, LINE_LIMIT + 1), "request", _read_request)


def _read_request(fields: Fields) -> SpeakerRequest:
    kind = fields.choice("kind", _Kind)
    reader = _READERS.get(kind)
    # Without a known kind nothing can be said about the other members, so they count as read.
    return reader(fields) if reader else fields.build(Wake, **fields.anything())


class _Kind(Enum):
    DETECTION = "detection"
    HEARTBEAT = "heartbeat"
    WAKE = "wake"
    STATUS = "status"
    KILL = "kill"
    RELOAD = "reload"


def _read_report(fields: Fields) -> SpeakerRequest:
    return fields.build(
        DetectionReport,
        sensor=read_name(fields, "sensor"),
        detection=fields.nested("detection", read_detection),
        is_history=fields.boolean("history") if fields.has("history") else False,
    )


def _read_heartbeat(fields: Fields) -> SpeakerRequest:
    statistics = read_statistics(fields, "statistics")
    return fields.build(Heartbeat, sensor=read_name(fields, "sensor"), statistics=statistics)


def _read_kill(fields: Fields) -> SpeakerRequest:
    return fields.build(Kill, mode=fields.choice("mode", KillMode), by=fields.text("by", 200))


_READERS: dict[_Kind, Callable[[Fields], SpeakerRequest]] = {
    _Kind.DETECTION: _read_report,
    _Kind.HEARTBEAT: _read_heartbeat,
    _Kind.WAKE: lambda fields: fields.build(Wake),
    _Kind.STATUS: lambda fields: fields.build(StatusQuery),
    _Kind.KILL: _read_kill,
    _Kind.RELOAD: lambda fields: fields.build(Reload),
}


def render_answer(answer: Answer) -> bytes:
    """The answer as one line, with its end."""
    match answer:
        case Accepted(body):
            return dumps({"ok": True, **body}) + b"\n"
        case Declined(problems, retry):
            return dumps({"ok": False, "retry": retry, "problems": problems_to_json(problems)}) + b"\n"
        case _:
            assert_never(answer)


def parse_answer(line: bytes) -> Answer:
    """The answer of one line; anything else raises `Refused`."""
    return read(loads(line, LINE_LIMIT + 1), "answer", _read_answer)


def _read_answer(fields: Fields) -> Answer:
    if fields.boolean("ok") is True:
        return fields.build(Accepted, body=fields.anything())
    retry = fields.boolean("retry") if fields.has("retry") else False
    return fields.build(Declined, problems=read_problems(fields, "problems"), retry=retry)


def problems_to_json(problems: tuple[Problem, ...]) -> list[JsonObject]:
    """Problems as a JSON list."""
    return [{"field": one.field, "value": one.value, "reason": one.reason} for one in problems]


def read_problems(fields: Fields, name: str) -> tuple[Problem, ...]:
    """Reads the list of problems in the field of that name."""
    return fields.items(name, 100, lambda inner, key: inner.nested(key, _read_problem))


def _read_problem(fields: Fields) -> Problem:
    return fields.build(
        Problem,
        field=fields.text("field", 1000),
        value=fields.text("value", 100_000),
        reason=fields.text("reason", 10_000),
    )
