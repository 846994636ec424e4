"""The hosted process, with the test in ExaBGP's place at both ends of its pipes."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from bgp_updates import announcing, attribute, body, communities, flowspec, reach, state_line, update_line, withdrawing
from enforcing import program, status

from lab.namespaces import Namespace, namespace, wait_until
from rules import wire
from rules.match import Family

pytestmark = pytest.mark.peer

RULE = flowspec("match { destination 203.0.113.7/32; protocol =udp; } then { discard; }")
OTHER = flowspec("match { destination 203.0.113.8/32; protocol =udp; } then { rate-limit 20000; }")


@dataclass
class Hosted:
    """The process and its pipes."""

    process: "subprocess.Popen[bytes]"
    inside: Namespace
    state: Path

    def hear(self, *lines: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(lines))
        self.process.stdin.flush()

    def holds(self, *counters: str) -> bool:
        """Whether exactly these rules stand in the kernel."""
        listed = self.table()
        return all(f"counter met_{one} " in listed for one in counters) and listed.count("counter met_") == len(
            counters
        )

    def table(self) -> str:
        return self.inside.run("nft", "list", "table", "inet", "stopbank", check=False)

    def waits_for(self, *rules: object) -> None:
        counters = [rule.id for rule in rules]  # type: ignore[attr-defined]
        wait_until(
            lambda: "arrivals" in self.table() and self.holds(*counters), f"the kernel holds {len(counters)} rules"
        )


@pytest.fixture
def inside() -> Iterator[Namespace]:
    with namespace("hosted") as made:
        made.ip("address", "add", "192.0.2.77/32", "dev", "lo")
        yield made


@contextmanager
def hosted(inside: Namespace, state: Path) -> Iterator[Hosted]:
    with (state / "stdout").open("ab") as output, (state / "stderr").open("ab") as errors:
        process = subprocess.Popen(inside.command(*program(state)), stdin=subprocess.PIPE, stdout=output, stderr=errors)
    try:
        yield Hosted(process, inside, state)
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def test_rules_come_and_go_with_their_announcements(inside: Namespace, tmp_path: Path) -> None:
    with hosted(inside, tmp_path) as one:
        one.hear(state_line("up"), update_line(announcing(RULE)), b"done\n", update_line(announcing(OTHER)))
        one.waits_for(RULE, OTHER)
        one.hear(update_line(withdrawing(RULE)))
        one.waits_for(OTHER)
        one.hear(state_line("down"))
        one.waits_for()
    assert (tmp_path / "stdout").read_text().splitlines() == [
        "neighbor 192.0.2.1 announce route-refresh ipv4 flow",
        "neighbor 192.0.2.1 announce route-refresh ipv6 flow",
    ]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None])
def test_it_takes_its_table_along(inside: Namespace, tmp_path: Path, how: signal.Signals | None) -> None:
    with hosted(inside, tmp_path) as one:
        one.hear(update_line(announcing(RULE)))
        one.waits_for(RULE)
        if how is None:
            assert one.process.stdin is not None
            one.process.stdin.close()
        else:
            one.process.send_signal(how)
        assert one.process.wait(20) == 0
        assert "stopbank" not in inside.run("nft", "list", "tables")


def test_whoever_follows_one_that_was_killed_starts_clean(inside: Namespace, tmp_path: Path) -> None:
    with hosted(inside, tmp_path) as first:
        first.hear(update_line(announcing(RULE)))
        first.waits_for(RULE)
    assert "stopbank" in inside.run("nft", "list", "tables"), "a killed process leaves its table"
    with hosted(inside, tmp_path) as second:
        second.waits_for()
        second.hear(update_line(announcing(OTHER)))
        second.waits_for(OTHER)


def test_bad_rules_protected_flows_and_strangers_leave_the_rest_alone(inside: Namespace, tmp_path: Path) -> None:
    protected = flowspec("match { destination 192.0.2.129/32; protocol =udp; } then { discard; }")
    loopback = flowspec("match { destination 192.0.2.77/32; protocol =udp; } then { discard; }")
    session = flowspec("match { source 192.0.2.1/32; protocol =tcp; } then { discard; }")
    nonsense = body(reach(Family.IPV4, bytes((3, 99, 0x81, 1)), wire.encode(RULE.match)), communities(RULE))
    redirect = body(reach(Family.IPV4, wire.encode(OTHER.match)), attribute(16, bytes.fromhex("8008fde800000064")))
    with hosted(inside, tmp_path) as one:
        one.hear(b'{"type": "update", "neighbor": {"direction": "receive"}}\n', b"\xff\xfe\n", update_line(b"\0\x05"))
        one.hear(update_line(announcing(OTHER), peer="192.0.2.99"))
        for rule in (protected, loopback, session):
            one.hear(update_line(announcing(rule)))
        one.hear(update_line(nonsense), update_line(redirect))
        one.waits_for(RULE)
        wait_until(lambda: len(status(tmp_path).get("refused", ())) == 5, "the status lists what was refused")  # type: ignore[arg-type]
        found = status(tmp_path)
        reasons = " ".join(entry["reason"] for entry in found["refused"])  # type: ignore[attr-defined]
        assert reasons.count("would touch what is protected") == 3
        assert "redirect" in reasons and "unknown component" in reasons
        assert found["counters"]["strangers"] == 1  # type: ignore[index]
        assert found["counters"]["malformed_updates"] == 1  # type: ignore[index]
        assert not found["trouble"]
        written = (tmp_path / "stderr").read_text()
        assert written.count("not enforced") == 7 and "unreadable event" in written


def test_a_table_that_somebody_removed_comes_back(inside: Namespace, tmp_path: Path) -> None:
    with hosted(inside, tmp_path) as one:
        one.hear(update_line(announcing(RULE)))
        one.waits_for(RULE)
        inside.run("nft", "flush", "ruleset")
        one.waits_for(RULE)
        inside.run("nft", "flush", "ruleset")
        one.hear(update_line(announcing(OTHER)))
        one.waits_for(RULE, OTHER)


def test_it_needs_no_more_than_net_admin(inside: Namespace) -> None:
    drop = ("--inh-caps", "-all,+net_admin", "--ambient-caps", "-all,+net_admin", "--bounding-set", "-all,+net_admin")
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups", *drop)
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        state.chmod(0o777)
        command = program(state)
        if subprocess.run([*nobody, "test", "-x", command[0]], capture_output=True, check=False).returncode:
            pytest.skip("an unprivileged user can't reach this Python")
        process = subprocess.Popen(inside.command(*nobody, *command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        one = Hosted(process, inside, state)
        try:
            one.hear(update_line(announcing(RULE)))
            one.waits_for(RULE)
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def test_a_thousand_rules_at_once_are_all_enforced(inside: Namespace, tmp_path: Path) -> None:
    rules = [
        flowspec(
            f"match {{ destination 203.0.{n >> 8}.{n & 255}/32; protocol =udp; source-port =53; }} then {{ discard; }}"
        )
        for n in range(1000)
    ]
    with hosted(inside, tmp_path) as one:
        one.hear(*(update_line(announcing(rule)) for rule in rules))
        one.waits_for(*rules)
