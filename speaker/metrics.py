"""The speaker's numbers, as a Prometheus text file in the state directory.

The speaker listens on no network; the web process serves the file.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, write_to_textfile

FILE = "speaker.prom"


class Metrics:
    """Everything that moves."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.announcements = Gauge(
            "stopbank_announcements", "Rules at neighbours, by phase", ["neighbour", "phase"], registry=self.registry
        )
        self.sessions = Gauge("stopbank_session_up", "1 while the session is up", ["neighbour"], registry=self.registry)
        self.wishes = Gauge("stopbank_rules_in_force", "Rules this speaker may announce", registry=self.registry)
        self.in_flight = Gauge("stopbank_commands_in_flight", "Commands without an answer", registry=self.registry)
        self.synced = Gauge("stopbank_exabgp_synced", "1 while what ExaBGP holds is known", registry=self.registry)
        self.database = Gauge("stopbank_database_up", "1 while the database can be used", registry=self.registry)
        self.frozen = Gauge(
            "stopbank_kill_switch", "1 while the kill switch is thrown", ["mode"], registry=self.registry
        )
        self.answers = Counter("stopbank_answers", "Answers of ExaBGP", registry=self.registry)
        self.refused = Counter("stopbank_commands_refused", "Commands that ExaBGP refused", registry=self.registry)
        self.lost = Counter("stopbank_commands_lost", "Commands never answered", registry=self.registry)
        self.discarded = Counter("stopbank_answers_discarded", "Answers nobody waited for", registry=self.registry)
        self.resyncs = Counter("stopbank_resyncs", "Times ExaBGP was asked what it holds", registry=self.registry)
        self.flaps = Counter("stopbank_session_flaps", "Sessions lost", ["neighbour"], registry=self.registry)
        self.inbound = Counter(
            "stopbank_updates_received", "Routes a neighbour announced to us", ["neighbour"], registry=self.registry
        )
        self.expired = Counter("stopbank_rules_expired", "Rules that reached their deadline", registry=self.registry)
        self.alarms = Counter("stopbank_alarms", "Times something needed a person", registry=self.registry)
        self.quarantined = Gauge(
            "stopbank_rules_quarantined", "Rules that reset a session", ["neighbour"], registry=self.registry
        )
        self.lateness = Histogram(
            "stopbank_expiry_lateness_seconds",
            "From a rule's deadline to the decision to withdraw it",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
            registry=self.registry,
        )

    def write(self, state: Path) -> None:
        """Replaces the file in one step. Raises `OSError`."""
        write_to_textfile(str(state / FILE), self.registry)
