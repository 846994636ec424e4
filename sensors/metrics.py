"""What a sensor counts about itself, for Prometheus and for heartbeats."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rules.errors import Refused

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
    "unwatched_total": "Times that a busy target could not be looked at because too many were busy",
    "unwatched_per_second": "The same, in the last second",
    "dropped_per_second": "Packets that the kernel dropped, in the last second",
    "troubles": "What is wrong, in lines of stopbank sensor top",
    "suspicions_total": "Limits crossed in one window only",
    "detections_total": "Attacks found",
    "messages_dropped_total": "Detections that the link didn't take",
    "attacks": "Attacks under way",
    "hosts": "Hosts in the table",
    "evidence_written_total": "Captures of attacks written",
    "evidence_lost_total": "Captures lost because the disk failed or was full, or the sensor was killed",
    "evidence_skipped_total": "Attacks not recorded because too many went on at once",
    "evidence_removed_total": "Captures removed to make room for newer ones, or because they were too old",
    "evidence_recording": "Captures being written",
    "evidence_memory_bytes": "Recent packets in memory",
    "evidence_one_of": "Of how many packets one is remembered, when they come too fast to remember all",
    "learned_targets": "Hosts, prefixes and zones of which something was learned",
    "learned_loaded": "Of those, what the last run had saved",
    "learned_bytes": "Memory for what is learned",
    "learned_saves_total": "Times that all that was learned was saved",
    "learned_save_failures_total": "Parts of what was learned that could not be saved",
    "learned_saved_age_seconds": "Time since what was learned was last saved whole; -1 before the first time",
    "accesslog_lines_total": "Lines read from access logs",
    "accesslog_bad_lines_total": "Lines of access logs that make no sense",
    "accesslog_rotations_total": "Times an access log was renamed and begun anew",
    "accesslog_truncations_total": "Times an access log was truncated",
    "accesslog_copies_missed_total": "Truncations after which lines may be lost",
    "aside_dropped_total": "Detections from access logs and connections that were let go",
    "slow_followed": "Connections followed, for slow HTTP",
    "process_cpu_seconds_total": "Processor time of the whole process",
    "process_cpu_share": "Processor time of the whole process for each second, in the last second",
    "process_cpu_nanoseconds_per_packet": "Processor time of the whole process for each packet, in the last second",
    "resident_bytes": "Memory of the process",
    "sampling_one_of": "Of how many packets one is seen",
    "link_up": "Whether the intake answers",
    "link_waiting": "Messages that the speaker doesn't have yet",
    "link_clock_skew_seconds": "How far at least this machine's clock is ahead of the intake's",
    "link_sent_total": "Messages sent",
    "link_acknowledged_total": "Messages that the speaker has",
    "link_refused_total": "Messages that the intake will never take",
    "link_put_off_total": "Messages that the intake wanted later",
    "link_coalesced_total": "Updates let go because a newer one replaced them",
    "link_dropped_total": "Messages given up because the spool was full",
    "link_connects_total": "Connections made to the intake",
    "link_spool_errors_total": "Failures of the spool's disk",
    "cpu_seconds_total": "Processor time of the threads that capture",
    "cpu_nanoseconds_per_packet": "The same for each packet, since the last heartbeat",
    "tick_late_seconds_max": "The longest delay of a look at the counters, since the last heartbeat",
}


_INTERFACE_HELP = {
    "packets_total": "Packets seen on an interface",
    "bytes_total": "IP bytes seen on an interface",
    "dropped_total": "Packets of an interface that the kernel dropped",
    "ring_filled": "The fullest that the packet ring was, since the last heartbeat, as a share",
    "up": "Whether the interface is there and up",
}


class Board(Protocol):
    """Who has the numbers; the capture thread is never asked."""

    document: dict[str, Any]


class SensorCollector(Collector):
    """Shows the newest document."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """One family for each number."""
        document = self._board.document
        numbers: Numbers = document.get("numbers", {})
        for name, value in numbers.items():
            yield _family(f"stopbank_sensor_{name}", _HELP.get(name, name), [((), value)], ())
        lines = document.get("interfaces", [])
        for name, text in _INTERFACE_HELP.items():
            values = [((line["name"],), float(line[name])) for line in lines]
            yield _family(f"stopbank_sensor_interface_{name}", text, values, ("interface",))


def _family(
    name: str, text: str, values: Sequence[tuple[tuple[str, ...], float]], labels: tuple[str, ...]
) -> CounterMetricFamily | GaugeMetricFamily:
    family: CounterMetricFamily | GaugeMetricFamily
    if name.endswith("_total"):
        family = CounterMetricFamily(name.removesuffix("_total"), text, labels=labels)
    else:
        family = GaugeMetricFamily(name, text, labels=labels)
    for label, value in values:
        family.add_metric(label, value)
    return family


def serve(address: str, port: int, board: Board) -> None:
    """Answers Prometheus at an address, from a thread of its own; raises `Refused` when the port is taken."""
    registry = CollectorRegistry()
    registry.register(SensorCollector(board))
    try:
        start_http_server(port, address, registry)
    except OSError as error:
        raise Refused("sensor.metrics_port", port, f"can't be listened on: {error.strerror}") from None
