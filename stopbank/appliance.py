"""`stopbank run`: which programs make up this machine, and ExaBGP's configuration, written before ExaBGP reads it."""

import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog

from rules.errors import Refused
from rules.messages import Reload, render_request
from speaker import config_exabgp, killswitch
from stopbank import config as configuration
from stopbank import runfile, speaking, wiring
from stopbank.supervisor import Kept, Program, Supervisor

log = structlog.get_logger()

PIDFILE = "run.pid"
EXABGP = "exabgp"
PARTS = ("intake", "web", "worker", "sensor")
"""Sections whose process is started anew when they change; nothing is announced or withdrawn by that."""
FIXED = ("name", "daemon_user")
"""What the speaker or ExaBGP only take at their start."""


def programs(config: configuration.Config, path: Path) -> tuple[Program, ...]:
    """The programs of this machine, in the order they start; ExaBGP starts the speaker."""
    again, where = wiring.program(), _where(path)
    # The children's working directory is not ours, so a relative path would mean something else to them.
    surroundings = {"STOPBANK_PATHS__STATE": str(config.paths.state.resolve())}
    chosen = [exabgp(config, surroundings)]
    for name, wanted in (
        ("intake", config.intake.enabled),
        ("web", config.web.enabled),
        # Also with nobody to tell: it is what empties the outbox.
        ("worker", config.worker.enabled),
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
    command = (*speaking.PROGRAM, "--state", str(state), *_where(path))
    config_exabgp.write(exabgp_path(config), config_exabgp.render(configuration.neighbours(config), command))


def run(config: configuration.Config, path: Path) -> None:
    """Everything, until SIGTERM or SIGINT. Announced rules stay with the routers: ending is not withdrawing."""
    os.umask(0o007)
    prepare(config, path)
    state = config.paths.state.resolve()
    pidfile = state / PIDFILE
    pidfile.write_text(str(os.getpid()))

    def tell(kept: tuple[Kept, ...]) -> None:
        runfile.write(state, kept, datetime.now(UTC))

    try:
        Supervisor(programs(config, path), Reloading(config, path), tell).run()
    finally:
        pidfile.unlink(missing_ok=True)
        (state / runfile.FILE).unlink(missing_ok=True)


class Reloading:
    """What a SIGHUP leads to: the file is read again, and whom it concerns is told or started anew."""

    def __init__(self, config: configuration.Config, path: Path) -> None:
        self._config, self._path = config, path
        """As last taken up."""

    def __call__(self, supervisor: Supervisor) -> None:
        """A file that is bad, or moves what only a restart can move, changes nothing."""
        try:
            fresh = configuration.load(self._path)
            wiring.check(fresh)
            if fresh.paths != self._config.paths:
                raise Refused("paths", "", "state and database only change with a restart")
            prepare(fresh, self._path)
        except (Refused, OSError) as error:
            log.error("not reloaded; the configuration before stays in force", why=str(error))
            return
        anew = frozenset(name for name in PARTS if getattr(fresh, name) != getattr(self._config, name))
        supervisor.replace(programs(fresh, self._path), anew)
        # ExaBGP keeps sessions whose configuration didn't change.
        exabgp_told = supervisor.signal(EXABGP, signal.SIGUSR1)
        speaker_told = killswitch.ask(fresh.paths.state, render_request(Reload()), 3.0) is not None
        fixed = [
            f"speaker.{name}" for name in FIXED if getattr(fresh.speaker, name) != getattr(self._config.speaker, name)
        ]
        if fixed:
            log.warning("changed in the file, and in force only after a restart", settings=fixed)
        log.info("reloaded", exabgp_told=exabgp_told, speaker_told=speaker_told, started_anew=sorted(anew))
        self._config = fresh
