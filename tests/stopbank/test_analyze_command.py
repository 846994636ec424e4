"""`stopbank analyze` as a person or a script meets it."""

import json
import os
import random
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from blocks import Blocks
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A, B
from rawframes import ACK, SYN, ethernet, icmp, ip, pcap, tcp

from lab.packets import capture
from lab.scenarios import scenario
from sensors.findings import Report
from stopbank import report

_DRAW = random.Random(6)
FLOOD = [
    (100 + number / 10_000, ethernet(ip(f"9.{_DRAW.randrange(256)}.{_DRAW.randrange(256)}.1", B, tcp(9, 80, SYN))))
    for number in range(5_000)
]


def stopbank(*words: str, columns: str | None = None, data: bytes | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `stopbank analyze`."""
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    environment |= {"COLUMNS": columns} if columns else {}
    command = [sys.executable, "-c", "from stopbank.cli import main; main()", "analyze", *words]
    done = subprocess.run(command, env=environment, input=data, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("columns", ["80", "120", None])
def test_the_report_shows_each_attack_with_rules_on_lines_of_their_own(columns: str | None, tmp_path: Path) -> None:
    path = tmp_path / "flood.pcap"
    path.write_bytes(pcap(FLOOD)[:-7])
    code, out, error = stopbank(str(path), columns=columns)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{path}: 4,999 packets in 0.500 s: 1 attack"
    assert f"{B}  syn_flood" in lines
    assert any(line.startswith(f"  match {{ destination {B}/32;") and line.endswith("; }") for line in lines)
    assert "  1 record cut off by the end of the file" in [line.rstrip() for line in lines]
    told = [line for line in lines[1:] if "match {" not in line]
    assert max(map(len, told)) <= int(columns or 200)


@given(
    st.lists(st.tuples(st.ip_addresses(), st.integers(1, 10**7)), min_size=1, max_size=5, unique_by=lambda one: one[0]),
    st.integers(70, 130),
)
def test_what_is_counted_stands_on_the_line_of_its_count(sources: list[tuple[object, int]], width: int) -> None:
    when = "2026-11-22T12:00:00+00:00"
    counted = [{"address": str(address), "requests": count} for address, count in sources]
    incident = {
        "target": None, "vector": "http_flood", "peak_rps": 1.0, "peak_bps": 1.0, "requests": 9, "sources": 9,
        "spoofed": None, "first_seen": when, "last_seen": when, "rules": list[object](),
        "ioc": {"sources": counted, "hosts": {}, "statuses": {}},
    }  # fmt: skip
    document = {
        "access_logs": [], "formats": [], "requests": 9, "duration_s": 1.0, "incidents": [incident], "notes": [],
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(StringIO()) as out:
        patched.setenv("COLUMNS", str(width))
        report.print_log_report(document)
    lines = out.getvalue().splitlines()
    for address, count in sources:
        assert any(f"{address} ({count:,})" in line for line in lines)
    assert max(map(len, lines)) <= width


def test_quiet_traffic_is_said_to_be_quiet(tmp_path: Path) -> None:
    path = tmp_path / "quiet.pcap"
    path.write_bytes(pcap([(1.0 + number, ethernet(ip(A, B, icmp(8, 0)))) for number in range(5)]))
    code, out, _ = stopbank(str(path))
    assert (code, out) == (0, f"{path}: 5 packets in 4.000 s: no attack found\n")


def test_suspicions_are_told_and_counted_in_json_alike(tmp_path: Path) -> None:
    data, back = (ethernet(ip(A, B, tcp(443, 9, ACK, bytes(1_200)))), ethernet(ip(B, A, tcp(9, 443, ACK))))
    download = [(100 + number / 10_000, data if number % 3 else back) for number in range(2_000)]
    later = [(102.0 + number, ethernet(ip(A, B, icmp(8, 0)))) for number in range(3)]
    path = tmp_path / "download.pcap"
    path.write_bytes(pcap(download + later))
    count = json.loads(stopbank(str(path), "--json")[1])["counters"]["suspicions"]
    code, out, _ = stopbank(str(path), columns="80")
    assert (code, count > 1) == (0, True)
    assert out == (
        f"{path}: 2,003 packets in 4.000 s: no attack found\n\n"
        f"{count} suspicions: a limit was passed, and a closer look found no attack\n"
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.5, "0.500 s"), (599, "599.0 s"), (600, "10 min 0 s"), (86_399, "23 h 59 min"), (90_000_000, "1,041 d 16 h")],
)
def test_how_long_a_capture_is_reads_well_whatever_it_is(
    seconds: float, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report.print_report(Report("two.pcap", 2, seconds, (), {"suspicions": 0}, 0.1).to_json())
    assert capsys.readouterr().out == f"two.pcap: 2 packets in {told}: no attack found\n"


def test_json_comes_through_a_pipe_and_says_the_same(tmp_path: Path) -> None:
    code, out, error = stopbank("-", "--json", data=pcap(FLOOD))
    found = json.loads(out)
    assert (code, error, found["capture"]) == (0, "", "-")
    assert [(one["target"], one["vector"]) for one in found["incidents"]] == [(B, "syn_flood")]


def test_what_cannot_be_read_is_one_line_and_exit_2(tmp_path: Path) -> None:
    empty, text, foreign = tmp_path / "empty", tmp_path / "text", tmp_path / "usb.pcapng"
    empty.write_bytes(b"")
    text.write_bytes(b"GET / HTTP/1.1\r\n\r\n")
    make = Blocks()
    foreign.write_bytes(make.section() + make.interface(189) + make.enhanced(1, bytes(64)))
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory"), (empty, "is empty"),
                      (text, "is no capture file"), (foreign, "USB_LINUX (189)")):  # fmt: skip
        code, out, error = stopbank(str(path))
        assert (code, out, error.count("\n")) == (2, "", 1), path
        assert error.startswith("error: capture: ")
        assert why in error


def test_a_file_that_this_user_may_not_read_is_said_like_all_else(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(pcap(FLOOD[:5]))
    path.chmod(0)
    confined = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program = [*confined, sys.executable, "-c", "from stopbank.cli import main; main()", "analyze"]
    for words, field in (((), "capture"), (("--access-log",), "access_log")):
        done = subprocess.run([*program, *words, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: {field}: '{path}': can't be read: Permission denied\n"


def test_an_attack_without_a_rule_says_why(tmp_path: Path) -> None:
    path = tmp_path / "slow.pcap"
    capture(path, scenario("http_slow", 3).packets)
    code, out, _ = stopbank(str(path))
    assert code == 0
    assert "http_slow" in out
    assert "none: nothing that FlowSpec matches tells the attack from visitors" in out
    assert "match {" not in out


LOG = b"".join(
    b'192.0.2.%d - - [04/May/2026:12:00:%02d +0000] "GET / HTTP/1.1" 200 5 "-" "-"\n' % (number % 3, number // 2_000)
    for number in range(20_000)
)


def test_an_access_log_is_reported_like_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(LOG + b"not a line\n")
    code, out, error = stopbank("--access-log", str(path), "--zone", "203.0.113.7/32")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{path} (combined): 20,000 requests in 10.000 s: 1 attack"
    assert "203.0.113.7  http_flood" in lines
    assert sum(line.startswith("  match { destination 203.0.113.7/32; source 192.0.2.") for line in lines) == 3
    assert "1 of 20,001 lines not read as combined" in " ".join(out.split())
    assert stopbank("--access-log", str(path), "--pps", "5000")[1].splitlines()[0].endswith("no attack found")


def test_a_log_that_is_given_as_a_capture_is_known_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(LOG)
    said = f"error: capture: '{path}': is a web server's log: name it with --access-log\n"
    assert stopbank(str(path)) == (2, "", said)


def test_a_log_comes_through_a_pipe_and_needs_no_address(tmp_path: Path) -> None:
    code, out, error = stopbank("--access-log", "-", "--json", data=LOG)
    [incident] = json.loads(out)["incidents"]
    assert (code, error, incident["target"], incident["rules"]) == (0, "", None, [])
    code, out, _ = stopbank("--access-log", "-", data=LOG)
    assert "the server  http_flood" in out.splitlines()
    assert any("need the server's address" in line for line in out.splitlines())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "capture: "),
        (("a.pcap", "--access-log", "a.log"), "analyze them one by one"),
        (("--access-log", "a.log", "--zone", "203.0.113.0/24"), "the one address"),
        (("--access-log", "/nowhere/a.log"), "access_log: '/nowhere/a.log': can't be read"),
    ],
)
def test_words_that_make_no_sense_for_logs_are_refused(words: tuple[str, ...], told: str) -> None:
    code, out, error = stopbank(*words)
    assert (code, out) == (2, "")
    assert told in error
    assert len(error.splitlines()) == 1


def test_what_clients_wrote_is_no_command_for_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(LOG.replace(b"192.0.2.", b"e\x1bcvil\xe2\x80\xae.example:80 192.0.2.") + b"\x1b[2Jgarbage\n")
    code, out, _ = stopbank("--access-log", str(path))
    assert code == 0
    assert "e\\x1bcvil\\x202e.example (20,000)" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize("rate", ["0", "-5", "inf", "nan", "2e9"])
def test_a_rate_that_nothing_reaches_or_everything_is_refused_with_all_else(rate: str, tmp_path: Path) -> None:
    path = tmp_path / "flood.pcap"
    path.write_bytes(pcap(FLOOD))
    code, out, error = stopbank(str(path), "--pps", rate, "--zone", "nonsense")
    assert (code, out) == (2, "")
    assert "pps" in error and f"{float(rate):g}" in error and "from 1 to" in error and "nonsense" in error


def test_one_record_is_one_and_two_are_several(tmp_path: Path) -> None:
    path = tmp_path / "back.pcap"
    for count in (1, 2):
        late = [(FLOOD[0][0] - 3 - number, FLOOD[0][1]) for number in range(count)]
        path.write_bytes(pcap([*FLOOD, *late]))
        word = "record" if count == 1 else "records"
        assert f"  {count} {word} with a time before that of the one before" in stopbank(str(path))[1]
