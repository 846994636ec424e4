"""ExaBGP's own parser of commands, in this process: what the daemon would understand."""

import json
from functools import cache
from typing import Any

from rules.match import Family, Match
from rules.wire import decode
from speaker import replies


@cache
def _api() -> Any:
    from exabgp.configuration.configuration import Configuration  # type: ignore[import-untyped]
    from exabgp.environment import Env, getenv  # type: ignore[import-untyped]
    from exabgp.environment.setup import CONFIGURATION  # type: ignore[import-untyped]
    from exabgp.logger import log  # type: ignore[import-untyped]
    from exabgp.reactor.api import API  # type: ignore[import-untyped]

    Env.setup(CONFIGURATION)
    log.init(getenv())
    api = API.__new__(API)
    api.configuration = Configuration([])
    return api


def understood(line: str) -> tuple[tuple[str, ...], str, list[Any]]:
    """The peers named, the verb, and ExaBGP's changes; an empty list means `error`."""
    from exabgp.configuration.core.format import formated  # type: ignore[import-untyped]
    from exabgp.reactor.api.command.limit import extract_neighbors  # type: ignore[import-untyped]

    descriptions, command = extract_neighbors(formated(line))
    peers = tuple(words[0].removeprefix("neighbor ") for words in descriptions)
    verb = command.split(" ", 1)[0]
    parse = _api().api_flow if " flow " in command else lambda text: _api().api_attributes(text, [])
    return peers, verb, list(parse(command) or [])


def match_of(change: Any, family: Family) -> Match:
    """The match ExaBGP would put on the wire, read by our own decoder."""
    return decode(change.nlri.pack_nlri(), family)


def listed(change: Any, peer: str) -> replies.Reply:
    """The reply with which ExaBGP would list it in `show adj-rib out json`."""
    return replies.parse(json.dumps({"peer": {"address": peer}, "route": change.as_dict()}).encode())
