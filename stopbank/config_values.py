"""The kinds of values that the configuration file has, read strictly; and what a section of it is."""

import os
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from rules.errors import Refused
from rules.match import Network, parse_prefix
from rules.neighbour import Address


def as_prefix(given: Any) -> Network:
    """A prefix without host bits; raises `ValueError`."""
    if isinstance(given, IPv4Network | IPv6Network):
        return given
    try:
        return parse_prefix("", str(given))
    except Refused as error:
        raise ValueError(error.problems[0].reason) from None


def as_address(given: Any) -> Address:
    """An address without a zone index; raises `ValueError`."""
    try:
        found = ip_address(given if isinstance(given, IPv4Address | IPv6Address) else str(given))
    except ValueError:
        raise ValueError("is no IPv4 or IPv6 address") from None
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        # It may hold any text, and would go into ExaBGP's configuration and commands.
        raise ValueError("has a zone index; leave out what stands behind the %")
    return found


def as_listening(given: Any) -> str:
    """An address that a server can listen on; raises `ValueError`."""
    if given == "localhost":
        return "localhost"
    try:
        return str(as_address(given))
    except ValueError:
        raise ValueError("is no address to listen on, such as 127.0.0.1, 0.0.0.0 or ::") from None


def as_path(given: Path) -> Path:
    """A path that a system can have and a terminal can show; raises `ValueError`."""
    if not str(given).isprintable():
        raise ValueError("holds a character that no path of ours may have")
    if any(len(os.fsencode(part)) > 255 for part in given.parts) or len(os.fsencode(given)) > 4000:
        raise ValueError("is longer than a path can be")
    return given


Prefixed = Annotated[Network, PlainValidator(as_prefix)]
AnyAddress = Annotated[Address, PlainValidator(as_address)]
Listening = Annotated[str, PlainValidator(as_listening)]
Port = Annotated[int, Field(ge=1, le=65535)]
AutonomousSystem = Annotated[int, Field(ge=1, le=2**32 - 2)]


class Section(BaseModel):
    """Strict about keys; frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
