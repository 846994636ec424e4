"""What the intake is told at start; read from the configuration file elsewhere."""

from dataclasses import dataclass
from pathlib import Path

from rules.messages_link import SENSOR_FRAME_LIMIT


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sensor, honest or not, may ask of the intake."""

    frame_bytes: int = SENSOR_FRAME_LIMIT
    frames_per_second: float = 200.0
    """Per sensor; above it the intake reads more slowly, so nothing honest is lost."""
    frames_burst: int = 400
    targets_per_minute: int = 100
    """Distinct new targets of one sensor; carpet bombing is one prefix and counts once."""
    connections: int = 256
    """All together; further ones are turned away."""
    unenrolled_connections: int = 8
    """Of these, without certificate: they can only enrol."""
    malformed_frames: int = 10
    """After so many in one connection it is closed."""
    handshake_seconds: float = 5.0
    """For TLS, and again for HTTP, and again for the enrolment."""
    silence_seconds: float = 15.0
    """A linked sensor sends a heartbeat each second."""
    future_seconds: float = 10.0
    """A detection dated further ahead is refused."""
    stale_seconds: float = 10.0
    """An older detection is history: recorded, never acted on."""
    attacks_remembered: int = 4096
    """Per sensor, for telling duplicates."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the intake listens, what it keeps and whom it talks to."""

    directory: Path
    """Its own state: authority, server key, tokens, sensors. Created with mode 0700."""
    speaker_socket: Path
    listen: str = "0.0.0.0"
    port: int = 8443
    """0 takes any free one, for tests."""
    public_name: str = "localhost"
    """How sensors reach this machine: goes into enrolment tokens."""
    limits: Limits = Limits()
    certificate_days: float = 90.0
    """How long a sensor's certificate is good; it renews it when a third is left."""
    housekeeping_seconds: float = 1.0
    """How often zones and revocations are looked at."""
    speaker_timeout_seconds: float = 5.0
    metrics_port: int | None = None
    """Prometheus metrics on 127.0.0.1, where wanted."""
