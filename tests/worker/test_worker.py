"""The worker on a real store: nothing accepted is lost, channels fail on their own, subjects stay in order."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from receivers import HttpReceiver, StreamReceiver, free_port, until

from store.database import Concern
from store.errors import StoreUnavailable
from store.records import OutboxRecord, OutboxState
from store.store import Store
from worker import metrics
from worker.main import Worker, run
from worker.notice import ChannelName
from worker.settings import Settings, Syslog, Transport, Webhook

SECRET = "a secret of some length"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "stopbank.db") as opened:
        yield opened


@pytest.fixture
def web() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()
    yield receiver
    receiver.stop()


def settings(web: HttpReceiver | None = None, syslog_port: int | None = None) -> Settings:
    return Settings(
        webhook=None if web is None else Webhook(web.url, SECRET, timeout_seconds=1),
        syslog=None if syslog_port is None else Syslog(Transport.TCP, "127.0.0.1", syslog_port, timeout_seconds=2),
        hostname="here",
        poll_seconds=0.02,
        first_retry_seconds=0.05,
        longest_retry_seconds=0.2,
    )


@contextmanager
def running(settings: Settings, store: Store) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(settings, store, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def happen(store: Store, kind: str, subject: object, **more: object) -> None:
    store.outbox_add(kind, {"id": subject, **more}, datetime.now(UTC))


def open_messages(store: Store) -> int:
    counts = store.outbox_counts()
    return counts[OutboxState.WAITING] + counts[OutboxState.TAKEN]


def stories(bodies: list[bytes]) -> list[tuple[str, object]]:
    """(subject, step) of each notice, as it arrived."""
    found = [json.loads(body) for body in bodies]
    return [(one["subject"], one["body"]["step"]) for one in found]


def without_repeats(told: list[tuple[str, object]]) -> list[tuple[str, object]]:
    return list(dict.fromkeys(told))


def tell(store: Store, steps: range) -> None:
    for step in steps:
        for subject in ("a", "b"):
            happen(store, "rule.wanted", subject, step=step)


def in_order(told: list[tuple[str, object]], steps: range) -> bool:
    return all([step for of, step in told if of == f"rule:{subject}"] == list(steps) for subject in ("a", "b"))


def syslog_stories(listener: StreamReceiver) -> list[tuple[str, object]]:
    return stories([line.split(b" ", 7)[7] for line in listener.lines])


def test_what_happened_reaches_both_channels_once_and_in_order(store: Store, web: HttpReceiver) -> None:
    web.start()
    listener = StreamReceiver(("127.0.0.1", port := free_port()))
    with running(settings(web, port), store):
        tell(store, range(5))
        until(lambda: open_messages(store) == 0 and len(listener.lines) == 10)
    listener.stop()
    assert in_order(stories(web.accepted), range(5)) and in_order(syslog_stories(listener), range(5))
    assert len(web.accepted) == 10
    assert store.outbox_counts()[OutboxState.DONE] == 30


def test_a_dead_webhook_does_not_hold_up_syslog_and_gets_everything_later(store: Store, web: HttpReceiver) -> None:
    listener = StreamReceiver(("127.0.0.1", port := free_port()))
    with running(settings(web, port), store):
        tell(store, range(3))
        until(lambda: len(listener.lines) == 6)
        waiting = [one for one in store.outbox() if one.kind == ChannelName.WEBHOOK.value]
        assert len(waiting) == 6 and all(one.state is not OutboxState.DONE for one in waiting)
        until(lambda: any("refused" in one.last_error for one in store.outbox()))
        tell(store, range(3, 5))
        web.start()
        until(lambda: open_messages(store) == 0)
    listener.stop()
    assert in_order(stories(web.accepted), range(5))


def test_a_dead_syslog_does_not_hold_up_the_webhook_and_gets_everything_later(store: Store, web: HttpReceiver) -> None:
    web.start()
    port = free_port()
    with running(settings(web, port), store):
        tell(store, range(3))
        until(lambda: len(web.accepted) == 6)
        assert open_messages(store) > 0
        listener = StreamReceiver(("127.0.0.1", port))
        until(lambda: open_messages(store) == 0)
        until(lambda: len(listener.lines) == 6)
    listener.stop()
    assert in_order(syslog_stories(listener), range(3))


def test_errors_of_the_receiver_are_ridden_out(store: Store, web: HttpReceiver) -> None:
    web.statuses = [500, 503, 500, 429]
    web.start()
    with running(settings(web), store):
        tell(store, range(3))
        until(lambda: open_messages(store) == 0)
    assert in_order(stories(web.accepted), range(3)) and len(web.posted) == 10


def test_a_receiver_that_hangs_is_tried_again_with_the_same_key(store: Store, web: HttpReceiver) -> None:
    web.start().answering.clear()
    with running(settings(web), store):
        happen(store, "incident.opened", 1, step=0)
        until(lambda: len(web.posted) >= 2)
        web.answering.set()
        until(lambda: open_messages(store) == 0)
    assert len({headers["Idempotency-Key"] for headers, _ in web.posted}) == 1


def test_a_notice_the_receiver_will_not_take_holds_up_its_subject_only(store: Store, web: HttpReceiver) -> None:
    mood = {"a": 400}
    web.status_of = lambda body: mood["a"] if b'"rule:a"' in body else 204
    web.start()
    with running(settings(web), store):
        tell(store, range(3))
        until(lambda: len(web.accepted) == 3)
        assert {subject for subject, _ in stories(web.accepted)} == {"rule:b"}
        mood["a"] = 204
        until(lambda: open_messages(store) == 0)
    assert in_order(stories(web.accepted), range(3))


def test_what_could_not_be_delivered_for_too_long_is_given_up_visibly(store: Store, web: HttpReceiver) -> None:
    with running(replace(settings(web), give_up_seconds=0.5), store):
        tell(store, range(2))
        until(lambda: store.outbox_counts()[OutboxState.DEAD] == 4)
        dead = store.outbox(OutboxState.DEAD)
        assert all(one.kind == ChannelName.WEBHOOK.value and "refused" in one.last_error for one in dead)
        web.start()
        happen(store, "rule.wanted", "a", step=2)
        until(lambda: open_messages(store) == 0)
    assert stories(web.accepted) == [("rule:a", 2)]


def test_a_restart_in_between_loses_nothing_and_keeps_the_order(store: Store, web: HttpReceiver) -> None:
    slow_retries = replace(settings(web), first_retry_seconds=60, longest_retry_seconds=60)
    with running(slow_retries, store):
        tell(store, range(3))
        until(lambda: any(one.last_error for one in store.outbox()))
    tell(store, range(3, 6))
    web.start()
    with running(slow_retries, store):
        until(lambda: open_messages(store) == 0)
    assert in_order(without_repeats(stories(web.accepted)), range(6))


def test_a_worker_that_died_in_the_middle_of_its_work_loses_nothing(store: Store, web: HttpReceiver) -> None:
    """It had taken everything, copied one original without saying so, and was gone."""
    tell(store, range(3))
    web.start()
    dead = Worker(settings(web), store)
    taken = store.outbox_take(100, datetime.now(UTC), 600)
    dead._copy(taken[0])
    store.outbox_failed(taken[0].id, "", datetime.now(UTC) + timedelta(seconds=600))
    with running(settings(web), store):
        until(lambda: open_messages(store) == 0)
    assert in_order(without_repeats(stories(web.accepted)), range(3))


class Moody(Store):
    """A store that is away for every third call of the worker."""

    calls = 0

    def _sulk(self) -> None:
        self.calls += 1
        if self.calls % 3 == 0:
            raise StoreUnavailable("database is locked")

    def outbox_take(self, limit: int, now: datetime, lease_seconds: float = 60) -> tuple[OutboxRecord, ...]:
        self._sulk()
        return super().outbox_take(limit, now, lease_seconds)

    def outbox_done(self, number: int) -> None:
        self._sulk()
        super().outbox_done(number)


def test_a_database_that_is_away_now_and_then_loses_nothing(tmp_path: Path, web: HttpReceiver) -> None:
    web.start()
    with Moody.open(tmp_path / "moody.db") as store:
        tell(store, range(5))
        with running(settings(web), store):
            tell(store, range(5, 8))
            until(lambda: open_messages(store) == 0)
    assert in_order(without_repeats(stories(web.accepted)), range(8))


def test_muted_kinds_and_missing_channels_end_quietly(store: Store, web: HttpReceiver) -> None:
    web.start()
    store.outbox_add(ChannelName.SYSLOG.value, {"number": 1}, datetime.now(UTC))
    store.outbox_add(ChannelName.WEBHOOK.value, {"no": "notice"}, datetime.now(UTC))
    with running(settings(web), store):
        happen(store, "rule.extended", "a", step=0)
        happen(store, "rule.ended", "a", step=1)
        until(lambda: open_messages(store) == 0)
    assert stories(web.accepted) == [("rule:a", 1)]
    assert sorted(one.last_error for one in store.outbox(OutboxState.DEAD)) == [
        "is no notice of this version",
        "to.syslog is not configured any more",
    ]


def test_without_channels_the_outbox_empties_itself(store: Store) -> None:
    with running(settings(), store):
        tell(store, range(2))
        until(lambda: open_messages(store) == 0)
    assert store.outbox_counts()[OutboxState.DONE] == 4


def test_old_messages_are_removed(store: Store) -> None:
    store.outbox_add("rule.ended", {"id": "a"}, datetime.now(UTC) - timedelta(days=8))
    with running(settings(), store):
        until(lambda: store.outbox() == ())


class Counting(Store):
    """A store that counts how often it is looked at and written to."""

    looks = 0
    takes = 0

    def change_counter(self, concern: Concern | None = None) -> int:
        self.looks += 1
        return super().change_counter(concern)

    def outbox_take(self, limit: int, now: datetime, lease_seconds: float = 60) -> tuple[OutboxRecord, ...]:
        self.takes += 1
        return super().outbox_take(limit, now, lease_seconds)


def test_an_idle_worker_looks_and_does_not_write(tmp_path: Path) -> None:
    with Counting.open(tmp_path / "counting.db") as store, running(settings(), store):
        happen(store, "rule.ended", "a")
        until(lambda: open_messages(store) == 0)
        looks = store.looks
        until(lambda: store.looks > looks + 10)
        takes, looks = store.takes, store.looks
        until(lambda: store.looks > looks + 30)
        assert store.takes == takes


# ------------------------------------------------------------------------------------------------------------ metrics


def numbers(state: Path) -> dict[str, float]:
    """The samples of `worker.prom`, named as Prometheus names them."""
    path = state / metrics.FILE
    families = text_string_to_metric_families(path.read_text()) if path.exists() else ()
    return {
        f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_metrics_tell_what_arrived_and_what_waits(
    store: Store, web: HttpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "WRITE_SECONDS", 0.0)
    web.start()
    dead_port = free_port()
    with running(replace(settings(web, dead_port), state=tmp_path), store):
        tell(store, range(3))
        until(lambda: numbers(tmp_path).get("stopbank_deliveries_total webhook") == 6)
        until(lambda: numbers(tmp_path)["stopbank_delivery_failures_total syslog"] >= 1)
        until(lambda: numbers(tmp_path)["stopbank_deliveries_waiting syslog"] == 6)
        found = numbers(tmp_path)
    assert found["stopbank_deliveries_waiting webhook"] == found["stopbank_delivery_oldest_seconds webhook"] == 0
    assert 0 < found["stopbank_delivery_oldest_seconds syslog"] < 60
    assert abs(found["stopbank_worker_written_timestamp_seconds"] - datetime.now(UTC).timestamp()) < 60


def test_metrics_that_cannot_be_written_cost_nothing_else(store: Store, web: HttpReceiver, tmp_path: Path) -> None:
    web.start()
    with running(replace(settings(web), state=tmp_path / "absent"), store):
        tell(store, range(2))
        until(lambda: open_messages(store) == 0)
    assert in_order(stories(web.accepted), range(2))
