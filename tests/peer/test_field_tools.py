"""`stopbank analyze` on what the tools of the field send: hping3, nmap and slowhttptest against a real server, in
namespaces that are removed afterwards. None of it comes from generators of ours."""

import signal
import sys
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import needs
import pytest

from lab.namespaces import Namespace, Port, join, namespaces, start, stop, wait_until
from sensors import analyze

pytestmark = pytest.mark.peer

SENDER, VICTIM = IPv4Interface("198.18.7.1/24"), IPv4Interface("198.18.7.2/24")
HOST = str(VICTIM.ip)
_SERVER = """
import asyncio
async def listen(reader, writer):
    while await reader.read(4096):
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(listen, "0.0.0.0", 80, backlog=1024)
    await server.serve_forever()
asyncio.run(main())
"""
"""Takes whatever comes and never answers, as a server does that waits for the rest of a request."""


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Namespace, Namespace]]:
    """Who sends, and who has a server on port 80; the rest of the world lies behind who sends."""
    needs.root_and("ip", "tcpdump", "hping3", "nmap", "slowhttptest")
    log = tmp_path_factory.mktemp("field")
    with namespaces("sender", "victim") as (sender, victim):
        join(Port(sender, "out", (SENDER,)), Port(victim, "in", (VICTIM,)))
        victim.set_kernel("net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.in.rp_filter=0")
        victim.ip("route", "add", "default", "via", str(SENDER.ip))
        sender.ip("route", "add", "blackhole", "default")
        server = start(victim.command(sys.executable, "-c", _SERVER), log / "server.log")
        try:
            wait_until(lambda: ":80" in victim.run("ss", "-ltn"), "the server listens")
            yield sender, victim
        finally:
            stop(server)


def told(wire: tuple[Namespace, Namespace], path: Path, command: str) -> list[tuple[str, str]]:
    """Targets and vectors of what is captured at the victim while a command runs at the sender's."""
    sender, victim = wire
    capture = path / "a.pcap"
    listen = victim.command("tcpdump", "-i", "in", "-s", "96", "-B", "16384", "-U", "-w", capture)
    listening = start(listen, path / "tcpdump.log")
    try:
        wait_until(lambda: capture.exists() and capture.stat().st_size >= 24, "tcpdump listens")
        sender.run("timeout", "--signal=INT", "8", *command.split(), check=False)
    finally:
        stop(listening, signal.SIGINT)
    found = analyze.run(capture).to_json()
    assert isinstance(found["packets"], int)
    assert found["packets"] > 500, "the tool sent next to nothing"
    assert isinstance(found["incidents"], list)
    return [(one["target"], one["vector"]) for one in found["incidents"]]


@pytest.mark.parametrize(
    ("options", "vector"),
    [
        ("-S -p 80", "syn_flood"),
        ("-S -p 80 --rand-source", "syn_flood"),
        ("-A -p 80 --rand-source", "ack_flood"),
        ("-F -P -U -p 80 --rand-source", "tcp_xmas"),
        ("-2 -p 9 -d 200 --rand-source", "udp_flood"),
        ("-1 --rand-source", "icmp_flood"),
    ],
)
def test_floods_of_hping_are_named(
    options: str, vector: str, wire: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    assert told(wire, tmp_path, f"hping3 -q -n -i u50 -c 4000 {options} {HOST}") == [(HOST, vector)]


@pytest.mark.parametrize("scan", ["-sS -p-", "-sX -p1-9000", "-sT -p1-5000", "-sS -p1-2500 -D RND:20"])
def test_scans_of_nmap_are_no_attack(scan: str, wire: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    # Between two namespaces it would be faster than the 50,000/s from which on a scan is a flood, too.
    assert told(wire, tmp_path, f"nmap -n -Pn -T4 --max-rate 20000 {scan} {HOST}") == []


@pytest.mark.parametrize("options", ["-k -s 4000 -p 9", "-k -s 4000 -p 514 -d 180"])
def test_datagrams_over_one_flow_are_no_attack_below_ten_thousand_a_second(
    options: str, wire: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    # Nothing listens there, and the errors that say so are few.
    assert told(wire, tmp_path, f"hping3 -q -n -2 -i u150 -c 12000 {options} {HOST}") == []


@pytest.mark.parametrize("kind", ["-H", "-B"])
def test_slow_requests_are_found(kind: str, wire: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    command = f"slowhttptest {kind} -c 700 -r 700 -i 1 -l 4 -p 3 -u http://{HOST}/"
    assert told(wire, tmp_path, command) == [(HOST, "http_slow")]
