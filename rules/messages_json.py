"""Strict reading of JSON that comes from another process: every problem with the path of its field, nothing guessed.

It must never raise anything but `Refused`, whatever the bytes are, and never let through a value that the reader of a
field didn't name: unknown keys, duplicate keys, NaN, infinities and oversized lists are all refused.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NoReturn, TypeVar, cast

from rules.errors import Problem, Refused

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

PROBLEM_LIMIT = 20
"""A sender that gets everything wrong is told this much of it."""

_UNREAD: Any = object()
"""Stands for a value that was refused, until the whole message is."""
_SHOWABLE_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)
_SHOWN_LENGTH = 200


def loads(raw: bytes, limit: int) -> object:
    """The JSON value of at most `limit` bytes of UTF-8; everything else raises `Refused`."""
    if len(raw) > limit:
        raise Refused("message", f"{len(raw)} bytes", f"a message has at most {limit} bytes")
    try:
        text = raw.decode("utf-8")
        value: object = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_float=_finite
        )
        return value
    except Refused:
        raise
    except RecursionError:
        raise Refused("message", "", "is nested too deeply") from None
    except ValueError as error:
        raise Refused("message", raw[:_SHOWN_LENGTH].decode("utf-8", "replace"), f"is no JSON: {error}") from None


def dumps(value: object) -> bytes:
    """One line of ASCII JSON, without the line's end; NaN and infinities raise `Refused`."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise Refused("message", "", f"can't be written as JSON: {error}") from None


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refused("message", twice, "is given twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise Refused("message", name, "is no number of JSON")


def _finite(given: str) -> float:
    number = float(given)
    if math.isinf(number):
        raise Refused("message", given, "is too large a number")
    return number


def shown(value: object) -> str:
    """A value as a problem quotes it: short, and never by walking into it."""
    match value:
        case str():
            return value[:_SHOWN_LENGTH]
        case None | bool() | int() | float():
            return json.dumps(value)[:_SHOWN_LENGTH]
        case list():
            return f"a list of {len(value)}"
        case _:
            return "an object"


def read(value: object, path: str, build: "Callable[[Fields], T]") -> T:
    """What `build` makes of an object, or `Refused` with every problem it met (at most `PROBLEM_LIMIT`)."""
    problems: list[Problem] = []
    built = _object(value, path, problems, build)
    if problems:
        raise Refused.all(problems[:PROBLEM_LIMIT])
    return built


def _object(value: object, path: str, problems: list[Problem], build: "Callable[[Fields], T]") -> T:
    if not isinstance(value, dict):
        problems.append(Problem(path, shown(value), "must be an object"))
        return cast(T, _UNREAD)
    fields = Fields(value, path, problems)
    built = build(fields)
    fields.refuse_unknown()
    return built


class Fields:
    """The members of one JSON object; each reader returns the value, or records a problem and returns a stand-in that
    `build` keeps from being used."""

    def __init__(self, members: dict[str, object], path: str, problems: list[Problem]) -> None:
        self._members, self._path, self._problems = members, path, problems
        self._known: set[str] = set()
        self._problems_before = len(problems)

    def has(self, name: str) -> bool:
        """Whether the member is there; for those that may be absent."""
        self._known.add(name)
        return name in self._members

    def names(self) -> tuple[str, ...]:
        """The members' names, in the order given."""
        return tuple(self._members)

    def text(self, name: str, limit: int, pattern: re.Pattern[str] | None = None, must: str = "") -> str:
        """A string of at most `limit` characters that matches the pattern; `must` says what would."""
        value = self._member(name)
        if value is _UNREAD:
            return cast(str, value)
        if not isinstance(value, str):
            return cast(str, self.refuse(name, value, "must be a string"))
        if len(value) > limit:
            return cast(str, self.refuse(name, value, f"has at most {limit} characters"))
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return cast(str, self.refuse(name, ascii(value), "has half a surrogate pair"))
        if pattern is not None and not pattern.fullmatch(value):
            return cast(str, self.refuse(name, value, must))
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high."""
        value = self._member(name)
        if value is _UNREAD:
            return cast(int, value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            return cast(int, self.refuse(name, value, f"must be a whole number from {low} to {high}"))
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A number from low to high."""
        value = self._member(name)
        if value is _UNREAD:
            return cast(float, value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return cast(float, self.refuse(name, value, f"must be a number from {low:g} to {high:g}"))
        return float(value)

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._member(name)
        if value is _UNREAD or isinstance(value, bool):
            return cast(bool, value)
        return cast(bool, self.refuse(name, value, "must be true or false"))

    def moment(self, name: str) -> datetime:
        """A time in UTC, to the microsecond, as ISO 8601 writes it."""
        must = "must be a time in UTC such as 2026-01-31T12:00:00.250000+00:00"
        text = self.text(name, 40, _MOMENT, must)
        if text is _UNREAD:
            return cast(datetime, text)
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            return cast(datetime, self.refuse(name, text, must))

    def choice(self, name: str, kind: type[E]) -> E:
        """A member of an Enum, by its value."""
        value = self._member(name)
        if value is _UNREAD:
            return cast(E, value)
        if isinstance(value, str):
            for one in kind:
                if one.value == value:
                    return one
        return cast(E, self.refuse(name, value, f"must be one of {', '.join(str(one.value) for one in kind)}"))

    def parsed(self, name: str, parse: Callable[[str], T], limit: int) -> T:
        """What `parse` makes of a string; its problems are told at this field."""
        text = self.text(name, limit)
        if text is _UNREAD:
            return cast(T, text)
        return self._guarded(self.path(name), lambda: parse(text))

    def nullable(self, name: str, reader: Callable[..., T], *arguments: Any) -> T | None:
        """None for null, else what the reader (a bound method of these fields) says."""
        self._known.add(name)
        if name in self._members and self._members[name] is None:
            return None
        return reader(name, *arguments)

    def nested(self, name: str, build: "Callable[[Fields], T]") -> T:
        """A nested object."""
        value = self._member(name)
        if value is _UNREAD:
            return cast(T, value)
        return _object(value, self.path(name), self._problems, build)

    def items(self, name: str, limit: int, reader: "Callable[[Fields, str], T]") -> tuple[T, ...]:
        """A list of at most `limit`; each item is read as if it were a field of its own name, `name[3]`."""
        value = self._member(name)
        if value is _UNREAD:
            return cast(tuple[T, ...], value)
        if not isinstance(value, list) or len(value) > limit:
            return cast(tuple[T, ...], self.refuse(name, value, f"must be a list of at most {limit}"))
        members = {f"{name}[{index}]": item for index, item in enumerate(value)}
        inner = Fields(members, self._path, self._problems)
        return tuple(reader(inner, key) for key in members)

    def numbers(self, name: str, limit: int, low: float, high: float, key: re.Pattern[str]) -> dict[str, int | float]:
        """An object of at most `limit` numbers, whole ones kept whole."""
        value = self._member(name)
        if value is _UNREAD:
            return cast(dict[str, int | float], value)
        if not isinstance(value, dict) or len(value) > limit:
            reason = f"must be an object of at most {limit} numbers"
            return cast(dict[str, int | float], self.refuse(name, value, reason))
        for member, number in value.items():
            if not key.fullmatch(member):
                self.refuse(name, member, f"a name in here matches {key.pattern}")
            elif isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
                self.refuse(f"{name}.{member}", number, f"must be a number from {low:g} to {high:g}")
        return value

    def anything(self) -> dict[str, object]:
        """All members that no reader has asked for; for answers, whose body is free."""
        rest = {name: value for name, value in self._members.items() if name not in self._known}
        self._known |= set(rest)
        return rest

    def build(self, make: Callable[..., T], **values: object) -> T:
        """What `make` says to the values, unless something is wrong with these fields already."""
        if len(self._problems) > self._problems_before:
            return cast(T, _UNREAD)
        return self._guarded(self._path, lambda: make(**values))

    def refuse(self, name: str, value: object, reason: str) -> object:
        """Record a problem; gives the stand-in."""
        self._problems.append(Problem(self.path(name), shown(value), reason))
        return _UNREAD

    def refuse_unknown(self) -> None:
        """Record a problem for each member that no reader has asked for."""
        for name, value in self._members.items():
            if name in self._known:
                continue
            if len(self._problems) >= PROBLEM_LIMIT:
                return
            known = f"is unknown here; known: {', '.join(sorted(self._known))}"
            if _SHOWABLE_KEY.fullmatch(name):
                self.refuse(name, value, known)
            else:
                self._problems.append(Problem(self._path, ascii(name)[:_SHOWN_LENGTH], known))

    def path(self, name: str) -> str:
        """The field as problems name it: `detection.vectors[1].share_packets`."""
        return f"{self._path}.{name}"

    def _member(self, name: str) -> object:
        self._known.add(name)
        if name not in self._members:
            return self.refuse(name, "", "is missing")
        return self._members[name]

    def _guarded(self, path: str, make: Callable[[], T]) -> T:
        try:
            return make()
        except Refused as error:
            self._problems += [
                Problem(_inside(path, problem.field), problem.value, problem.reason) for problem in error.problems
            ]
            return cast(T, _UNREAD)


def _inside(path: str, field: str) -> str:
    """`a.rate` and `packets` give `a.rate.packets`; a field that repeats the path's last word adds nothing."""
    last = re.sub(r"\[\d+\]$", "", path).rpartition(".")[2]
    return path if field in (last, "message") else f"{path}.{field}"
