"""What a sensor counts about itself, for Prometheus and for heartbeats."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Numbers = Mapping[str, int | float]

_HELP = {
    "packets_total": "Packets seen; offloaded frames count as the packets they stand for",
    "records_total": "Frames seen",
    "bytes_total": "IP bytes seen",
    "packets_dropped_total": "Packets that the kernel dropped because the sensor was too slow",
    "ring_frozen_total": "Times the packet ring was full",
    "not_ip_total": "Packets that are not IP",
    "truncated_total": "Packets whose IP header was cut off",
    "malformed_total": "Packets with an IP header that makes no sense",
    "unprotected_total": "Packets to destinations outside every zone",
    "overflow_total": "Packets not counted because the host table was full of hosts under attack",
    "reclaimed_total": "Rows of the host table taken from silent hosts",
    "suspicions_total": "Limits crossed in one window only",
    "detections_total": "Attacks found",
    "messages_dropped_total": "Detections that the link didn't take",
    "attacks": "Attacks under way",
    "hosts": "Hosts in the table",
    "cpu_seconds_total": "Processor time of the capture thread",
    "cpu_nanoseconds_per_packet": "Processor time of the capture thread for each packet, since the last heartbeat",
    "tick_late_seconds_max": "The longest delay of a look at the counters, since the last heartbeat",
}


class SensorCollector(Collector):
    """Shows the last numbers; the capture thread is never asked."""

    def __init__(self) -> None:
        self.numbers: Numbers = {}

    def collect(self) -> Iterator[Metric]:
        """One family for each number."""
        for name, value in self.numbers.items():
            text = _HELP.get(name, name)
            if name.endswith("_total"):
                counter = CounterMetricFamily(f"stopbank_sensor_{name.removesuffix('_total')}", text)
                counter.add_metric([], value)
                yield counter
            else:
                gauge = GaugeMetricFamily(f"stopbank_sensor_{name}", text)
                gauge.add_metric([], value)
                yield gauge


def serve(address: str, port: int) -> SensorCollector:
    """Answers Prometheus at an address, from a thread of its own; raises `OSError` when the port is taken."""
    registry = CollectorRegistry()
    collector = SensorCollector()
    registry.register(collector)
    start_http_server(port, address, registry)
    return collector
