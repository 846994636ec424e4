"""What all tests share: Hypothesis profiles and where the public captures and vectors are."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=50, deadline=None)
# The same examples each time: what gates a change must not depend on chance. The other profiles search.
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
# The wheel is tested for what packaging could break: what the checkout was searched for is not searched again.
settings.register_profile("wheel", max_examples=20, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the public captures and vectors: STOPBANK_DATA, or ../shared/data; skips where there is none."""
    folder = Path(os.environ.get("STOPBANK_DATA") or _BESIDE)
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set STOPBANK_DATA")
    return folder
