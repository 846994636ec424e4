"""The worker's numbers, as a Prometheus text file in the state directory; the web process serves it.

The worker listens on no network. Counters begin at 0 with each start, as Prometheus expects.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.channel import Channel

FILE = "worker.prom"
WRITE_SECONDS = 5.0


def write(state: Path, channels: Iterable[Channel], now: datetime) -> None:
    """Replaces the file in one step. Raises `OSError`."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(tuple(channels), now))
    write_to_textfile(str(state / FILE), registry)


class _Snapshot(Collector):
    """What the channels say now."""

    def __init__(self, channels: tuple[Channel, ...], now: datetime) -> None:
        self._channels, self._now = channels, now

    def collect(self) -> Iterator[Metric]:
        """One family for each number."""
        for name, text, numbers in (
            ("stopbank_deliveries", "Notices that arrived", [one.delivered for one in self._channels]),
            ("stopbank_delivery_failures", "Attempts that failed", [one.failures for one in self._channels]),
            ("stopbank_deliveries_given_up", "Notices given up", [one.given_up for one in self._channels]),
        ):
            counter = CounterMetricFamily(name, text, labels=["channel"])
            for channel, number in zip(self._channels, numbers, strict=True):
                counter.add_metric([channel.label], number)
            yield counter
        waiting = GaugeMetricFamily("stopbank_deliveries_waiting", "Notices not delivered yet", labels=["channel"])
        oldest = GaugeMetricFamily(
            "stopbank_delivery_oldest_seconds",
            "How long the oldest of them has waited; 0 without any",
            labels=["channel"],
        )
        for channel in self._channels:
            waiting.add_metric([channel.label], len(channel))
            oldest.add_metric([channel.label], channel.oldest_seconds(self._now))
        yield waiting
        yield oldest
        # A worker that is gone can't say so, and its file stays.
        text = "When this was written, in seconds since 1970"
        yield GaugeMetricFamily("stopbank_worker_written_timestamp_seconds", text, self._now.timestamp())
