"""`stopbank analyze` and `stopbank enforce`: what a capture shows, and FlowSpec on this machine."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from rules.errors import Problem, Refused
from rules.match import Network, parse_prefix
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import fail, refuse, show

MOST_PACKETS = 1_000_000_000
"""A second: no host gets more."""


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
    capture: Annotated[
        Path | None, typer.Argument(readable=False, help="A pcap or pcapng file; `-` reads standard input")
    ] = None,
    access_log: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            help="Instead of a capture, a web server's log (nginx, Apache, Caddy, HAProxy); may be repeated",
        ),
    ] = None,
    zone: Annotated[
        list[str] | None,
        typer.Option(
            help="A protected prefix; without any, every destination counts. With a log: the server's address"
        ),
    ] = None,
    pps: Annotated[
        float | None,
        typer.Option(help="The rate of one host that counts as an attack: packets, or a log's requests, a second"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a capture or a web server's log shows: attacks, their vectors, the rules that would help. Announces
    nothing."""
    from sensors import analyze as analysis
    from sensors import analyze_logs
    from sensors.signals import interruptible
    from stopbank.report import print_log_report, print_report, watching

    try:
        prefixes = _prefixes(zone or (), pps)
        if access_log:
            if capture is not None:
                raise Refused("capture", capture, "is one thing too many beside --access-log: analyze them one by one")
            server = _server(prefixes)
            with watching(", ".join(map(str, access_log))) as progress:
                found = analyze_logs.run(access_log, server, pps, progress).to_json()
        elif capture is None:
            raise Refused("capture", "", "is missing: name a capture file, or web servers' logs with --access-log")
        else:
            with interruptible(), watching(str(capture), compiles=str(capture) != "-") as progress:
                found = analysis.run(capture, prefixes, pps, progress=progress).to_json()
    except Refused as error:
        is_unread = not access_log and error.problems[0].field == "capture"
        if capture and is_unread and _is_log(capture):
            refuse(Refused("capture", capture, "is a web server's log: name it with --access-log"), as_json, code=2)
        refuse(error, as_json, code=2)
    if as_json:
        show(found, True, "")
    else:
        (print_log_report if access_log else print_report)(found)


def _prefixes(texts: Iterable[str], pps: float | None) -> tuple[Network, ...]:
    problems: list[Problem] = []
    prefixes = []
    if pps is not None and not 1 <= pps <= MOST_PACKETS:
        problems.append(Problem("pps", f"{pps:g}", f"must be from 1 to {MOST_PACKETS:,} packets a second"))
    for one in texts:
        try:
            prefixes.append(parse_prefix("zone", one))
        except Refused as error:
            problems += error.problems
    if problems:
        raise Refused.all(problems)
    return tuple(prefixes)


def _is_log(path: Path) -> bool:
    """Whether what was refused as a capture is an access log; what comes through a pipe is gone."""
    from sensors.accesslog_file import LogFile

    if not path.is_file():
        return False
    try:
        LogFile(path).close()
    except Refused:
        return False
    return True


def _server(prefixes: tuple[Network, ...]) -> Network | None:
    """The address that a log's clients come to; a log doesn't tell it."""
    if not prefixes:
        return None
    if len(prefixes) > 1 or prefixes[0].prefixlen < prefixes[0].max_prefixlen:
        given = ", ".join(map(str, prefixes))
        raise Refused("zone", given, "with --access-log, must be the one address that the server's clients come to")
    return prefixes[0]
