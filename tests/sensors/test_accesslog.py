"""Access logs: lines of real servers, files that rotate under the reader, floods told and ended."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import Refused
from rules.messages_values import detection_from_json, detection_to_json
from rules.traffic import Detection, State
from sensors.accesslog import AccessLog, LogWatch
from sensors.accesslog_follow import LINGERS_NS, LONGEST_LINE, Follower
from sensors.accesslog_lines import Format, parse

SECOND = 1_000_000_000
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
COMBINED = (
    b'198.51.100.%d - - [04/May/2026:12:00:00 +0000] "GET /a?q=%%22 HTTP/2.0" 200 512 "-" "curl/8 \\"quoted\\" 404 1"'
)
HAPROXY = (
    b"May  4 12:00:00 edge haproxy[14389]: 10.0.1.2:33317 [04/May/2026:12:00:00.655] http-in static/srv1 "
    b'10/0/30/69/109 503 2750 - - ---- 1/1/1/1/0 0/0 {Shop.example|curl} {} "GET /index.html HTTP/1.1"'
)
CADDY = (
    b'{"level":"info","ts":1646861401.52,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":'
    b'"127.0.0.1","remote_port":"41342","client_ip":"2001:db8::9","proto":"HTTP/2.0","method":"GET","host":'
    b'"shop.example","uri":"/"},"bytes_read":0,"duration":0.0009,"size":10900,"status":404}'
)


# -------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("format", "line", "source", "status", "host", "size"),
    [
        (Format.COMBINED, COMBINED % 7, "198.51.100.7", 200, "", 512),
        (Format.COMBINED, b"Shop.example:443 " + COMBINED % 8, "198.51.100.8", 200, "shop.example", 512),
        (Format.COMBINED, b'2001:db8::1 - bob [x] "-" 400 -', "2001:db8::1", 400, "", 0),
        (Format.COMBINED, b'203.0.113.9 - - [x] "\\x16\\x03\\x01" 400 157 "-" "-"', "203.0.113.9", 400, "", 157),
        (Format.HAPROXY, HAPROXY, "10.0.1.2", 503, "shop.example", 2750),
        (Format.HAPROXY, HAPROXY[HAPROXY.index(b"10.0") :], "10.0.1.2", 503, "shop.example", 2750),
        (Format.HAPROXY, HAPROXY.replace(b"10.0.1.2", b"2001:db8::2"), "2001:db8::2", 503, "shop.example", 2750),
        (Format.HAPROXY, HAPROXY.replace(b"10.0.1.2", b"::ffff:192.0.2.3"), "192.0.2.3", 503, "shop.example", 2750),
        (Format.CADDY, CADDY, "2001:db8::9", 404, "shop.example", 10_900),
        (Format.CADDY, CADDY.replace(b"::9", b"::9%eth0]"), "2001:db8::9", 404, "shop.example", 10_900),
    ],
)
def test_lines_of_real_servers(format: Format, line: bytes, source: str, status: int, host: str, size: int) -> None:
    found = parse(format, line)
    assert (found.source, found.status, found.host, found.size) == (ip_address(source), status, host, size)


@given(st.sampled_from(Format), st.binary(max_size=400) | st.sampled_from([COMBINED, HAPROXY, CADDY]), st.data())
def test_any_bytes_are_a_request_or_refused(format: Format, line: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line)))
    for one in (line, line[:at], line[:at] + data.draw(st.binary(max_size=8)) + line[at:]):
        try:
            parse(format, one)
        except Refused as refused:
            assert [problem.field for problem in refused.problems] == ["line"]


def test_what_a_client_writes_is_never_taken_for_structure() -> None:
    agent = b'198.51.100.7 - - [x] "GET / HTTP/1.1" 200 5 "-" "x\\" 500 9 \\"203.0.113.1 - - [x]"'
    assert parse(Format.COMBINED, agent).status == 200


def test_a_long_line_without_an_end_is_refused_at_once() -> None:
    with pytest.raises(Refused):
        parse(Format.COMBINED, b'198.51.100.7 - - [x] "' + b"\\" * 60_000)


# ---------------------------------------------------------------------------------------------------------- following


class Writer:
    """A server that writes numbered lines, and logrotate."""

    def __init__(self, folder: Path) -> None:
        self.path, self.count, self.rotated, self.rest = folder / "access.log", 0, 0, b""
        self.file = self.path.open("ab", buffering=0)

    def write(self, lines: int, cut: int = 0) -> None:
        """Lines, of the last one only a part if `cut`; its end comes with the next write."""
        text = self.rest
        for _ in range(lines):
            text += b"line %d of the log\n" % self.count
            self.count += 1
        end = len(text) - min(cut, 10) if lines else len(text)
        self.file.write(text[:end])
        self.rest = text[end:]

    def rename(self) -> None:
        self.rotated += 1
        self.path.rename(f"{self.path}.{self.rotated}")

    def reopen(self) -> None:
        """As after USR1: what was begun is ended in the old file."""
        self.file.write(self.rest)
        self.rest = b""
        self.file.close()
        self.file = self.path.open("ab", buffering=0)

    def copytruncate(self) -> None:
        self.file.write(self.rest)
        self.rest = b""
        self.rotated += 1
        shutil.copy2(self.path, f"{self.path}.{self.rotated}")
        os.truncate(self.path, 0)


STEPS = st.lists(
    st.tuples(st.just("write"), st.integers(0, 30), st.integers(0, 10))
    | st.sampled_from([("read",), ("rename",), ("late",), ("copytruncate",)]),
    max_size=30,
)


@given(STEPS)
def test_each_line_comes_once_through_every_rotation(steps: list[tuple[str, ...]]) -> None:
    with TemporaryDirectory() as folder:
        writer, follower, now = Writer(Path(folder)), Follower(Path(folder) / "access.log", from_start=True), 0
        seen: list[bytes] = []
        for step, *arguments in steps:
            now += SECOND // 10
            if step == "write":
                writer.write(*map(int, arguments))
            elif step == "read":
                seen += follower.lines(now)
            else:
                # Rotation comes once a day, looks once a second: each file has been read from.
                writer.write(1)
                seen += follower.lines(now)
                writer.write(3)
                if step == "copytruncate":
                    writer.copytruncate()
                else:
                    writer.rename()
                    if step == "late":
                        seen += follower.lines(now)
                        writer.write(2)
                    writer.reopen()
        writer.reopen()
        for _ in range(3):
            now += LINGERS_NS + SECOND
            seen += follower.lines(now)
        follower.close()
        writer.file.close()
        assert sorted(seen) == sorted(b"line %d of the log" % number for number in range(writer.count))
        assert follower.copies_missed == 0


def test_what_was_there_before_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"old\nhalf")
    follower = Follower(path)
    assert list(follower.lines(0)) == []
    with path.open("ab") as file:
        file.write(b" a line\nnew\n")
    assert list(follower.lines(1)) == [b"new"]
    follower.close()


@pytest.mark.parametrize("what", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_beside_a_log_is_no_copy_of_it(tmp_path: Path, what: Callable[[Path], None]) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"one\n")
    what(tmp_path / "access.log.d")
    follower = Follower(path, from_start=True)
    assert list(follower.lines(0)) == [b"one"]
    path.write_bytes(b"2\n")
    assert list(follower.lines(1)) == [b"2"]
    follower.close()


@pytest.mark.parametrize("what", [Path.mkdir, os.mkfifo])
def test_a_log_is_followed_once_it_is_a_file(tmp_path: Path, what: Callable[[Path], None]) -> None:
    path = tmp_path / "access.log"
    what(path)
    follower = Follower(path)
    assert list(follower.lines(0)) == [] and "no file" in follower.trouble
    path.rename(tmp_path / "other")
    path.write_bytes(b"one\n")
    assert list(follower.lines(1)) == [b"one"] and follower.trouble == ""
    follower.close()


def test_a_log_that_is_truncated_and_grows_past_the_old_end_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"first line\n")
    follower = Follower(path, from_start=True)
    assert list(follower.lines(0)) == [b"first line"]
    path.write_bytes(b"another and much longer line\nand one more\n")
    assert list(follower.lines(1)) == [b"another and much longer line", b"and one more"]
    assert (follower.truncations, follower.copies_missed) == (1, 1)
    follower.close()


def test_a_missing_log_is_waited_for_and_endless_lines_are_cut(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "access.log")
    assert list(follower.lines(0)) == []
    (tmp_path / "access.log").write_bytes(b"x" * 200_000 + b"\nshort\n")
    assert [len(line) for line in follower.lines(1)] == [LONGEST_LINE, 5]
    follower.close()


# ------------------------------------------------------------------------------------------------------------ floods


class Site:
    """A server under load, looked at each second."""

    def __init__(self, folder: Path, limit: float = 100.0) -> None:
        self.path = folder / "access.log"
        self.path.touch()
        log = AccessLog(
            self.path, Format.COMBINED, ip_network("203.0.113.7/32"), "web", limit, quiet_seconds=5,
        )  # fmt: skip
        self.watch, self.now = LogWatch(log, "web-1"), 0
        self.second([])

    def second(self, sources: list[int], extra: bytes = b"") -> list[Detection]:
        with self.path.open("ab") as file:
            file.write(b"".join(COMBINED % source + b"\n" for source in sources) + extra)
        self.now += SECOND
        return list(self.watch.look(self.now, NOW + timedelta(microseconds=self.now // 1000)))


def visitors(count: int) -> list[int]:
    return [number % 250 for number in range(count)]


def test_a_flood_is_told_goes_on_and_ends(tmp_path: Path) -> None:
    site = Site(tmp_path)
    calm = [site.second(visitors(60)) for _ in range(8)]
    flood = [site.second(visitors(60) + [9] * 900) for _ in range(4)]
    after = [site.second(visitors(60)) for _ in range(10)]
    site.watch.close()
    assert calm == [[]] * 8
    told = [one for second in (*flood, *after) for one in second]
    assert [one.state for one in told][:2] == [State.STARTED, State.ONGOING]
    assert told[-1].state is State.OVER
    assert [one.sequence for one in told] == list(range(len(told)))
    last = flood[-1][0]
    assert str(last.vector) == "http_flood"
    assert last.rate.packets_per_second == pytest.approx(960, rel=0.01)
    assert (last.spoofed, str(last.target), last.zone) == (False, "203.0.113.7/32", "web")
    [rule] = last.signatures
    assert str(rule.match.source) == "198.51.100.9/32"
    assert rule.match.destination_port is not None
    assert (round(rule.coverage, 2), rule.collateral is not None and rule.collateral < 0.05) == (0.94, True)
    assert detection_from_json(detection_to_json(last)) == last


def test_a_flood_from_many_has_no_rule(tmp_path: Path) -> None:
    site = Site(tmp_path)
    told = [one for _ in range(4) for one in site.second(visitors(1_000))]
    site.watch.close()
    assert told
    assert all(one.signatures == () for one in told)
    assert told[-1].sources == 250


def test_one_busy_second_is_no_flood_and_bad_lines_are_only_counted(tmp_path: Path) -> None:
    site = Site(tmp_path)
    quiet = [site.second(visitors(20)) for _ in range(3)]
    quiet += [site.second(visitors(200), b"garbage\n\xff\n\n")]
    quiet += [site.second(visitors(20)) for _ in range(3)]
    site.watch.close()
    assert quiet == [[]] * 7
    assert site.watch.counters["accesslog_bad_lines_total"] == 3
    assert site.watch.counters["accesslog_lines_total"] == 323
    assert "combined" in site.watch.last_bad


def test_counts_by_site_and_status(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.second(visitors(5), b'shop.example:80 192.0.2.1 - - [x] "GET / HTTP/1.1" 503 9\n')
    assert site.watch.requests.statuses == {2: 5, 5: 1}
    assert site.watch.requests.hosts["shop.example"] == 1
    assert site.watch.requests.sources[ip_address("192.0.2.1")] == 1
    site.watch.close()


@pytest.mark.parametrize(("field", "value"), [("server", ip_network("203.0.113.0/24")), ("requests_per_second", 0.0),
                                              ("ports", ())])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(field: str, value: object, tmp_path: Path) -> None:
    good: dict[str, object] = {"server": ip_network("203.0.113.7/32")}
    with pytest.raises(Refused) as caught:
        AccessLog(path=tmp_path, format=Format.CADDY, zone="web", **(good | {field: value}))  # type: ignore[arg-type]
    assert [problem.field for problem in caught.value.problems] == [field]
