"""`stopbank rules`: check, render, encode and decode rules without touching any router."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from rules import action as actions
from rules import text, wire
from rules.errors import Refused
from rules.match import Family, Match
from rules.rule import FlowSpec, Rule, parse
from stopbank.terminal import argument_or_stdin, refuse, show

app = typer.Typer(help="Check, render, encode and decode FlowSpec and blackhole rules.", no_args_is_help=True)

RuleText = Annotated[
    str, typer.Argument(help="`match { … } then { … }` or `blackhole { … }`; `-` reads standard input")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text")]


class FamilyName(StrEnum):
    """What `--family` takes."""

    ipv4 = "ipv4"
    ipv6 = "ipv6"


@app.command()
def decode(
    nlri: Annotated[str, typer.Argument(metavar="HEX", help="One NLRI with its length; `-` reads standard input")],
    family: Annotated[FamilyName, typer.Option(help="Address family of the NLRI")],
    communities: Annotated[str, typer.Option(help="Extended communities as hex, for the `then` half")] = "",
    as_json: AsJson = False,
) -> None:
    """The canonical text of an NLRI, or one error line and exit 1 for what RFC 8955 and 8956 forbid."""
    try:
        match = wire.decode(_bytes("nlri", argument_or_stdin(nlri)), Family[family.name.upper()])
        action = actions.decode(_bytes("communities", communities)) if communities else None
    except Refused as error:
        refuse(error, as_json)
    shown = f"{match} {action}" if action else str(match)
    show(_described(match, action) | {"text": shown}, as_json, shown)


@app.command()
def encode(rule: RuleText, as_json: AsJson = False) -> None:
    """The NLRI of a rule or a bare `match { … }`, exactly as written; `--json` adds the form that is announced."""
    try:
        match, action = text.parse_parts(argument_or_stdin(rule))
        nlri = wire.encode(match)
    except Refused as error:
        refuse(error, as_json)
    show(_described(match, action), as_json, nlri.hex())


def _described(match: Match, action: actions.Action | None) -> dict[str, Any]:
    normal = match.normal()
    return {
        "ok": True,
        "family": match.ip_family.label,
        "match": str(match),
        "nlri": wire.encode(match).hex(),
        "action": str(action) if action else None,
        "extended_communities": actions.encode(action).hex() if action else None,
        "announced": {"match": str(normal), "nlri": wire.encode(normal).hex()},
    }


def _bytes(field: str, given: str) -> bytes:
    try:
        return bytes.fromhex(given.strip().removeprefix("0x"))
    except ValueError:
        raise Refused(field, given.strip(), "is not hexadecimal, two digits a byte") from None


def _rule(given: str, as_json: bool) -> Rule:
    try:
        return parse(argument_or_stdin(given).strip())
    except Refused as error:
        refuse(error, as_json)


@app.command()
def render(rule: RuleText, as_json: AsJson = False) -> None:
    """The canonical text of a rule: the one form that is stored and announced."""
    parsed = _rule(rule, as_json)
    shown = str(parsed)
    kind = "flowspec" if isinstance(parsed, FlowSpec) else "blackhole"
    show({"ok": True, "id": parsed.id, "kind": kind, "text": shown}, as_json, shown)
