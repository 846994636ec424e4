"""A count agrees with its noun."""

import pytest

from rules.counted import counted


@pytest.mark.parametrize(
    ("count", "one", "many", "said"),
    [
        (0, "rule", "", "0 rules"),
        (1, "rule", "", "1 rule"),
        (1.0, "rule", "", "1 rule"),
        (2, "rule", "", "2 rules"),
        (1024, "entry", "entries", "1,024 entries"),
        (1, "rule stands", "rules stand", "1 rule stands"),
    ],
)
def test_one_thing_is_one_and_all_other_numbers_are_many(count: float, one: str, many: str, said: str) -> None:
    assert counted(count, one, many) == said
