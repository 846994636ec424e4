import contextlib
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.messages import Accepted, Declined, SpeakerRequest, Wake, parse_answer, render_request
from speaker.killswitch import SOCKET, ask
from speaker.socket import Answering, Server


@contextlib.contextmanager
def serving(state: Path, answer: Accepted | Declined | None = None) -> Iterator[list[str]]:
    """A server whose loop answers at once; gives what it reports."""
    reports: list[str] = []

    def take(request: SpeakerRequest, reply: Answering) -> None:
        reply(answer or Accepted({"asked": type(request).__name__}))

    server = Server(state / SOCKET, take, reports.append)
    server.start()
    try:
        yield reports
    finally:
        server.stop()


def patiently(state: Path, request: bytes) -> object:
    """An answer, once somebody listens."""
    for _ in range(200):
        if (answer := ask(state, request, 5)) is not None:
            return answer
        threading.Event().wait(0.05)
    return None


def test_a_request_is_answered_and_a_bad_one_declined_with_its_problems(tmp_path: Path) -> None:
    with serving(tmp_path):
        assert patiently(tmp_path, render_request(Wake())) == Accepted({"asked": "Wake"})
        answer = ask(tmp_path, b'{"kind": "nonsense"}\n', 5)
        assert isinstance(answer, Declined) and not answer.retry
        assert isinstance(ask(tmp_path, b"\xff\xfe\n", 5), Declined)


def test_several_requests_share_a_connection_and_cut_lines_are_put_together(tmp_path: Path) -> None:
    with serving(tmp_path):
        assert patiently(tmp_path, render_request(Wake()))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(tmp_path / SOCKET))
            two = render_request(Wake()) * 2
            connection.sendall(two[:5])
            connection.sendall(two[5:])
            received = b""
            while received.count(b"\n") < 2:
                received += connection.recv(1000)
        assert all(isinstance(parse_answer(line), Accepted) for line in received.splitlines())


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    with serving(tmp_path):
        assert patiently(tmp_path, render_request(Wake()))
        assert isinstance(ask(tmp_path, b"x" * ((1 << 20) + 70_000) + b"y", 20), Declined)


def test_a_socket_left_behind_by_a_crash_is_taken_over_and_a_living_one_is_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    with serving(tmp_path) as first:
        assert patiently(tmp_path, render_request(Wake()))
        with serving(tmp_path, Declined(())) as second:
            for _ in range(200):
                if second:
                    break
                threading.Event().wait(0.05)
            assert "another speaker" in second[0]
            assert isinstance(ask(tmp_path, render_request(Wake()), 5), Accepted)
        assert first == []


@pytest.mark.parametrize("mode", [0o660])
def test_nobody_else_may_even_open_it(tmp_path: Path, mode: int) -> None:
    with serving(tmp_path):
        assert patiently(tmp_path, render_request(Wake()))
        assert (tmp_path / SOCKET).stat().st_mode & 0o777 == mode


CLIENT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(sys.argv[2].encode())
    print(connection.recv(65536).decode())
"""


@pytest.mark.parametrize(
    ("group", "further", "is_admitted"), [(4321, [], True), (65534, [4321], True), (65534, [4322], False)]
)
def test_members_of_the_state_directorys_group_get_in_and_others_do_not(
    group: int, further: list[int], is_admitted: bool
) -> None:
    if os.geteuid():
        pytest.skip("needs root to be somebody else")
    with tempfile.TemporaryDirectory(prefix="stopbank-socket-") as name:
        state = Path(name)
        os.chown(state, 0, 4321)
        state.chmod(0o2770)
        with serving(state):
            assert patiently(state, render_request(Wake()))
            # The file's mode alone would keep strangers out: open it, so that the answer is the server's.
            state.chmod(0o2775)
            (state / SOCKET).chmod(0o666)
            client = [str(Path("/proc/self/exe").resolve()), "-I", "-c", CLIENT, str(state / SOCKET)]
            done = subprocess.run(
                [*client, render_request(Wake()).decode()],
                user=65534,
                group=group,
                extra_groups=further,
                capture_output=True,
                timeout=60,
                check=True,
            )
    assert isinstance(parse_answer(done.stdout.strip()), Accepted if is_admitted else Declined)
