"""What a predecessor's journal wants: judged again before anybody is told, and left where it stands until then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from speaker_lab import LIMITS, ZONE, flowspec, neighbour

from rules.guard import Origin, Surroundings
from rules.messages import KillMode
from speaker import commands
from speaker.clock import Clock, Moment
from speaker.desire import Desire
from speaker.journal import Contents, Entry
from speaker.reconcile import Ledger
from speaker.wishes import Remembered, Wish

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BIRD = neighbour("bird", 0)
SURROUNDINGS = Surroundings((ZONE,), (BIRD,), limits=LIMITS)
OBJECTING = replace(SURROUNDINGS, protected=(ip_network("10.0.0.0/8"),))


class Clocks(Clock):
    """Time stands until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000)

    def boot(self) -> str:
        return "boot"


class Paper:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def append(self, entries: list[Entry]) -> int:
        self.entries += entries
        return len(self.entries)


class Heir:
    """A successor with such a journal; some of its rules stand at ExaBGP already."""

    def __init__(self, *remembered: Remembered, standing: tuple[int, ...] = ()) -> None:
        self.clocks, self.paper, self.ledger = Clocks(), Paper(), Ledger()
        self.desire = Desire(self.ledger, self.paper, self.clocks)  # type: ignore[arg-type]
        self.desire.load(Contents(wishes={one.id: one for one in remembered}))
        self.ledger.set_neighbours([BIRD], 0)
        routes = (commands.route(flowspec(number), BIRD) for number in standing)
        self.ledger.found({(BIRD.peer_address, route.rule.id): (route, True) for route in routes}, 0)

    def said(self) -> list[str]:
        """Verb and destination of everything that goes to ExaBGP now."""
        lines = []
        while (command := self.ledger.next_command(self.clocks.now())) is not None:
            ((_, route),) = command.routes
            lines.append(f"{command.verb.value} {route.rule.target}")
            self.ledger.answered(command, True, self.clocks.now())
        return lines


def remembered(number: int, seconds: float = 100, origin: Origin = Origin.OPERATOR) -> Remembered:
    deadline = Moment(NOW + timedelta(seconds=seconds), "boot", 1000.0 + seconds)
    return Remembered.of(
        Wish(
            rule=flowspec(number),
            deadline=deadline,
            origin=origin,
            generation=1,
            owner="operator",
            is_operator=True,
            collateral=0.0,
        )
    )


def target(number: int) -> str:
    return str(flowspec(number).target)


def test_nothing_goes_out_unjudged_and_a_few_at_a_time_go_out_judged() -> None:
    heir = Heir(*(remembered(number) for number in range(3)))
    assert heir.said() == [] and not heir.desire.is_on_disk
    heir.desire.inherit(2, SURROUNDINGS)
    assert heir.said() == [f"announce {target(0)}", f"announce {target(1)}"] and not heir.desire.is_on_disk
    heir.desire.inherit(2, SURROUNDINGS)
    assert heir.said() == [f"announce {target(2)}"] and heir.desire.is_on_disk


def test_what_the_guard_objects_to_is_not_announced_stays_where_it_stands_and_ends_at_its_deadline() -> None:
    heir = Heir(remembered(1), remembered(2), standing=(1,))
    heir.desire.inherit(9, OBJECTING)
    assert heir.said() == [] and heir.desire.is_on_disk
    heir.clocks.seconds += 101
    assert {expiry.rule for expiry in heir.desire.due()} == {flowspec(1).id, flowspec(2).id}
    assert heir.said() == [f"withdraw {target(1)}"]
    assert len(heir.paper.entries) == 2


def test_what_stands_and_is_judged_well_is_not_told_again() -> None:
    heir = Heir(remembered(1), standing=(1,))
    heir.desire.inherit(9, SURROUNDINGS)
    assert heir.said() == []


def test_what_stands_waits_behind_what_does_not_and_is_judged_in_the_end() -> None:
    heir = Heir(remembered(1), remembered(2), standing=(1,))
    heir.desire.inherited.postpone({flowspec(1).id})
    heir.desire.inherit(1, SURROUNDINGS)
    assert heir.said() == [f"announce {target(2)}"]
    assert not heir.desire.inherited.has_next and not heir.desire.is_on_disk
    heir.desire.inherited.resume()
    heir.desire.inherit(1, SURROUNDINGS)
    assert heir.desire.is_on_disk and heir.said() == []


def test_what_the_database_has_ended_goes_at_once_judged_or_not() -> None:
    heir = Heir(remembered(1), remembered(2), standing=(1, 2))
    heir.desire.keep_only({flowspec(2).id})
    assert heir.said() == [f"withdraw {target(1)}"]
    heir.desire.inherit(9, SURROUNDINGS)
    assert heir.said() == []


@pytest.mark.parametrize(
    ("mode", "gone"), [(KillMode.WITHDRAW_AUTOMATIC, [2]), (KillMode.WITHDRAW_ALL, [1, 2]), (KillMode.FREEZE, [])]
)
def test_the_kill_switch_takes_out_what_nobody_has_judged_yet(mode: KillMode, gone: list[int]) -> None:
    heir = Heir(remembered(1), remembered(2, origin=Origin.SENSOR), standing=(1, 2))
    heir.desire.set_mode(mode)
    assert sorted(heir.said()) == [f"withdraw {target(number)}" for number in gone]
    heir.desire.inherit(9, SURROUNDINGS)
    assert heir.said() == []
    heir.desire.set_mode(KillMode.NORMAL)
    assert sorted(heir.said()) == [f"announce {target(number)}" for number in gone]


def test_a_text_that_is_not_the_rule_its_key_says_is_never_announced() -> None:
    heir = Heir(replace(remembered(1), text=str(flowspec(2))), replace(remembered(3), text="match { nonsense }"))
    heir.desire.inherit(9, SURROUNDINGS)
    assert heir.said() == []


def test_a_rule_that_is_past_its_deadline_is_not_announced_while_it_waits_for_its_turn() -> None:
    heir = Heir(remembered(1, seconds=-5))
    heir.desire.inherit(9, SURROUNDINGS)
    assert heir.said() == []
    assert [expiry.rule for expiry in heir.desire.due()] == [flowspec(1).id]
