"""Frames between a sensor and the intake: one JSON object in each WebSocket message.

The sensor's side sends `SensorFrame`s, the intake's `IntakeFrame`s. Both read strictly: bytes that are no frame of
the other side raise `Refused` with every problem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from rules.errors import Problem
from rules.messages import problems_to_json, read_problems
from rules.messages_enrolment import secret_digest
from rules.messages_json import Fields, dumps, loads, read
from rules.messages_values import (
    SEQUENCE_LIMIT,
    JsonObject,
    Statistics,
    detection_to_json,
    read_detection,
    read_statistics,
    read_zone,
    statistics_to_json,
    zone_to_json,
)
from rules.traffic import Detection
from rules.zone import Zone

SENSOR_FRAME_LIMIT = 256 << 10
"""Bytes of the longest frame a sensor may send: a detection with four signatures has some 4,000."""
INTAKE_FRAME_LIMIT = 4 << 20
"""Bytes of the longest frame an intake may send: it holds the sensor's zones."""

LINK_PATH = "/v1/link"
"""Where an enrolled sensor connects, with its certificate."""
ENROLMENT_PATH = "/v1/enrol"
"""Where a sensor without certificate trades its token for one."""
SERVER_NAME = "intake.stopbank.internal"
"""The name in the intake's certificate, whatever address it is reached at: only our own authority can sign it."""

_PEM_LENGTH = 16_384
_ZONES_LIMIT = 10_000


class Reason(Enum):
    """Why the intake did not pass a frame on; metrics and answers use the same words."""

    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    WRONG_SENSOR = "wrong_sensor"
    FOREIGN_ZONE = "foreign_zone"
    FOREIGN_TARGET = "foreign_target"
    FOREIGN_SIGNATURE = "foreign_signature"
    REPLAYED = "replayed"
    FUTURE = "future"
    TOO_MANY_TARGETS = "too_many_targets"
    TOO_FAST = "too_fast"
    SPEAKER_REFUSED = "speaker_refused"
    SPEAKER_AWAY = "speaker_away"
    ZONES_UNKNOWN = "zones_unknown"
    BAD_TOKEN = "bad_token"
    BAD_REQUEST = "bad_request"
    NO_CERTIFICATE = "no_certificate"
    UNKNOWN_SENSOR = "unknown_sensor"
    REVOKED = "revoked"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Report:
    """Sensor: a detection, to be acknowledged by its number."""

    id: int
    """The sensor's own number, one for each unacknowledged detection."""
    detection: Detection


@dataclass(frozen=True, slots=True)
class Beat:
    """Sensor: alive; sent each second, never acknowledged."""

    statistics: Statistics


@dataclass(frozen=True, slots=True)
class Renewal:
    """Sensor: asks for the next certificate, over a link that the present one opened."""

    request: str
    """A certificate signing request, PEM."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Sensor: asks for its first certificate."""

    secret: str
    """Of the token."""
    request: str
    """A certificate signing request, PEM."""

    @property
    def digest(self) -> str:
        """What the intake knows the secret by."""
        return secret_digest(self.secret)


SensorFrame = Report | Beat | Renewal | Enrolment


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Intake: the speaker has the detection, or had it before; forget it."""

    id: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Intake: this will never be taken; forget it."""

    id: int | None
    """None where the frame had no number that could be read."""
    reason: Reason
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """Intake: not now; keep it and send it again."""

    id: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Zones:
    """Intake: the zones this sensor watches, all of them; sent on connect and on change."""

    zones: tuple[Zone, ...]


@dataclass(frozen=True, slots=True)
class Issued:
    """Intake: a new certificate for the sensor."""

    certificate: str
    """PEM."""
    authority: str
    """PEM; what the intake's own certificate is checked against."""


IntakeFrame = Acknowledged | Refusal | Later | Zones | Issued


def render_sensor_frame(frame: SensorFrame) -> bytes:
    """The frame as bytes of one message."""
    return dumps(_sensor_frame_to_json(frame))


def _sensor_frame_to_json(frame: SensorFrame) -> JsonObject:
    match frame:
        case Report(number, detection):
            return {"frame": "report", "id": number, "detection": detection_to_json(detection)}
        case Beat(statistics):
            return {"frame": "beat", "statistics": statistics_to_json(statistics)}
        case Renewal(request):
            return {"frame": "renewal", "request": request}
        case Enrolment(secret, request):
            return {"frame": "enrolment", "secret": secret, "request": request}
        case _:
            assert_never(frame)


def render_report(number: int, detection: bytes) -> bytes:
    """The bytes of a `Report` whose detection is JSON already, as a spool keeps it."""
    return b'{"frame":"report","id":%d,"detection":%s}' % (number, detection)


def parse_sensor_frame(raw: bytes) -> SensorFrame:
    """The frame of one message from a sensor."""
    return read(loads(raw, SENSOR_FRAME_LIMIT), "frame", _read_sensor_frame)


def report_id(raw: bytes) -> int | None:
    """The number in a message that `parse_sensor_frame` refused, so that the refusal can name it; None without one."""
    try:
        value = loads(raw, SENSOR_FRAME_LIMIT)
    except ValueError:
        return None
    number = value.get("id") if isinstance(value, dict) else None
    is_number = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= SEQUENCE_LIMIT
    return number if is_number else None


def render_intake_frame(frame: IntakeFrame) -> bytes:
    """The frame as bytes of one message."""
    return dumps(_intake_frame_to_json(frame))


def _intake_frame_to_json(frame: IntakeFrame) -> JsonObject:
    match frame:
        case Acknowledged(number):
            return {"frame": "acknowledged", "id": number}
        case Refusal(number, reason, problems):
            body: JsonObject = {"id": number, "reason": reason.value, "problems": problems_to_json(problems)}
            return {"frame": "refusal", **body}
        case Later(number, reason):
            return {"frame": "later", "id": number, "reason": reason.value}
        case Zones(zones):
            return {"frame": "zones", "zones": [zone_to_json(zone) for zone in zones]}
        case Issued(certificate, authority):
            return {"frame": "issued", "certificate": certificate, "authority": authority}
        case _:
            assert_never(frame)


def parse_intake_frame(raw: bytes) -> IntakeFrame:
    """The frame of one message from an intake."""
    return read(loads(raw, INTAKE_FRAME_LIMIT), "frame", _read_intake_frame)


class _SensorKind(Enum):
    REPORT = "report"
    BEAT = "beat"
    RENEWAL = "renewal"
    ENROLMENT = "enrolment"


class _IntakeKind(Enum):
    ACKNOWLEDGED = "acknowledged"
    REFUSAL = "refusal"
    LATER = "later"
    ZONES = "zones"
    ISSUED = "issued"


def _id(fields: Fields) -> int:
    return fields.integer("id", 0, SEQUENCE_LIMIT)


def _pem(fields: Fields, name: str) -> str:
    return fields.text(name, _PEM_LENGTH)


def _read_zones(fields: Fields) -> tuple[Zone, ...]:
    return fields.items("zones", _ZONES_LIMIT, lambda inner, name: inner.nested(name, read_zone))


def _read_refusal(fields: Fields) -> IntakeFrame:
    number = fields.nullable("id", fields.integer, 0, SEQUENCE_LIMIT)
    reason, problems = fields.choice("reason", Reason), read_problems(fields, "problems")
    return fields.build(Refusal, id=number, reason=reason, problems=problems)


_SENSOR_READERS: dict[_SensorKind, Callable[[Fields], SensorFrame]] = {
    _SensorKind.REPORT: lambda f: f.build(Report, id=_id(f), detection=f.nested("detection", read_detection)),
    _SensorKind.BEAT: lambda f: f.build(Beat, statistics=read_statistics(f, "statistics")),
    _SensorKind.RENEWAL: lambda f: f.build(Renewal, request=_pem(f, "request")),
    _SensorKind.ENROLMENT: lambda f: f.build(Enrolment, secret=f.text("secret", 200), request=_pem(f, "request")),
}
_INTAKE_READERS: dict[_IntakeKind, Callable[[Fields], IntakeFrame]] = {
    _IntakeKind.ACKNOWLEDGED: lambda f: f.build(Acknowledged, id=_id(f)),
    _IntakeKind.REFUSAL: _read_refusal,
    _IntakeKind.LATER: lambda f: f.build(Later, id=_id(f), reason=f.choice("reason", Reason)),
    _IntakeKind.ZONES: lambda f: f.build(Zones, zones=_read_zones(f)),
    _IntakeKind.ISSUED: lambda f: f.build(Issued, certificate=_pem(f, "certificate"), authority=_pem(f, "authority")),
}


def _read_sensor_frame(fields: Fields) -> SensorFrame:
    reader = _SENSOR_READERS.get(fields.choice("frame", _SensorKind))
    # Without a known kind nothing can be said about the other members, so they count as read.
    return reader(fields) if reader else fields.build(Renewal, **fields.anything())


def _read_intake_frame(fields: Fields) -> IntakeFrame:
    reader = _INTAKE_READERS.get(fields.choice("frame", _IntakeKind))
    return reader(fields) if reader else fields.build(Acknowledged, **fields.anything())
