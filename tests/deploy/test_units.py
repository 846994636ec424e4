"""The systemd units name commands that exist, and privileges that are meant."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from command_line import parse_command

from rules.nft_rule import TABLE

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
INSTALLED = "/opt/stopbank/bin/stopbank"

pytestmark = pytest.mark.skipif(not UNITS, reason="deploy/systemd is only in a checkout")

CAPABILITIES = {
    "stopbank": set(),
    "stopbank-sensor": {"CAP_NET_RAW"},
    "stopbank-enforce": {"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"},
    "stopbank-intake": set(),
    "stopbank-web": set(),
    "stopbank-worker": set(),
}
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictNamespaces": "yes",
    "SystemCallArchitectures": "native",
}


def settings(unit: Path) -> dict[str, list[str]]:
    """Every key with its values, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text().splitlines():
        if (name := line.partition("=")[0]) and re.fullmatch(r"[A-Za-z]+", name):
            found[name].append(line.partition("=")[2])
    return found


def unit(name: str) -> dict[str, list[str]]:
    return settings(ROOT / "deploy" / "systemd" / f"{name}.service")


def test_there_is_a_unit_for_every_process() -> None:
    assert {one.stem for one in UNITS} == set(CAPABILITIES)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_every_unit_starts_a_command_that_exists_with_options_it_has(path: Path) -> None:
    (started,) = settings(path)["ExecStart"]
    program, _, arguments = started.partition(" ")
    assert program == INSTALLED
    parse_command(arguments.split())


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_has_exactly_the_capabilities_it_needs(path: Path) -> None:
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        (given,) = settings(path)[key]
        assert set(given.split()) == CAPABILITIES[path.stem], key


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_every_unit_is_hardened_and_runs_as_nobody_special(path: Path) -> None:
    found = settings(path)
    assert {name: found[name] for name in HARDENED} == {name: [value] for name, value in HARDENED.items()}
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert found["User"] == found["Group"] and found["User"] != ["root"]
    assert found["StateDirectory"], "ProtectSystem=strict leaves nothing writable without it"


def test_the_sensor_may_compile_and_open_packet_sockets_and_nobody_else_may() -> None:
    for name in CAPABILITIES:
        found = unit(name)
        is_sensor = name == "stopbank-sensor"
        assert ("AF_PACKET" in found["RestrictAddressFamilies"][0]) == is_sensor, name
        assert found["MemoryDenyWriteExecute"] == ([] if is_sensor else ["yes"]), name


def test_a_set_group_id_state_directory_is_not_forbidden_by_the_filter() -> None:
    for name in CAPABILITIES:
        found = unit(name)
        if found["StateDirectoryMode"] == ["2770"]:
            assert "RestrictSUIDSGID" not in found, name


def test_stopping_tells_the_supervisor_first_and_reloading_is_sighup() -> None:
    found = unit("stopbank")
    assert found["KillMode"] == ["mixed"]
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert int(found["TimeoutStopSec"][0]) > 10 + 3 * 5, "ExaBGP may take 10 s to end, each other child 5 s"


def test_the_intake_may_hold_many_files() -> None:
    for name in ("stopbank", "stopbank-intake"):
        assert int(unit(name)["LimitNOFILE"][0]) >= 4096


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    here = Path(sys.executable).parent / "stopbank"
    for path in UNITS:
        # The program must exist for systemd-analyze; this one does.
        (tmp_path / path.name).write_text(path.read_text().replace(INSTALLED, str(here)))
    copies = [str(tmp_path / path.name) for path in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *copies], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "stopbank" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_the_enforcer_leaves_no_table_behind_however_it_ended() -> None:
    (after,) = unit("stopbank-enforce")["ExecStopPost"]
    assert after == f"-/usr/sbin/nft delete table inet {TABLE}"
