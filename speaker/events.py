"""What reaches the loop, through one queue: from the reader, the socket, the journal, the database, the alarm clock."""

import queue
from dataclasses import dataclass

from rules.messages import SpeakerRequest
from speaker.exchange import ToLoop
from speaker.replies import Reply
from speaker.settings import Settings
from speaker.socket import Answering


@dataclass(frozen=True, slots=True)
class Said:
    """ExaBGP said something; None: it closed the pipe."""

    reply: Reply | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A local process asks."""

    request: SpeakerRequest
    answer: Answering


@dataclass(frozen=True, slots=True)
class Synced:
    """The journal is on disk up to this ticket."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The journal can't be written."""

    why: str


@dataclass(frozen=True, slots=True)
class Configured:
    """The settings, or why there are none."""

    settings: Settings | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Woken:
    """Something may be due."""


Event = Said | Asked | Synced | Failed | Configured | Woken | ToLoop
Inbox = queue.SimpleQueue[Event]
