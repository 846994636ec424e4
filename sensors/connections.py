"""Slow HTTP attacks: many open connections to a web port that never get on with their request.

A limit on packets never sees them: a thousand connections with a byte now and then keep a server busy at a hundred
packets a second. A small table follows connections from their SYN on and keeps those whose data comes in crumbs. Looks
at gathered headers about once a second; reads no clock. Where only some connections are gathered, each counts for as
many as it stands for, and an attack must be told from chance.
"""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_network

import numpy as np
from numpy.typing import NDArray

from rules.components import Numeric
from rules.match import TCP, Match, Network
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Metric, Zone
from sensors.gathered import Handed
from sensors.headers import HAS_PAYLOAD, HAS_PORTS, IS_IPV6, Kind
from sensors.origins import flows
from sensors.settings import SlowSettings
from sensors.tables import ANY, address

CRUMB = 68
"""Length up to which an IPv4 segment with data holds at most 28 bytes of it, 16 beside timestamps; IPv6: 20 more."""
FEW, NEARLY_ALL = 4, 0.9
HANDSHAKE_NS = 3_000_000_000
"""Whose SYN nothing follows for so long has no connection."""
DEVIATIONS = 2.0
"""By so many standard deviations must a count estimated from some connections exceed what counts as an attack."""
_OPEN = np.dtype(
    [
        ("flow", "<u8"), ("server_high", "<u8"), ("server_low", "<u8"), ("source_high", "<u8"), ("source_low", "<u8"),
        ("port", "<u2"), ("data", "<i4"), ("crumbs", "<i4"), ("packets", "<i8"), ("bytes", "<i8"),
        ("first", "<i8"), ("last", "<i8"), ("lot", "<u4"), ("stands", "<i4"),
        ("answered", "?"),
    ]
)  # fmt: skip


@dataclass(slots=True)
class _Under:
    id: str
    first_seen: datetime
    above_ns: int
    told_ns: int
    peak: Rate
    sequence: int = 0


class SlowWatch:
    """Follows the connections of all protected servers."""

    def __init__(self, zones: Sequence[Zone], sensor: str, settings: SlowSettings | None = None,
                 vantage: Vantage = Vantage.UPSTREAM) -> None:  # fmt: skip
        self.settings, self._sensor, self._vantage, self._zones = settings or SlowSettings(), sensor, vantage, zones
        self._open = np.zeros(0, _OPEN)
        self._under: dict[Network, _Under] = {}

    @property
    def followed(self) -> int:
        """Connections in the table."""
        return len(self._open)

    def protect(self, zones: Sequence[Zone]) -> None:
        """Other zones from now on."""
        self._zones = zones

    def look(self, handed: Handed | ANY, now: int, seen: datetime) -> tuple[Detection, ...]:
        """Takes what was remembered since the last look, as gathered or all of it. `now`: analysis time in ns; `seen`
        goes into the messages."""
        self._follow(handed if isinstance(handed, Handed) else Handed.all(handed), now)
        slow = self._slow()
        servers, places = np.unique(slow[["server_high", "server_low"]], return_inverse=True)
        counts = np.bincount(places, slow["stands"], minlength=len(servers))
        found = {
            address(int(server["server_high"]), int(server["server_low"])): slow[places == number]
            for number, (server, count) in enumerate(zip(servers, counts, strict=True))
            if count >= 0.7 * self.settings.connections
        }
        told = (self._judge(target, found.get(target), now, seen) for target in {*found, *self._under})
        return tuple(one for one in told if one is not None)

    def _follow(self, handed: Handed, now: int) -> None:
        entries = handed.entries
        wanted = np.flatnonzero(
            (entries["protocol"] == TCP)
            & (entries["marks"] & HAS_PORTS != 0)
            & (entries["fragment"] & 2 == 0)
            & np.isin(entries["destination_port"], self.settings.ports)
        )
        tcp, lots = entries[wanted], handed.lots[wanted]
        # Fewer connections are followed than before: those that stay stand for more.
        self._open = self._open[self._open["lot"] & np.uint32(handed.one_of - 1) == 0]
        self._open["stands"] = np.maximum(self._open["stands"], handed.one_of)
        is_syn = tcp["kind"] == Kind.SYN
        begun = _opened(tcp[is_syn], lots[is_syn], handed.one_of)
        self._open = np.concatenate([self._open, begun[~np.isin(begun["flow"], self._open["flow"])]])
        self._open = self._open[np.argsort(self._open["flow"], kind="stable")]
        self._count(tcp[~is_syn])
        gone = np.unique(_keys(tcp[np.isin(tcp["kind"], (Kind.FIN, Kind.RST))]))
        kept = ~np.isin(self._open["flow"], gone) & (now - self._open["last"] <= self.settings.idle_seconds * 1e9)
        # What gets on with its work is no longer of interest.
        kept &= self._open["data"] - 1 - self._open["crumbs"] <= 3
        kept &= self._open["answered"] | (now - self._open["first"] <= HANDSHAKE_NS)
        self._open = self._open[kept]
        if len(self._open) > self.settings.table:
            order = np.lexsort((self._open["first"], -self._open["crumbs"]))
            self._open = self._open[np.sort(order[: self.settings.table])]

    def _count(self, tcp: ANY) -> None:
        """Adds packets to the connections they belong to."""
        if not len(self._open) or not len(tcp):
            return
        keys = _keys(tcp)
        at = np.minimum(np.searchsorted(self._open["flow"], keys), len(self._open) - 1)
        known = self._open["flow"][at] == keys
        at, tcp = at[known], tcp[known]
        has_data = tcp["marks"] & HAS_PAYLOAD != 0
        crumb = has_data & (tcp["length"] <= CRUMB + np.where(tcp["marks"] & IS_IPV6 != 0, 20, 0))
        for name, amounts in (("packets", tcp["weight"]), ("data", has_data), ("crumbs", crumb),
                              ("bytes", tcp["weight"] * tcp["length"].astype(np.int64))):  # fmt: skip
            self._open[name] += np.bincount(at, amounts, minlength=len(self._open)).astype(self._open[name].dtype)
        np.maximum.at(self._open["last"], at, tcp["time"])
        self._open["answered"][at] = True

    def _slow(self) -> ANY:
        """Connections whose data comes in crumbs."""
        data = np.maximum(self._open["data"] - 1, 1)
        enough = self._open["crumbs"] >= self.settings.crumbs
        slow: ANY = self._open[enough & (self._open["crumbs"] >= self.settings.share * data)]
        return slow

    def _judge(
        self, target: Network, slow: ANY | None, now: int, seen: datetime
    ) -> Detection | None:  # fmt: skip
        count, surely = (0, 0.0) if slow is None else _estimated(slow)
        under = self._under.get(target)
        zone = next((zone.name for zone in self._zones if zone.holds(target)), None)
        if zone is None or (under is None and surely < self.settings.connections):
            return None
        slow = self._open[:0] if slow is None else slow
        state = State.STARTED if under is None else State.ONGOING
        rate = _rate(slow, now)
        if under is None:
            under = self._under[target] = _Under(f"slow-{secrets.token_hex(8)}", seen, now, now, rate)
        under.peak = Rate(
            max(under.peak.packets_per_second, rate.packets_per_second),
            max(under.peak.bits_per_second, rate.bits_per_second),
        )
        if count >= 0.7 * self.settings.connections:
            under.above_ns = now
        if now - under.above_ns >= self.settings.quiet_seconds * 1e9:
            state = State.OVER
            del self._under[target]
        elif state is State.ONGOING and now - under.told_ns < self.settings.update_seconds * 1e9:
            return None
        under.told_ns = now
        return self._detection(target, zone, slow, under, state, rate, seen)

    def _detection(
        self, target: Network, zone: str, slow: ANY, under: _Under, state: State, rate: Rate, seen: datetime
    ) -> Detection:  # fmt: skip
        under.sequence += 1
        return Detection(
            sensor=self._sensor,
            attack=under.id,
            sequence=under.sequence - 1,
            zone=zone,
            target=target,
            state=state,
            vantage=self._vantage,
            confirmed=True,
            severity=round(_estimated(slow)[0] / self.settings.connections, 3),
            metric=Metric.FLOWS.value,
            rate=rate,
            peak=under.peak,
            vectors=(VectorShare(Vector("http_slow"), 1.0, 1.0),),
            signatures=_rules(target, slow),
            sources=len(np.unique(slow[["source_high", "source_low"]])),
            spoofed=False,
            first_seen=min(under.first_seen, seen),
            seen=seen,
        )


def _keys(entries: ANY) -> NDArray[np.uint64]:
    """Connections as numbers, servers told apart."""
    server = entries["destination_high"] * np.uint64(0xC2B2AE3D27D4EB4F) ^ entries["destination_low"]
    out: NDArray[np.uint64] = flows(entries) ^ server * np.uint64(0x9E3779B97F4A7C15)
    return out


def _estimated(slow: ANY) -> tuple[int, float]:
    """How many connections these stand for, and how many there are nearly for certain."""
    stands = slow["stands"].astype(np.int64)
    count = int(stands.sum())
    return count, count - DEVIATIONS * float(np.sqrt((stands * (stands - 1)).sum()))


def _opened(syns: ANY, lots: NDArray[np.uint32], one_of: int) -> ANY:
    """New lines for connections that begin here."""
    keys, places = np.unique(_keys(syns), return_index=True)
    out = np.zeros(len(keys), _OPEN)
    first = syns[places]
    out["flow"] = keys
    for half in ("high", "low"):
        out[f"server_{half}"], out[f"source_{half}"] = first[f"destination_{half}"], first[f"source_{half}"]
    out["port"], out["packets"], out["bytes"] = first["destination_port"], first["weight"], first["length"]
    out["first"] = out["last"] = first["time"]
    out["lot"], out["stands"] = lots[places], one_of
    return out


def _rate(slow: ANY, now: int) -> Rate:
    """Of these connections together, each over its own life."""
    lives = np.maximum(now - slow["first"], 1_000_000_000) / 1e9 / slow["stands"]
    return Rate(float((slow["packets"] / lives).sum()), float((slow["bytes"] * 8 / lives).sum()))


def _rules(target: Network, slow: ANY) -> tuple[Signature, ...]:
    """A rule for each source where few hold nearly all connections: their handshakes prove them real. Else none."""
    sources = Counter(
        {
            address(int(one["source_high"]), int(one["source_low"])): int(count)
            for one, count in zip(*np.unique(slow[["source_high", "source_low"]], return_counts=True), strict=True)
        }
    )
    best = sources.most_common(FEW)
    if not best or sum(count for _, count in best) < NEARLY_ALL * len(slow):
        return ()
    ports = np.unique(slow["port"])[:5]
    plain = Match(
        destination=target,
        protocol=Numeric.only(TCP),
        destination_port=Numeric.only(*map(int, ports)),
    )
    return tuple(
        Signature(replace(plain, source=ip_network(source)), count / len(slow), None)
        for source, count in best
        if count >= 0.05 * len(slow)
    )
