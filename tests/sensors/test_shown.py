"""What should never happen ends nothing and is shown: rules that can't be made, an error in a thread of its own."""

from ipaddress import ip_network
from typing import cast

import pytest
from flooded import V4, Stage, zone

from rules.errors import Refused
from rules.traffic import Signature
from sensors import describe
from sensors.aside import PERIOD_SECONDS, Aside
from sensors.connections import SlowWatch
from sensors.gathered import Handed


def test_an_attack_whose_rules_cannot_be_made_is_told_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object, **more: object) -> tuple[Signature, ...]:
        raise Refused("source", "192.0.2.1", "is of the other family")

    monkeypatch.setattr(describe, "searched", refused)
    stage = Stage(zone(V4))
    stage.run(1, (ip_network("198.51.100.7/32"), 1, 9_000))
    assert stage.told() == ["198.51.100.7/32"]
    assert not any(one.signatures for one in stage.said)
    assert "198.51.100.7/32" in stage.engine.unproposed and "192.0.2.1" in stage.engine.unproposed


class Broken:
    """A watch that fails at once."""

    followed = 0

    def protect(self, zones: object) -> None:
        """Nothing."""

    def look(self, *given: object) -> None:
        raise ValueError("never seen before")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_thread_beside_is_shown() -> None:
    aside = Aside(cast(SlowWatch, Broken()), (), (zone(V4),))
    aside.start()
    aside._handed.append((cast(Handed, None), 0))
    aside._thread.join(20 * PERIOD_SECONDS)
    assert not aside._thread.is_alive()
    [line] = aside.troubles
    assert "slow HTTP" in line and "restart" in line
    aside.stop()
