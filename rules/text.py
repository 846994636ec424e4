"""Canonical text, ExaBGP 5's block form, both ways. Reading collects every problem; writing never fails.

The same text is what people see, what is stored and, for FlowSpec, what `speaker.commands` sends: always written from
typed values.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import AddressValueError, IPv6Address
from typing import Any

from rules.action import Action, Discard, RateLimit
from rules.components import SYMBOLS, Bitmask, Comparison, FlagTest, Numeric, Operator
from rules.errors import Problem, Refused
from rules.match import (
    BITMASKS,
    FLAG_NAMES,
    MASK_LIMIT,
    MAXIMUM,
    PREFIXES,
    Component,
    Family,
    Match,
    Network,
    OffsetPrefix,
    Prefix,
    parse_prefix,
)
from rules.rule import Blackhole, FlowSpec, Scope

PROTOCOL_NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 132: "sctp"}
"""Names that ExaBGP 5 knows too; everything else is written as a number."""

_PROTOCOL_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()} | {"icmpv6": 58, "ipv6-icmp": 58}
_ICMP_TYPES = {
    Family.IPV4: {"echo-reply": 0, "unreachable": 3, "redirect": 5, "echo-request": 8, "time-exceeded": 11},
    Family.IPV6: {
        "unreachable": 1, "packet-too-big": 2, "time-exceeded": 3,
        "echo-request": 128, "echo-reply": 129, "redirect": 137,
    },
}  # fmt: skip
"""Read only: the same name is another number in the other family (RFC 792, RFC 4443)."""
_KEYWORDS = {component.keyword: component for component in Component} | {
    "next-header": Component.PROTOCOL,
    "traffic-class": Component.DSCP,
}
_FLAG_ALIASES = {"urgent": "urg", "psh": "push"}
_SYMBOL_OPERATORS = {symbol: operator for operator, symbol in SYMBOLS.items()}
_COMPARISON = re.compile(r"(>=|<=|!=|=|>|<)?([^<>=!&]+)")
_SIGNS = "<>=!&"
_TOKEN = re.compile(r"[{};\[\]]|[^\s{};\[\]]+")
_SPACES = str.maketrans("\t\r\n", "   ")
_LENGTH_LIMIT = 65536
_VALUES_LIMIT = 2047
"""In a component: at two bytes each, an NLRI has no room for more (RFC 8955 §4.1)."""


# ---------------------------------------------------------------------------------------------------------- writing


def render_match(match: Match) -> str:
    """`match { destination …; protocol =udp; … }`, components in NLRI order."""
    parts = (f"{_keyword(component, match)} {_value(component, value)};" for component, value in match.components())
    return f"match {{ {' '.join(parts)} }}"


def _keyword(component: Component, match: Match) -> str:
    if component is Component.PROTOCOL and match.family is Family.IPV6:
        return "next-header"
    return component.keyword


def _value(component: Component, value: Prefix | Numeric | Bitmask) -> str:
    match value:
        case Numeric():
            return _list("&".join(_comparison(component, one) for one in group) for group in value.groups)
        case Bitmask():
            return _list("&".join(_flag_test(component, one) for one in group) for group in value.groups)
        case _:
            return str(value)


def _list(groups: Iterator[str]) -> str:
    items = list(groups)
    return items[0] if len(items) == 1 else f"[ {' '.join(items)} ]"


def _comparison(component: Component, comparison: Comparison) -> str:
    if comparison.operator in (Operator.TRUE, Operator.FALSE):
        return comparison.operator.name.lower()
    number = str(comparison.value)
    if component is Component.PROTOCOL:
        number = PROTOCOL_NAMES.get(comparison.value, number)
    return SYMBOLS[comparison.operator] + number


def _flag_test(component: Component, test: FlagTest) -> str:
    prefix = ("!" if test.negated else "") + ("=" if test.exact else "")
    names = [name for name, bit in FLAG_NAMES[component].items() if test.mask & bit]
    known = sum(FLAG_NAMES[component][name] for name in names)
    return prefix + ("+".join(names) if names and known == test.mask else hex(test.mask))


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(slots=True)
class _Block:
    """`name { statement; statement; }`, split but not understood."""

    name: str
    statements: list[list[str]]


def parse_match(given: str, family: Family | None = None) -> Match:
    """The match of `match { … }`; see `Match.parse`."""
    blocks = _blocks(given, ("match",))
    problems: list[Problem] = []
    match = _match(blocks["match"], family, problems)
    if problems or match is None:
        raise Refused.all(problems)
    return match


def parse_flowspec(given: str) -> FlowSpec:
    """The rule of `match { … } then { … }`, in its normal form."""
    match, action = _parse_both(given)
    return FlowSpec(match, action)


def parse_parts(given: str) -> tuple[Match, Action | None]:
    """Match and action as they were written; the `then` half may be absent."""
    return _parse_both(given) if re.search(r"}\s*then\b", given) else (parse_match(given), None)


def _parse_both(given: str) -> tuple[Match, Action]:
    blocks = _blocks(given, ("match", "then"))
    problems: list[Problem] = []
    match = _match(blocks["match"], None, problems)
    action = _action(blocks["then"], problems)
    if problems or match is None or action is None:
        raise Refused.all(problems)
    return match, action


def parse_blackhole(given: str) -> Blackhole:
    """The rule of `blackhole { prefix …; scope local|upstream; }`; the scope is local unless given."""
    statements = _blocks(given, ("blackhole",))["blackhole"].statements
    problems: list[Problem] = []
    prefix: Network | None = None
    scope = Scope.LOCAL
    for keyword, *values in _once(statements, ("prefix", "scope"), problems):
        if len(values) != 1:
            problems.append(Problem(keyword, " ".join(values), "takes exactly one value"))
        elif keyword == "prefix":
            prefix = _collect(problems, parse_prefix, "prefix", values[0])
        elif values[0] in [one.value for one in Scope]:
            scope = Scope(values[0])
        else:
            problems.append(Problem("scope", values[0], "must be local or upstream"))
    if prefix is None and not any(problem.field == "prefix" for problem in problems):
        problems.append(Problem("prefix", "", "is missing: a blackhole needs one, such as 192.0.2.7/32"))
    if problems or prefix is None:
        raise Refused.all(problems)
    return Blackhole(prefix, scope)


def _blocks(given: str, names: tuple[str, ...]) -> dict[str, _Block]:
    expected = " ".join(f"{name} {{ …; }}" for name in names)
    if len(given) > _LENGTH_LIMIT:
        raise Refused("rule", given[:40], f"is {len(given)} characters long; the limit is {_LENGTH_LIMIT}")
    if not (given.isascii() and given.translate(_SPACES).isprintable()):
        raise Refused("rule", given, "has characters other than printable ASCII")
    tokens = iter(_TOKEN.findall(given))
    found: dict[str, _Block] = {}
    for name in tokens:
        if name not in names or name in found or next(tokens, None) != "{":
            raise Refused("rule", given, f"is not of the form {expected} (stopped at {name!r})")
        found[name] = _Block(name, _statements(tokens, given, expected))
    if tuple(found) != names:
        raise Refused("rule", given, f"is not of the form {expected}")
    return found


def _statements(tokens: Iterator[str], given: str, expected: str) -> list[list[str]]:
    statements: list[list[str]] = []
    current: list[str] = []
    for token in tokens:
        if token == ";":
            if current:
                statements.append(current)
            current = []
        elif token == "}":
            if current:
                raise Refused("rule", " ".join(current), "a semicolon is missing behind this")
            return statements
        elif token == "{":
            break
        else:
            current.append(token)
    raise Refused("rule", given, f"is not of the form {expected}: braces don't pair")


def _once(statements: list[list[str]], keywords: tuple[str, ...], problems: list[Problem]) -> Iterator[list[str]]:
    """The statements that have a known keyword and are the first with it; the rest become problems."""
    seen: set[str] = set()
    for statement in statements:
        keyword = statement[0]
        if keyword not in keywords:
            problems.append(Problem(keyword, " ".join(statement), f"is unknown here; known: {', '.join(keywords)}"))
        elif keyword in seen:
            problems.append(Problem(keyword, " ".join(statement), "is given twice; each may stand once"))
        else:
            seen.add(keyword)
            yield statement


def _collect(problems: list[Problem], function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's value, or None with its problems added to the list."""
    try:
        return function(*arguments)
    except Refused as error:
        problems.extend(error.problems)
        return None


def _match(block: _Block, family: Family | None, problems: list[Problem]) -> Match | None:
    fields: dict[str, Any] = {}
    before, spoken = len(problems), family or _spoken(block.statements)
    for keyword, *values in _once(block.statements, tuple(_KEYWORDS), problems):
        component = _KEYWORDS[keyword]
        if component.attribute in fields:
            problems.append(Problem(keyword, " ".join(values), f"says the same as {component.keyword}, given before"))
            continue
        fields[component.attribute] = _collect(problems, _parse_component, component, keyword, tuple(values), spoken)
        if keyword == "next-header" and family is None:
            family = _family_hint(fields)
    if len(problems) > before:
        return None
    match: Match | None = _collect(problems, lambda: Match(**fields, family=family))
    return match


def _spoken(statements: list[list[str]]) -> Family:
    """The family a match speaks of, before its parts are understood: by its prefixes, else by words only IPv6 has."""
    prefixes = [values[0] for keyword, *values in statements if keyword in ("destination", "source") and values]
    is_ipv6 = ":" in prefixes[0] if prefixes else any(words[0] in ("next-header", "flow-label") for words in statements)
    return Family.IPV6 if is_ipv6 else Family.IPV4


def _family_hint(fields: dict[str, Any]) -> Family | None:
    """`next-header` means IPv6 unless a prefix says otherwise (which `Match` then reports)."""
    return None if any(fields.get(component.attribute) for component in PREFIXES) else Family.IPV6


@lru_cache(maxsize=1024)
def _parse_component(
    component: Component, keyword: str, values: tuple[str, ...], family: Family
) -> Prefix | Numeric | Bitmask:
    """Kept: thousands of rules name the same few protocols and ports."""
    items = _items(keyword, values)
    if component in PREFIXES:
        if len(items) != 1:
            raise Refused(keyword, " ".join(items), "takes exactly one prefix")
        return _parse_component_prefix(keyword, items[0])
    if (count := sum(item.count("&") + 1 for item in items)) > _VALUES_LIMIT:
        raise Refused(keyword, " ".join(items), f"has {count} values; a rule has room for {_VALUES_LIMIT} at most")
    problems: list[Problem] = []
    parse: Callable[..., Any] = _parse_flag_test if component in BITMASKS else partial(_parse_comparison, family)
    groups = [
        tuple(test for part in item.split("&") for test in _collect(problems, parse, component, keyword, part) or ())
        for item in items
    ]
    if problems:
        raise Refused.all(problems)
    return Bitmask(tuple(groups)) if component in BITMASKS else Numeric(tuple(groups))


def _items(keyword: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise Refused(keyword, "", "needs a value")
    is_list = values[0] == "[" and values[-1] == "]"
    items, given = values[1:-1] if is_list else values, " ".join(values)
    if not items:
        raise Refused(keyword, given, "an empty list matches nothing; give at least one value")
    if is_list and ("[" in items or "]" in items):
        raise Refused(keyword, given, "lists don't nest")
    if any("," in item for item in items):
        raise Refused(keyword, given, "write several values in brackets, without commas: [ =53 =123 ]")
    if any(item[-1] in _SIGNS or item[0] == "&" for item in items):
        raise Refused(keyword, given, "write operators close to their values: =53, >=1000&<=2000")
    if not is_list and (len(items) > 1 or items[0] in ("[", "]")):
        raise Refused(keyword, given, "write several values in brackets: [ =53 =123 ]")
    return items


def _parse_component_prefix(keyword: str, given: str) -> Prefix:
    if written := re.fullmatch(r"([^/]+)/(\d{1,3})-(\d{1,3})", given):
        # As the RFC writes it (RFC 8956 §3.1); ExaBGP has the length first.
        given = "{0}/{2}/{1}".format(*written.groups())
    if given.count("/") != 2:
        return parse_prefix(keyword, given)
    address, length, offset = given.split("/")
    if not (length.isdecimal() and offset.isdecimal() and len(length + offset) <= 6):
        raise Refused(keyword, given, "is not of the form address/length/offset, such as ::1/128/64")
    if int(offset) == 0:
        return parse_prefix(keyword, f"{address}/{length}")
    try:
        pattern = IPv6Address(address)
    except AddressValueError:
        raise Refused(keyword, given, "an offset goes with an IPv6 address, as in ::1/128/64") from None
    prefix = OffsetPrefix(pattern, int(length), int(offset))
    if prefix.pattern != pattern:
        raise Refused(keyword, given, f"has bits outside offset and length; write {prefix}")
    return prefix


def _parse_comparison(family: Family, component: Component, keyword: str, given: str) -> tuple[Comparison, ...]:
    if given in ("true", "false"):
        return (Comparison(Operator[given.upper()], 0),)
    low, dash, high = given.partition("-")
    if dash and low.isdecimal() and high.isdecimal():
        numbers = tuple(_number(component, keyword, one, {}) for one in (low, high))
        if numbers[0] > numbers[1]:
            raise Refused(keyword, given, "the range runs backwards")
        return (Comparison(Operator.AT_LEAST, numbers[0]), Comparison(Operator.AT_MOST, numbers[1]))
    parsed = _COMPARISON.fullmatch(given)
    if not parsed:
        raise Refused(keyword, given, "is no comparison, such as =53, >=1024, 1000-2000 or >=1000&<=2000")
    operator = _SYMBOL_OPERATORS[parsed.group(1) or "="]
    names = {Component.PROTOCOL: _PROTOCOL_NUMBERS, Component.ICMP_TYPE: _ICMP_TYPES[family]}.get(component, {})
    return (Comparison(operator, _number(component, keyword, parsed.group(2), names)),)


def _number(component: Component, keyword: str, given: str, names: dict[str, int]) -> int:
    if given in names:
        return names[given]
    limit = MAXIMUM[component]
    if not (given.isdecimal() and len(given) <= 10 and int(given) <= limit):
        known = f" or one of {', '.join(names)}" if names else ""
        raise Refused(keyword, given, f"must be a number from 0 to {limit}{known}")
    return int(given)


def _parse_flag_test(component: Component, keyword: str, given: str) -> tuple[FlagTest, ...]:
    rest = given
    negated, rest = (True, rest[1:]) if rest.startswith("!") else (False, rest)
    exact, rest = (True, rest[1:]) if rest.startswith("=") else (False, rest)
    names, mask = FLAG_NAMES[component], 0
    for word in rest.split("+"):
        name = _FLAG_ALIASES.get(word, word)
        if name in names:
            mask |= names[name]
        elif re.fullmatch(r"0x[0-9a-f]{1,3}", word) and int(word, 16) <= MASK_LIMIT[component]:
            mask |= int(word, 16)
        else:
            raise Refused(keyword, given, f"unknown flag {word!r}; known: {', '.join(names)}, joined by +")
    return (FlagTest(mask, exact, negated),)


def _action(block: _Block, problems: list[Problem]) -> Action | None:
    before = len(problems)
    actions: list[Action] = []
    for keyword, *values in _once(block.statements, ("discard", "rate-limit"), problems):
        if keyword == "discard" and not values:
            actions.append(Discard())
        elif keyword == "discard":
            problems.append(Problem(keyword, " ".join(values), "takes no value"))
        elif len(values) == 1 and values[0].isdecimal() and len(values[0]) <= 20:
            actions.append(_collect(problems, _rate, int(values[0])))
        else:
            problems.append(Problem(keyword, " ".join(values), "takes one whole number of bytes per second"))
    if len(problems) > before:
        return None
    if len(actions) != 1:
        given = " ".join(" ".join(statement) for statement in block.statements)
        problems.append(Problem("then", given, "needs exactly one action: discard, or rate-limit BYTES_PER_SECOND"))
        return None
    return actions[0]


def _rate(bytes_per_second: int) -> Action:
    """`rate-limit 0` is how routers and ExaBGP spell discard."""
    return RateLimit(bytes_per_second) if bytes_per_second else Discard()
