"""Access logs afterwards: the live verdicts, by the log's own times, whatever else a file holds."""

import bz2
import gzip
import json
import random
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import Refused
from sensors import analyze_logs
from sensors.accesslog_lines import moment
from sensors.stream import PIECE

BEGIN = 1_777_896_000
"""2026-05-04 12:00:00 UTC."""
SERVER = ip_network("203.0.113.7/32")
BOT = "192.0.2.9"


def combined(second: int, source: str, status: int = 200) -> bytes:
    when = datetime.fromtimestamp(second, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'{source} - - [{when}] "GET / HTTP/1.1" {status} 512 "-" "curl/8"\n'.encode()


def caddy(second: int, source: str, status: int = 200) -> bytes:
    request = {"remote_ip": source, "host": "shop.example"}
    return json.dumps({"ts": second + 0.25, "request": request, "size": 512, "status": status}).encode() + b"\n"


def haproxy(second: int, source: str, status: int = 200) -> bytes:
    when = datetime.fromtimestamp(second, UTC).strftime("%d/%b/%Y:%H:%M:%S.655")
    return (
        f"May  4 12:00:00 edge haproxy[14389]: {source}:33317 [{when}] http-in static/srv1 "
        f'10/0/30/69/109 {status} 512 - - ---- 1/1/1/1/0 0/0 {{shop.example|curl}} {{}} "GET / HTTP/1.1"\n'
    ).encode()


def visits(begin: int, end: int) -> list[tuple[int, str]]:
    """Sixty a second of many visitors."""
    return [(second, f"198.51.100.{(7 * second + one) % 250}") for second in range(begin, end) for one in range(60)]


def flooded(begin: int = 20, end: int = 25, rate: int = 900) -> list[tuple[int, str]]:
    """A minute and a half with a flood in it, in seconds from `BEGIN`."""
    return sorted([*visits(0, 90), *((second, BOT) for second in range(begin, end) for _ in range(rate))])


def written(lines: Iterable[tuple[int, str]], line: Callable[[int, str], bytes] = combined) -> bytes:
    return b"".join(line(BEGIN + second, source) for second, source in lines)


def analysed(folder: Path, *contents: bytes, **how: object) -> analyze_logs.LogReport:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"access-{number}.log")
        paths[-1].write_bytes(content)
    return analyze_logs.run(paths, SERVER, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("line", [combined, caddy, haproxy])
@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress])
def test_a_flood_is_told_in_every_format(
    line: Callable[[int, str], bytes], packed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    report = analysed(tmp_path, packed(written(flooded(), line)))
    assert (report.requests, report.duration_seconds, report.notes) == (90 * 60 + 5 * 900, 90, ())
    found = json.loads(json.dumps(report.to_json()))
    assert set(found) == {
        "access_logs", "formats", "requests", "duration_s", "incidents", "counters", "notes"
    }  # fmt: skip
    [incident] = found["incidents"]
    assert (incident["target"], incident["vector"], incident["spoofed"]) == ("203.0.113.7", "http_flood", False)
    assert incident["peak_rps"] == pytest.approx(960, rel=0.01)
    # The window reaches two seconds back, and goes on as long.
    assert 5 * 960 <= incident["requests"] <= 9 * 960
    assert (
        incident["first_seen"] == "2026-05-04T12:00:18+00:00" or incident["first_seen"] == "2026-05-04T12:00:19+00:00"
    )
    assert incident["last_seen"] < "2026-05-04T12:00:29"
    [rule] = incident["rules"]
    assert rule["flowspec"].startswith(f"match {{ destination 203.0.113.7/32; source {BOT}/32; protocol =tcp;")
    assert incident["ioc"]["sources"][0] == {"address": BOT, "requests": 4_500, "share": pytest.approx(0.9, abs=0.1)}
    assert incident["ioc"]["hosts"] == ({} if line is combined else {"shop.example": incident["requests"]})
    assert incident["ioc"]["statuses"] == {"2xx": incident["requests"]}


def told(report: analyze_logs.LogReport) -> list[tuple[int, int]]:
    """How long each flood was and the most requests a second."""
    return [(one.last - BEGIN, round(one.flood.peak.packets_per_second)) for one in report.incidents]


def test_calm_logs_and_a_higher_limit_are_no_attack(tmp_path: Path) -> None:
    assert analysed(tmp_path, written(visits(0, 90))).incidents == ()
    assert analysed(tmp_path, written(flooded()), requests_per_second=1_000).incidents == ()
    assert len(analysed(tmp_path, written(visits(0, 90)), requests_per_second=50).incidents) == 1


def test_lines_a_little_out_of_order_change_nothing(tmp_path: Path) -> None:
    draw = random.Random(4)
    shuffled = sorted(flooded(), key=lambda one: one[0] + draw.uniform(0, 9))
    assert told(analysed(tmp_path, written(shuffled))) == told(analysed(tmp_path, written(flooded())))


def test_several_logs_are_merged_by_time_in_any_order(tmp_path: Path) -> None:
    lines = flooded()
    early, late = written(one for one in lines if one[0] < 22), written(one for one in lines if one[0] >= 22)
    whole = analysed(tmp_path, early + late)
    assert told(analysed(tmp_path, late, early)) == told(whole)
    # Two servers that share the load: neither is above the limit by itself.
    halves = written(lines[::2]), written(lines[1::2], caddy)
    assert told(analysed(tmp_path, *halves)) == told(whole)
    assert analysed(tmp_path, halves[0]).incidents == ()


def test_a_single_line_from_another_time_stops_nothing(tmp_path: Path) -> None:
    lines = flooded()
    for at, away in ((600, 86_400 * 400), (1_000, -86_400), (3_000, 3_000), (4_000, -40)):
        lines.insert(at, (lines[at][0] + away, "192.0.2.77"))
    report = analysed(tmp_path, written(lines))
    assert told(report) == told(analysed(tmp_path, written(flooded())))
    assert report.counters["astray"] == 4
    assert "4 requests more than 10 s away" in report.notes[0]


def test_another_day_in_the_same_file_is_another_time(tmp_path: Path) -> None:
    later = [(second + 86_400, source) for second, source in flooded()]
    for first, then in ((flooded(), later), (later, flooded())):
        report = analysed(tmp_path, written(first) + written(then))
        assert (len(report.incidents), report.counters["astray"]) == (2, 0)


def test_a_silence_ends_a_flood_and_a_log_of_a_second_is_enough(tmp_path: Path) -> None:
    once = [(0, BOT)] * 3_000
    assert len(analysed(tmp_path, written(once)).incidents) == 1
    twice = once + [(second, source) for second in (3_600, 3_601) for source in [BOT] * 3_000]
    assert len(analysed(tmp_path, written(twice)).incidents) == 2


def test_damaged_lines_and_files_are_counted_and_told(tmp_path: Path) -> None:
    broken = written(visits(0, 30)) + b"garbage\n\xff\xfe\n\n" + written(visits(30, 60))
    report = analysed(tmp_path, broken)
    assert (report.requests, report.counters["bad_lines"]) == (3_600, 3)
    [note] = report.notes
    assert "3 of 3,603 lines not read as combined (nginx, Apache), the first: " in note
    assert "garbage" in note
    cut = analysed(tmp_path, gzip.compress(written(flooded()))[:-2_000])
    assert cut.requests > 0
    assert any("the file is damaged" in note for note in cut.notes)
    undated = analysed(tmp_path, written(visits(0, 5)) + b'192.0.2.1 - - [some day] "GET / HTTP/1.1" 200 1\n')
    assert (undated.requests, undated.counters["undated"]) == (301, 1)


@pytest.mark.parametrize("content", [b"some text\nand more\n", b"\n\n\n", b"\0" * 100_000, b"", b"PK\x03\x04....."])
def test_what_is_no_log_is_refused_with_its_first_line(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        analysed(tmp_path, content)
    [problem] = caught.value.problems
    assert problem.field == "access_log"
    if content.startswith(b"some"):
        assert "'some text'" in str(caught.value)
        assert all(name in str(caught.value) for name in ("nginx", "Apache", "Caddy", "HAProxy"))


def test_memory_is_bounded_whatever_a_file_holds(tmp_path: Path) -> None:
    draw = random.Random(5)
    many = b"".join(
        combined(BEGIN + number // 15_000, f"10.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)}")
        for number in range(30_000)
    )
    endless = written(visits(0, 1)) + b"x" * (40 << 20)
    for content in (gzip.compress(many), gzip.compress(endless, 1)):
        path = tmp_path / "a.log.gz"
        path.write_bytes(content)
        tracemalloc.start()
        report = analyze_logs.run([path])
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 30 << 20
        assert all(len(one.sources) <= 20_000 for one in report.incidents)


@given(
    st.lists(
        st.tuples(st.integers(-40, 40) | st.integers(-(10**6), 10**6), st.sampled_from([1, 3, 80]))
        | st.sampled_from([b"\n", b"junk\n", b'192.0.2.1 - - [x] "-" 400 -\n']),
        max_size=60,
    ),
    st.binary(max_size=40),
)
def test_whatever_the_times_are_each_line_is_counted_once(lines: list[tuple[int, int] | bytes], end: bytes) -> None:
    second, content = BEGIN, combined(BEGIN, BOT)
    for one in lines:
        if isinstance(one, bytes):
            content += one
        else:
            second += one[0]
            content += combined(second, BOT) * one[1]
    with TemporaryDirectory() as folder:
        report = analysed(Path(folder), content + end)
    counters = report.counters
    assert report.requests + counters["astray"] + counters["bad_lines"] == counters["lines"]
    assert report.duration_seconds >= 1


@pytest.mark.parametrize(
    ("stamp", "second"),
    [
        ("04/May/2026:12:00:00 +0000", BEGIN),
        ("04/May/2026:14:30:00 +0230", BEGIN),
        ("04/May/2026:05:00:00 -0700", BEGIN),
        ("04/May/2026:12:00:00.655", BEGIN),
        ("2026-05-04T14:00:00+02:00", BEGIN),
        ("1777896000.52", BEGIN),
        ("30/Jun/2015:23:59:60 +0000", 1_435_708_799),
        ("31/Feb/2026:12:00:00 +0000", None),
        ("04/Mai/2026:12:00:00 +0000", None),
        ("0001-01-01T00:00:00+00:00", None),
        ("99999999999", None),
        ("", None),
    ],
)
def test_stamps_of_all_servers(stamp: str, second: int | None) -> None:
    assert moment(stamp) == second


@given(st.text(max_size=64))
def test_any_text_is_a_time_or_none(stamp: str) -> None:
    assert moment(stamp) is None or 0 <= (moment(stamp) or 0) < 1 << 32


def test_pieces_are_longer_than_lines() -> None:
    # Otherwise cutting a line in two would be the rule.
    assert PIECE > 65_536
