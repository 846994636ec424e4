"""The one configuration file: what a machine needs (neighbours, addresses, paths). Zones live in the database instead.

Reads file and environment once and gives typed models; `stopbank.wiring` turns them into each folder's own settings. An
unknown key is an error that names it; every problem is reported at once.
"""

import os
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    field_validator,
)

from rules import platforms
from rules.errors import Problem, Refused
from rules.match import Network, parse_prefix
from rules.neighbour import BLACKHOLE, Address, Neighbour, Role, SessionFamily

DEFAULT_PATH = Path("stopbank.toml")
ENVIRONMENT_PREFIX = "STOPBANK_"
"""`STOPBANK_WEB__PORT=9000` overrides `port` in `[web]`; the value is read as TOML, else taken as text."""
NOT_SETTINGS = {"STOPBANK_CONFIG", "STOPBANK_DATA", "STOPBANK_GOLDEN"}


def _prefix(given: Any) -> Network:
    if isinstance(given, IPv4Network | IPv6Network):
        return given
    try:
        return parse_prefix("", str(given))
    except Refused as error:
        raise ValueError(error.problems[0].reason) from None


def _address(given: Any) -> Address:
    try:
        found = ip_address(given if isinstance(given, IPv4Address | IPv6Address) else str(given))
    except ValueError:
        raise ValueError("is no IPv4 or IPv6 address") from None
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        # It may hold any text, and would go into ExaBGP's configuration and commands.
        raise ValueError("has a zone index; leave out what stands behind the %")
    return found


def _path(given: Path) -> Path:
    if not str(given).isprintable():
        raise ValueError("holds a character that no path of ours may have")
    if any(len(os.fsencode(part)) > 255 for part in given.parts) or len(os.fsencode(given)) > 4000:
        raise ValueError("is longer than a path can be")
    return given


Prefixed = Annotated[Network, PlainValidator(_prefix)]
AnyAddress = Annotated[Address, PlainValidator(_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
AutonomousSystem = Annotated[int, Field(ge=1, le=2**32 - 2)]


class Section(BaseModel):
    """Strict about keys; frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paths(Section):
    """Where things are kept."""

    state: Annotated[Path, AfterValidator(_path)] = Path("state")
    """The state directory; see docs/design.md for what is in it."""
    database: str | None = None
    """SQLAlchemy URL; default: SQLite in the state directory."""


class Speaker(Section):
    """The BGP side."""

    name: str = "speaker"
    router_id: IPv4Address | None = None
    local_as: AutonomousSystem | None = None
    daemon_user: str = "root"
    """Whom ExaBGP and the speaker run as; the packaged installation uses `stopbank`."""
    protected: tuple[Prefixed, ...] = ()
    """Never touched by any rule: resolvers, management, sensors, peering LANs, loopbacks."""
    infrastructure: tuple[Prefixed, ...] = ()
    """Own routers: rules that hit BGP, BFD, an IGP or path MTU discovery are refused here."""
    total_rules: Annotated[int, Field(ge=1, le=100_000)] = 5000
    automatic_rules: Annotated[int, Field(ge=0, le=100_000)] = 500
    rules_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    alone_hours: Annotated[float, Field(ge=1, le=168)] = 24.0
    """How long automatic rules against one attack stand, renewals included, without a person's word."""


class NeighbourSection(Section):
    """One BGP session; defaults as in `rules.neighbour.Neighbour`."""

    name: str
    peer_address: AnyAddress
    local_address: AnyAddress
    peer_as: int
    local_as: int | None = None
    router_id: IPv4Address | None = None
    families: tuple[SessionFamily, ...] = (SessionFamily.IPV4_FLOW, SessionFamily.IPV6_FLOW)
    role: Role = Role.OWN_EDGE
    profiles: tuple[str, ...] = ("generic",)
    budget: int = 100
    permitted: tuple[Prefixed, ...] = ()
    blackhole_communities: tuple[str, ...] = (f"{BLACKHOLE[0]}:{BLACKHOLE[1]}",)
    next_hop_ipv4: IPv4Address | None = None
    next_hop_ipv6: Annotated[IPv6Address, AfterValidator(_address)] | None = None
    port: int = 179
    passive: bool = False
    hold_time_seconds: int = 30
    multihop_ttl: int | None = None
    gtsm_hops: int | None = None
    graceful_restart_seconds: int | None = 120
    """0 turns graceful restart off."""
    md5_password: SecretStr | None = None

    @field_validator("blackhole_communities")
    @classmethod
    def _community(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            high, colon, low = text.partition(":")
            if not (colon and all(half.isdecimal() and half.isascii() and len(half) <= 5 for half in (high, low))):
                raise ValueError(f"{text!r} is no community; write two numbers, such as 65535:666")
        return given


class Intake(Section):
    """The sensors' door."""

    enabled: bool = True
    listen: str = "0.0.0.0"
    port: Port = 8443
    public_name: str = "localhost"
    """How sensors reach this machine: goes into the enrolment token."""
    metrics_port: Port | None = None
    """Prometheus metrics on 127.0.0.1, where wanted."""


class Web(Section):
    """The pages."""

    enabled: bool = True
    listen: str = "127.0.0.1"
    port: Port = 8080


class Worker(Section):
    """Who is told."""

    enabled: bool = True
    webhook_url: str | None = None
    webhook_secret: SecretStr | None = None
    """Key of the HMAC-SHA256 signature; required with a URL."""
    syslog: str | None = None
    """`udp://host:514`, `tcp://host:514` or `unix:///dev/log`."""


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
    floors: dict[str, float] = {}
    """Of single metrics, per host and second; the others keep theirs."""


class SensorSlow(Section):
    """Slow HTTP: connections that never get on with their request."""

    enabled: bool = True
    connections: Annotated[int, Field(ge=10, le=65_536)] = 500
    """Of them, open at once on one server."""
    ports: tuple[Port, ...] = (80, 443, 8000, 8080, 8443)


class AccessLogSection(Section):
    """A web server's log on this machine."""

    path: Annotated[Path, AfterValidator(_path)]
    format: Literal["combined", "caddy", "haproxy"] = "combined"
    server: AnyAddress
    """The address that clients come to; a zone must hold it."""
    requests_per_second: float = 500.0
    ports: tuple[Port, ...] = (80, 443)
    window_seconds: Annotated[float, Field(ge=1, le=60)] = 3.0
    quiet_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0


class Sensor(Section):
    """Where this machine watches packets."""

    name: str = "sensor"
    interfaces: tuple[str, ...] = ()
    vantage: str = "upstream"
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
    memory_megabytes: Annotated[int, Field(ge=64, le=65536)] = 512
    """For the tables; rings and evidence come on top."""
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
    learning: SensorLearning = SensorLearning()
    slow: SensorSlow = SensorSlow()
    access_log: tuple[AccessLogSection, ...] = ()
    kernel_cache: Annotated[Path, AfterValidator(_path)] | None = None
    """Where the compiled packet kernel is kept; default: `sensor/kernels` in the state directory."""
    metrics_port: Port | None = None
    """Prometheus metrics on 127.0.0.1, where wanted."""


class EnforceSpeaker(Section):
    """A speaker that `enforce` takes rules from."""

    address: AnyAddress
    remote_as: AutonomousSystem
    md5_password: SecretStr | None = None


class Enforce(Section):
    """FlowSpec on a Linux edge or host."""

    local_address: AnyAddress | None = None
    local_as: AutonomousSystem | None = None
    router_id: IPv4Address | None = None
    port: Port = 179
    user: str = "root"
    """Whom its ExaBGP becomes; he needs CAP_NET_ADMIN."""
    speakers: tuple[EnforceSpeaker, ...] = ()
    protected: tuple[Prefixed, ...] = ()


class Config(Section):
    """The whole file."""

    paths: Paths = Paths()
    speaker: Speaker = Speaker()
    neighbours: tuple[NeighbourSection, ...] = ()
    intake: Intake = Intake()
    web: Web = Web()
    worker: Worker = Worker()
    sensor: Sensor = Sensor()
    enforce: Enforce = Enforce()

    @property
    def database_url(self) -> str:
        """The configured database, or SQLite in the state directory."""
        return self.paths.database or f"sqlite:///{self.paths.state.resolve() / 'stopbank.db'}"


def environment() -> Mapping[str, str]:
    """This process's environment: the only place it is read."""
    return os.environ


def load(path: Path, variables: Mapping[str, str] | None = None) -> Config:
    """File and environment as a `Config`; raises `Refused` with every problem. `variables` replaces the environment."""
    try:
        text = path.read_text()
    except OSError as error:
        raise Refused("config", path, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused("config", path, "is not UTF-8 text") from None
    return parse(text, str(path), environment() if variables is None else variables)


def parse(text: str, origin: str, variables: Mapping[str, str] | None = None) -> Config:
    """The `Config` of a TOML text; `origin` names it in errors."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Besides what is no TOML: numbers and nestings beyond what Python reads.
        raise Refused("config", origin, f"is not TOML: {error}") from None
    _override(tree, variables or {})
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise Refused.all(_problem(entry) for entry in error.errors()) from None
    neighbours(config)
    if bool(config.worker.webhook_url) != bool(config.worker.webhook_secret):
        raise Refused("worker.webhook_secret", "", "webhook_url and webhook_secret go together: receivers must verify")
    return config


def neighbours(config: Config) -> tuple[Neighbour, ...]:
    """The neighbours as values; raises `Refused` with the problems of all of them."""
    problems: list[Problem] = []
    found: list[Neighbour] = []
    for index, section in enumerate(config.neighbours):
        field = f"neighbours[{index}]"
        try:
            found.append(_neighbour(section, config.speaker, field))
        except Refused as error:
            problems += [Problem(f"{field}.{one.field}", one.value, one.reason) for one in error.problems]
    problems += _repeats(found, "name", [one.name for one in found])
    problems += _repeats(found, "peer_address", [str(one.peer_address) for one in found])
    if problems:
        raise Refused.all(problems)
    return tuple(found)


def _neighbour(section: NeighbourSection, speaker: Speaker, field: str) -> Neighbour:
    missing = [
        Problem(name, "", f"give it here or in [speaker] as {name}")
        for name in ("local_as", "router_id")
        if getattr(section, name) is None and getattr(speaker, name) is None
    ]
    if missing:
        raise Refused.all(missing)
    values = {name: getattr(section, name) for name in type(section).model_fields}
    platforms.intersect(section.profiles)
    communities = tuple(tuple(map(int, text.split(":"))) for text in section.blackhole_communities)
    return Neighbour(
        **values
        | {
            "local_as": section.local_as or speaker.local_as,
            "router_id": section.router_id or speaker.router_id,
            "families": frozenset(section.families),
            "blackhole_communities": communities,
            "graceful_restart_seconds": section.graceful_restart_seconds or None,
            "md5_password": section.md5_password.get_secret_value() if section.md5_password else None,
        }
    )


def _repeats(found: list[Neighbour], field: str, values: list[str]) -> list[Problem]:
    return [
        Problem(f"neighbours[{index}].{field}", value, "another neighbour has it too")
        for index, value in enumerate(values)
        if value in values[:index]
    ]


def _override(tree: dict[str, Any], variables: Mapping[str, str]) -> None:
    """Puts `STOPBANK_SECTION__KEY` into the tree; unknown sections are left for the validation to name."""
    for variable, text in sorted(variables.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if not key:
            raise Refused(variable, text, "is no setting; write STOPBANK_SECTION__KEY, such as STOPBANK_WEB__PORT")
        target = tree.setdefault(section, {})
        if not isinstance(target, dict):
            raise Refused(variable, text, f"{section} can only be set in the file")
        target[key] = _toml_value(text)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _problem(entry: Any) -> Problem:
    path = ""
    for part in entry["loc"]:
        # The names of union members in a location are pydantic's, not the user's.
        if isinstance(part, str) and part.startswith("function-"):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    if entry["type"] == "extra_forbidden":
        return Problem(path, "", "is unknown; see stopbank.toml.example for what there is")
    if entry["type"] == "missing":
        return Problem(path, "", "is missing")
    given = entry["input"]
    # A whole table may hold a password.
    is_hidden = "password" in path or "secret" in path or isinstance(given, dict | list)
    value = "(not shown)" if is_hidden else str(given)
    reason = entry["msg"].removeprefix("Value error, ")
    return Problem(path, value, reason[:1].lower() + reason[1:])
