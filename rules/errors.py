"""The one error for bad input: it names every field that is wrong, quotes its value and says what would be right."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input."""

    field: str
    """Which field, as the user wrote or would write it: `source-port`, `neighbours[1].peer_as`."""
    value: str
    """The offending value, as given."""
    reason: str
    """What is wrong and what would be right."""

    def __str__(self) -> str:
        return f"{self.field}: {_quoted(self.value)}: {self.reason}"


class Refused(ValueError):
    """Bad input, with all of its problems; the message has one line for each."""

    problems: tuple[Problem, ...]

    def __init__(self, field: str, value: object, reason: str) -> None:
        self._set((Problem(field, str(value), reason),))

    @classmethod
    def all(cls, problems: Iterable[Problem]) -> "Refused":
        """Several problems as one error; at least one is required."""
        error = cls.__new__(cls)
        error._set(tuple(problems))
        return error

    def _set(self, problems: tuple[Problem, ...]) -> None:
        if not problems:
            raise AssertionError("a refusal needs a problem")
        self.problems = problems
        ValueError.__init__(self, "\n".join(map(str, problems)))


def _quoted(value: str, limit: int = 100) -> str:
    """The value in quotes, control characters escaped; a long one loses its middle, since a path tells by its end."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit // 2]}...{text[-limit // 2 :]}"
