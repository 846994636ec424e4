"""`stopbank rules`: text, values and bytes agree, and what is wrong is said once, clearly, with the right exit code."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RULE = "match { destination 203.0.113.7/32; protocol =udp; source-port [ =53 =123 ]; } then { discard; }"
Run = Callable[..., Any]


def test_encode_writes_what_decode_reads(run: Run) -> None:
    encoded = run("rules", "encode", RULE)
    assert encoded.code == 0
    decoded = run("rules", "decode", "--family", "ipv4", encoded.out.strip())
    assert decoded.out.strip() == RULE.partition(" then")[0]


def test_encode_keeps_the_spelling_and_tells_what_would_be_announced(run: Run) -> None:
    document = json.loads(run("rules", "encode", RULE.replace("=53 =123", "=123 =53"), "--json").out)
    assert document["nlri"] == "0e0120cb00710703811106017b8135"
    assert document["announced"]["nlri"] == "0e0120cb007107038111060135817b"
    assert document["extended_communities"] == "8006000000000000"


def test_decode_of_rule_and_action(run: Run) -> None:
    done = run("rules", "decode", "--family", "ipv4", "--communities", "8006000047f42400", "0b0118c00002038106048119")
    assert (
        done.out.strip() == "match { destination 192.0.2.0/24; protocol =tcp; port =25; } then { rate-limit 125000; }"
    )


@pytest.mark.parametrize(
    ("family", "nlri"),
    [
        ("ipv4", ""),
        ("ipv4", "zz"),
        ("ipv4", "00"),
        ("ipv4", "0b0118c00002"),
        ("ipv4", "03038106ff"),
        ("ipv4", "0603810602"),
        ("ipv4", "030d8105"),
        ("ipv6", "0401202001"),
    ],
)
def test_an_nlri_that_is_forbidden_ends_in_one_line_and_exit_1(run: Run, family: str, nlri: str) -> None:
    done = run("rules", "decode", "--family", family, nlri)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1 and done.err.startswith("error: nlri: ")


def test_every_problem_of_a_rule_is_reported_at_once(run: Run) -> None:
    text = "match { destination 203.0.113.7/24; protocol foo; source-port [ =53 =70000 ]; } then { rate-limit x; }"
    done = run("rules", "render", text)
    assert done.code == 1
    assert [line.split(":")[1].strip() for line in done.err.splitlines()] == [
        "destination",
        "protocol",
        "source-port",
        "rate-limit",
    ]
    findings = json.loads(run("rules", "render", text, "--json").out)["findings"]
    assert len(findings) == 4


def test_two_spellings_have_one_id(run: Run) -> None:
    ids = {
        json.loads(run("rules", "render", RULE.replace("[ =53 =123 ]", ports), "--json").out)["id"]
        for ports in ("[ 123 53 ]", "[ =53 =123 ]", "[ =123 =53 =53 ]")
    }
    assert len(ids) == 1


def test_a_rule_goes_through_the_guard_before_it_is_kept(run: Run) -> None:
    assert run("zone", "add", "web", "--prefix", "203.0.113.0/24").code == 0
    outside = RULE.replace("203.0.113.7", "198.51.100.7")
    refused = run("rules", "add", outside, "--reason", "test")
    assert refused.code == 1 and "destination" in refused.err
    assert run("rules", "list").out.strip() == "no rules"
    assert run("rules", "check", outside).code == 1
    assert run("rules", "check", RULE).code == 0


def test_an_operators_rule_from_its_birth_to_its_end(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    added = json.loads(run("rules", "add", RULE, "--reason", "attack", "--for", "1h", "--json").out)
    assert added["ok"] and not added["speaker_told"]
    (listed,) = json.loads(run("rules", "list", "--json").out)
    assert (listed["id"], listed["intent"], listed["reason"]) == (added["id"], "wanted", "attack")
    assert run("rules", "extend", added["id"], "--reason", "goes on", "--for", "2h").code == 0
    assert run("rules", "withdraw", added["id"], "--reason", "over").code == 0
    again = run("rules", "withdraw", added["id"], "--reason", "over")
    assert again.code == 1 and added["id"] in again.err
    (ended,) = json.loads(run("rules", "list", "--all", "--json").out)
    assert ended["intent"] == "ended"
    assert json.loads(run("audit", "verify", "--json").out)["ok"]


def test_the_same_rule_twice_is_refused_with_the_reason(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    run("rules", "add", RULE, "--reason", "one")
    again = run("rules", "add", RULE, "--reason", "two", "--json")
    assert again.code == 1
    assert not json.loads(again.out)["ok"]


def test_a_bad_rule_and_a_bad_duration_are_reported_together(run: Run) -> None:
    done = run("rules", "add", RULE.replace("7/32", "7/24"), "--reason", "x", "--for", "soon")
    assert done.code == 1
    assert "destination" in done.err and "for: 'soon'" in done.err


def test_backup_and_restore_bring_everything_back(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    run("rules", "add", RULE, "--reason", "attack")
    assert run("backup", "copy.db").code == 0
    assert run("backup", "copy.db").code == 2
    run("zone", "remove", "web")
    assert run("restore", "copy.db").code == 0
    assert len(json.loads(run("rules", "list", "--json").out)) == 1
    assert json.loads(run("audit", "verify", "--json").out)["ok"]


def test_a_restored_database_is_as_open_and_as_closed_as_the_one_before(run: Run, tmp_path: Path) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    run("backup", "copy.db")
    (database,) = tmp_path.rglob("stopbank.db")
    for mode in (0o660, 0o640):
        database.chmod(mode)
        assert run("restore", "copy.db").code == 0
        assert stat.S_IMODE(database.stat().st_mode) == mode
    database.rename(tmp_path / "gone")
    assert run("restore", "copy.db").code == 0
    assert stat.S_IMODE(database.stat().st_mode) == 0o660


def test_what_is_no_backup_is_not_restored(run: Run, tmp_path: Any) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    (tmp_path / "junk").write_bytes(b"not a database" * 100)
    assert run("restore", "junk").code in (1, 2)
    assert run("restore", "absent").code == 2
    assert "web" in run("zone", "list").out


def test_a_database_that_cannot_be_opened_is_one_clear_line(run: Run, tmp_path: Any) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    done = run("zone", "list")
    assert done.code == 2 and done.err.count("\n") == 1


def test_a_rule_is_not_extended_beyond_what_the_guard_lets_stand(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    added = json.loads(run("rules", "add", RULE, "--reason", "attack", "--json").out)
    refused = run("rules", "extend", added["id"], "--reason", "goes on", "--for", "30d")
    assert refused.code == 1 and "86400 s" in refused.err
    (listed,) = json.loads(run("rules", "list", "--json").out)
    assert listed["deadline"] == added["deadline"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("rules", "add", RULE, "--reason", "x", "--for", "999999999d"),
        ("rules", "add", RULE, "--reason", "not text: \udcff"),
        ("sensor", "token", "edge", "--valid", "999999999d"),
        ("zone", "add", "more", "--prefix", "203.0.113.0/24", "--owner", ""),
        ("zone", "add", "more", "--prefix", "203.0.113.0/24", "--blackhole-above", "-5"),
    ],
)
def test_what_cannot_be_kept_ends_in_a_clear_line_and_changes_nothing(run: Run, arguments: tuple[str, ...]) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    done = run(*arguments)
    assert done.code == 1 and done.err.startswith("error: ")
    assert run("rules", "list").out.strip() == "no rules"
    assert len(json.loads(run("zone", "list", "--json").out)) == 1


def test_only_a_rule_that_stands_can_be_replaced(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    done = run("rules", "add", RULE, "--reason", "x", "--replaces", "nonsense")
    assert done.code == 1 and "nonsense" in done.err
    assert run("rules", "list").out.strip() == "no rules"


def test_a_refusal_has_one_form_whoever_refuses(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    asked = [
        ("rules", "check", RULE.replace("203.0.113.7", "198.51.100.7"), "--json"),
        ("rules", "check", RULE.replace("7/32", "7/24"), "--json"),
        ("rules", "add", RULE, "--reason", "x", "--for", "2d", "--json"),
        ("rules", "withdraw", "nonsense", "--reason", "x", "--json"),
        ("rules", "render", "nonsense", "--json"),
        ("zone", "add", "web", "--prefix", "203.0.113.0/24", "--json"),
    ]
    for arguments in asked:
        done = run(*arguments)
        document = json.loads(done.out)
        assert done.code == 1 and document["ok"] is False, arguments
        assert {frozenset(one) for one in document["findings"]} == {
            frozenset(("id", "severity", "field", "value", "reason", "fix"))
        }


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2000])
def test_a_reason_that_says_nothing_or_too_much_is_refused(run: Run, reason: str) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    refused = run("rules", "add", RULE, "--reason", reason)
    assert refused.code == 1 and refused.err.startswith("error: reason")
    added = json.loads(run("rules", "add", RULE, "--reason", "attack", "--json").out)
    assert run("rules", "extend", added["id"], "--reason", reason).code == 1
    assert run("rules", "withdraw", added["id"], "--reason", reason).code == 1
    assert len(json.loads(run("rules", "list", "--json").out)) == 1


def test_a_tenants_rule_is_judged_by_the_tenants_rights_unless_said_otherwise(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24", "--owner", "ann")
    assert run("rules", "check", RULE).code == 0
    assert run("rules", "check", RULE, "--owner", "ann").code == 0
    assert run("rules", "check", RULE, "--owner", "bob").code == 1
    # The word that once granted everything is a name like any other.
    assert run("rules", "check", RULE, "--owner", "operator").code == 1
    done = run("rules", "add", RULE, "--owner", "bob", "--as-operator", "--reason", "asked by phone")
    assert done.code == 0
    (listed,) = json.loads(run("rules", "list", "--json").out)
    assert listed["owner"] == "bob"
    assert run("rules", "check", RULE, "--owner", " ").code == 1


def test_a_long_list_says_that_there_is_more_and_goes_on(run: Run) -> None:
    run("zone", "add", "web", "--prefix", "203.0.113.0/24")
    for host in (7, 8, 9):
        run("rules", "add", RULE.replace("113.7/32", f"113.{host}/32"), "--reason", "attack")
    first = run("rules", "list", "--all", "--limit", "2", "--json")
    assert len(json.loads(first.out)) == 2 and "--skip 2" in first.err
    rest = run("rules", "list", "--all", "--limit", "2", "--skip", "2", "--json")
    assert len(json.loads(rest.out)) == 1 and rest.err == ""
    assert run("rules", "list", "--all", "--limit", "3").err == ""
