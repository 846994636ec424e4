"""The smaller sections of the configuration file: paths, intake, web, worker, enforce."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr

from stopbank.config_values import AnyAddress, AutonomousSystem, Listening, Port, Prefixed, Section, as_path


class Paths(Section):
    """Where things are kept."""

    state: Annotated[Path, AfterValidator(as_path)] = Path("state")
    """The state directory; see docs/design.md for what is in it."""
    database: str | None = None
    """SQLAlchemy URL; default: SQLite in the state directory."""


class Intake(Section):
    """The sensors' door."""

    enabled: bool = True
    listen: Listening = "0.0.0.0"
    port: Port = 8443
    public_name: str = "localhost"
    """How sensors reach this machine: goes into the enrolment token."""
    metrics_port: Port | None = None
    """Prometheus metrics on 127.0.0.1, where wanted."""


class Web(Section):
    """The pages."""

    enabled: bool = True
    listen: Listening = "127.0.0.1"
    port: Port = 8080


class Worker(Section):
    """Who is told."""

    enabled: bool = True
    webhook_url: str | None = None
    webhook_secret: SecretStr | None = None
    """Key of the HMAC-SHA256 signature; required with a URL."""
    syslog: str | None = None
    """`udp://host:514`, `tcp://host:514` or `unix:///dev/log`."""


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
