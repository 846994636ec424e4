"""The text an operator carries from the intake to a new sensor: where the intake is, how to know it, and one secret."""

import hashlib
import re
from dataclasses import dataclass

from rules.errors import Problem, Refused

_FORM = "stopbank-enroll:v1:HOST:PORT:FINGERPRINT:SECRET"
_TEXT = re.compile(
    r"stopbank-enroll:v1:(\[[0-9A-Fa-f:.]{2,45}\]|[^\s:\[\]]{1,253}):(\d{1,5}):([^:]{0,128}):([^:]{0,128})",
    re.ASCII,
)
_HOST = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9:])?", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{22,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """Good for one sensor, once, for a while."""

    host: str
    """Name or address of the intake; IPv6 without brackets."""
    port: int
    fingerprint: str
    """SHA-256 of the intake's certificate, 64 hex digits: the sensor talks to nobody else."""
    secret: str
    """At least 128 bits, URL-safe; the intake keeps its hash only."""

    def __post_init__(self) -> None:
        checks = (
            ("host", self.host, _HOST.fullmatch(self.host), "must be a host name or an address"),
            ("port", str(self.port), 1 <= self.port <= 65535, "must be a number from 1 to 65535"),
            ("fingerprint", self.fingerprint, _FINGERPRINT.fullmatch(self.fingerprint), "must be 64 hex digits"),
            ("secret", "(not shown)", _SECRET.fullmatch(self.secret), "must be 22 to 128 URL-safe characters"),
        )
        if problems := [Problem(name, value, reason) for name, value, good, reason in checks if not good]:
            raise Refused.all(problems)

    def __repr__(self) -> str:
        return f"EnrolmentToken({self.host!r}, {self.port}, {self.fingerprint[:12]}…)"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"stopbank-enroll:v1:{host}:{self.port}:{self.fingerprint}:{self.secret}"

    @classmethod
    def parse(cls, given: str) -> "EnrolmentToken":
        """The token of its text; `parse(str(token)) == token`."""
        parts = _TEXT.fullmatch(given.strip())
        if not parts:
            # The text isn't quoted: it may hold the secret.
            raise Refused("token", "(not shown)", f"is not of the form {_FORM}")
        host, port, fingerprint, secret = parts.groups()
        return cls(host.strip("[]"), int(port), fingerprint.lower(), secret)

    @property
    def digest(self) -> str:
        """What the intake keeps."""
        return secret_digest(self.secret)


def secret_digest(secret: str) -> str:
    """SHA-256 in hex digits; a token's secret is random enough to need no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()
