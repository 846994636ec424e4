"""Which of the troubles that come again every few seconds are worth a line in the log: each at once when it is new,
then in growing pauses. Reads no clock."""

FIRST_SECONDS, LONGEST_SECONDS = 60.0, 600.0
MOST = 16
"""Troubles known at a time; with more of them, the one told longest ago is forgotten."""


class Repeated:
    """Since the last time that all was well."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}
        """When each was told last, and the pause after that."""

    def is_news(self, what: str, now: float) -> bool:
        """Whether to tell of it; `now` in seconds that never run backwards."""
        told, pause = self._told.get(what, (0.0, 0.0))
        if what in self._told and now - told < pause:
            return False
        self._told.pop(what, None)
        if len(self._told) >= MOST:
            del self._told[next(iter(self._told))]
        self._told[what] = (now, min(max(FIRST_SECONDS, 2 * pause), LONGEST_SECONDS))
        return True

    def is_over(self) -> None:
        """All is well: whatever comes now is new."""
        self._told.clear()
