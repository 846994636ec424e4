"""`[sensor]`: where and how this machine watches packets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rules.zone import NAME, NAME_REASON
from stopbank.config_values import AnyAddress, Port, Section, as_path


def _as_name(given: str) -> str:
    if not NAME.fullmatch(given):
        raise ValueError(NAME_REASON)
    return given


class SensorLearning(Section):
    """What the sensor learns of normal traffic; defaults as in `sensors.baseline_limits.Learning`."""

    enabled: bool = True
    save_seconds: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    """How often it is written to the state directory."""
    factor: float | None = None
    young_factor: float | None = None
    quantile: float | None = None
    doubling_seconds: float | None = None
    judged_after_seconds: float | None = None
    grown_after_seconds: float | None = None
    adopt_seconds: float | None = None
    typical_targets: int | None = None
    floors: dict[str, float] = Field(default_factory=dict)
    """Of single metrics, per host and second; the others keep theirs."""


class SensorSlow(Section):
    """Slow HTTP: connections that never get on with their request."""

    enabled: bool = True
    connections: Annotated[int, Field(ge=10, le=65_536)] = 500
    """Of them, open at once on one server."""
    ports: tuple[Port, ...] = (80, 443, 8000, 8080, 8443)


class AccessLogSection(Section):
    """A web server's log on this machine."""

    path: Annotated[Path, AfterValidator(as_path)]
    format: Literal["combined", "caddy", "haproxy"] = "combined"
    server: AnyAddress
    """The address that clients come to; a zone must hold it."""
    requests_per_second: float = 500.0
    ports: tuple[Port, ...] = (80, 443)
    window_seconds: Annotated[float, Field(ge=1, le=60)] = 3.0
    quiet_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0


class Sensor(Section):
    """Where this machine watches packets."""

    name: Annotated[str, AfterValidator(_as_name)] = "sensor"
    """As in the token it is enrolled with."""
    interfaces: tuple[str, ...] = ()
    vantage: Literal["upstream", "downstream"] = "upstream"
    """`upstream` or `downstream` of the router that enforces."""
    filter: str = ""
    """A BPF expression, as for tcpdump."""
    ring_megabytes: Annotated[int, Field(ge=1, le=4096)] = 32
    """Of each interface."""
    snap_bytes: Annotated[int, Field(ge=64, le=65535)] = 128
    promiscuous: bool = True
    outgoing: bool = False
    """Whether packets that this machine sends count too."""
    libpcap: bool = False
    """Capture through libpcap: slower, one interface, for places where the packet ring isn't to be had."""
    fanout: Annotated[int, Field(ge=1, le=32)] = 1
    """Processors that count."""
    sampling: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """The mirror shows one packet of so many."""
    sampling_least_packets: Annotated[int, Field(ge=10, le=10_000)] = 50
    """No attack is declared on fewer sampled packets."""
    memory_megabytes: Annotated[int, Field(ge=200, le=65536)] = 512
    """Of the process; rings and evidence come on top. It takes 200 itself, and 8 for each further processor."""
    cpus: tuple[Annotated[int, Field(ge=0, le=4095)], ...] = ()
    """Processors that the sensor may use; none named: all."""
    nice: Annotated[int, Field(ge=-20, le=19)] | None = None
    """Its priority, as of nice(1); unset: as it was started."""
    evidence: bool = True
    """Whether the packets of attacks are kept."""
    evidence_memory_megabytes: Annotated[int, Field(ge=8, le=16384)] = 16
    evidence_before_seconds: Annotated[float, Field(ge=0.1, le=600)] = 10.0
    evidence_after_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    evidence_packets: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """Of one attack."""
    evidence_file_megabytes: Annotated[int, Field(ge=1, le=4096)] = 32
    """Of one attack."""
    evidence_disk_megabytes: Annotated[int, Field(ge=8, le=1_048_576)] = 1024
    """Of all attacks together; the oldest go."""
    evidence_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    """How old captures may become; unset: as old as there is room for."""
    learning: SensorLearning = SensorLearning()
    slow: SensorSlow = SensorSlow()
    access_log: tuple[AccessLogSection, ...] = ()
    kernel_cache: Annotated[Path, AfterValidator(as_path)] | None = None
    """Where the compiled packet kernel is kept; default: `sensor/kernels` in the state directory."""
    metrics_port: Port | None = None
    """Prometheus metrics on 127.0.0.1, where wanted."""
