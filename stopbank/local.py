"""Requests to the speaker of this machine over its Unix socket. Never waits longer than it says."""

from pathlib import Path

from rules.messages import Accepted, Answer, StatusQuery, Wake, render_request
from speaker import killswitch

ANSWER_SECONDS, WAKE_SECONDS = 3.0, 1.0


def wake(state: Path) -> bool:
    """Tells the speaker that something changed; False when it isn't there, and will see for itself once it is."""
    return killswitch.ask(state, render_request(Wake()), WAKE_SECONDS) is not None


def status(state: Path) -> dict[str, object] | None:
    """What the speaker says of itself; None when it does not answer."""
    answer: Answer | None = killswitch.ask(state, render_request(StatusQuery()), ANSWER_SECONDS)
    return dict(answer.body) if isinstance(answer, Accepted) else None
