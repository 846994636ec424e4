import os
import subprocess
import sys
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import neighbours

from rules.errors import Refused
from rules.neighbour import Neighbour, SessionFamily
from speaker import config_exabgp

EXABGP = Path(sys.executable).with_name("exabgp")
EXAMPLE = Path(__file__).parents[2] / "exabgp.conf.example"


def problems(path: Path, variables: dict[str, str]) -> str:
    """What `exabgp validate` has against a configuration; empty: nothing."""
    outcome = subprocess.run(
        [str(EXABGP), "validate", "-nrv", str(path)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if outcome.returncode == 0 else outcome.stdout + outcome.stderr


# A process for each example: the search for the smallest failure would take minutes.
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(neighbours(), min_size=1, max_size=6, unique_by=lambda one: one.peer_address))
def test_exabgp_accepts_every_configuration_we_write(tmp_path: Path, them: list[Neighbour]) -> None:
    path = tmp_path / "exabgp.conf"
    config_exabgp.write(path, config_exabgp.render(them, [sys.executable, "-m", "stopbank", "speaker"]))
    assert path.stat().st_mode & 0o777 == 0o600
    assert problems(path, config_exabgp.environment("root", "INFO")) == ""


def test_exabgp_accepts_the_example() -> None:
    assert problems(EXAMPLE, config_exabgp.environment("root")) == ""


def test_the_example_says_what_we_generate() -> None:
    """Each setting of the example's first neighbour, in our order, and no other."""
    one = Neighbour(
        name="edge1-flowspec",
        peer_address=ip_address("192.0.2.1"),
        local_address=ip_address("192.0.2.10"),
        peer_as=64500,
        local_as=64500,
        router_id=IPv4Address("192.0.2.10"),
        families=frozenset({SessionFamily.IPV4_FLOW, SessionFamily.IPV6_FLOW}),
        gtsm_hops=1,
        md5_password="change-me",
    )
    command = ["/usr/bin/env", "stopbank", "speaker", "--config", "/etc/stopbank/stopbank.toml"]
    statements = [line.strip() for line in config_exabgp.render([one], command).splitlines() if line.strip()]
    example = [line.strip() for line in EXAMPLE.read_text().splitlines()]
    example = [line for line in example if line and not line.startswith("#")]
    assert example[: len(statements)] == statements


@pytest.mark.parametrize("command", [[], ["stopbank"], ["/bin/true", "a b"], ["/bin/true", "x;"], ["/bin/true", "{"]])
def test_a_command_line_that_exabgp_would_read_differently_is_refused(command: list[str]) -> None:
    with pytest.raises(Refused):
        config_exabgp.render([], command)


@pytest.mark.parametrize(("user", "level"), [("root; rm", "INFO"), ("root", "ERR")])
def test_an_environment_that_exabgp_would_not_start_with_is_refused(user: str, level: str) -> None:
    with pytest.raises(Refused):
        config_exabgp.environment(user, level)


def test_the_environment_is_written_a_variable_a_line() -> None:
    text = config_exabgp.environment_text(config_exabgp.environment("stopbank"))
    assert "exabgp.api.show-routes-format=v2\n" in text
    assert all(line.count("=") == 1 for line in text.splitlines())
