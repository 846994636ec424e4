"""The intake's end of the speaker's local socket: one request a line, one answer a line, in order.

It never waits longer than its timeout and never guesses: no answer means `SpeakerAway`, and the sensor keeps the
message.
"""

import asyncio
from pathlib import Path

from rules.errors import Refused
from rules.messages import LINE_LIMIT, Answer, SpeakerRequest, parse_answer, render_request


class SpeakerAway(ConnectionError):
    """The speaker gave no answer; whether it took the request is unknown."""


class SpeakerLink:
    """One connection, made when needed and shared by all sensors."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        self._path, self._timeout = path, timeout_seconds
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: SpeakerRequest) -> Answer:
        """The speaker's answer, or `SpeakerAway`."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._exchange(render_request(request))
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self._drop()
                raise SpeakerAway(f"{self._path}: {error or type(error).__name__}") from error
            except asyncio.CancelledError:
                # The answer may still come; it must not be taken for that of the next request.
                self._drop()
                raise

    def close(self) -> None:
        """Close the connection."""
        self._drop()

    async def _exchange(self, line: bytes) -> Answer:
        if self._streams is None or self._streams[0].at_eof():
            self._drop()
            self._streams = await asyncio.open_unix_connection(self._path, limit=LINE_LIMIT + 1)
        reader, writer = self._streams
        writer.write(line)
        await writer.drain()
        answer = await reader.readuntil(b"\n")
        try:
            return parse_answer(answer)
        except Refused as error:
            raise ConnectionError(f"an answer that is none: {error}") from None

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
