"""From a real ExaBGP that speaks, over BGP, to a real ExaBGP that hosts `enforce`, to packets that no longer arrive."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from enforcing import ATTACKER6, EDGE, SPEAKER, VICTIM6, Path3, path, program, settings, status, udp
from frames import checksum, ip_bytes
from packets import FIRST, LAST, LATER, Packet

from lab.exabgp import ScriptedExaBgp
from lab.namespaces import running, wait_until
from rules.match import Family
from rules.neighbour import Neighbour, SessionFamily
from sensors import enforce_config
from sensors.enforce_settings import EnforceSettings, Source

pytestmark = pytest.mark.peer

FLOW = frozenset((SessionFamily.IPV4_FLOW, SessionFamily.IPV6_FLOW))

NEIGHBOUR = Neighbour(
    name="edge",
    peer_address=IPv4Address(EDGE),
    local_address=IPv4Address(SPEAKER),
    peer_as=64500,
    local_as=64500,
    router_id=IPv4Address(SPEAKER),
    families=FLOW,
    md5_password="Secret7",
    graceful_restart_seconds=60,
)

SERVE = """import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from dataclasses import replace
from enforcing import settings
from sensors import enforce
made = settings(Path({state!r}))
enforce.serve(replace(made, sources=tuple(replace(one, md5_password="Secret7") for one in made.sources)))
"""


@contextmanager
def enforcing(way: Path3, state: Path) -> Iterator[None]:
    script = state / "serve.py"
    root = Path(__file__).resolve().parents[2]
    script.write_text(SERVE.format(paths=[str(root), str(root / "tests" / "lib")], state=str(state)))
    with running(way.edge.command(sys.executable, str(script)), state / "log"):
        wait_until(lambda: bool(status(state)), "enforce writes its status")
        yield


@pytest.fixture(scope="module")
def way() -> Iterator[Path3]:
    with path() as made:
        yield made


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    if (tmp_path / "log").exists():
        print((tmp_path / "log").read_text()[-4000:])


@pytest.fixture
def speaker(way: Path3, state: Path) -> Iterator[ScriptedExaBgp]:
    with ExitStack() as stack:
        stack.enter_context(enforcing(way, state))
        made = stack.enter_context(ScriptedExaBgp(way.speaker, [NEIGHBOUR]))
        wait_until(lambda: any('"state": "up"' in line for line in made.answers), "the session comes up")
        yield made


def until_arrives(way: Path3, packet: bytes, expected: bool, began: float) -> float:
    """Milliseconds from `began` until the packet does, or doesn't, arrive."""
    wait_until(lambda: bool(way.arrives(packet)) is expected, f"the packet arrives: {expected}", step_seconds=0)
    return (time.monotonic() - began) * 1000


def rule(match: str, then: str = "discard") -> str:
    return f"match {{ destination 203.0.113.7/32; {match} }} then {{ {then}; }}"


def announce(speaker: ScriptedExaBgp, text: str, verb: str = "announce") -> None:
    assert speaker.send(f"{verb} flow route {{ {text} }}") == ("done",)


def test_a_rule_acts_and_ends_within_a_blink(way: Path3, speaker: ScriptedExaBgp) -> None:
    attack, other = ip_bytes(udp(53, 4444)), ip_bytes(udp(54, 4444))
    assert way.arrives(attack, other) == [attack_forwarded(attack), attack_forwarded(other)]
    times = []
    for _ in range(5):
        for verb, arrives in (("announce", False), ("withdraw", True)):
            began = time.monotonic()
            with (speaker.directory / "commands").open("w") as commands:
                commands.write(f"{verb} flow route {{ {rule('protocol =udp; source-port =53;')} }}\n")
            times.append(until_arrives(way, attack, arrives, began))
            assert way.arrives(other)
    print("milliseconds to drop:", sorted(times[::2]), "to restore:", sorted(times[1::2]))
    assert sorted(times[::2])[2] < 500 and sorted(times[1::2])[2] < 500


def attack_forwarded(packet: bytes) -> bytes:
    """As the victim sees it: one hop further."""
    head = packet[:8] + bytes((packet[8] - 1,)) + packet[9:10] + b"\0\0" + packet[12:20]
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + packet[20:]


def test_rules_end_with_the_session_and_come_back_with_it(way: Path3, speaker: ScriptedExaBgp) -> None:
    attack = ip_bytes(udp(53, 4444))
    announce(speaker, rule("protocol =udp;"))
    until_arrives(way, attack, False, time.monotonic())
    began = time.monotonic()
    speaker.stop(signal.SIGKILL)
    print("milliseconds from a dead speaker to restored:", until_arrives(way, attack, True, began))
    speaker.start()
    wait_until(lambda: any('"state": "up"' in line for line in speaker.answers), "the session comes back")
    announce(speaker, rule("protocol =udp;"))
    until_arrives(way, attack, False, time.monotonic())


def test_a_process_that_was_killed_asks_for_everything_again(way: Path3, state: Path, speaker: ScriptedExaBgp) -> None:
    attack = ip_bytes(udp(53, 4444))
    announce(speaker, rule("protocol =udp;"))
    until_arrives(way, attack, False, time.monotonic())
    wait_until(lambda: bool(status(state)["rules"]), "the status shows the rule")
    pid = status(state)["pid"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    wait_until(lambda: status(state)["pid"] != pid and bool(status(state)["rules"]), "the rule is there again")
    until_arrives(way, attack, False, time.monotonic())


def test_the_table_goes_with_exabgp(way: Path3, tmp_path: Path) -> None:
    with enforcing(way, tmp_path):
        assert "stopbank" in way.edge.run("nft", "list", "tables")
    wait_until(lambda: "stopbank" not in way.edge.run("nft", "list", "tables"), "the table is removed")


def test_counters_tell_what_was_dropped(way: Path3, state: Path, speaker: ScriptedExaBgp) -> None:
    announce(speaker, rule("protocol =udp; source-port =53;"))
    attack = ip_bytes(udp(53, 4444, length=1000))
    until_arrives(way, attack, False, time.monotonic())
    assert way.arrives(*[attack] * 9) == []

    def tally() -> dict[str, int]:
        found = status(state)["rules"]
        return found[0] if isinstance(found, list) and found else {}

    wait_until(lambda: tally().get("dropped_packets", 0) >= 10, "the status counts them")
    assert tally()["dropped_bytes"] == 1000 * tally()["dropped_packets"]


def v6(**changes: object) -> Packet:
    packet = Packet(Family.IPV6, int(IPv6Address(VICTIM6)), int(IPv6Address(ATTACKER6)), 17, 120, 0, 0, 0, 53, 4444)
    return replace(packet, **changes)  # type: ignore[arg-type]


V4 = udp(53, 4444)
ICMP = replace(V4, protocol=1, source_port=None, destination_port=None, icmp_type=8, icmp_code=0)
TCP = replace(V4, protocol=6, tcp_flags=0x02)
CASES: list[tuple[str, Packet, Packet]] = [
    (rule("source 198.51.100.64/28;"), V4, replace(V4, source=V4.source - 10)),
    (rule("protocol =udp;"), V4, TCP),
    (rule("port =4444;"), V4, replace(V4, destination_port=4445)),
    (rule("source-port >=50&<=60;"), V4, replace(V4, source_port=61)),
    (rule("destination-port [ =80 =4444 ];"), V4, replace(V4, destination_port=81)),
    (rule("protocol =udp; source-port =53;"), V4, replace(V4, fragment=LATER | LAST)),
    (rule("protocol =icmp; icmp-type =8;"), ICMP, replace(ICMP, icmp_type=0)),
    (rule("protocol =icmp; icmp-code =0;"), ICMP, replace(ICMP, icmp_type=3, icmp_code=4)),
    (rule("protocol =tcp; tcp-flags [ =syn&!ack ];"), TCP, replace(TCP, tcp_flags=0x12)),
    (rule("protocol =tcp; tcp-flags [ !syn ];"), replace(TCP, tcp_flags=0x10), TCP),
    (rule("packet-length >=100&<=200;"), V4, replace(V4, length=99)),
    (rule("packet-length >=100&<=200;"), replace(V4, length=200), replace(V4, length=201)),
    (rule("dscp =46;"), replace(V4, dscp=46), replace(V4, dscp=45)),
    (rule("fragment [ is-fragment ];"), replace(V4, fragment=LATER), replace(V4, fragment=FIRST)),
    (rule("fragment [ first-fragment ];"), replace(V4, fragment=FIRST), V4),
    (rule("fragment [ last-fragment ];"), replace(V4, fragment=LATER | LAST), replace(V4, fragment=LATER)),
    (rule("fragment [ dont-fragment ];"), replace(V4, fragment=1), V4),
    ("match { destination 2001:db8:7::7/128; next-header =udp; } then { discard; }", v6(), v6(protocol=6, tcp_flags=2)),
    ("match { destination 2001:db8:7::7/128; source-port =53; } then { discard; }", v6(), v6(source_port=54)),
    ("match { destination 2001:db8:7::7/128; packet-length =120; } then { discard; }", v6(), v6(length=121)),
    ("match { destination 2001:db8:7::7/128; flow-label =5; } then { discard; }", v6(flow_label=5), v6(flow_label=6)),
    ("match { destination 2001:db8:7::7/128; traffic-class =10; } then { discard; }", v6(dscp=10), v6(dscp=11)),
]


def test_each_component_drops_what_it_selects_and_nothing_else(way: Path3, speaker: ScriptedExaBgp) -> None:
    for text, selected, beside in CASES:
        packets = ip_bytes(selected), ip_bytes(beside)
        assert len(way.arrives(*packets)) == 2, f"before {text}"
        announce(speaker, text)
        until_arrives(way, packets[0], False, time.monotonic())
        assert len(way.arrives(*packets)) == 1 and way.arrives(packets[1]), text
        announce(speaker, text, "withdraw")
        until_arrives(way, packets[0], True, time.monotonic())


def test_the_more_specific_rule_decides(way: Path3, speaker: ScriptedExaBgp) -> None:
    attack, neighbour = ip_bytes(V4), ip_bytes(udp(53, 4444, destination="203.0.113.7", length=101))
    announce(speaker, "match { destination 203.0.113.0/29; protocol =udp; } then { discard; }")
    until_arrives(way, attack, False, time.monotonic())
    announce(speaker, rule("packet-length =100;", "rate-limit 1000000000"))
    until_arrives(way, attack, True, time.monotonic())
    assert not way.arrives(neighbour)


def test_a_rate_lets_about_that_much_through(way: Path3, speaker: ScriptedExaBgp) -> None:
    announce(speaker, rule("protocol =udp;", "rate-limit 20000"))
    wait_until(lambda: "limit rate_" in way.edge.run("nft", "list", "table", "inet", "stopbank"), "the limit stands")
    packet = ip_bytes(udp(53, 4444, length=500))
    began, bytes_through = time.monotonic(), 0
    while time.monotonic() - began < 3:
        bytes_through += sum(map(len, way.arrives(*[packet] * 10)))
    seconds = time.monotonic() - began
    # The kernel's bucket starts with a second's worth and an extra packet.
    expected = 20_000 * (seconds + 1) + 1500
    print(f"{bytes_through} bytes in {seconds:.2f} s, {expected:.0f} expected")
    assert 0.85 * expected < bytes_through < 1.1 * expected


def test_exabgp_takes_the_configuration(tmp_path: Path) -> None:
    made: EnforceSettings = settings(tmp_path)
    more = (*made.sources, Source(IPv4Address("192.0.2.9"), 64501, "Secret7", frozenset({SessionFamily.IPV4_FLOW})))
    configuration = tmp_path / "enforce.conf"
    configuration.write_text(enforce_config.render(replace(made, sources=more, port=1790, command=program(tmp_path))))
    executable = shutil.which("exabgp", path=str(Path(sys.executable).parent)) or "exabgp"
    done = subprocess.run(
        [executable, "validate", "-nrv", str(configuration)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "192.0.2.9" in done.stdout + done.stderr
