"""What the tests of the lab need of the machine."""

import os
import shutil

import pytest


@pytest.fixture
def root() -> None:
    """Skips where namespaces can't be made."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")


@pytest.fixture
def daemons(root: None) -> None:
    """Skips where a router is missing."""
    missing = [name for name in ("bird", "birdc", "gobgpd", "gobgp", "vtysh", "tc") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
