"""The configuration file: strict about keys, complete about problems, silent about secrets."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import Refused
from rules.neighbour import Role, SessionFamily
from stopbank.config import Config, load, neighbours, parse

EXAMPLE = Path(__file__).resolve().parents[2] / "stopbank.toml.example"

NEIGHBOUR = """
[speaker]
router_id = "192.0.2.10"
local_as = 64500
[[neighbours]]
name = "edge"
peer_address = "192.0.2.1"
local_address = "192.0.2.10"
peer_as = 64500
"""


def fields(error: pytest.ExceptionInfo[Refused]) -> list[str]:
    return [problem.field for problem in error.value.problems]


def test_the_shipped_example_is_valid_and_means_what_it_says() -> None:
    config = load(EXAMPLE, {})
    found = {one.name: one for one in neighbours(config)}
    assert found["edge1-flow"].is_internal
    assert found["edge1-flow"].families == {SessionFamily.IPV4_FLOW, SessionFamily.IPV6_FLOW}
    assert found["transit-a"].role is Role.UPSTREAM
    assert found["transit-a"].blackhole_communities == ((64496, 666),)
    assert found["edge1-rtbh"].next_hop_ipv4 == IPv4Address("192.0.2.254")


def test_an_empty_file_is_a_valid_configuration() -> None:
    assert parse("", "test") == Config()


def test_unknown_keys_are_named_with_their_section() -> None:
    with pytest.raises(Refused) as error:
        parse("[web]\nprot = 1\n[wbe]\n", "test")
    assert fields(error) == ["web.prot", "wbe"]


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(Refused) as error:
        parse('[web]\nport = 99999\n[speaker]\nprotected = ["192.0.2.1/24"]\nlocal_as = 0\n', "test")
    assert sorted(fields(error)) == ["speaker.local_as", "speaker.protected[0]", "web.port"]
    assert "192.0.2.0/24" in str(error.value)


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        ('[sensor]\ninterfaces = "eth0"', "sensor.interfaces", 'must be a list: ["eth0"]'),
        ("[sensor]\ninterfaces = [1]", "sensor.interfaces[0]", "must be text, in quotes"),
        ('[sensor]\nring_megabytes = "many"', "sensor.ring_megabytes", "must be a whole number"),
        ("[sensor]\nsampling = 1.5", "sensor.sampling", "must be a whole number"),
        ("[sensor]\nsampling = 0", "sensor.sampling", "must be at least 1"),
        ('[sensor]\nvantage = "up"', "sensor.vantage", "must be 'upstream' or 'downstream'"),
        ('[sensor]\npromiscuous = "perhaps"', "sensor.promiscuous", "must be true or false"),
        ("[sensor.slow]\nports = [70000]", "sensor.slow.ports[0]", "must be at most 65535"),
        ("[sensor]\nlearning = 3", "sensor.learning", "must be a table: [sensor.learning], with lines below it"),
        ("sensor = 3", "sensor", "must be a table: [sensor], with lines below it"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_what_would_be_right(text: str, field: str, reason: str) -> None:
    with pytest.raises(Refused) as error:
        parse(text, "test")
    assert [(problem.field, problem.reason) for problem in error.value.problems] == [(field, reason)]


def test_values_that_do_not_go_together_are_all_named_at_once() -> None:
    text = """
    speaker = { local_as = 65000, router_id = "192.0.2.1" }
    worker = { webhook_url = "https://hooks.example.net" }
    [[neighbours]]
    name = "one"
    peer_address = "192.0.2.2"
    local_address = "2001:db8::1"
    peer_as = 65000
    profiles = ["cisco"]
    hold_time_seconds = 1
    [[neighbours]]
    name = "one"
    peer_address = "192.0.2.2"
    local_address = "192.0.2.1"
    peer_as = 65000
    """
    with pytest.raises(Refused) as caught:
        parse(text, "text")
    assert {problem.field for problem in caught.value.problems} == {
        "neighbours[0].profiles",
        "neighbours[0].peer_address",
        "neighbours[0].hold_time_seconds",
        "neighbours[1].name",
        "neighbours[1].peer_address",
        "worker.webhook_secret",
    }


@pytest.mark.parametrize(("given", "is_good"), [("0.0.0.0", True), ("::1", True), ("localhost", True), ("here", False)])
@pytest.mark.parametrize("section", ["web", "intake"])
def test_what_nobody_can_listen_on_is_refused(section: str, given: str, is_good: bool) -> None:
    text = f'[{section}]\nlisten = "{given}"'
    if is_good:
        parse(text, "text")
    else:
        with pytest.raises(Refused, match=rf"{section}.listen: 'here': is no address to listen on"):
            parse(text, "text")


def test_a_neighbour_inherits_router_id_and_as_from_the_speaker() -> None:
    (edge,) = neighbours(parse(NEIGHBOUR, "test"))
    assert (edge.local_as, edge.router_id) == (64500, IPv4Address("192.0.2.10"))


def test_a_neighbour_without_any_local_as_is_refused() -> None:
    with pytest.raises(Refused) as error:
        parse(NEIGHBOUR.replace("local_as = 64500", ""), "test")
    assert fields(error) == ["neighbours[0].local_as"]


def test_two_neighbours_with_one_address_are_refused() -> None:
    second = NEIGHBOUR[NEIGHBOUR.index("[[") :].replace('"edge"', '"edge2"')
    with pytest.raises(Refused) as error:
        parse(NEIGHBOUR + second, "test")
    assert fields(error) == ["neighbours[1].peer_address"]


def test_graceful_restart_of_zero_turns_it_off() -> None:
    (edge,) = neighbours(parse(NEIGHBOUR + "graceful_restart_seconds = 0\n", "test"))
    assert edge.graceful_restart_seconds is None


def test_the_environment_overrides_the_file() -> None:
    environment = {
        "STOPBANK_WEB__PORT": "9000",
        "STOPBANK_SENSOR__NAME": "east",
        "STOPBANK_CONFIG": "ignored",
        "PATH": "/",
    }
    config = parse("[web]\nport = 8000\n", "test", environment)
    assert (config.web.port, config.sensor.name) == (9000, "east")


def test_a_misspelt_override_is_refused() -> None:
    with pytest.raises(Refused) as error:
        parse("", "test", {"STOPBANK_WEB__PROT": "1"})
    assert fields(error) == ["web.prot"]
    with pytest.raises(Refused) as error:
        parse("", "test", {"STOPBANK_PORT": "1"})
    assert fields(error) == ["STOPBANK_PORT"]


def test_secrets_appear_neither_in_errors_nor_in_representations() -> None:
    text = NEIGHBOUR + 'md5_password = "hunter2"\n'
    assert "hunter2" not in repr(parse(text, "test"))
    with pytest.raises(Refused) as error:
        parse(text.replace("hunter2", "hunter 2"), "test")
    assert "hunter 2" not in str(error.value)
    assert fields(error) == ["neighbours[0].md5_password"]


def test_a_webhook_without_a_secret_is_refused() -> None:
    with pytest.raises(Refused) as error:
        parse('[worker]\nwebhook_url = "https://example.net/"\n', "test")
    assert fields(error) == ["worker.webhook_secret"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[web", b"web = 3"])
def test_a_file_that_is_no_configuration_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stopbank.toml"
    path.write_bytes(content)
    with pytest.raises(Refused):
        load(path, {})
    with pytest.raises(Refused, match="absent"):
        load(tmp_path / "absent", {})


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('peer_address = "fe80::1%a\\n}; b"', "neighbours[0].peer_address"),
        ('peer_address = "192.0.2.1"\nnext_hop_ipv6 = "fe80::1%a b"', "neighbours[0].next_hop_ipv6"),
        ('peer_address = "192.0.2.1"\nprofiles = ["bogus"]', "neighbours[0].profiles"),
        (
            f'peer_address = "192.0.2.1"\nblackhole_communities = ["{"9" * 5000}:1"]',
            "neighbours[0].blackhole_communities",
        ),
    ],
)
def test_what_exabgp_or_the_speaker_could_not_take_is_refused_here(line: str, field: str) -> None:
    with pytest.raises(Refused) as error:
        parse(NEIGHBOUR.replace('peer_address = "192.0.2.1"', line), "test")
    assert fields(error) == [field]


@pytest.mark.parametrize("text", [f"a = {'9' * 5000}", "a = " + "[" * 5000])
def test_numbers_and_nestings_beyond_measure_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not TOML"):
        parse(text, "test")


def test_a_table_in_the_wrong_place_does_not_show_the_password_in_it() -> None:
    text = NEIGHBOUR.replace("[[neighbours]]", "[neighbours]") + 'md5_password = "hunter2"\n'
    with pytest.raises(Refused) as error:
        parse(text, "test")
    assert all("hunter2" not in problem.value for problem in error.value.problems)


@given(st.text())
def test_arbitrary_text_gives_a_configuration_or_a_refusal(text: str) -> None:
    try:
        assert isinstance(parse(text, "test"), Config)
    except Refused as error:
        assert error.problems
