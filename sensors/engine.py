"""The engine: tables, windows, detector and classification, put together. The same for interfaces and for capture
files.

Who feeds the tables calls `tick`; detections go to a callback at once. Reads no clock: `now` is an argument.
"""

import secrets
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from rules.match import Network
from rules.traffic import Detection, State, Vantage
from rules.zone import Metric, Zone
from sensors import judge, tables, walk
from sensors.attack import Attack
from sensors.classify import METRIC_KINDS, classify
from sensors.detect import Change, Detector, Track
from sensors.headers import COLUMNS, METRIC_COLUMNS, Column, Kind
from sensors.settings import Detecting, Memory
from sensors.signature import signatures
from sensors.tables import ANY, PINNED
from sensors.window import LONG, MIDDLE, SHORT, Measures, Readings, Windows

Emit = Callable[[Detection, Attack], None]
"""Takes each message, and the attack as the engine keeps it; must not block."""

DESCRIBED_PER_TICK = 16
"""Attacks classified in one tick, so that a thousand targets at once never hold up the capture."""
DESCRIBED_PACKETS = 32_768
"""Live, the newest packets of an attack that its vectors and rules are drawn from: enough for shares to a percent."""
LOOK_AGAIN_NS = 250_000_000
"""How long a closer look that found no attack is good for."""
NEVER = (1 << 63) - 1
NO_ZONE = "-"


class Engine:
    """One sensor's detection, from counters to messages."""

    def __init__(
        self,
        zones: Sequence[Zone],
        emit: Emit,
        *,
        sensor: str = "sensor",
        vantage: Vantage = Vantage.UPSTREAM,
        detecting: Detecting | None = None,
        memory: Memory | None = None,
        measures: Measures | None = None,
        judging: bool = False,
        floor: float | None = None,
    ) -> None:
        """`judging`: look closer before calling something an attack (`sensors.judge`); `floor`: its explicit
        threshold, packets per second; `measures`: instead of the zones' limits."""
        self._settings = settings = detecting or Detecting()
        sizes = memory or Memory()
        self._emit, self._sensor, self._vantage = emit, sensor, vantage
        self._judging, self._floor = judging, floor
        self._names = (*(zone.name for zone in zones), NO_ZONE)
        self.tables = tables.make(
            _protected(zones),
            rows=sizes.hosts,
            ring=sizes.recent_packets,
            normal=sizes.normal_packets,
            keep_outgoing=judging,
        )
        self._measures = measures or zone_measures(zones)
        self._windows = Windows(
            self.tables,
            self._measures,
            (settings.short_seconds, settings.middle_seconds, settings.long_seconds),
            settings.minimum_packets,
            long_only=judging,
        )
        self._detector = Detector(settings)
        self._started, self._short = 0, False
        self._waiting: deque[tuple[int, State]] = deque()
        self.attacks: dict[int, Attack] = {}
        """Under way, by row."""
        self.suspicions = 0
        """Limits crossed in one window only."""
        self.least_packets = float(self._measures.limits.min())

    def protect(self, zones: Sequence[Zone]) -> None:
        """Other zones from now on. Attacks under way go on; those on hosts that no zone has any more end by
        themselves."""
        prefixes = tables.prefix_table(_protected(zones))
        self.tables = replace(self.tables, prefixes=prefixes)
        self._names = (*(zone.name for zone in zones), NO_ZONE)
        walk.rezone(self.tables.rows, self.tables.used, prefixes, len(zones))
        self._windows.measure(zone_measures(zones))

    @property
    def busy(self) -> bool:
        """Whether any host is suspected or under attack."""
        return bool(self._detector.tracks)

    def warm_up(self) -> None:
        """Compiles the kernel; call before the first packet."""
        walk.warm_up(self.tables)

    def start(self, now: int) -> None:
        """Traffic counts from `now` on (ns)."""
        self._started = now
        self._short = False
        self._windows.start(now)

    def tick(self, now: int, seen: datetime) -> None:
        """Looks at the counters. `now` never runs backwards, in ns; `seen` goes into the messages."""
        readings = self._windows.tick(now, tuple(self._detector.tracks))
        for row in readings.reborn.tolist():
            self._detector.forget(row)
        severities, fasts = readings.severity.tolist(), readings.fast.tolist()
        for number, row in enumerate(readings.rows.tolist()):
            host = (int(self.tables.rows[row, tables.KEY_HIGH]), int(self.tables.rows[row, tables.KEY_LOW]))
            change = self._detector.step(row, host, severities[number], fasts[number], now)
            self._follow(change, row, number, readings, now)
        self._speak(seen)

    def _follow(self, change: Change, row: int, number: int, readings: Readings, now: int) -> None:
        attack = self.attacks.get(row)
        if change is Change.CLEARED:
            self.suspicions += 1
        elif change is Change.STARTED:
            attack = self._open(row, number, readings, now)
        if attack is None:
            return
        track = self._detector.tracks.get(row)
        window = SHORT if change is Change.STARTED else MIDDLE
        severity = track.severity if track else 0.0
        # A capture's first second is no second yet: what a burst would have been, had it lasted, is no peak.
        partial = self._judging and not self._short
        whole = min(1.0, readings.long_seconds / self._settings.long_seconds) if partial else 1.0
        now_rates = readings.rates[window][number]
        attack.measured(now_rates, readings.rates[LONG][number] * whole if self._judging else now_rates, severity)
        attack.packets = int(self.tables.rows[row, Column.PACKETS] - attack.before[Column.PACKETS])
        if track and track.last_hot == now:
            attack.last_ns = self.tables.clock_ns
        if state := {Change.STARTED: State.STARTED, Change.ONGOING: State.ONGOING, Change.OVER: State.OVER}.get(change):
            # A new attack waits for nobody: the rest is news of what is known.
            (self._waiting.appendleft if state is State.STARTED else self._waiting.append)((row, state))

    def _open(self, row: int, number: int, readings: Readings, now: int) -> Attack | None:
        """The attack that a track became; None when a closer look finds none."""
        track = self._detector.tracks[row]
        clock = self.tables.clock_ns
        first = clock - (now - track.first_over) - int(self._settings.short_seconds * 1e9)
        kinds: frozenset[Kind] = frozenset()
        host = self.tables.host(row)
        if self._judging:
            verdict, incoming = self._judge(row, now)
            if not verdict.guilty:
                self._detector.reject(row, now + LOOK_AGAIN_NS)
                return None
            first = int(incoming["time"][verdict.attack][0])
            kinds = frozenset(map(Kind, np.unique(incoming["kind"][verdict.attack]).tolist()))
        self.tables.rows[row, PINNED] = 1
        attack = self.attacks[row] = Attack(
            id=f"{self._sensor[:40]}-{secrets.token_hex(8)}",
            target=host,
            zone=self._names[int(readings.zones[number])],
            metric=Metric(self._measures.names[track.worst]),
            before=self._windows.before(row),
            first_ns=first,
            last_ns=clock,
            kinds=kinds,
        )
        return attack

    def _judge(self, row: int, now: int) -> tuple[judge.Verdict, ANY]:
        """What the host's last long window holds, as far as there was one."""
        span = max(min(self._settings.long_seconds, (now - self._started) / 1e9), self._settings.short_seconds)
        incoming, outgoing = self._between(self.tables.host(row), self.tables.clock_ns - int(span * 1e9), NEVER)
        return judge.judge(self.tables.host(row), incoming, outgoing, span, self._floor), incoming

    def _between(self, host: Network, begin_ns: int, end_ns: int) -> tuple[ANY, ANY]:
        """What a host got and sent in a span of analysis time, both included."""
        entries = self.tables.since(begin_ns)
        entries = entries[: bisect_right(entries["time"], end_ns)]
        return judge.both_ways(host, entries)

    def _guilty(self, attack: Attack) -> frozenset[Kind]:
        """Kinds that a closer look at the attack's last long window condemns."""
        last = int(self._settings.long_seconds * 1e9)
        incoming, outgoing = self._between(attack.target, attack.last_ns - last, attack.last_ns)
        verdict = judge.judge(attack.target, incoming, outgoing, self._settings.long_seconds, self._floor)
        return frozenset(map(Kind, np.unique(incoming["kind"][verdict.attack]).tolist()))

    def _speak(self, seen: datetime) -> None:
        for _ in range(min(len(self._waiting), DESCRIBED_PER_TICK)):
            row, state = self._waiting.popleft()
            attack = self.attacks.get(row)
            if attack is None:
                continue
            self._describe(row, attack, self._detector.tracks.get(row))
            self._emit(attack.detection(self._sensor, self._vantage, state, seen), attack)
            if state is State.OVER:
                self.tables.rows[row, PINNED] = 0
                del self.attacks[row]

    def _describe(self, row: int, attack: Attack, track: Track | None) -> None:
        """Vectors, sources and rules of an attack, from its remembered packets; keeps the last ones when none are
        left."""
        # Live, the last second tells what goes on; a capture is described as a whole.
        recent = attack.first_ns if self._judging else attack.last_ns - int(self._settings.long_seconds * 1e9)
        incoming, outgoing = self._between(attack.target, max(attack.first_ns, recent), attack.last_ns)
        crossed = {Metric(self._measures.names[measure]) for measure in track.crossed} if track else {attack.metric}
        kinds = frozenset().union(*(METRIC_KINDS.get(metric, frozenset(Kind)) for metric in crossed))
        if self._judging:
            attack.kinds |= self._guilty(attack)
            sample = incoming[judge.unsolicited(incoming, outgoing, judge.companions(attack.kinds))]
        else:
            sample = incoming[np.isin(incoming["kind"], list(kinds - self._usual(row)))]
            sample = sample[-DESCRIBED_PACKETS:]
        if not len(sample):
            return
        general = Metric.PACKETS in crossed or Metric.BITS in crossed or self._judging
        by_bytes = attack.metric in (Metric.BITS, Metric.UDP_BITS)
        attack.picture = classify(sample, by_bytes=by_bytes, first=() if general else kinds)
        attack.sources = max(attack.sources, attack.picture.sources)
        attack.signatures = signatures(attack.target, sample, attack.picture, self._normal(attack))
        attack.details = observations(sample)

    def _usual(self, row: int) -> frozenset[Kind]:
        """Kinds that come at their usual rate, or nearly: no part of the attack."""
        usual = self._windows.baseline[row]
        last = self.tables.since(self.tables.clock_ns - int(self._settings.middle_seconds * 1e9))
        kinds, weights = last["kind"][last["row"] == row], last["weight"][last["row"] == row]
        rates = np.bincount(kinds, weights, minlength=COLUMNS) / self._settings.middle_seconds
        return frozenset(kind for kind in Kind if rates[kind] and usual[kind] >= 0.5 * rates[kind])

    def _normal(self, attack: Attack) -> ANY:
        """What the target got before the attack. Live, a late tick puts the beginning too late, and an attack's first
        packets must not count as what it would hurt; a capture tells the first packet exactly."""
        margin = 0 if self._judging else int(self._settings.long_seconds * 1e9)
        history = self.tables.history()
        return judge.both_ways(attack.target, history[history["time"] < attack.first_ns - margin])[0]

    def finish(self, now: int, seen: datetime) -> None:
        """The end of a capture: every attack is over."""
        self._short = now - self._started < self._settings.long_seconds * 1e9
        self.tick(now, seen)
        while self._waiting:
            self._speak(seen)
        self._waiting.extend((row, State.OVER) for row in self.attacks)
        while self._waiting:
            self._speak(seen)


def _protected(zones: Sequence[Zone]) -> list[tuple[Network, int]]:
    return [(prefix, number) for number, zone in enumerate(zones) for prefix in zone.prefixes]


def zone_measures(zones: Sequence[Zone]) -> Measures:
    """The limits of the zones, one measure for each metric."""
    metrics = tuple(Metric)
    sums = np.zeros((COLUMNS, len(metrics)))
    for number, metric in enumerate(metrics):
        for column in METRIC_COLUMNS.get(metric, ()):
            sums[column, number] = 8 if column in (Column.BYTES, Column.UDP_BYTES) else 1
    # The last line is for hosts outside every zone: no limit is theirs.
    limits = np.full((len(zones) + 1, len(metrics)), np.inf)
    for number, zone in enumerate(zones):
        for metric, limit in zone.limits:
            limits[number, metrics.index(metric)] = limit
    return Measures(tuple(metric.value for metric in metrics), sums, limits)


def observations(sample: ANY) -> dict[str, object]:
    """What a person would note of an attack: its most frequent sources, ports, lengths, hop limits."""
    from sensors.tables import address

    highs, lows = sample["source_high"], sample["source_low"]
    order = np.lexsort((lows, highs))
    highs, lows = highs[order], lows[order]
    # Where a run of equal sources begins; np.unique over both columns takes ten times as long.
    begins = np.flatnonzero(np.r_[True, (highs[1:] != highs[:-1]) | (lows[1:] != lows[:-1])])
    counts = np.diff(np.r_[begins, len(order)])
    top = np.argsort(-counts, kind="stable")[:10]
    out: dict[str, object] = {
        "sources": [
            {
                "address": str(address(int(highs[begins[at]]), int(lows[begins[at]])).network_address),
                "packets": int(counts[at]),
            }
            for at in top
        ]
    }
    for name, field, mark in (("source_ports", "source_port", 1), ("destination_ports", "destination_port", 1),
                              ("lengths", "length", 0), ("ttls", "ttl", 0)):  # fmt: skip
        values, times = np.unique(sample[field][(sample["marks"] & mark) == mark], return_counts=True)
        out[name] = {str(int(values[at])): int(times[at]) for at in np.argsort(-times)[:5]}
    return out
