"""The audit chain: no row changes, disappears, moves or appears unseen, and the database refuses to try."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError
from stored import NOW, admitted

from rules.errors import Refused
from store import audit, checkpoint
from store.database import Concern
from store.models import AuditLine, RuleHistoryRow
from store.records import AuditHead, AuditRow
from store.store import Store

json_values = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5))


def grown(store: Store, count: int = 6) -> list[AuditRow]:
    for number in range(count):
        store.audit("ann", "test", f"subject {number}", {"number": number}, NOW)
    return list(reversed(store.audit_rows()))


@pytest.fixture
def chain(store: Store) -> list[AuditRow]:
    """Seven rows: one for the zone, six more."""
    return grown(store)


def test_an_empty_chain_is_sound(path: Path) -> None:
    with Store.open(path) as empty:
        assert empty.audit_head() == AuditHead(0, audit.GENESIS)
        assert empty.verify_audit(empty.audit_head()).is_sound


@given(detail=json_values, actor=st.text(max_size=20))
def test_whatever_is_audited_verifies(
    tmp_path_factory: pytest.TempPathFactory, detail: dict[str, object], actor: str
) -> None:
    with Store.open(tmp_path_factory.mktemp("audit") / "a.db") as store:
        store.audit(actor, "test", "x", detail, NOW)
        verdict = store.verify_audit(store.audit_head())
        assert verdict.is_sound, verdict


@given(data=st.data())
def test_any_one_change_to_a_chain_shows(data: st.DataObject) -> None:
    rows = made_up(6)
    head = AuditHead(len(rows), rows[-1].hash)
    assert audit.verify(iter(rows), head).is_sound
    spoiled = data.draw(spoilings(rows))
    assert not audit.verify(iter(spoiled), head).is_sound


def made_up(count: int) -> list[AuditRow]:
    rows: list[AuditRow] = []
    for number in range(count):
        previous = rows[-1].hash if rows else audit.GENESIS
        row = AuditRow(number + 1, NOW, "ann", "test", f"s{number}", "{}", previous, "")
        rows.append(replace(row, hash=audit.hash_of(row)))
    return rows


@st.composite
def spoilings(draw: st.DrawFn, rows: list[AuditRow]) -> list[AuditRow]:
    at = draw(st.integers(0, len(rows) - 1))
    row = rows[at]
    match draw(st.sampled_from(["actor", "detail", "at", "rehash", "remove", "swap", "insert", "truncate", "rebuild"])):
        case "actor":
            return [*rows[:at], replace(row, actor="eve"), *rows[at + 1 :]]
        case "detail":
            return [*rows[:at], replace(row, detail='{"a":1}'), *rows[at + 1 :]]
        case "at":
            return [*rows[:at], replace(row, at=NOW.replace(year=2020)), *rows[at + 1 :]]
        case "rehash":
            changed = replace(row, actor="eve")
            return [*rows[:at], replace(changed, hash=audit.hash_of(changed)), *rows[at + 1 :]]
        case "remove":
            return rows[:at] + rows[at + 1 :]
        case "swap":
            other = (at + 1) % len(rows)
            swapped = list(rows)
            swapped[at], swapped[other] = rows[other], rows[at]
            return swapped
        case "insert":
            return [*rows[:at], row, *rows[at:]]
        case "truncate":
            return rows[:at]
        case _:
            # Somebody with all the time in the world writes a whole new chain: the head kept elsewhere tells.
            return rebuilt([replace(one, actor="eve") for one in rows])


def rebuilt(rows: list[AuditRow]) -> list[AuditRow]:
    previous, out = audit.GENESIS, []
    for row in rows:
        linked = replace(row, previous=previous)
        out.append(replace(linked, hash=audit.hash_of(linked)))
        previous = out[-1].hash
    return out


@pytest.fixture
def raw(path: Path, chain: list[AuditRow]) -> Iterator[sqlite3.Connection]:
    """The database as somebody has it who has taken the triggers off."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("DROP TRIGGER audit_no_delete")
        yield connection


def test_a_changed_row_shows(store: Store, raw: sqlite3.Connection) -> None:
    raw.execute("""UPDATE audit SET detail = '{"number":9}' WHERE sequence = 4""")
    assert store.verify_audit().problems == ("row 4 was changed",)


def test_a_removed_row_shows(store: Store, raw: sqlite3.Connection) -> None:
    raw.execute("DELETE FROM audit WHERE sequence = 4")
    problems = store.verify_audit().problems
    assert problems == ("row 4 is missing: row 5 follows row 3", "row 5 does not follow the row before it")


def test_a_tail_that_was_cut_off_shows_against_a_head_kept_elsewhere(store: Store, raw: sqlite3.Connection) -> None:
    kept = store.audit_head()
    raw.execute("DELETE FROM audit WHERE sequence > 4")
    assert store.verify_audit().is_sound
    assert store.verify_audit(kept).problems == ("the chain ends at row 4 and once had 7: its tail was cut off",)
    grown(store)
    assert "rewritten" in store.verify_audit(kept).problems[0]


def test_a_chain_that_grew_since_the_head_was_kept_is_sound(store: Store) -> None:
    kept = store.audit_head()
    grown(store)
    assert store.verify_audit(kept).is_sound


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_or_remove_audit_rows(path: Path, chain: list[AuditRow], statement: str) -> None:
    with closing(sqlite3.connect(path)) as raw, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(statement)


def test_the_store_itself_cannot_change_history(store: Store) -> None:
    admitted(store)
    for model in (AuditLine, RuleHistoryRow):
        with pytest.raises(IntegrityError, match="append-only"), store.writing(Concern.STATUS) as session:
            session.delete(session.query(model).first())
    assert store.verify_audit().is_sound


def test_a_long_list_of_problems_is_cut_short() -> None:
    rows = [replace(row, actor="eve") for row in made_up(100)]
    problems = audit.verify(iter(rows), None).problems
    assert len(problems) == 21
    assert problems[-1] == "and 80 more"


def test_a_signed_checkpoint_proves_the_head_it_was_made_of(store: Store) -> None:
    key = Ed25519PrivateKey.generate()
    head = store.audit_head()
    signed = checkpoint.sign(head, NOW, key)
    read = checkpoint.read(signed, key.public_key())
    assert (read.head, read.at) == (head, NOW)
    assert store.verify_audit(read.head).is_sound


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_checkpoint_with_any_byte_changed_is_refused(position: int, flip: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signed = bytearray(checkpoint.sign(AuditHead(7, "a" * 64), NOW, key))
    signed[position % len(signed)] ^= flip
    try:
        read = checkpoint.read(bytes(signed), key.public_key())
    except Refused:
        return
    # Only the JSON's white space and the like may differ: what it says must not.
    assert read.head == AuditHead(7, "a" * 64)


@given(st.binary(max_size=300))
def test_what_is_no_checkpoint_is_refused(garbage: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(Refused):
        checkpoint.read(garbage, key.public_key())


def test_a_checkpoint_of_another_key_is_refused() -> None:
    signed = checkpoint.sign(AuditHead(7, "a" * 64), NOW, Ed25519PrivateKey.generate())
    with pytest.raises(Refused, match="signature"):
        checkpoint.read(signed, Ed25519PrivateKey.generate().public_key())
