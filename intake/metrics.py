"""What moves through the intake, as Prometheus metrics; each server has its own registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rules.messages_link import Reason


class Metrics:
    """The intake's counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = Counter(
            "stopbank_intake_detections_received", "Detections read", ["sensor"], registry=self.registry
        )
        self.passed = Counter(
            "stopbank_intake_detections_passed", "Detections the speaker took", ["sensor"], registry=self.registry
        )
        self.history = Counter(
            "stopbank_intake_detections_history", "Of these, too old to act on", ["sensor"], registry=self.registry
        )
        self.refused = Counter(
            "stopbank_intake_refused", "Frames and connections not passed on", ["reason"], registry=self.registry
        )
        self.enrolled = Counter("stopbank_intake_enrolled", "Sensors enrolled", registry=self.registry)
        self.renewed = Counter("stopbank_intake_renewed", "Certificates renewed", registry=self.registry)
        self.zones_failed = Counter("stopbank_intake_zones_failed", "Zones not read", registry=self.registry)
        self.linked = Gauge("stopbank_intake_sensors_linked", "Sensors linked now", registry=self.registry)
        self.seconds = Histogram(
            "stopbank_intake_speaker_seconds",
            "From reading a detection to the speaker's answer",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1, 5),
            registry=self.registry,
        )
        for reason in Reason:
            self.refused.labels(reason.value)

    def refuse(self, reason: Reason) -> None:
        """Count one refusal."""
        self.refused.labels(reason.value).inc()

    def refusals(self, reason: Reason) -> int:
        """How many there were."""
        return int(self.registry.get_sample_value("stopbank_intake_refused_total", {"reason": reason.value}) or 0)
