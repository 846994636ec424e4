"""What an installation contains: console script, templates, examples, and nobody else's packages under our names."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path

import stopbank

FOLDERS = ("rules", "store", "sensors", "intake", "speaker", "worker", "webui", "stopbank")
IS_CHECKOUT = (Path(stopbank.__file__).resolve().parent.parent / "pyproject.toml").exists()


def test_our_folder_names_belong_to_us_alone() -> None:
    owners = packages_distributions()
    if IS_CHECKOUT:  # an editable install does not list its packages
        assert all(set(owners.get(folder, ["stopbank"])) == {"stopbank"} for folder in FOLDERS)
    else:
        assert {folder: set(owners[folder]) for folder in FOLDERS} == {folder: {"stopbank"} for folder in FOLDERS}


def test_the_command_line_starts_away_from_the_checkout(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "stopbank"
    done = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "rules" in done.stdout


def test_a_rule_can_be_checked_with_nothing_else_imported(tmp_path: Path) -> None:
    code = "import rules.rule, sys; assert not {'sqlalchemy', 'flask', 'numba', 'exabgp'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)


def test_the_examples_are_shipped() -> None:
    root = Path(str(files(stopbank)))
    for name in ("exabgp.conf.example", "stopbank.toml.example"):
        candidates = (root / "examples" / name, root.parent / name)
        assert any(path.is_file() and path.stat().st_size for path in candidates), name
