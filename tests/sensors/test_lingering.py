"""Slow HTTP in capture files: as live, whether a capture shows one direction or both, the beginning or the middle."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rawframes import ACK, FIN, PUSH, SYN, ethernet, ip, pcap, tcp

from sensors import analyze

SERVER = "203.0.113.7"
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n"
HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(506)
Records = list[tuple[float, bytes]]


def client(number: int) -> tuple[str, int]:
    return f"198.18.{number % 9}.9", 1_024 + number // 9


def sent(number: int, at: float, flags: int, data: bytes = b"", port: int = 80) -> tuple[float, bytes]:
    """From a client."""
    host, own = client(number)
    return at + number / 1e5, ethernet(ip(host, SERVER, tcp(own, port, flags, data)))


def answered(number: int, at: float, flags: int, data: bytes = b"", port: int = 80) -> tuple[float, bytes]:
    """From the server."""
    host, own = client(number)
    return at + number / 1e5, ethernet(ip(SERVER, host, tcp(port, own, flags, data)))


def opened(number: int, port: int = 80) -> Iterator[tuple[float, bytes]]:
    yield sent(number, 10.0, SYN, port=port)
    yield answered(number, 10.01, SYN | ACK, port=port)
    yield sent(number, 10.02, ACK, port=port)
    yield sent(number, 10.03, ACK | PUSH, HELLO if port == 443 else REQUEST, port)
    if port == 443:
        yield answered(number, 10.05, ACK | PUSH, bytes(1400), port)


def crumbs(number: int, port: int = 80, times: int = 3) -> Iterator[tuple[float, bytes]]:
    for place in range(times):
        yield sent(number, 12.0 + 5 * place, ACK | PUSH, b"X-a: b\r\n", port)
        yield answered(number, 12.01 + 5 * place, ACK, port=port)


def told(folder: Path, records: Records) -> list[dict[str, object]]:
    path = folder / "a.pcap"
    path.write_bytes(pcap(sorted(records)))
    incidents = analyze.run(path).to_json()["incidents"]
    assert isinstance(incidents, list)
    return incidents


def attack(count: int = 520, port: int = 80) -> Records:
    return [record for number in range(count) for record in (*opened(number, port), *crumbs(number, port))]


def only(records: Records, end: str) -> Records:
    """One direction: what has this address as its destination or source."""
    place = {"to": 30, "from": 26}[end]
    address = bytes(map(int, SERVER.split(".")))
    return [(at, frame) for at, frame in records if frame[place : place + 4] == address]


@pytest.mark.parametrize("port", [80, 443])
def test_many_open_connections_that_never_get_on_are_found(tmp_path: Path, port: int) -> None:
    [incident] = told(tmp_path, attack(port=port))
    assert (incident["target"], incident["vector"], incident["sources"]) == (SERVER, "http_slow", 9)
    assert incident["spoofed"] is False
    details = incident["ioc"]
    assert isinstance(details, dict)
    assert details["connections"] == 520
    assert details["destination_ports"] == {str(port): 520}
    assert len(details["sources"]) == 9
    assert str(incident["first_seen"]).startswith("1970-01-01T00:00:10")
    assert str(incident["last_seen"]).startswith("1970-01-01T00:00:22")


def test_one_direction_is_enough_where_connections_begin(tmp_path: Path) -> None:
    assert [one["vector"] for one in told(tmp_path, only(attack(), "to"))] == ["http_slow"]
    assert told(tmp_path, only(attack(), "from")) == []


def test_few_connections_are_no_attack(tmp_path: Path) -> None:
    assert told(tmp_path, attack(450)) == []


def test_a_capture_that_begins_in_the_middle_shows_it_by_servers_that_say_nothing(tmp_path: Path) -> None:
    middle = [record for record in attack() if record[0] > 11]
    assert [one["vector"] for one in told(tmp_path, middle)] == ["http_slow"]
    # In one direction they may as well be chats whose answers nobody sees.
    assert told(tmp_path, only(middle, "to")) == []


def test_chats_whose_server_answers_are_no_slow_requests(tmp_path: Path) -> None:
    records = attack()
    records += [answered(number, 12.5 + 5 * place, ACK | PUSH, b"ok") for number in range(520) for place in range(3)]
    assert told(tmp_path, records) == []
    assert told(tmp_path, [record for record in records if record[0] > 11]) == []


def test_connections_that_servers_end_are_no_open_ones(tmp_path: Path) -> None:
    records = [record for record in attack() if record[0] < 15]
    assert told(tmp_path, records + [answered(number, 14.0, FIN | ACK) for number in range(520)]) == []
