"""What learning is allowed to do: how far above normal is too far, below what rate nothing learned is ever judged, how
fast normal may grow. Pure.
"""

from dataclasses import dataclass, field

from rules.errors import Problem, Refused
from rules.zone import Metric

# A host may begin to download at the speed of its line at any moment, and to send as fast: 500 Mbit/s of full-size
# packets are 43,000 a second, and an acknowledgement for every two that it sends makes 64,000. Below that, bulk tells
# nothing. Handshakes, refusals, fragments, pings and datagrams tell more, since few applications begin to get
# thousands of them overnight.
FLOORS: tuple[tuple[Metric, float], ...] = (
    (Metric.PACKETS, 65_000),
    (Metric.BITS, 600e6),
    (Metric.SYN_PACKETS, 3_000),
    (Metric.TCP_PACKETS, 65_000),
    (Metric.ACK_PACKETS, 65_000),
    (Metric.SYN_ACK_PACKETS, 3_000),
    (Metric.RST_PACKETS, 3_000),
    (Metric.FIN_PACKETS, 4_000),
    (Metric.ODD_TCP_PACKETS, 500),
    # Two downloads over QUIC at 240 Mbit/s together, a busy game server, or a conference of hundreds.
    (Metric.UDP_PACKETS, 24_000),
    (Metric.UDP_BITS, 250e6),
    (Metric.ICMP_PACKETS, 1_000),
    (Metric.FRAGMENT_PACKETS, 2_000),
    (Metric.AMPLIFICATION_PACKETS, 5_000),
    (Metric.GRE_PACKETS, 20_000),
    (Metric.ESP_PACKETS, 20_000),
    (Metric.OTHER_PACKETS, 20_000),
    (Metric.FLOWS, 5_000),
    (Metric.HTTP_REQUESTS, 2_000),
    (Metric.TLS_HANDSHAKES, 1_500),
)
"""Per host and second; only what stands here is learned."""

BITS = frozenset({Metric.BITS, Metric.UDP_BITS})
ADOPTABLE = frozenset(
    {
        Metric.PACKETS, Metric.BITS, Metric.TCP_PACKETS, Metric.ACK_PACKETS, Metric.UDP_PACKETS, Metric.UDP_BITS,
        Metric.GRE_PACKETS, Metric.ESP_PACKETS, Metric.OTHER_PACKETS, Metric.FLOWS, Metric.HTTP_REQUESTS,
        Metric.TLS_HANDSHAKES,
    }
)  # fmt: skip
"""What applications send in bulk. Handshakes, refusals, fragments and reflected answers, whose sources are easily
forged, never become normal by persistence."""


@dataclass(frozen=True, slots=True)
class Learning:
    """How the learned normal becomes limits."""

    factor: float = 6.0
    """So many times what a target usually gets in its busy hours is too much; flash crowds bring five times."""
    young_factor: float = 2.0
    """Times `factor`, while a target is known for less than a day."""
    quantile: float = 0.95
    """The share of its ten-second means that a target's level exceeds."""
    doubling_seconds: float = 86_400.0
    """The level at most doubles in this time, once a target is known: who raises an attack slowly teaches little."""
    judged_after_seconds: float = 3_600.0
    """A target known for less is judged by what is typical in its zone, or not at all."""
    grown_after_seconds: float = 86_400.0
    """From then on a target stands for itself."""
    adopt_seconds: float = 86_400.0
    """What stays above a learned limit for so long, below every static one, becomes normal."""
    typical_targets: int = 20
    """A zone with fewer known targets has nothing typical."""
    floors: tuple[tuple[Metric, float], ...] = field(default=FLOORS)
    """Per second; below these nothing learned is judged, whatever was learned."""

    def __post_init__(self) -> None:
        problems = [
            Problem(name, str(value), f"must lie between {low:g} and {high:g}")
            for name, value, low, high in (
                ("factor", self.factor, 1, 1_000),
                ("young_factor", self.young_factor, 1, 1_000),
                ("quantile", self.quantile, 0.5, 0.999),
                ("doubling_seconds", self.doubling_seconds, 600, 1e9),
                ("judged_after_seconds", self.judged_after_seconds, 10, 600_000),
                ("grown_after_seconds", self.grown_after_seconds, self.judged_after_seconds, 600_000),
                ("adopt_seconds", self.adopt_seconds, 600, 1e9),
                ("typical_targets", self.typical_targets, 1, 1e9),
                *((f"floors.{metric.value}", floor, 1, 1e15) for metric, floor in self.floors),
            )
            if not low <= value <= high
        ]
        if problems:
            raise Refused.all(problems)
