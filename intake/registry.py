"""Who may link: open enrolment tokens (hashed), enrolled sensors with their zones, and revoked certificates.

Three JSON files in the intake's directory, each replaced at once and under one lock, because the command line and the
intake both change them. A token's secret is never stored.
"""

import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from intake import files
from intake.admission import EVERY_ZONE, Identity
from intake.authority import Authority, Issued
from rules.errors import Problem, Refused
from rules.messages_enrolment import EnrolmentToken
from rules.messages_json import Fields, dumps, loads, read
from rules.messages_values import moment_to_json, read_name
from rules.zone import NAME

_HEX = re.compile(r"[0-9a-f]{1,64}")
_FILE_LIMIT = 16 << 20
_COUNT_LIMIT = 100_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenToken:
    """A token that was made and not yet redeemed."""

    digest: str
    """SHA-256 of its secret."""
    sensor: str
    zones: tuple[str, ...]
    expires: datetime


@dataclass(frozen=True, slots=True)
class EnrolledSensor:
    """A sensor that has, or had, a certificate."""

    name: str
    zones: tuple[str, ...]
    serials: tuple[int, ...]
    """Its certificates, newest last."""
    not_after: datetime
    """Of the newest."""

    @property
    def identity(self) -> Identity:
        """As the admission sees it."""
        return Identity(self.name, frozenset(self.zones))


@dataclass(frozen=True, slots=True)
class Revocation:
    """A certificate that is not accepted any more, though it has not ended."""

    serial: int
    sensor: str
    at: datetime


class Registry:
    """Reads and changes the files; every change is on disk when the method returns."""

    def __init__(self, directory: Path) -> None:
        files.private_directory(directory)
        self._directory = directory

    def sensors(self) -> tuple[EnrolledSensor, ...]:
        """All enrolled sensors, by name."""
        return self._read("sensors", _read_sensor)

    def revocations(self) -> tuple[Revocation, ...]:
        """All revoked certificates."""
        return self._read("revoked", _read_revocation)

    def tokens(self) -> tuple[OpenToken, ...]:
        """Open tokens, expired ones included."""
        return self._read("tokens", _read_token)

    def identify(self, name: str, serial: int) -> EnrolledSensor | None:
        """The sensor of a certificate that our authority has signed, or None; says nothing of revocation."""
        return next((one for one in self.sensors() if one.name == name and serial in one.serials), None)

    def is_revoked(self, serial: int) -> bool:
        """Whether the certificate was revoked."""
        return any(one.serial == serial for one in self.revocations())

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever one of the files does."""
        return tuple(self._modified(name) for name in ("sensors", "revoked"))

    def create_token(
        self, sensor: str, zones: Iterable[str], address: tuple[str, int], fingerprint: str, expires: datetime
    ) -> EnrolmentToken:
        """A new single-use token for a sensor of that name, bound to these zones (`*`: every zone); shown once."""
        bound = tuple(sorted(set(zones)))
        problems = [Problem("sensor", sensor, "is no name")] if not NAME.fullmatch(sensor) else []
        problems += [
            Problem("zones", one, "is no name") for one in bound if one != EVERY_ZONE and not NAME.fullmatch(one)
        ]
        if not bound:
            problems.append(Problem("zones", "", "at least one is needed"))
        if problems:
            raise Refused.all(problems)
        token = EnrolmentToken(address[0], address[1], fingerprint, secrets.token_urlsafe(32))
        with files.locked(self._directory):
            others = [one for one in self.tokens() if one.sensor != sensor]
            self._write("tokens", [*others, OpenToken(token.digest, sensor, bound, expires)], _token_to_json)
        return token

    def enrol(
        self, digest: str, request: str, authority: Authority, lifetime: timedelta, now: datetime
    ) -> tuple[EnrolledSensor, Issued]:
        """Redeem a token: its sensor gets a certificate and earlier ones of that name are revoked.

        A token that is unknown, used or expired raises `Refused` on `token`; a bad request leaves the token open.
        """
        with files.locked(self._directory):
            tokens = self.tokens()
            token = next((one for one in tokens if secrets.compare_digest(one.digest, digest)), None)
            if token is None or token.expires <= now:
                raise Refused("token", "(not shown)", "is unknown, used or expired; ask for a new one")
            issued = authority.issue(request, token.sensor, lifetime, now)
            self._write("tokens", [one for one in tokens if one is not token], _token_to_json)
            self._revoke(token.sensor, now)
            sensor = EnrolledSensor(token.sensor, token.zones, (issued.serial,), issued.not_after)
            self._replace(sensor)
        return sensor, issued

    def renew(self, name: str, request: str, authority: Authority, lifetime: timedelta, now: datetime) -> Issued:
        """The next certificate of an enrolled sensor; the present one stays good until it ends."""
        with files.locked(self._directory):
            sensor = self._sensor(name)
            issued = authority.issue(request, name, lifetime, now)
            # The one before stays known until the sensor has the new one on disk; older ones don't.
            serials = (*sensor.serials[-1:], issued.serial)
            self._replace(replace(sensor, serials=serials, not_after=issued.not_after))
        return issued

    def revoke(self, name: str, now: datetime) -> None:
        """Revoke a sensor's certificates and forget it; open tokens for it are void, also before it has enrolled."""
        with files.locked(self._directory):
            if not any(one.sensor == name for one in self.tokens()):
                self._sensor(name)
            self._revoke(name, now)
            self._write("sensors", [one for one in self.sensors() if one.name != name], _sensor_to_json)
            self._write("tokens", [one for one in self.tokens() if one.sensor != name], _token_to_json)

    def bind(self, name: str, zones: Iterable[str]) -> None:
        """Change which zones a sensor may speak of."""
        with files.locked(self._directory):
            self._replace(replace(self._sensor(name), zones=tuple(sorted(set(zones)))))

    def _sensor(self, name: str) -> EnrolledSensor:
        for one in self.sensors():
            if one.name == name:
                return one
        raise Refused("sensor", name, "is not enrolled")

    def _replace(self, sensor: EnrolledSensor) -> None:
        others = [one for one in self.sensors() if one.name != sensor.name]
        self._write("sensors", sorted([*others, sensor], key=lambda one: one.name), _sensor_to_json)

    def _revoke(self, name: str, now: datetime) -> None:
        serials = [serial for one in self.sensors() if one.name == name for serial in one.serials]
        if serials:
            added = [Revocation(serial, name, now) for serial in serials]
            self._write("revoked", [*self.revocations(), *added], _revocation_to_json)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _modified(self, name: str) -> int:
        try:
            # Replacing a file gives a new inode, which changes even within one tick of the clock.
            status = self._path(name).stat()
        except FileNotFoundError:
            return 0
        return hash((status.st_ino, status.st_mtime_ns))

    def _read(self, name: str, reader: Callable[[Fields], T]) -> tuple[T, ...]:
        try:
            raw = self._path(name).read_bytes()
        except FileNotFoundError:
            return ()

        def items(fields: Fields) -> tuple[T, ...]:
            return fields.items(name, _COUNT_LIMIT, lambda inner, key: inner.nested(key, reader))

        return read(loads(raw, _FILE_LIMIT), str(self._path(name)), items)

    def _write(self, name: str, values: Iterable[T], render: Callable[[T], object]) -> None:
        files.write(self._path(name), dumps({name: [render(one) for one in values]}) + b"\n")


def _read_zones(fields: Fields) -> tuple[str, ...]:
    must = "must be the name of a zone, or *"
    pattern = re.compile(rf"\*|{NAME.pattern}")
    return fields.items("zones", 10_000, lambda inner, key: inner.text(key, 63, pattern, must))


def _read_token(fields: Fields) -> OpenToken:
    return fields.build(
        OpenToken,
        digest=fields.text("digest", 64, _HEX, "must be hex digits"),
        sensor=read_name(fields, "sensor"),
        zones=_read_zones(fields),
        expires=fields.moment("expires"),
    )


def _token_to_json(token: OpenToken) -> object:
    expires = moment_to_json(token.expires)
    return {"digest": token.digest, "sensor": token.sensor, "zones": list(token.zones), "expires": expires}


def _read_serial(fields: Fields, name: str) -> int:
    return fields.parsed(name, lambda text: _serial(name, text), 64)


def _serial(field: str, text: str) -> int:
    if not _HEX.fullmatch(text):
        raise Refused(field, text, "must be a certificate's serial number in hex digits")
    return int(text, 16)


def _read_sensor(fields: Fields) -> EnrolledSensor:
    return fields.build(
        EnrolledSensor,
        name=read_name(fields, "name"),
        zones=_read_zones(fields),
        serials=fields.items("serials", 2, _read_serial),
        not_after=fields.moment("not_after"),
    )


def _sensor_to_json(sensor: EnrolledSensor) -> object:
    serials = [f"{serial:x}" for serial in sensor.serials]
    not_after = moment_to_json(sensor.not_after)
    return {"name": sensor.name, "zones": list(sensor.zones), "serials": serials, "not_after": not_after}


def _read_revocation(fields: Fields) -> Revocation:
    return fields.build(
        Revocation, serial=_read_serial(fields, "serial"), sensor=read_name(fields, "sensor"), at=fields.moment("at")
    )


def _revocation_to_json(revocation: Revocation) -> object:
    return {"serial": f"{revocation.serial:x}", "sensor": revocation.sensor, "at": moment_to_json(revocation.at)}
