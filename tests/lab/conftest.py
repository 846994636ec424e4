"""What the tests of the lab need of the machine."""

import needs
import pytest


@pytest.fixture
def root() -> None:
    """Skips where namespaces can't be made."""
    needs.root_and("ip")


@pytest.fixture
def daemons(root: None) -> None:
    """As `root`, with routers."""
    needs.root_and("bird", "birdc", "gobgpd", "gobgp", "vtysh", "tc")
