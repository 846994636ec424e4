"""Reading the settings again and again: whatever is wrong with them is told, and the thread lives on."""

import pytest

from rules.errors import Refused
from speaker.events import Configured
from speaker.main import _Configuration
from speaker.settings import Settings


@pytest.mark.parametrize(
    "wrong", [Refused("paths.state", "x", "is bad"), OSError("gone"), ValueError("embedded null byte")]
)
def test_settings_that_cannot_be_read_are_told_of_and_asked_for_again(wrong: Exception) -> None:
    def load() -> Settings:
        raise wrong

    told: list[Configured] = []
    assert not _Configuration(load, told.append)._read()
    assert told == [Configured(None, str(wrong))]
