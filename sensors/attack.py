"""An attack under way on one host, and the `Detection` that tells of it. Values only; the engine keeps them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Metric
from sensors.classify import Picture
from sensors.headers import Column, Kind
from sensors.tables import ANY
from sensors.view import Verdict

OUTGOING = frozenset({Metric.OUTGOING_PACKETS, Metric.OUTGOING_BITS})
"""Limits on what a target sends: it takes part in an attack rather than suffers one."""


@dataclass(slots=True)
class Attack:
    """What the engine knows about one attack, from its start on."""

    id: str
    target: Network
    zone: str
    metric: Metric
    before: NDArray[np.int64]
    """The host's counters when it began."""
    first_ns: int
    """Analysis time of the oldest packet that can belong to it."""
    last_ns: int
    """Analysis time when a limit was last crossed."""
    kinds: frozenset[Kind] = frozenset()
    """What a closer look found guilty."""
    has_sessions: bool = False
    """Whether it found that the attack comes over completed connections."""
    severity: float = 0.0
    rate: Rate = field(default_factory=lambda: Rate(0.0, 0.0))
    peak: Rate = field(default_factory=lambda: Rate(0.0, 0.0))
    picture: Picture = field(default_factory=lambda: Picture((), (), 0, None))
    signatures: tuple[Signature, ...] = ()
    is_rough: bool = False
    """Whether it was only glanced at, and its rules have to be looked for yet."""
    confidence: float = 0.5
    """That it is an attack and named right."""
    sources: int = 0
    counted: int = 0
    """The kinds of its packets, a bit for each."""
    packets: int = 0
    """That the host got since it began."""
    earlier: ANY | None = None
    """What the target got just before, as far as it was remembered when it began."""
    sequence: int = 0
    details: dict[str, object] = field(default_factory=dict)
    """Observations for people: where from, which ports, how long."""

    @property
    def column(self) -> Column:
        """What counts its packets."""
        return Column.OUTGOING if self.metric in OUTGOING else Column.PACKETS

    @property
    def vectors(self) -> tuple[VectorShare, ...]:
        """What it is made of, the dominant one first; never empty."""
        return self.picture.vectors or (VectorShare(Vector("volumetric"), 1.0, 1.0),)

    def convict(self, kinds: NDArray[np.uint8], verdict: Verdict) -> None:
        """Takes what a closer look found guilty, among packets of these kinds."""
        alone = kinds[verdict.attack & ~verdict.sessions]
        self.kinds |= frozenset(map(Kind, np.unique(alone).tolist()))
        self.has_sessions |= bool(verdict.sessions.any())

    def measured(self, rates: NDArray[np.float64], peak: NDArray[np.float64], severity: float) -> None:
        """Takes a reading: rates now, and over the window that counts for the peak."""
        sends = self.metric in OUTGOING
        self.rate = rate_of(rates, sends)
        highest = rate_of(peak, sends)
        self.peak = Rate(
            max(self.peak.packets_per_second, highest.packets_per_second),
            max(self.peak.bits_per_second, highest.bits_per_second),
        )
        self.severity = severity

    def detection(self, sensor: str, vantage: Vantage, state: State, seen: datetime) -> Detection:
        """The next message about it."""
        told = Detection(
            sensor=sensor,
            attack=self.id,
            sequence=self.sequence,
            zone=self.zone,
            target=self.target,
            state=state,
            vantage=vantage,
            confirmed=True,
            severity=round(self.severity, 3),
            metric=self.metric.value,
            rate=self.rate,
            peak=self.peak,
            vectors=self.vectors,
            signatures=self.signatures,
            sources=self.sources,
            spoofed=self.picture.spoofed,
            first_seen=moment(self.first_ns),
            seen=seen,
            confidence=self.confidence,
        )
        self.sequence += 1
        return told


def rate_of(rates: NDArray[np.float64], sends: bool = False) -> Rate:
    """The rate of one line of columns: of what a target gets, or of what it sends."""
    packets, size = (Column.OUTGOING, Column.OUTGOING_BYTES) if sends else (Column.PACKETS, Column.BYTES)
    return Rate(float(rates[packets]), float(rates[size]) * 8)


def moment(nanoseconds: int) -> datetime:
    """An analysis time as a date; times that no calendar has become the nearest it has."""
    return datetime.fromtimestamp(min(max(nanoseconds, 0), 253_402_300_799_000_000_000) / 1e9, UTC)
