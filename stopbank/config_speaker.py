"""`[speaker]` and `[[neighbours]]`: the BGP side of the configuration file."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, field_validator

from rules import platforms
from rules.errors import Problem, Refused
from rules.neighbour import BLACKHOLE, Neighbour, Role, SessionFamily
from stopbank.config_values import AnyAddress, AutonomousSystem, Prefixed, Section, as_address


class Speaker(Section):
    """The BGP side."""

    name: str = "speaker"
    router_id: IPv4Address | None = None
    local_as: AutonomousSystem | None = None
    daemon_user: str = "root"
    """Whom ExaBGP and the speaker run as; the packaged installation uses `stopbank`."""
    protected: tuple[Prefixed, ...] = ()
    """Never touched by any rule: resolvers, management, sensors, peering LANs, loopbacks."""
    infrastructure: tuple[Prefixed, ...] = ()
    """Own routers: rules that hit BGP, BFD, an IGP or path MTU discovery are refused here."""
    total_rules: Annotated[int, Field(ge=1, le=100_000)] = 5000
    automatic_rules: Annotated[int, Field(ge=0, le=100_000)] = 500
    rules_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    alone_hours: Annotated[float, Field(ge=1, le=168)] = 24.0
    """How long automatic rules against one attack stand, renewals included, without a person's word."""


class NeighbourSection(Section):
    """One BGP session; defaults as in `rules.neighbour.Neighbour`."""

    name: str
    peer_address: AnyAddress
    local_address: AnyAddress
    peer_as: int
    local_as: int | None = None
    router_id: IPv4Address | None = None
    families: tuple[SessionFamily, ...] = (SessionFamily.IPV4_FLOW, SessionFamily.IPV6_FLOW)
    role: Role = Role.OWN_EDGE
    profiles: tuple[str, ...] = ("generic",)
    budget: int = 100
    permitted: tuple[Prefixed, ...] = ()
    blackhole_communities: tuple[str, ...] = (f"{BLACKHOLE[0]}:{BLACKHOLE[1]}",)
    next_hop_ipv4: IPv4Address | None = None
    next_hop_ipv6: Annotated[IPv6Address, AfterValidator(as_address)] | None = None
    port: int = 179
    passive: bool = False
    hold_time_seconds: int = 30
    multihop_ttl: int | None = None
    gtsm_hops: int | None = None
    graceful_restart_seconds: int | None = 120
    """0 turns graceful restart off."""
    md5_password: SecretStr | None = None

    @field_validator("blackhole_communities")
    @classmethod
    def _community(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            high, colon, low = text.partition(":")
            if not (colon and all(half.isdecimal() and half.isascii() and len(half) <= 5 for half in (high, low))):
                raise ValueError(f"{text!r} is no community; write two numbers, such as 65535:666")
        return given


def neighbours(sections: Iterable[NeighbourSection], speaker: Speaker) -> tuple[Neighbour, ...]:
    """The neighbours as values; raises `Refused` with the problems of all of them."""
    problems: list[Problem] = []
    given, found = tuple(sections), []
    for index, section in enumerate(given):
        field = f"neighbours[{index}]"
        try:
            found.append(_neighbour(section, speaker))
        except Refused as error:
            problems += [Problem(f"{field}.{one.field}", one.value, one.reason) for one in error.problems]
    problems += _repeats("name", [one.name for one in given])
    problems += _repeats("peer_address", [str(one.peer_address) for one in given])
    if problems:
        raise Refused.all(problems)
    return tuple(found)


def _neighbour(section: NeighbourSection, speaker: Speaker) -> Neighbour:
    problems = [
        Problem(name, "", f"give it here or in [speaker] as {name}")
        for name in ("local_as", "router_id")
        if getattr(section, name) is None and getattr(speaker, name) is None
    ]
    is_whole = not problems
    try:
        platforms.intersect(section.profiles)
    except Refused as error:
        problems += error.problems
    if is_whole:
        try:
            built = _built(section, speaker)
        except Refused as error:
            problems += error.problems
    if problems:
        raise Refused.all(problems)
    return built


def _built(section: NeighbourSection, speaker: Speaker) -> Neighbour:
    values = {name: getattr(section, name) for name in type(section).model_fields}
    communities = tuple(tuple(map(int, text.split(":"))) for text in section.blackhole_communities)
    return Neighbour(
        **values
        | {
            "local_as": section.local_as or speaker.local_as,
            "router_id": section.router_id or speaker.router_id,
            "families": frozenset(section.families),
            "blackhole_communities": communities,
            "graceful_restart_seconds": section.graceful_restart_seconds or None,
            "md5_password": section.md5_password.get_secret_value() if section.md5_password else None,
        }
    )


def _repeats(field: str, values: list[str]) -> list[Problem]:
    return [
        Problem(f"neighbours[{index}].{field}", value, "another neighbour has it too")
        for index, value in enumerate(values)
        if value in values[:index]
    ]
