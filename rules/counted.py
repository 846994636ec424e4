"""A count and its noun, as people write them: `1 rule`, `2 rules`, `1,024 entries`."""


def noun(count: float, one: str, many: str = "") -> str:
    """The word for one or for several; `many` is `one` with an s where it isn't given.

    A verb can go with it: `noun(count, "rule stands", "rules stand")`.
    """
    return one if count == 1 else many or one + "s"


def counted(count: float, one: str, many: str = "") -> str:
    """The count with its noun."""
    return f"{count:,.0f} {noun(count, one, many)}"
