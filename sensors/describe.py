"""An attack's vectors, sources and rules, drawn from the packets that are remembered of it."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rules.errors import Refused
from rules.match import Network
from rules.zone import Metric
from sensors.attack import OUTGOING, Attack
from sensors.carpets import judge_prefix
from sensors.classify import METRIC_KINDS, classify
from sensors.confidence import confidence
from sensors.headers import COLUMNS, HEADER, Kind
from sensors.judge import belonging, companions, judge
from sensors.matching import selected
from sensors.newest import newest, rates_of
from sensors.observed import observations
from sensors.pace import Look
from sensors.remembered import Remembered, thinned
from sensors.reservoir import FULL, Reservoir
from sensors.scoring import Evidence
from sensors.settings import Detecting
from sensors.signature import searched, settled
from sensors.tables import ANY, Tables
from sensors.view import Verdict, nothing
from sensors.within import inside, is_prefix

DESCRIBED_PACKETS, LIVE_PACKETS, FIRST_PACKETS = 32_768, 8_192, 4_096
"""Packets of an attack that its vectors and rules are drawn from; live the newest, enough for shares to a percent,
since the capture waits meanwhile; at a glance, when many begin at once."""
LOOKED_AT, SPREAD, FEWEST = 2_048, 2, 512
"""And at a look whether there is news: of so many times as many that are remembered of anybody; with fewer than the
last, of its newest ones."""
MOSTLY_USUAL = 0.5
"""A kind of packets of which so much comes anyway is no part of an attack."""
LEAST_NS = 100_000_000
"""Less of an attack is not worth a description."""
EVIDENCE_NS = 500_000_000
"""How much of a host's traffic a closer look wants to see, unless the capture ends before."""
NO_CLOCK_SECONDS = 1.0
"""Over how long packets are taken to have come that all have one time, as where only seconds were noted."""
PRIOR_NS, PRIOR_MARGIN_NS = 4_000_000_000, 1_000_000_000
"""How long, and how long before an attack's first packet, its target's traffic says what came before. A late tick puts
the first packet too late."""
JUDGED_MARGIN_NS = 50_000_000
"""The same in a capture, which tells the first packet of what was found first: floods that begin together don't do so
in the same microsecond."""
PRIOR_PACKETS = 1_024
"""How many packets of that are kept: 64 kB for each attack."""
MINOR = 0.2
"""A kind of packets below this share of all is held against what came before; an attack that rises slowly is above."""
_ALL = frozenset(Kind)


class Describer:
    """Looks at the remembered packets of one target after another."""

    def __init__(
        self, settings: Detecting, judging: bool, floor: float | None, reservoir: Reservoir | None = None
    ) -> None:
        """`judging` and `floor`: as the engine's; `reservoir`: what busy targets usually get."""
        self._settings, self._judging, self._floor = settings, judging, floor
        self._reservoir = Reservoir(places=1) if reservoir is None else reservoir
        self._remembered = Remembered()
        self.searches, self.packets = 0, 0
        """Rules looked for anew, and packets described, ever: what costs time."""
        self.unproposed = ""
        """Why an attack has no rules that should have some; the last such."""

    def describe(
        self,
        tables: Tables,
        attack: Attack,
        crossed: frozenset[Metric],
        usual: NDArray[np.float32],
        reported: Iterable[Network] = (),
        since_ns: int = 0,
        *,
        glance: bool = False,
    ) -> None:
        """Vectors, sources and rules of an attack, from its remembered packets; keeps the last ones when none are
        left. `usual`: the target's average rates by column; `reported`: what inside it has an attack of its own;
        `since_ns`: since when, live, a limit is crossed without a pause; `glance`: by fewer packets, and with the
        plain rules, so that a message need not wait."""
        if attack.metric in OUTGOING:
            return
        kinds = frozenset().union(*(METRIC_KINDS.get(metric, _ALL) for metric in crossed))
        anyway = None
        if self._judging:
            sample, incoming = self._whole(tables, attack, reported)
        else:
            # The last second tells what goes on.
            recent = attack.last_ns - int(self._settings.long_seconds * 1e9)
            recent = max(attack.first_ns, recent, min(since_ns, attack.last_ns - LEAST_NS))
            anyway = self._anyway(tables, attack, usual)
            wanted = sum(1 << kind for kind in kinds if anyway[kind] < MOSTLY_USUAL)
            most = FIRST_PACKETS if glance else LIVE_PACKETS
            sample, incoming = _newest(tables, attack, recent, wanted, [*reported], most)
        if not len(sample):
            return
        general = bool(crossed & {Metric.PACKETS, Metric.BITS}) or self._judging
        by_bytes = attack.metric in (Metric.BITS, Metric.UDP_BITS)
        normal = self._normal(tables, attack)
        attack.picture = classify(
            sample,
            by_bytes=by_bytes,
            first=() if general else kinds,
            beside=incoming,
            background=anyway,
            target=attack.target,
        )
        attack.sources = max(attack.sources, attack.picture.sources)
        attack.counted = sum(1 << kind for kind in np.unique(sample["kind"]).tolist())
        self._propose(attack, Evidence.of(sample, normal, attack.severity, anyway), anyway, glance)
        attack.confidence = confidence(attack.picture, sample, normal, attack.severity)
        attack.details = observations(sample, attack.picture.origins, attack.target)

    def _whole(self, tables: Tables, attack: Attack, reported: Iterable[Network]) -> tuple[ANY, ANY]:
        """What a capture shows of an attack from beginning to end, thinned, and all that its target got meanwhile."""
        incoming, outgoing = self.between(tables, attack.target, attack.first_ns, attack.last_ns)
        for other in reported:
            incoming = incoming[~inside(other, incoming, "destination")]
        self._convict(tables, attack)
        kept = belonging(incoming, outgoing, companions(attack.kinds), attack.has_sessions)
        if not kept.any():
            # What nothing explained in a second may have an explanation in all of it; it was judged by the second.
            kept = np.isin(incoming["kind"], list(attack.kinds))
        _claim(attack, incoming, kept)
        return thinned(incoming[kept], DESCRIBED_PACKETS), incoming

    def look(self, tables: Tables, attack: Attack) -> Look:
        """What its last second's packets are made of, in a thousandth of a description's time."""
        begin = max(attack.last_ns - int(self._settings.long_seconds * 1e9), attack.first_ns)
        # Spread over all of it: floods come in bursts, and a few milliseconds of one always look new.
        every = tables.count_since(begin) // (LOOKED_AT * SPREAD) | 1
        entries = newest(tables, attack.target, begin, attack.last_ns, LOOKED_AT * SPREAD, every=every)
        if every > 1 and len(entries) < FEWEST:
            entries = newest(tables, attack.target, begin, attack.last_ns, LOOKED_AT)
        if not len(entries):
            return Look(0, np.zeros(COLUMNS), 0.0)
        weights = entries["weight"].astype(np.float64)
        shares = np.bincount(entries["kind"], weights, minlength=COLUMNS)[:COLUMNS] / weights.sum()
        hit = np.zeros(len(entries), bool)
        for rule in attack.signatures:
            hit |= selected(rule.match, entries)
        return Look(len(entries), shares, float(weights[hit].sum() / weights.sum()))

    def _propose(self, attack: Attack, evidence: Evidence, anyway: NDArray[np.float64] | None, glance: bool) -> None:
        """The rules: those of before while they do, else the plain ones at a glance, else new ones."""
        self.packets += len(evidence.sample)
        # What a glance proposed is no reason to look no further.
        before = () if attack.is_rough else attack.signatures
        if found := settled(before, evidence):
            attack.signatures = found
            return
        self.searches += not glance
        try:
            attack.signatures = searched(
                attack.target, evidence, attack.picture, background=anyway, before=before, plain=glance
            )
        except Refused as refused:
            # What somebody sends must not end the looking: the attack is told of without rules.
            attack.signatures = ()
            self.unproposed = f"no rules could be made for {attack.target}: {refused}"
        attack.is_rough = glance

    def judge(self, tables: Tables, host: Network, span: float, now: int, ending: bool) -> tuple[Verdict, ANY]:
        """A closer look at what a host got in the last long window, as far as there was one."""
        begin = tables.clock_ns - int(span * 1e9)
        first = None if ending else self._remembered.first(tables, host, begin)
        if first is not None and now - first < EVIDENCE_NS:
            # Answers and the length of flows take time to show, and a capture can wait.
            return nothing(0), np.zeros(0, HEADER)
        incoming, outgoing = self.between(tables, host, begin, (1 << 63) - 1)
        return self._verdict(host, incoming, outgoing, span or NO_CLOCK_SECONDS), incoming

    def between(self, tables: Tables, target: Network, begin_ns: int, end_ns: int) -> tuple[ANY, ANY]:
        """What a target got in a span of analysis time, both ends included, and, for a closer look, what it sent."""
        if not self._judging:
            got = newest(tables, target, begin_ns, end_ns, tables.remembers)
            return got, got[:0]
        return self._remembered.both(tables, target, begin_ns, end_ns)

    def _verdict(self, target: Network, incoming: ANY, outgoing: ANY, seconds: float) -> Verdict:
        if is_prefix(target):
            return judge_prefix(target, incoming, outgoing, seconds)
        return judge(incoming, outgoing, seconds, self._floor)

    def _convict(self, tables: Tables, attack: Attack) -> None:
        """Adds what a closer look at the attack's last long window condemns."""
        last = int(self._settings.long_seconds * 1e9)
        incoming, outgoing = self.between(tables, attack.target, attack.last_ns - last, attack.last_ns)
        verdict = self._verdict(attack.target, incoming, outgoing, self._settings.long_seconds)
        attack.convict(incoming["kind"], verdict)

    def _anyway(self, tables: Tables, attack: Attack, usual: NDArray[np.float32]) -> NDArray[np.float64]:
        """For each kind, the share of its packets now that come at any time: no part of the attack."""
        seconds = self._settings.middle_seconds
        packets, _ = rates_of(tables, attack.target, tables.clock_ns - int(seconds * 1e9), (1 << 63) - 1)
        rates = packets / seconds
        # Of a target seen for the first time a moment ago nothing is usual yet; what came before may still be told.
        before = np.where(rates < MINOR * rates.sum(), _rates(self._earlier(tables, attack)), 0.0)
        known = np.maximum(usual[:COLUMNS], before)
        out: NDArray[np.float64] = np.minimum(1.0, known / np.maximum(rates, 1e-9)) * (rates > 0)
        return out

    def _earlier(self, tables: Tables, attack: Attack) -> ANY:
        """What the target got in the seconds before the attack, as far as it was remembered when it began."""
        if attack.earlier is None:
            end = attack.first_ns - self._margin
            found, _ = self.between(tables, attack.target, end - PRIOR_NS, end)
            one_of = -(-len(found) // PRIOR_PACKETS) or 1
            attack.earlier = found[::one_of].copy()
            attack.earlier["weight"] *= np.uint32(one_of)
        return attack.earlier

    def _normal(self, tables: Tables, attack: Attack) -> ANY:
        """What the target got before the attack. A late tick puts the beginning too late, and an attack's first packets
        must not count as what it would hurt."""
        began = attack.first_ns - self._margin
        if not is_prefix(attack.target):
            kept = self._reservoir.of(attack.target)
            # An attack that rises slowly is all over the last seconds: where hours are known, those say nothing.
            if (kept["time"] < began).sum() >= FULL:
                return kept[kept["time"] < began]
        history, earlier = self._history(tables, attack.target), self._earlier(tables, attack)
        # Samples are few; of the last seconds there is more than them.
        until = int(earlier["time"][0]) if len(earlier) else began
        return _balanced(history[history["time"] < until], earlier)

    @property
    def _margin(self) -> int:
        return JUDGED_MARGIN_NS if self._judging else PRIOR_MARGIN_NS

    def _history(self, tables: Tables, target: Network) -> ANY:
        """What the target gets at other times: what is kept of it, and samples as there are of every host, in a prefix
        of those of which nothing is kept."""
        kept = self._reservoir.of(target)
        samples = self._remembered.history(tables, target)
        return np.concatenate([kept, self._reservoir.without(samples) if is_prefix(target) else samples])


def _balanced(history: ANY, earlier: ANY) -> ANY:
    """Samples of long ago and what came just before, each for half; few samples for less."""
    wanted = float(earlier["weight"].sum()) * min(1.0, len(history) / FULL)
    if len(history) and wanted:
        history = history.copy()
        history["weight"] *= np.uint32(max(1, round(wanted / float(history["weight"].sum()))))
    return np.concatenate([history, earlier])


def _rates(earlier: ANY) -> NDArray[np.float64]:
    """Of each kind, per second."""
    if not len(earlier):
        return np.zeros(COLUMNS)
    seconds = max(int(earlier["time"][-1] - earlier["time"][0]) / 1e9, 0.5)
    return np.bincount(earlier["kind"], earlier["weight"], minlength=COLUMNS)[:COLUMNS] / seconds


def _newest(
    tables: Tables, attack: Attack, begin: int, kinds: int, reported: Iterable[Network], most: int
) -> tuple[ANY, ANY]:
    """The newest packets of these kinds, and all that the target got meanwhile."""
    sample = newest(tables, attack.target, begin, attack.last_ns, most, kinds=kinds, beside=reported)
    if not len(sample):
        return sample, sample
    begin = int(sample["time"][0])
    beside = newest(tables, attack.target, begin, attack.last_ns, 2 * most, beside=reported)
    # A connection that began before all that is looked at would seem half open.
    return sample[sample["time"] >= beside["time"][0]], beside


def _claim(attack: Attack, incoming: ANY, kept: NDArray[np.bool_]) -> None:
    """What else a target gets meanwhile makes an attack neither larger nor longer; `kept`: what of it is the attack."""
    if kept.any():
        attack.last_ns = int(incoming["time"][kept].max())
        attack.packets = round(attack.packets * float(incoming["weight"][kept].sum() / incoming["weight"].sum()))
