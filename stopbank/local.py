"""One request to the speaker of this machine over its Unix socket, one answer. Never waits longer than it says."""

import socket
from pathlib import Path

from rules.errors import Refused
from rules.messages import LINE_LIMIT, Answer, SpeakerRequest, Wake, parse_answer, render_request

ANSWER_SECONDS = 5.0


class SpeakerAway(Exception):
    """Nobody answers at the socket."""


def ask(state: Path, request: SpeakerRequest, seconds: float = ANSWER_SECONDS) -> Answer:
    """The speaker's answer; raises `SpeakerAway`, with the reason, when there is none."""
    path = state / "speaker.sock"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            connection.sendall(render_request(request).rstrip(b"\n") + b"\n")
            line = _line(connection)
    except OSError as error:
        raise SpeakerAway(f"the speaker does not answer at {path}: {error.strerror or error}") from None
    try:
        return parse_answer(line)
    except Refused as error:
        raise SpeakerAway(f"the speaker's answer makes no sense: {error}") from None


def wake(state: Path) -> bool:
    """Tells the speaker that something changed; False when it isn't there, and will see for itself once it is."""
    try:
        ask(state, Wake(), seconds=1.0)
    except SpeakerAway:
        return False
    return True


def _line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionResetError(0, "closed the connection without an answer")
        received += piece
        if len(received) > LINE_LIMIT + 1:
            raise ConnectionResetError(0, "the answer is too long")
    return bytes(received)
