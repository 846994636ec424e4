"""Routers asked over their own control sockets, in this process: an answer costs a fraction of a millisecond, where
`birdc` and `vtysh` cost a fork and 10 to 40 ms.

Asks only; must never change what a router holds.
"""

import json
import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

_BIRD_END = re.compile(rb"(?:^|\n)(?:0000|[89]\d{3}) [^\n]*\n$")
"""The last line of an answer: done, or an error's code."""
_BIRD_CODE = re.compile(r"^(?:\d{4}[ -]| )", re.MULTILINE)
_BIRD_COUNT = re.compile(r"^(\d+) of ", re.MULTILINE)
_FRR_END = b"\0\0\0"
"""Three zeros and a status byte end an answer of a vty socket."""


class Control:
    """A connection to a Unix socket; a context manager."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        block = self._socket.recv(1 << 18)
        if not block:
            raise ConnectionError("the router closed its control socket")
        return block


class BirdControl(Control):
    """BIRD's control socket, as `birdc` speaks it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        while not self._receive().endswith(b"\n"):  # the greeting is one line
            continue

    def ask(self, command: str) -> str:
        """The answer, without its codes."""
        self._socket.sendall(command.encode() + b"\n")
        answer = b""
        while not _BIRD_END.search(answer[-200:]):
            answer += self._receive()
        return _BIRD_CODE.sub("", answer.decode())

    def count(self, table: str) -> int:
        """How many routes a table holds."""
        answer = self.ask(f"show route table {table} count")
        found = _BIRD_COUNT.search(answer)
        if found is None:
            raise ConnectionError(f"BIRD does not count {table}: {answer!r}")
        return int(found[1])


class FrrControl(Control):
    """bgpd's vty socket, as `vtysh` speaks it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ask("enable")

    def ask(self, command: str) -> str:
        """The answer."""
        self._socket.sendall(command.encode() + b"\0")
        answer = b""
        while answer[-4:-1] != _FRR_END:
            answer += self._receive()
        return answer[:-4].decode(errors="replace")

    def count(self) -> int:
        """How many IPv4 FlowSpec routes came from all its peers."""
        summary = json.loads(self.ask("show bgp ipv4 flowspec summary json") or "{}")
        return sum(int(peer["pfxRcd"]) for peer in summary.get("peers", {}).values())
