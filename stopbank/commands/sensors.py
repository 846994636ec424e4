"""`stopbank sensor …` and `stopbank analyze`: watching packets, and letting those who do in."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rules.errors import Problem, Refused
from rules.match import parse_prefix
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import REFUSED, fail, refuse, show

app = typer.Typer(help="Sensors: watch packets, report attacks.", no_args_is_help=True)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="The new sensor's name")],
    zone: Annotated[list[str] | None, typer.Option(help="A zone it may speak of; without any: all zones")] = None,
    valid: Annotated[str, typer.Option(help="How long the token may be used: 90s, 30m, 6h, 1d")] = "1h",
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """A single-use enrolment token, on the machine of the intake; it holds a secret and is shown once."""
    from intake.authority import Authority
    from intake.registry import Registry
    from stopbank import durations, opened, wiring

    settings = wiring.intake(loaded(config))
    try:
        now = opened.now()
        expires = now + durations.parse("valid", valid)
        authority = Authority.open(settings.directory, now)
        address = (settings.public_name, settings.port)
        made = Registry(settings.directory).create_token(name, zone or ["*"], address, authority.fingerprint, expires)
    except Refused as error:
        refuse(error)
    except OSError as error:
        fail(f"{settings.directory}: {error.strerror}")
    show(None, False, str(made))


@app.command()
def enroll(
    token: Annotated[str, typer.Argument(help="What `stopbank sensor token` printed")],
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """Trades a token for this sensor's certificate; afterwards `stopbank sensor run` is known to the intake."""
    from rules.messages_enrolment import EnrolmentToken
    from sensors.enroll import EnrolmentFailed, enrol
    from stopbank import wiring

    directory = wiring.sensor_directory(loaded(config))
    try:
        identity = enrol(EnrolmentToken.parse(token), directory)
    except Refused as error:
        refuse(error)
    except EnrolmentFailed as error:
        fail(str(error), REFUSED)
    except OSError as error:
        fail(f"{directory}: {error.strerror}")
    show(None, False, f"enrolled as {identity.name}")


@app.command()
def revoke(name: Annotated[str, typer.Argument()], config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Shuts a sensor out at once, on the machine of the intake."""
    from intake.registry import Registry
    from stopbank import opened, wiring

    try:
        Registry(wiring.intake(loaded(config)).directory).revoke(name, opened.now())
    except Refused as error:
        refuse(error)
    show(None, False, f"revoked: {name}")


@app.command("list")
def list_sensors(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Enrolled sensors and their zones, on the machine of the intake."""
    from intake.registry import Registry
    from stopbank import wiring

    found = Registry(wiring.intake(loaded(config)).directory).sensors()
    lines = [f"{one.name}  zones {' '.join(one.zones)}  certificate until {one.not_after:%Y-%m-%d}" for one in found]
    show(None, False, "\n".join(lines) or "no sensors enrolled")


@app.command()
def run(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Watches this machine's interfaces until SIGTERM; needs CAP_NET_RAW, and no network to detect."""
    from sensors.live import run as run_sensor
    from stopbank import wiring

    found = loaded(config)
    try:
        run_sensor(wiring.sensor(found, ()), wiring.link(found))
    except Refused as error:
        refuse(error, code=2)
    except PermissionError:
        fail("packet sockets need CAP_NET_RAW: run this as root or by its systemd unit")
    except OSError as error:
        fail(f"{error.filename or 'sensor'}: {error.strerror}")


def enforce(
    hosted: Annotated[bool, typer.Option("--hosted", hidden=True, help="Started by ExaBGP")] = False,
    config: ConfigPath = configuration.DEFAULT_PATH,
) -> None:
    """FlowSpec from named speakers into nftables, on a Linux router or host; needs CAP_NET_ADMIN."""
    from sensors import enforce as enforcing
    from stopbank import wiring

    where = ("--config", str(config.resolve())) if config.exists() else ()
    try:
        settings = wiring.enforce(loaded(config), (*wiring.program(), "enforce", "--hosted", *where))
        settings.state.mkdir(mode=0o2770, parents=True, exist_ok=True)
        if hosted:
            enforcing.run(settings)
        else:
            enforcing.serve(settings)
    except Refused as error:
        refuse(error, code=2)
    except OSError as error:
        fail(f"{error.filename or 'enforce'}: {error.strerror}")


def analyze(
    capture: Annotated[Path, typer.Argument(help="A pcap or pcapng file; `-` reads standard input")],
    zone: Annotated[
        list[str] | None, typer.Option(help="A protected prefix; without any, every destination counts")
    ] = None,
    pps: Annotated[
        float | None, typer.Option(min=1, help="The packet rate of one host that counts as an attack")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a capture shows: attacks, their vectors, and the rules that would help. Announces nothing."""
    from sensors import analyze as analysis

    problems: list[Problem] = []
    prefixes = []
    for one in zone or ():
        try:
            prefixes.append(parse_prefix("zone", one))
        except Refused as error:
            problems += error.problems
    try:
        if problems:
            raise Refused.all(problems)
        report = analysis.run(capture, tuple(prefixes), pps)
    except Refused as error:
        refuse(error, as_json, code=2)
    show(report.to_json(), as_json, _readable(report.to_json()))


def _readable(report: dict[str, Any]) -> str:
    lines = [f"{report['capture']}: {report['packets']:,} packets in {report['duration_s']:.3f} s"]
    for one in report["incidents"]:
        lines.append(
            f"{one['target']}: {one['vector']}, {one['packets']:,} packets, peak {one['peak_pps']:,.0f} pps "
            f"{one['peak_bps'] / 1e6:,.1f} Mbit/s, {one['sources']:,} sources"
        )
        lines += [f"    {_share(rule)}  {rule['flowspec']}" for rule in one["rules"]]
    return "\n".join(lines if report["incidents"] else [*lines, "no attack found"])


def _share(rule: dict[str, Any]) -> str:
    collateral = "unknown" if rule["collateral"] is None else f"{rule['collateral']:.1%}"
    return f"covers {rule['coverage']:.1%}, collateral {collateral}"
