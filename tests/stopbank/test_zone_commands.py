"""`stopbank zone`: nothing is replaced unasked, only what is given changes, and addresses have one owner."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
WEB = ("zone", "add", "web", "--prefix", "203.0.113.0/24")


def shown(run: Run, name: str = "web") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("zone", "show", name, "--json").out)
    return document


def test_every_setting_of_a_zone_can_be_given_and_is_shown(run: Run) -> None:
    done = run(
        *(*WEB, "--mode", "auto", "--owner", "ann", "--limit", "packets=1000", "--total-limit", "bits=9000000"),
        *("--prefix-factor", "2.5", "--not-learned", "--rate-limit", "125000", "--blackhole-above", "8000000000"),
        *("--rule-lifetime", "5m", "--collateral-limit", "0.02", "--automatic-rules", "7"),
    )
    assert done.code == 0, done.err
    assert shown(run) == {
        "name": "web", "prefixes": ["203.0.113.0/24"], "owner": "ann", "mode": "auto", "limits": {"packets": 1000},
        "prefix_factor": 2.5, "total_limits": {"bits": 9_000_000}, "learned": False,
        "action": shown(run)["action"], "rule_lifetime_seconds": 300, "collateral_limit": 0.02,
        "automatic_rules": 7, "blackhole": True, "blackhole_bits_per_second": 8_000_000_000,
    }  # fmt: skip
    text = run("zone", "show", "web").out
    for piece in ("ann", "packets 1,000", "bits 9,000,000", "2.5", "rate-limit 125000", "300 s", "2.00%", "8,000,000"):
        assert piece in text, piece


def test_adding_never_replaces(run: Run) -> None:
    run(*WEB, "--mode", "auto")
    again = run("zone", "add", "web", "--prefix", "198.51.100.0/24")
    assert again.code == 1 and "zone change" in again.err
    assert (shown(run)["mode"], shown(run)["prefixes"]) == ("auto", ["203.0.113.0/24"])


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (("--mode", "propose"), {"mode": "propose"}),
        (("--limit", "packets=7"), {"limits": {"packets": 7, "bits": 20}}),
        (("--limit", "bits=none"), {"limits": {"packets": 10}}),
        (("--limit", "flows=3"), {"limits": {"packets": 10, "bits": 20, "flows": 3}}),
        (("--total-limit", "flows=3"), {"total_limits": {"flows": 3}}),
        (("--add-prefix", "2001:db8::/48"), {"prefixes": ["203.0.113.0/24", "2001:db8::/48"]}),
        (
            ("--add-prefix", "203.0.112.0/24", "--remove-prefix", "203.0.113.0/24"),
            {"prefixes": ["203.0.112.0/24"]},
        ),
        (("--not-learned",), {"learned": False}),
        (("--rule-lifetime", "20s"), {"rule_lifetime_seconds": 20}),
        (("--blackhole-above", "5"), {"blackhole": True, "blackhole_bits_per_second": 5}),
        (("--owner", "bob"), {"owner": "bob"}),
    ],
)
def test_only_what_is_given_changes(run: Run, options: tuple[str, ...], changed: dict[str, Any]) -> None:
    run(*WEB, "--limit", "packets=10", "--limit", "bits=20", "--automatic-rules", "3")
    before = shown(run)
    done = run("zone", "change", "web", *options)
    assert done.code == 0, done.err
    assert shown(run) == before | changed


def test_back_to_discarding_and_to_no_blackholes(run: Run) -> None:
    run(*WEB)
    plain = shown(run)
    run("zone", "change", "web", "--rate-limit", "1000", "--blackhole-above", "5")
    assert shown(run)["action"] != plain["action"]
    run("zone", "change", "web", "--discard", "--no-blackhole")
    assert shown(run) == plain


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--remove-prefix", "203.0.113.0/24"),
        ("--remove-prefix", "198.51.100.0/24"),
        ("--discard", "--rate-limit", "5"),
        ("--no-blackhole", "--blackhole-above", "5"),
        ("--prefix-factor", "nan"),
        ("--collateral-limit", "1.5"),
        ("--rule-lifetime", "1s"),
        ("--rule-lifetime", "soon"),
        ("--automatic-rules", "-1"),
        ("--limit", "packets=1", "--limit", "packets=2"),
        ("--owner", ""),
        ("--add-prefix", "0.0.0.0/0"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(run: Run, options: tuple[str, ...]) -> None:
    run(*WEB)
    before = shown(run)
    done = run("zone", "change", "web", *options)
    assert done.code == 1 and done.err.startswith("error: "), done
    assert shown(run) == before


@pytest.mark.parametrize("given", ["packets", "packets=x", "speed=3", "packets=0", "packets=" + "9" * 5000])
def test_a_bad_limit_is_refused_and_no_zone_is_made(run: Run, given: str) -> None:
    assert run("zone", "add", "mail", "--prefix", "198.51.100.0/24").code == 0
    assert run(*WEB, "--limit", given).code == 1
    assert [one["name"] for one in json.loads(run("zone", "list", "--json").out)] == ["mail"]


def test_all_problems_are_told_at_once(run: Run) -> None:
    done = run("zone", "add", "web", "--prefix", "203.0.113.1/24", "--limit", "x=1", "--rule-lifetime", "x")
    assert [line.split(":")[1].strip() for line in done.err.splitlines()] == ["prefix", "limit", "rule-lifetime"]


def test_half_the_world_and_nobodys_addresses_are_no_zone(run: Run) -> None:
    for prefix in ("0.0.0.0/1", "128.0.0.0/1", "2000::/3", "224.0.0.0/24", "127.0.0.0/8", "fe80::/10"):
        done = run("zone", "add", "web", "--prefix", prefix, "--limit", "x=1")
        assert done.code == 1 and f"'{prefix}'" in done.err and "'x=1'" in done.err
    assert run(*WEB).code == 0
    done = run("zone", "change", "web", "--add-prefix", "ff02::/16")
    assert done.code == 1 and "multicast" in done.err


def test_addresses_have_one_owner_unless_they_are_shared_on_purpose(run: Run) -> None:
    run(*WEB, "--owner", "ann")
    assert run("zone", "add", "mine", "--prefix", "203.0.113.0/25", "--owner", "ann").code == 0
    foreign = ("zone", "add", "mail", "--prefix", "203.0.113.128/25", "--owner", "bob")
    refused = run(*foreign)
    assert refused.code == 1 and "zone web" in refused.err and "ann" in refused.err and "shared" in refused.err
    assert run(*foreign, "--shared").code == 0
    # What is shared stays so; what is new is asked again.
    assert run("zone", "change", "mail", "--mode", "auto").code == 0
    assert run("zone", "change", "mail", "--add-prefix", "203.0.113.0/26").code == 1
    assert run("zone", "change", "mine", "--owner", "carl").code == 1


def test_an_unknown_zone_is_said_to_be_unknown(run: Run) -> None:
    assert run("zone", "add", "mail", "--prefix", "198.51.100.0/24").code == 0
    for arguments in (("show", "web"), ("change", "web", "--mode", "auto"), ("remove", "web")):
        done = run("zone", *arguments)
        assert done.code == 1 and "'web'" in done.err


def test_a_prefix_that_no_zone_may_have_any_more_can_be_removed(run: Run, tmp_path: Path) -> None:
    assert run(*WEB).code == 0
    database = tmp_path / "state" / "stopbank.db"
    with sqlite3.connect(database) as opened:
        opened.execute(
            "UPDATE zones SET document = replace(document, '203.0.113.0/24', '0.0.0.0/1\", \"203.0.113.0/24')"
        )
    opened.close()
    assert "0.0.0.0/1" in run("zone", "show", "web").out
    assert run("zone", "change", "web", "--mode", "auto").code == 1
    assert run("zone", "change", "web", "--remove-prefix", "0.0.0.0/1", "--mode", "auto").code == 0


def test_what_is_wrong_has_the_name_that_was_typed(run: Run) -> None:
    wrong = {
        "--prefix-factor": "nan", "--collateral-limit": "nan", "--automatic-rules": "-1", "--rule-lifetime": "2d",
        "--blackhole-above": "0", "--limit": "packets=0", "--total-limit": "bits=0", "--owner": "a\tb",
    }  # fmt: skip
    given = [word for pair in wrong.items() for word in pair]
    done = run("zone", "add", "web", "--prefix", "203.0.113.0/24", *given)
    named = {line.split(":")[1].strip().split(" ")[0] for line in done.err.splitlines()}
    assert done.code == 1 and named == {option.removeprefix("--") for option in wrong}
