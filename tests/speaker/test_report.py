"""The report on disk: complete or the one before, with what is wrong in sentences."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from speaker import report

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WELL = {"configured": True, "problem": "", "database": "up", "journal": "up", "synced": True}


def test_the_report_can_be_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    report.write(tmp_path, WELL, NOW)
    document = json.loads((tmp_path / report.FILE).read_text())
    assert (document["at"], document["problems"], document["database"]) == (NOW.isoformat(), [], "up")
    assert [path.name for path in tmp_path.iterdir()] == [report.FILE]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"configured": False, "problem": "web.prot is unknown"}, "web.prot is unknown"),
        ({"problem": "web.prot is unknown"}, "not in force"),
        ({"database": "locked"}, "locked"),
        ({"journal": "no space left"}, "no space left"),
        ({"synced": False}, "finding out"),
    ],
)
def test_what_is_wrong_is_said(wrong: dict[str, object], words: str) -> None:
    (problem,) = report.problems(WELL | wrong)
    assert words in problem


def test_a_directory_that_is_gone_costs_the_report_and_nothing_else(tmp_path: Path) -> None:
    report.write(tmp_path / "gone", WELL, NOW)
    assert not (tmp_path / "gone").exists()
