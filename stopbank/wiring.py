"""From the configuration to each folder's own settings. The only place that knows both sides."""

import sys
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from rules.errors import Problem, Refused
from rules.guard import Limits
from rules.traffic import Vantage
from rules.zone import Zone
from stopbank.config import Config, neighbours
from stopbank.config_parts import Enforce

if TYPE_CHECKING:
    from intake.settings import Settings as IntakeSettings
    from sensors.accesslog import AccessLog
    from sensors.enforce_settings import EnforceSettings
    from sensors.evidence_settings import EvidenceSettings
    from sensors.link_settings import LinkSettings
    from sensors.settings import Capturing, KeptLearning, SensorSettings
    from speaker.settings import Settings as SpeakerSettings
    from webui.settings import Settings as WebSettings
    from worker.settings import Settings as WorkerSettings


def program() -> tuple[str, ...]:
    """How to start this very command line again, with an absolute path: ExaBGP wants one."""
    script = Path(sys.executable).parent / "stopbank"
    return (str(script),) if script.exists() else (sys.executable, "-m", "stopbank.cli")


def check(config: Config) -> None:
    """Raises `Refused` with everything that a part which is configured could not start with."""
    if found := problems(config):
        raise Refused.all(found)


def problems(config: Config) -> list[Problem]:
    """Makes the settings of every part that is configured, as its process would: what is wrong with them."""
    found: list[Problem] = []
    parts: list[tuple[str, Callable[[], object]]] = []
    if config.worker.webhook_url or config.worker.syslog:
        parts.append(("worker", lambda: worker(config)))
    if config.enforce != Enforce():
        parts.append(("enforce", lambda: enforce(config, (*program(), "enforce", "--hosted"))))
    if config.sensor.interfaces:
        parts.append(("sensor", lambda: sensor(config, ())))
    for section, part in parts:
        try:
            part()
        except Refused as error:
            found += (_within(section, one) for one in error.problems)
    return found


def _within(section: str, problem: Problem) -> Problem:
    """With the section of the file before the field, where it isn't named yet."""
    field = problem.field if problem.field.startswith(f"{section}.") else f"{section}.{problem.field}"
    return Problem(field, problem.value, problem.reason)


def limits(config: Config) -> Limits:
    """The guard's limits."""
    return Limits(
        total_rules=config.speaker.total_rules,
        automatic_rules=config.speaker.automatic_rules,
        per_minute=config.speaker.rules_per_minute,
        alone_seconds=int(config.speaker.alone_hours * 3600),
    )


def speaker(config: Config) -> "SpeakerSettings":
    """The speaker's settings; raises `Refused`."""
    from speaker.settings import Settings

    return Settings(
        state=config.paths.state.resolve(),
        database_url=config.database_url,
        neighbours=neighbours(config),
        name=config.speaker.name,
        protected=config.speaker.protected,
        infrastructure=config.speaker.infrastructure,
        limits=limits(config),
    )


def intake(config: Config) -> "IntakeSettings":
    """The intake's settings."""
    from intake.settings import Settings

    state = config.paths.state.resolve()
    return Settings(
        directory=state / "intake",
        speaker_socket=state / "speaker.sock",
        listen=config.intake.listen,
        port=config.intake.port,
        public_name=config.intake.public_name,
        metrics_port=config.intake.metrics_port,
    )


def worker(config: Config) -> "WorkerSettings":
    """The worker's settings; raises `Refused`."""
    from worker.settings import Settings, Syslog, Webhook

    told, problems = config.worker, list[Problem]()
    webhook = syslog = None
    try:
        if told.webhook_url and told.webhook_secret:
            webhook = Webhook(told.webhook_url, told.webhook_secret.get_secret_value())
    except Refused as error:
        problems += error.problems
    try:
        syslog = Syslog.parse(told.syslog) if told.syslog else None
    except Refused as error:
        problems += error.problems
    if problems:
        raise Refused.all(problems)
    return Settings(webhook, syslog, config.paths.state.resolve())


def enforce(config: Config, command: tuple[str, ...]) -> "EnforceSettings":
    """What `enforce` is told; raises `Refused` with every setting that is missing."""
    from sensors.enforce_settings import EnforceSettings, Source

    told = config.enforce
    values = {"local_address": told.local_address, "local_as": told.local_as, "router_id": told.router_id}
    if missing := [Problem(f"enforce.{name}", "", "is missing") for name, value in values.items() if value is None]:
        raise Refused.all(missing)
    assert told.local_address is not None and told.local_as is not None and told.router_id is not None
    sources = tuple(
        Source(one.address, one.remote_as, one.md5_password.get_secret_value() if one.md5_password else None)
        for one in told.speakers
    )
    return EnforceSettings(
        local_address=told.local_address,
        local_as=told.local_as,
        router_id=told.router_id,
        sources=sources,
        state=config.paths.state.resolve() / "enforce",
        command=command,
        protected=told.protected,
        port=told.port,
        user=told.user,
        exabgp=Path(program()[0]).parent / "exabgp",
    )


def web(config: Config) -> "WebSettings":
    """The web process's settings."""
    from webui.settings import Settings

    return Settings(
        config.database_url,
        config.paths.state.resolve(),
        config.web.listen,
        config.web.port,
        timedelta(hours=config.speaker.alone_hours),
    )


def sensor_directory(config: Config) -> Path:
    """Where the sensor of this machine keeps its identity, spool and cached zones."""
    return config.paths.state.resolve() / "sensor"


def link(config: Config) -> "LinkSettings":
    """The sensor's link to the intake."""
    from sensors.link_settings import LinkSettings

    return LinkSettings(sensor_directory(config))


def sensor(config: Config, zones: tuple[Zone, ...]) -> "SensorSettings":
    """The sensor's settings; raises `Refused` with everything that is wrong with them."""
    from sensors.settings import Memory, SensorSettings, SlowSettings
    from sensors.top import SOCKET

    told, directory = config.sensor, sensor_directory(config)

    def memory() -> Memory:
        return Memory.within(told.memory_megabytes, told.fanout)

    wrong: list[Problem] = []
    for part in (_capturing, _evidence, _learning, _access_logs, lambda _: memory()):
        try:
            part(config)
        except Refused as error:
            wrong += error.problems
    if wrong:
        raise Refused.all(wrong)
    return SensorSettings(
        name=told.name,
        capture=_capturing(config),
        zones=zones,
        vantage=Vantage(told.vantage),
        memory=memory(),
        evidence=_evidence(config),
        cpus=told.cpus,
        nice=told.nice,
        status_socket=directory / SOCKET,
        metrics_port=told.metrics_port,
        kernel_cache=kernel_cache(config),
        learning=_learning(config),
        slow=SlowSettings(told.slow.connections, told.slow.ports) if told.slow.enabled else None,
        access_logs=_access_logs(config),
    )


def _capturing(config: Config) -> "Capturing":
    from sensors.settings import Capturing

    told = config.sensor
    if not told.interfaces:
        raise Refused("sensor.interfaces", "", 'is empty: name what to watch, such as ["eth1"]')
    if told.libpcap and len(told.interfaces) > 1:
        raise Refused("sensor.libpcap", "true", "captures one interface; name one, or leave libpcap off")
    return Capturing(
        interfaces=told.interfaces,
        snap_bytes=told.snap_bytes,
        ring_megabytes=told.ring_megabytes,
        filter=told.filter or None,
        promiscuous=told.promiscuous,
        keep_outgoing=told.outgoing,
        weight=told.sampling,
        least_sampled=told.sampling_least_packets,
        with_libpcap=told.libpcap,
        fanout=told.fanout,
    )


def kernel_cache(config: Config) -> Path:
    """Where the sensor's compiled packet kernel is kept."""
    told = config.sensor.kernel_cache
    return told.resolve() if told else sensor_directory(config) / "kernels"


def _learning(config: Config) -> "KeptLearning | None":
    from rules.zone import Metric
    from sensors.baseline_limits import FLOORS, Learning
    from sensors.settings import KeptLearning

    told, floors = config.sensor.learning, dict(FLOORS)
    if not told.enabled:
        return None
    known = {metric.value: metric for metric in floors}
    problems = [
        Problem(f"sensor.learning.floors.{name}", str(value), f"is not learned; there are {', '.join(known)}")
        for name, value in told.floors.items()
        if name not in known
    ]
    given = told.model_dump(exclude={"enabled", "save_seconds", "floors"}, exclude_none=True)
    named: dict[Metric, float] = {known[name]: value for name, value in told.floors.items() if name in known}
    try:
        learning = Learning(**given, floors=tuple((floors | named).items()))
    except Refused as error:
        problems += [Problem(f"sensor.learning.{one.field}", one.value, one.reason) for one in error.problems]
    if problems:
        raise Refused.all(problems)
    return KeptLearning(sensor_directory(config), learning, told.save_seconds)


def _access_logs(config: Config) -> "tuple[AccessLog, ...]":
    from sensors.accesslog import AccessLog
    from sensors.accesslog_lines import Format

    problems: list[Problem] = []
    found = []
    for number, one in enumerate(config.sensor.access_log):
        given = one.model_dump(exclude={"format", "server"})
        try:
            found.append(AccessLog(**given, format=Format(one.format), server=ip_network(one.server)))
        except Refused as error:
            problems += [
                Problem(f"sensor.access_log[{number}].{bad.field}", bad.value, bad.reason) for bad in error.problems
            ]
    if problems:
        raise Refused.all(problems)
    return tuple(found)


def _evidence(config: Config) -> "EvidenceSettings | None":
    from sensors.evidence_settings import EvidenceSettings

    told = config.sensor
    if not told.evidence:
        return None
    if told.evidence_memory_megabytes < 2 * told.fanout:
        reason = f"must be at least {2 * told.fanout}: 2 for each of {told.fanout} processors (sensor.fanout)"
        raise Refused("sensor.evidence_memory_megabytes", told.evidence_memory_megabytes, reason)
    return EvidenceSettings(
        directory=config.paths.state.resolve() / "evidence",
        memory_megabytes=told.evidence_memory_megabytes,
        before_seconds=told.evidence_before_seconds,
        after_seconds=told.evidence_after_seconds,
        packets=told.evidence_packets,
        file_bytes=told.evidence_file_megabytes << 20,
        total_bytes=told.evidence_disk_megabytes << 20,
        keep_seconds=None if told.evidence_days is None else told.evidence_days * 86_400,
    )
