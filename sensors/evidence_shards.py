"""The bytes of recent packets of all shards as one: each shard's thread writes into a ring of its own.

Records are read in the order of time, from whichever ring they are in: what a target sends to another protected one is
counted, and kept, in the shard of that one. Of two reads, the later one may begin with packets a few milliseconds older
than the last of the earlier, since each ring hands over a block of packets when that is full: `EvidenceFile` puts the
whole in order at its end.
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import NamedTuple

from rules.match import Network
from sensors.evidence_records import RECORD
from sensors.evidence_ring import RecentBytes, Selection

_TOGETHER = 1_024
"""Records of one selection, so that those that fit into a file are written."""

Position = tuple[tuple[int, int], ...]
"""Where each ring's writer, or reader, is."""


class _Record(NamedTuple):
    stamp: tuple[int, int]
    content: bytes


class RecentShards:
    """As many rings as there are shards."""

    def __init__(self, parts: Iterable[RecentBytes]) -> None:
        self.parts = tuple(parts)

    @classmethod
    def within(cls, megabytes: int, cover_seconds: float, shards: int) -> "RecentShards":
        """Rings that share so much memory."""
        return cls(RecentBytes(megabytes // shards, cover_seconds) for _ in range(shards))

    def pace(self, now: float) -> None:
        """As `RecentBytes.pace`."""
        for part in self.parts:
            part.pace(now)

    @property
    def kept(self) -> int:
        """As `RecentBytes.kept`."""
        return sum(part.kept for part in self.parts)

    @property
    def one_of(self) -> int:
        """As `RecentBytes.one_of`, where that is most."""
        return max(part.one_of for part in self.parts)

    @property
    def used_bytes(self) -> int:
        """As `RecentBytes.used_bytes`."""
        return sum(part.used_bytes for part in self.parts)

    @property
    def position(self) -> Position:
        """Where the writers are; reading may go on from here later."""
        return tuple(part.position for part in self.parts)

    @property
    def oldest(self) -> Position:
        """The first places that can be read."""
        return tuple(part.oldest for part in self.parts)

    def has_lost(self, position: Position) -> bool:
        """Whether something behind a position was overwritten."""
        return any(before < oldest for before, oldest in zip(position, self.oldest, strict=True))

    def count(self, target: Network, span: tuple[Position, Position], since_ns: int = 0) -> int:
        """As `RecentBytes.count`."""
        return sum(
            part.count(target, one, since_ns) for part, one in zip(self.parts, zip(*span, strict=True), strict=True)
        )

    def read(
        self, target: Network, span: tuple[Position, Position], since_ns: int, every: int, bare: bool
    ) -> Iterator[Selection]:
        """As `RecentBytes.read`."""
        found = [
            list(part.read(target, one, since_ns, every, bare))
            for part, one in zip(self.parts, zip(*span, strict=True), strict=True)
        ]
        several = [selections for selections in found if selections]
        return iter(several[0]) if len(several) == 1 else _in_order(several)


def _in_order(found: list[list[Selection]]) -> Iterator[Selection]:
    every = [one for selections in found for one in selections]
    matching, one_of = sum(one.matching for one in every), max((one.one_of for one in every), default=1)
    records = merge(*map(_records, found), key=lambda record: record.stamp)
    while some := list(islice(records, _TOGETHER)):
        first, last = (some[at].stamp[0] * 1_000_000_000 + some[at].stamp[1] for at in (0, -1))
        yield Selection(b"".join(record.content for record in some), matching, len(some), first, last, one_of)
        matching = 0
    if matching:
        yield Selection(b"", matching, 0, 0, 0, one_of)


def _records(selections: list[Selection]) -> Iterator[_Record]:
    for one in selections:
        at = 0
        while at < len(one.content):
            seconds, nanoseconds, length, _ = RECORD.unpack_from(one.content, at)
            end = at + RECORD.size + length
            yield _Record((seconds, nanoseconds), one.content[at:end])
            at = end
