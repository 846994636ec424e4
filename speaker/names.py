"""What ExaBGP's text means: its route listings name ports, protocols and flags, and some names stand for two numbers.

So a listed rule is read as every rule it may be. Nothing here decides; a text that can't be read raises `Refused`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from ipaddress import IPv6Address
from itertools import product

from rules.components import SYMBOLS, Bitmask, Comparison, FlagTest, Numeric
from rules.errors import Refused
from rules.match import BITMASKS, FLAG_NAMES, PREFIXES, Component, Family, Match, OffsetPrefix, Prefix, parse_prefix

READINGS_LIMIT = 64
"""Beyond so many readings a listed rule counts as unreadable."""

COMMUNITIES = {"no-export": (65535, 65281), "no-advertise": (65535, 65282), "blackhole": (65535, 666)}
"""Those of ExaBGP's community names that Stopbank ever sends."""

_KEYWORDS = {component.keyword: component for component in Component} | {
    "destination-ipv4": Component.DESTINATION,
    "destination-ipv6": Component.DESTINATION,
    "source-ipv4": Component.SOURCE,
    "source-ipv6": Component.SOURCE,
    "next-header": Component.PROTOCOL,
    "traffic-class": Component.DSCP,
}
_PORTS = (Component.PORT, Component.SOURCE_PORT, Component.DESTINATION_PORT)
_OPERATORS = {symbol: operator for operator, symbol in SYMBOLS.items()}
_COMPARISON = re.compile(r"(>=|<=|!=|=|>|<)([^&<>=!]+)")
_FLAGS = re.compile(r"(!?)(=?)([a-z+-]*)")
_UNKNOWN_FLAGS = re.compile(r"(!?)(=?)(?:[a-z+-]*\+)?unknown [a-z ]+ type (\d+)")


def readings(listed: Mapping[str, list[str]], family: Family) -> tuple[Match, ...]:
    """Every match that ExaBGP lists as these rules, in normal form."""
    fields: list[list[tuple[str, Prefix | Numeric | Bitmask]]] = []
    count = 1
    for keyword, texts in listed.items():
        component = _KEYWORDS.get(keyword)
        if component is None:
            raise Refused(keyword, texts, "is no component of a FlowSpec rule")
        values = _values(component, tuple(texts))
        count *= len(values)
        if count > READINGS_LIMIT:
            raise Refused("rules", dict(listed), f"may mean more than {READINGS_LIMIT} different rules")
        fields.append([(component.attribute, value) for value in values])
    return tuple(Match(family=family, **dict(chosen)).normal() for chosen in product(*fields))  # type: ignore[arg-type]


def _values(component: Component, texts: tuple[str, ...]) -> Sequence[Prefix | Numeric | Bitmask]:
    if component in PREFIXES:
        if len(texts) != 1:
            raise Refused(component.keyword, texts, "must be one prefix")
        return [_prefix(component, texts[0])]
    return _tests(component, texts)


@lru_cache(maxsize=4_096)
def _tests(component: Component, texts: tuple[str, ...]) -> tuple[Numeric | Bitmask, ...]:
    """Kept: thousands of listed rules differ in nothing but their prefixes."""
    if component in BITMASKS:
        return (Bitmask(tuple(tuple(_flag_test(component, one) for one in text.split("&")) for text in texts)),)
    alternatives = [[_comparisons(component, one) for one in text.split("&")] for text in texts]
    sizes = [len(options) for group in alternatives for options in group]
    count = 1
    for size in sizes:
        count *= size
    if count > READINGS_LIMIT:
        raise Refused(component.keyword, texts, f"may mean more than {READINGS_LIMIT} different things")
    groups = [list(product(*group)) for group in alternatives]
    return tuple(Numeric(tuple(chosen)) for chosen in product(*groups))


def _prefix(component: Component, text: str) -> Prefix:
    if text.count("/") < 2:
        return parse_prefix(component.keyword, text)
    address, length, offset = text.split("/", 2)
    if offset == "0":
        return parse_prefix(component.keyword, f"{address}/{length}")
    try:
        return OffsetPrefix(IPv6Address(address), int(length), int(offset))
    except ValueError:
        raise Refused(component.keyword, text, "is no prefix with an offset") from None


def _comparisons(component: Component, text: str) -> list[Comparison]:
    parsed = _COMPARISON.fullmatch(text)
    if not parsed:
        raise Refused(component.keyword, text, "is no comparison")
    operator = _OPERATORS[parsed.group(1)]
    return [Comparison(operator, number) for number in _numbers(component, parsed.group(2))]


def _numbers(component: Component, name: str) -> tuple[int, ...]:
    if name.isdecimal() and len(name) <= 10:
        return (int(name),)
    ports, protocols, icmp_types = _tables()
    table = (
        ports
        if component in _PORTS
        else {Component.PROTOCOL: protocols, Component.ICMP_TYPE: icmp_types}.get(component, {})
    )
    if name not in table:
        raise Refused(component.keyword, name, "is no name that ExaBGP uses")
    return table[name]


def _flag_test(component: Component, text: str) -> FlagTest:
    if unknown := _UNKNOWN_FLAGS.fullmatch(text):
        return FlagTest(int(unknown.group(3)), exact=bool(unknown.group(2)), negated=bool(unknown.group(1)))
    parsed = _FLAGS.fullmatch(text)
    names = FLAG_NAMES[component]
    words = [word for word in parsed.group(3).split("+") if word] if parsed else ["?"]
    if parsed is None or any(word not in names for word in words):
        raise Refused(component.keyword, text, f"is no test of {', '.join(names)}")
    mask = sum({names[word] for word in words})
    return FlagTest(mask, exact=bool(parsed.group(2)), negated=bool(parsed.group(1)))


Table = dict[str, tuple[int, ...]]


@cache
def _tables() -> tuple[Table, Table, Table]:
    """ExaBGP's own tables of ports, protocols and ICMP types, turned round."""
    from exabgp.protocol import Protocol  # type: ignore[import-untyped]
    from exabgp.protocol.ip.icmp import ICMPType  # type: ignore[import-untyped]
    from exabgp.protocol.ip.port import Port  # type: ignore[import-untyped]

    return _turned(Port.names), _turned(Protocol.names), _turned(ICMPType.names)


def _turned(names: Mapping[int, str]) -> Table:
    table: Table = {}
    for number, name in names.items():
        table[name] = (*table.get(name, ()), int(number))
    return table
