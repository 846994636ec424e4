"""`stopbank demo`, `lab` and `bench`: need a checkout, because lab and benchmarks are not part of an installation."""

import importlib
import os
from types import ModuleType
from typing import Annotated

import typer

from stopbank.terminal import fail


def demo() -> None:
    """An attack at a real router, stopped, measured, cleaned up; exit 1 when anything went wrong."""
    raise typer.Exit(_as_root("lab.demo").main())


def lab() -> None:
    """The demo's topology, left standing until Ctrl-C."""
    _as_root("lab.topology").main()


def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark, or `all`")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line")] = False,
) -> None:
    """Figures as ratios against peers in the same run."""
    raise typer.Exit(_as_root("bench.run").main(name, as_json))


def _as_root(module: str) -> ModuleType:
    """The module, or one clear line and exit 2."""
    if os.geteuid():
        fail("this needs root: network namespaces and packet sockets")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise
        fail(f"{module} is not installed: run this from a checkout, with `make`")
