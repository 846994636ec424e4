"""What a test needs of the machine it runs on."""

import os
import shutil

import pytest


def root_and(*programs: str) -> None:
    """Skips without privileges; fails where a program is missing: `make test` installs each of them."""
    if os.geteuid():
        pytest.skip("needs root")
    missing = [program for program in programs if shutil.which(program) is None]
    assert not missing, f"{', '.join(missing)}: not installed (deploy/install-packages base routers tools)"
