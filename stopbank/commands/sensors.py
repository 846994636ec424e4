"""`stopbank analyze` and `stopbank enforce`: what a capture shows, and FlowSpec on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from rules.errors import Problem, Refused
from rules.match import parse_prefix
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import fail, refuse, show


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
    from stopbank.report import print_report, watching

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
        with watching(str(capture)) as progress:
            report = analysis.run(capture, tuple(prefixes), pps, progress=progress)
    except Refused as error:
        refuse(error, as_json, code=2)
    if as_json:
        show(report.to_json(), True, "")
    else:
        print_report(report.to_json())
