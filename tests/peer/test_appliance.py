"""The whole appliance as a user starts it: sensor, intake, speaker, ExaBGP and web, beside an edge with BIRD."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import needs
import pytest

from lab.appliance import Appliance
from lab.bird import Bird
from lab.namespaces import Port, join, namespaces, stop, wait_until
from lab.sender import Stream
from lab.session import Configuration, Session
from lab.topology import LOCAL_AS, Lab, lab
from lab.watch import Watch, holds_flowspec
from rules.match import Network
from speaker import killswitch

pytestmark = pytest.mark.peer

PROGRAMS = ("ip", "bird", "birdc", "gobgpd", "gobgp", "vtysh", "nft", "tc")
LIMITS = ("packets=15000", "udp_packets=10000", "amplification_packets=5000", "syn_packets=5000")
ATTACK_PPS = 20_000
WITHIN_SECONDS = 40.0
EXTRA_LOCAL, EXTRA_PEER = IPv4Interface("10.64.0.17/30"), IPv4Interface("10.64.0.18/30")
EXTRA = f"""
[[neighbours]]
name = "extra"
peer_address = "{EXTRA_PEER.ip}"
local_address = "{EXTRA_LOCAL.ip}"
peer_as = {LOCAL_AS}
profiles = ["bird"]
budget = 100
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[tuple[Lab, Appliance]]:
    """One appliance for the whole file; the tests leave it without rules and incidents that act."""
    needs.root_and(*PROGRAMS)
    with lab() as up:
        stopbank = Appliance(up, LIMITS, "observe")
        try:
            stopbank.start()
            yield up, stopbank
        finally:
            stopbank.kill()


def destinations(router: Bird) -> set[str]:
    """What the router's rules are for."""
    return {str(held.match.destination) for held in router.flowspec() if held.match is not None}


def processes(stopbank: Appliance, command: str) -> list[int]:
    """This appliance's own processes of that `stopbank` command."""
    wanted = [command, "--config", str(stopbank.config)]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
            # Python, the script, and nothing else before: `sensor run` is not `run`.
            if line[2:] == wanted:
                found.append(int(path.parent.name))
    return found


def speaker_pid(stopbank: Appliance) -> int:
    return int(json.loads((stopbank.state / killswitch.PID).read_text())["pid"])


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def set_mode(stopbank: Appliance, mode: str) -> None:
    stopbank.command("zone", "change", "demo", "--mode", mode)


def add(stopbank: Appliance, host: int) -> tuple[str, str]:
    """An operator's rule: its id and destination."""
    rule = f"match {{ destination 203.0.113.{host}/32; protocol =udp; source-port =53; }} then {{ discard; }}"
    return stopbank.command("rules", "add", rule, "--reason", "test").split()[0], f"203.0.113.{host}/32"


@contextlib.contextmanager
def attack(up: Lab, host: int, seconds: float = 60) -> Iterator[str]:
    """UDP amplification against a host while the context lasts, at most so long; gives the target."""
    target: Network = IPv4Network(f"203.0.113.{host}/32")
    process = up.attack([Stream("udp_amp:ntp", target, ATTACK_PPS, seconds, seed=host)])
    try:
        yield str(target)
    finally:
        stop(process, signal.SIGKILL)  # type: ignore[arg-type]
        assert process.stdout is not None
        process.stdout.close()


def neighbours(stopbank: Appliance) -> dict[str, dict[str, Any]]:
    """What the speaker says of its neighbours; empty while it does not answer."""
    said = stopbank.status().get("speaker") or {}
    return {one["name"]: one for one in said.get("neighbours", [])}


def standing(stopbank: Appliance, up: Lab) -> tuple[str, dict[str, int]]:
    """Since when BIRD's session is up, and how often each session went down."""
    return up.bird.ask("show protocols speaker"), {
        name: one["flaps"] for name, one in neighbours(stopbank).items() if name != "extra"
    }


def observed(stopbank: Appliance, target: str) -> bool:
    return any(target in one["target"] for one in stopbank.status()["incidents"])


def test_observing_notes_the_attack_and_announces_nothing(stack: tuple[Lab, Appliance]) -> None:
    up, stopbank = stack
    with attack(up, 21) as target:
        wait_until(lambda: observed(stopbank, "203.0.113.21"), f"no incident for {target}", WITHIN_SECONDS, 0.2)
        # The speaker answers and has nothing to say, with the incident open and the attack going on.
        for _ in range(3):
            assert all(one["rules"] == {} for one in neighbours(stopbank).values())
            assert destinations(up.bird) == set()
    assert json.loads(stopbank.command("rules", "list", "--json")) == []


def test_an_attack_ends_in_a_rule_on_the_router_and_no_other_host_has_one(stack: tuple[Lab, Appliance]) -> None:
    up, stopbank = stack
    set_mode(stopbank, "auto")
    with attack(up, 22) as target:
        wait_until(lambda: target in destinations(up.bird), f"no rule for {target}", WITHIN_SECONDS)
    # The incident seen before is still open, and may act since it is allowed to.
    assert destinations(up.bird) <= {target, "203.0.113.21/32"}


def test_a_neighbour_added_on_reload_is_told_everything_and_one_removed_is_forgotten(
    stack: tuple[Lab, Appliance],
) -> None:
    up, stopbank = stack
    _, target = add(stopbank, 31)
    wait_until(lambda: target in destinations(up.bird), "the rule does not arrive")
    before, configured = standing(stopbank, up), stopbank.config.read_text()
    with namespaces("extra") as (space,):
        join(Port(up.stopbank, "extra", (EXTRA_LOCAL,)), Port(space, "stopbank", (EXTRA_PEER,)))
        session = Session(EXTRA_PEER.ip, EXTRA_LOCAL.ip, LOCAL_AS, LOCAL_AS)
        with Bird(space, Configuration(EXTRA_PEER.ip, (session,))) as extra:
            stopbank.config.write_text(configured + EXTRA)
            reload(stopbank)
            wait_until(lambda: target in destinations(extra), "the added neighbour is told nothing", WITHIN_SECONDS)
            assert destinations(extra) == destinations(up.bird)
            # It is a neighbour like any other: what comes later arrives, too.
            _, later = add(stopbank, 32)
            wait_until(lambda: later in destinations(extra), "the added neighbour is told nothing new", WITHIN_SECONDS)
            stopbank.config.write_text(configured)
            reload(stopbank)
            wait_until(lambda: not extra.established(), "the removed neighbour's session stays", WITHIN_SECONDS)
            wait_until(lambda: "extra" not in neighbours(stopbank), "the removed neighbour is listed", WITHIN_SECONDS)
            wait_until(lambda: destinations(extra) == set(), "the removed neighbour keeps rules", WITHIN_SECONDS)
    _, last = add(stopbank, 33)
    wait_until(lambda: last in destinations(up.bird), "nothing new is announced after a neighbour left")
    assert {target, later, last} <= destinations(up.bird)
    assert standing(stopbank, up) == before
    assert "may still hold" not in (up.directory / "run.log").read_text()


def reload(stopbank: Appliance) -> None:
    os.kill(int((stopbank.state / "run.pid").read_text()), signal.SIGHUP)


def test_killed_in_the_middle_of_an_attack_speaker_and_intake_come_back_and_the_rule_stays(
    stack: tuple[Lab, Appliance],
) -> None:
    up, stopbank = stack
    set_mode(stopbank, "auto")
    with attack(up, 41, 90) as target:
        wait_until(lambda: target in destinations(up.bird), f"no rule for {target}", WITHIN_SECONDS)
        with Watch({"bird": holds_flowspec(up.bird, target.removesuffix("/32"))}) as watch:
            before = speaker_pid(stopbank)
            kill([before, *processes(stopbank, "intake")])
            wait_until(lambda: speaker_pid(stopbank) != before, "no new speaker", WITHIN_SECONDS)
            wait_until(lambda: recovered(stopbank), "not recovered", WITHIN_SECONDS, 0.2)
            # Another victim: the whole path works again, from sensor to router.
            with attack(up, 42) as other:
                wait_until(lambda: other in destinations(up.bird), f"no rule for {other}", WITHIN_SECONDS)
        assert watch.seen["bird"].came is not None and watch.seen["bird"].went is None


def recovered(stopbank: Appliance) -> bool:
    status = stopbank.status()
    return bool((status.get("speaker") or {}).get("synced")) and any(one["alive"] for one in status["sensors"])


def test_the_kill_switch_works_with_web_intake_database_and_speaker_dead(stack: tuple[Lab, Appliance]) -> None:
    up, stopbank = stack
    _, target = add(stopbank, 51)
    wait_until(lambda: target in destinations(up.bird), "the rule does not arrive")
    elsewhere = up.directory / "moved"
    elsewhere.mkdir()
    kill(processes(stopbank, "web"))
    stopped = speaker_pid(stopbank)
    os.kill(stopped, signal.SIGSTOP)
    kill(processes(stopbank, "intake"))
    moved = [path.rename(elsewhere / path.name) for path in stopbank.state.glob("stopbank.db*")]
    # In its place something that nobody can open, or the next to look makes a new and empty one.
    database = stopbank.state / "stopbank.db"
    assert database.name in {path.name for path in moved}
    database.mkdir()
    report = json.loads(stopbank.command("kill", "withdraw-all", "--json"))
    assert report["ok"] and report["was_killed"] and report["clear"] == report["neighbours"] == 4, report
    assert speaker_pid(stopbank) != stopped
    wait_until(lambda: not up.bird.flowspec() and not up.bird.blackholes(), "rules stay")
    database.rmdir()
    for path in moved:
        path.rename(stopbank.state / path.name)
    assert json.loads(stopbank.command("kill", "normal", "--json"))["ok"]
    wait_until(lambda: target in destinations(up.bird), "what is still wanted does not come back", WITHIN_SECONDS)


def test_stop_withdraw_leaves_nothing_on_the_routers_and_no_process(stack: tuple[Lab, Appliance]) -> None:
    up, stopbank = stack
    _, target = add(stopbank, 61)
    wait_until(lambda: target in destinations(up.bird), "the rule does not arrive")
    children = [speaker_pid(stopbank), *processes(stopbank, "run"), *processes(stopbank, "intake")]
    assert "everything withdrawn" in stopbank.command("stop", "--withdraw")
    assert up.bird.flowspec() == () and up.bird.blackholes() == ()
    assert up.frr.flowspec() == () and up.gobgp.flowspec() == ()
    wait_until(lambda: not any(is_running(pid) for pid in children), "a process stays")


def is_running(pid: int) -> bool:
    """Whether it lives; one that nobody has waited for yet does not."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def test_the_kill_switch_of_a_stopped_appliance_says_what_it_can_do(stack: tuple[Lab, Appliance]) -> None:
    _, stopbank = stack
    if processes(stopbank, "run"):
        stopbank.command("stop", "--withdraw")
    for mode in ("freeze", "normal"):
        report = json.loads(stopbank.command("kill", mode, "--json"))
        assert report["ok"] and "no speaker runs" in report["note"]
    report = json.loads(stopbank.command("kill", "withdraw-all", "--json", check=False))
    assert not report["ok"] and "routers may still hold rules" in report["problem"]
