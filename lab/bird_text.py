"""BIRD's text of FlowSpec routes, read back into values. Pure: text in, values out.

The text loses nothing of a rule's meaning; only two spellings of one meaning (a single fragment bit with and without
the match bit, negated) can't be told apart, so compare `Match.meaning()`.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Interface, IPv6Network, ip_network

from lab.session import HeldFlowSpec, Validity
from rules import action
from rules.components import Bitmask, Comparison, FlagTest, Numeric, Operator
from rules.errors import Refused
from rules.match import FRAGMENT_BITS, Component, Family, Match, OffsetPrefix, Prefix

_ROUTE = re.compile(r"^flow[46] \{(?P<match>[^}]*)\}(?P<rest>.*)$")
_COMMUNITY = re.compile(r"\(generic, 0x([0-9a-f]+), 0x([0-9a-f]+)\)")
_KEYWORDS = {
    "dst": Component.DESTINATION,
    "src": Component.SOURCE,
    "proto": Component.PROTOCOL,
    "next header": Component.PROTOCOL,
    "port": Component.PORT,
    "dport": Component.DESTINATION_PORT,
    "sport": Component.SOURCE_PORT,
    "icmp type": Component.ICMP_TYPE,
    "icmp code": Component.ICMP_CODE,
    "tcp flags": Component.TCP_FLAGS,
    "length": Component.PACKET_LENGTH,
    "dscp": Component.DSCP,
    "fragment": Component.FRAGMENT,
    "label": Component.FLOW_LABEL,
}
_OPERATORS = {
    "=": Operator.EQUAL,
    "!=": Operator.NOT_EQUAL,
    "<": Operator.LESS,
    "<=": Operator.AT_MOST,
    ">": Operator.GREATER,
    ">=": Operator.AT_LEAST,
}
_FRAGMENTS = {name.replace("-", "_"): bit for name, bit in FRAGMENT_BITS.items()}


def read_flowspec(printed: str, family: Family) -> Iterator[HeldFlowSpec]:
    """The routes of `show route table … all`; each ends where the next begins."""
    text, rest, details = "", "", ""
    for line in [*printed.splitlines(), ""]:
        found = _ROUTE.match(line)
        if text and (found or not line):
            yield _held(text, rest, details, family)
            text, details = "", ""
        if found:
            text, rest = found["match"].strip(), found["rest"]
        elif text:
            details += line + "\n"


def _held(text: str, rest: str, details: str, family: Family) -> HeldFlowSpec:
    communities = [bytes.fromhex(f"{int(high, 16):08x}{int(low, 16):08x}") for high, low in _COMMUNITY.findall(details)]
    try:
        decoded = action.decode(b"".join(communities))
    except Refused:
        decoded = None
    return HeldFlowSpec(
        family=family,
        text=text,
        # BIRD cuts a route's text off after some 230 characters and marks that.
        match=None if text.endswith("...") else read_match(text, family),
        action_text=" ".join(community.hex() for community in communities),
        action=decoded,
        validity=Validity.INVALID if "unreachable" in rest else Validity.ACCEPTED,
    )


def read_match(text: str, family: Family) -> Match:
    """The match inside `flow4 { … }`."""
    fields: dict[str, object] = {}
    for statement in filter(None, (part.strip() for part in text.split(";"))):
        keyword = max((word for word in _KEYWORDS if statement.startswith(word + " ")), key=len)
        component = _KEYWORDS[keyword]
        fields[component.attribute] = _value(component, statement[len(keyword) :].strip())
    return Match(family=family, **fields)  # type: ignore[arg-type]


def _value(component: Component, text: str) -> Prefix | Numeric | Bitmask:
    match component:
        case Component.DESTINATION | Component.SOURCE:
            return _prefix(text)
        case Component.TCP_FLAGS | Component.FRAGMENT:
            groups = tuple(tuple(map(_flag_test, group.split("&&"))) for group in re.split(r"\|\||,", text))
            return Bitmask(groups)
        case _:
            return Numeric(tuple(_numeric_group(group.strip()) for group in re.split(r"\|\||,", text)))


def _prefix(text: str) -> Prefix:
    prefix, _, offset = text.partition(" offset ")
    if offset:
        interface = IPv6Interface(prefix)
        return OffsetPrefix(IPv6Address(interface.ip), interface.network.prefixlen, int(offset))
    network = ip_network(prefix)
    assert isinstance(network, IPv6Network) or network.version == 4
    return network


def _numeric_group(text: str) -> tuple[Comparison, ...]:
    low, dots, high = text.partition("..")
    if dots:
        return Comparison(Operator.AT_LEAST, int(low)), Comparison(Operator.AT_MOST, int(high))
    return tuple(_comparison(test.strip()) for test in text.split("&&"))


def _comparison(text: str) -> Comparison:
    if text in ("true", "false"):
        return Comparison(Operator[text.upper()], 0)
    operator, _, value = text.rpartition(" ")
    return Comparison(_OPERATORS[operator or "="], int(value))


def _flag_test(text: str) -> FlagTest:
    """`V/M` asks for flags & M == V: V = M is the match bit, V = 0 its absence with the result inverted.

    Fragment names say the same: `name` all bits, `!!name` any bit, `!name` neither.
    """
    text = text.strip()
    name = text.lstrip("!")
    if name in _FRAGMENTS:
        marks = len(text) - len(name)
        return FlagTest(_FRAGMENTS[name], exact=marks == 0, negated=marks == 1)
    value, mask = (int(part, 0) for part in name.split("/"))
    inverted = text.startswith("!")
    if value == mask:
        return FlagTest(mask, exact=True, negated=inverted)
    return FlagTest(mask, exact=False, negated=not inverted)
