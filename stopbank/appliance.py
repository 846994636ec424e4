"""`stopbank run`: which programs make up this machine, and ExaBGP's configuration, written before ExaBGP reads it."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import structlog

from rules.errors import Refused
from rules.messages import Reload, render_request
from speaker import config_exabgp, killswitch
from stopbank import config as configuration
from stopbank import wiring
from stopbank.supervisor import Program, Supervisor

log = structlog.get_logger()

PIDFILE = "run.pid"
EXABGP = "exabgp"


def programs(config: configuration.Config, path: Path) -> tuple[Program, ...]:
    """The programs of this machine, in the order they start; ExaBGP starts the speaker."""
    again, where = wiring.program(), _where(path)
    # The children's working directory is not ours, so a relative path would mean something else to them.
    surroundings = {"STOPBANK_PATHS__STATE": str(config.paths.state.resolve())}
    chosen = [exabgp(config, surroundings)]
    for name, wanted in (
        ("intake", config.intake.enabled),
        ("web", config.web.enabled),
        ("worker", config.worker.enabled and bool(config.worker.webhook_url or config.worker.syslog)),
        ("sensor", bool(config.sensor.interfaces) and (wiring.sensor_directory(config) / "intake.json").exists()),
    ):
        if wanted:
            command = ("sensor", "run") if name == "sensor" else (name,)
            chosen.append(Program(name, (*again, *command, *where), surroundings))
    return tuple(chosen)


def _where(path: Path) -> tuple[str, ...]:
    return ("--config", str(path.resolve())) if path.exists() else ()


def exabgp(config: configuration.Config, surroundings: Mapping[str, str]) -> Program:
    """ExaBGP with its generated configuration."""
    script = Path(wiring.program()[0]).parent / "exabgp"
    variables = config_exabgp.environment(config.speaker.daemon_user)
    assignments = tuple(f"{name}={value}" for name, value in sorted(variables.items()))
    # Through env(1), since neither systemd nor a shell sets the dotted names that ExaBGP insists on.
    argv = ("/usr/bin/env", *assignments, str(script), "server", str(exabgp_path(config)))
    return Program(EXABGP, argv, surroundings, stop_seconds=10.0)


def exabgp_path(config: configuration.Config) -> Path:
    """Where ExaBGP's configuration is written."""
    return config.paths.state.resolve() / "exabgp.conf"


def prepare(config: configuration.Config, path: Path) -> None:
    """The state directory and ExaBGP's configuration; raises `OSError` and `Refused`."""
    state = config.paths.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o2770)
    command = (*wiring.program(), "speaker", "--state", str(state), *_where(path))
    config_exabgp.write(exabgp_path(config), config_exabgp.render(configuration.neighbours(config), command))


def run(config: configuration.Config, path: Path) -> None:
    """Everything, until SIGTERM or SIGINT. Announced rules stay with the routers: ending is not withdrawing."""
    os.umask(0o007)
    prepare(config, path)
    pidfile = config.paths.state.resolve() / PIDFILE
    pidfile.write_text(str(os.getpid()))

    def reload(supervisor: Supervisor) -> None:
        try:
            fresh = configuration.load(path)
            prepare(fresh, path)
        except (Refused, OSError) as error:
            log.error("not reloaded; the configuration before stays in force", why=str(error))
            return
        # ExaBGP keeps sessions whose configuration didn't change.
        exabgp_told = supervisor.signal(EXABGP, signal.SIGUSR1)
        speaker_told = killswitch.ask(fresh.paths.state, render_request(Reload()), 3.0) is not None
        log.info("reloaded", exabgp_told=exabgp_told, speaker_told=speaker_told)

    try:
        Supervisor(programs(config, path), reload).run()
    finally:
        pidfile.unlink(missing_ok=True)
