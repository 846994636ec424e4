"""The schema: models and migrations agree, opening upgrades, and a database of others is left alone."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine
from stored import NOW, ZONE

from rules.errors import Refused
from store import schema
from store.database import engine_for
from store.errors import SchemaUnknown, StoreUnavailable
from store.models import Base
from store.store import Store

VERSIONS = Path(schema.__file__).parent / "migrations" / "versions"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    """An engine on a database that has not been opened yet."""
    made = engine_for(f"sqlite:///{path}")
    yield made
    made.dispose()


def test_models_and_migrations_agree(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_comparison_of_models_and_migrations_can_fail(engine: Engine, path: Path) -> None:
    schema.upgrade(engine)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP INDEX ix_rules_alive")
        raw.execute("ALTER TABLE sensors ADD COLUMN extra TEXT")
    with engine.connect() as connection:
        kinds = {
            difference[0] for difference in compare_metadata(MigrationContext.configure(connection), Base.metadata)
        }
    assert kinds == {"add_index", "remove_column"}


def test_the_newest_migration_is_the_head_that_the_code_names() -> None:
    revisions = []
    for file in sorted(VERSIONS.glob("v*.py")):
        spec = spec_from_file_location(file.stem, file)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        revisions.append((module.down_revision, module.revision))
    assert [before for before, _ in revisions] == [None, *[after for _, after in revisions[:-1]]]
    assert revisions[-1][1] == schema.HEAD


def test_opening_makes_the_schema_prints_nothing_and_opening_again_changes_nothing(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Store.open(path) as first:
        first.put_zone(ZONE, "ann", NOW)
    with Store.open(f"sqlite:///{path}") as second:
        assert second.zones() == (ZONE,)
    assert capfd.readouterr() == ("", "")


def test_a_path_with_percent_and_spaces_is_a_path_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / "50% of it"
    folder.mkdir()
    with Store.open(folder / "a b.db") as store:
        assert store.zones() == ()


def test_the_connection_is_set_up_for_several_processes(engine: Engine) -> None:
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaUnknown, match="use the newer version"):
        Store.open(path)


def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE theirs (a)")
    with pytest.raises(SchemaUnknown, match="none of ours"):
        Store.open(path)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_an_upgrade_that_fails_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.sqlite.append_only", lambda table: ("CREATE NONSENSE",))
    with pytest.raises(StoreUnavailable):
        Store.open(path)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://localhost/stopbank", "not a url", ""])
def test_a_url_that_names_no_sqlite_file_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="database"):
        Store.open(url)
