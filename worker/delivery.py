"""What every way out has in common: it takes a notice or says why not."""

from typing import Protocol

from worker.notice import Notice


class Undelivered(Exception):
    """A notice did not arrive."""

    def __init__(self, why: str, *, is_receiver_down: bool) -> None:
        super().__init__(why)
        self.is_receiver_down = is_receiver_down
        """No other notice would have fared better."""


class Delivery(Protocol):
    """A way out."""

    def deliver(self, notice: Notice) -> None:
        """Returns once the receiver has it; raises `Undelivered`."""

    def close(self) -> None:
        """Lets go of connections."""
