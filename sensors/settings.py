"""What a sensor can be told; `stopbank.config` makes these from the configuration file."""

from dataclasses import dataclass, field
from pathlib import Path

from rules.errors import Refused
from rules.traffic import Vantage
from rules.zone import Zone
from sensors.accesslog import AccessLog
from sensors.baseline_limits import Learning
from sensors.evidence_settings import EvidenceSettings


@dataclass(frozen=True, slots=True)
class Detecting:
    """How windows and limits become detections."""

    tick_seconds: float = 0.04
    """How often the counters are looked at."""
    short_seconds: float = 0.08
    """The shortest window; also how long a limit must stay crossed, so that two windows without a packet in common
    say so."""
    middle_seconds: float = 0.4
    long_seconds: float = 1.0
    minimum_packets: int = 50
    """A limit is judged in the shortest window that holds so many packets at that limit: fewer are chance."""
    sampled: int = 1
    """How many packets each one seen stands for, where they are sampled: chance moves fewer by more."""
    hold_seconds: float = 0.08
    """How long a limit must stay crossed in the short window before it counts; one window alone is a suspicion. In
    longer windows: as long as they are. 0: one window must do."""
    fast_factor: float = 10.0
    """So many times the limit in one short window needs no second one."""
    closing_factor: float = 0.7
    """The share of the limit below which a metric counts as quiet."""
    quiet_seconds: float = 30.0
    """How long every metric that was crossed must be quiet before the attack is over; doubles with each recurrence.
    Longer than the 25 s pause of a usual pulse wave, so that its pulses are one attack."""
    longest_quiet_seconds: float = 300.0
    memory_seconds: float = 3600.0
    """How long a past attack on the same host counts as a precursor."""
    update_seconds: float = 1.0
    """How often an attack that goes on is reported."""

    def __post_init__(self) -> None:
        if not 0.005 <= self.tick_seconds <= self.short_seconds <= self.middle_seconds <= self.long_seconds:
            raise Refused("tick_seconds", self.tick_seconds, "must be at least 0.005, and windows must not get shorter")


@dataclass(frozen=True, slots=True)
class Capturing:
    """How packets are taken from interfaces."""

    interfaces: tuple[str, ...]
    snap_bytes: int = 128
    """Headers are all the kernel reads; half the cost of whole frames."""
    ring_megabytes: int = 32
    """Per interface; what bridges the moments in which nobody takes packets."""
    retire_milliseconds: int = 10
    """How long a block of packets may wait for more before it is handed over."""
    filter: str | None = None
    """In tcpdump's words; only what matches is seen."""
    promiscuous: bool = True
    keep_outgoing: bool = False
    """Whether packets that this machine sends are counted too."""
    weight: int = 1
    """How many packets each one stands for, where a switch samples the mirror."""
    least_sampled: int = 50
    """Where packets are sampled, no attack is declared on fewer of them."""
    with_libpcap: bool = False
    """Capture through libpcap instead of the packet ring: slower, works where the ring doesn't."""
    fanout: int = 1
    """Processors that count, each with a ring of each interface."""

    def __post_init__(self) -> None:
        if twice := [name for name in self.interfaces if self.interfaces.count(name) > 1]:
            raise Refused("interfaces", twice[0], "is named twice: its packets would count twice")
        if self.fanout < 1:
            raise Refused("sensor.fanout", self.fanout, "must be at least 1")
        if self.with_libpcap and self.fanout > 1:
            raise Refused("sensor.fanout", self.fanout, "libpcap captures on one processor: 1, or libpcap = false")


PROCESS_MEGABYTES = 200
"""Interpreter, compiled kernel and the rings of remembered headers."""
SHARD_MEGABYTES = 8
"""What each processor that counts needs beside its hosts."""
HOST_BYTES = 1_200
"""What a host costs: 600 to 750, measured with full tables, and a reserve."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Sizes of the tables, all powers of two."""

    hosts: int = 131_072
    recent_packets: int = 131_072
    normal_packets: int = 65_536

    def __post_init__(self) -> None:
        for name in ("hosts", "recent_packets", "normal_packets"):
            value = getattr(self, name)
            if value < 64 or value & (value - 1):
                raise Refused(name, value, "must be a power of two, at least 64")

    @classmethod
    def within(cls, megabytes: int, shards: int = 1) -> "Memory":
        """Tables that keep the process within so many megabytes, packet rings and evidence apart, however much traffic
        comes; for all `shards` together. Raises `Refused` for fewer than the process takes without any traffic."""
        own = PROCESS_MEGABYTES + (shards - 1) * SHARD_MEGABYTES
        if megabytes < own:
            raise Refused(
                "sensor.memory_megabytes", megabytes, f"the process itself takes {own}; {own + 56} hold hosts"
            )
        room = megabytes - own << 20
        hosts = max(1024, 1 << max(0, (room // HOST_BYTES).bit_length() - 1))
        packets = max(4096, min(131_072, hosts * 2))
        return cls(hosts, packets, packets // 2)


@dataclass(frozen=True, slots=True)
class SlowSettings:
    """What counts as slow."""

    connections: int = 500
    """Open at once on one server, that is an attack."""
    ports: tuple[int, ...] = (80, 443, 8000, 8080, 8443)
    crumbs: int = 2
    """Segments that hold next to nothing, after which a connection counts."""
    share: float = 0.8
    """Of a connection's segments with data, its first left out, that must be crumbs."""
    idle_seconds: float = 120.0
    """Silent for so long, and a connection is forgotten."""
    table: int = 65_536
    """Connections followed at most; the youngest that say nothing give way."""
    quiet_seconds: float = 10.0
    update_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= self.table:
            raise Refused("connections", self.connections, f"must be from 1 to the table's {self.table}")


@dataclass(frozen=True, slots=True)
class KeptLearning:
    """What is learned, and where it is kept."""

    directory: Path
    """For `baseline-*.bin`."""
    learning: Learning = field(default_factory=Learning)
    save_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class SensorSettings:
    """Everything `sensors.live.run` needs."""

    name: str
    capture: Capturing
    zones: tuple[Zone, ...]
    vantage: Vantage = Vantage.UPSTREAM
    detecting: Detecting = field(default_factory=Detecting)
    memory: Memory = field(default_factory=Memory)
    cpus: tuple[int, ...] = ()
    """Processors that the process may use; none: all."""
    nice: int | None = None
    """Its priority, as of nice(1); None: as it was started."""
    evidence: EvidenceSettings | None = None
    """None: no evidence is kept."""
    learning: KeptLearning | None = None
    """None: nothing is learned."""
    slow: SlowSettings | None = None
    """None: slow HTTP is not looked for."""
    access_logs: tuple[AccessLog, ...] = ()
    heartbeat_seconds: float = 1.0
    status_socket: Path | None = None
    """Where `stopbank sensor top` asks; None: nowhere."""
    metrics_address: str = "127.0.0.1"
    metrics_port: int | None = None
    """Where Prometheus may ask; None: nowhere."""
    kernel_cache: Path | None = None
    """Where compiled code is kept (a writable directory); None: Numba's own default."""
