"""A store in a directory of its own, with one zone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stored import NOW, ZONE

from store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database will be."""
    return tmp_path / "stopbank.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """An open store with one zone, 203.0.0.0/16."""
    with Store.open(path) as opened:
        opened.put_zone(ZONE, "ann", NOW)
        yield opened
