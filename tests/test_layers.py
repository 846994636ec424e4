"""Who may import whom: rules <- store <- processes, rules <- sensors, and the processes never each other."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

OURS = {"rules", "store", "sensors", "intake", "speaker", "worker", "webui", "stopbank", "lab", "bench", "tests"}
ALLOWED = {
    "rules": {"rules"},
    "store": {"rules", "store"},
    "sensors": {"rules", "sensors"},
    "intake": {"rules", "store", "intake"},
    "speaker": {"rules", "store", "speaker"},
    "worker": {"rules", "store", "worker"},
    "webui": {"rules", "store", "webui"},
}
IMPURE = {"time", "os", "io", "socket", "select", "subprocess", "threading", "logging", "random", "asyncio", "pathlib"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


def sources(folder: str) -> list[Path]:
    """Its modules, in the checkout or where the wheel put them."""
    found = find_spec(folder)
    assert found is not None and found.origin is not None
    return sorted(Path(found.origin).parent.rglob("*.py"))


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_a_folder_imports_only_what_the_layers_allow(folder: str) -> None:
    assert sources(folder), f"{folder} has no modules"
    wrong = {str(path): bad for path in sources(folder) if (bad := (imports(path) & OURS) - ALLOWED[folder])}
    assert wrong == {}


def test_rules_open_nothing_and_read_no_clock() -> None:
    third_party = {"netaddr"}
    for path in sources("rules"):
        found = imports(path)
        assert not found & IMPURE, f"{path} imports {found & IMPURE}"
        assert found <= third_party | {"rules"} | sys.stdlib_module_names, path
        calls = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not calls & {"now", "utcnow", "today"}, f"{path} reads a clock"
