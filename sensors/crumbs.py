"""The table of connections to web ports that may be slow ones: from their SYN on, those whose data comes in crumbs, and
those whose client takes no more (`sensors.stalled`).

Where servers are seen to send, a connection that gets answers is none that a server waits for, and one that is older
than the capture can be told by that it gets none. Reads no clock.
"""

import numpy as np
from numpy.typing import NDArray

from rules.match import TCP
from sensors import stalled
from sensors.gathered import Handed
from sensors.headers import HAS_PAYLOAD, HAS_PORTS, IS_HTTP, IS_IPV6, Kind
from sensors.origins import flows
from sensors.settings import SlowSettings
from sensors.stalled import DOUBLED
from sensors.tables import ANY

CRUMB = 68
"""Length up to which an IPv4 segment with data holds at most 28 bytes of it, 16 beside timestamps; IPv6: 20 more."""
HANDSHAKE_NS = 3_000_000_000
"""Whose SYN nothing follows for so long has no connection."""
PIECE = 140
"""Length up to which an IPv4 segment with data may be a piece of a request that somebody draws out: a header line of at
most 100 bytes, 88 beside timestamps. Some speak so all day; but then the server answers, and they acknowledge it."""
_APART_NS = 200_000_000
"""Such pieces are at least so far apart, on average."""
_UNHEARD = 1
"""Segments without data of a client whom the server has told nothing since their handshake: that of the handshake."""
_TLS_PORTS = (443, 8443)
_GREETING_NS = 1_000_000_000
"""On these ports so long after the SYN both sides greet each other and a visitor asks: what comes then says nothing."""
_VISIT = 64
"""Packets of a client in that time, beyond which it is a visitor."""
_EACH = 20
"""Connections of a client, beyond which they count where nothing in the headers tells a web socket that is never
answered, or a player that pauses, from a slow one: those are many clients', a few of each."""
_WORK = 3
"""With more segments than this that are no crumbs, the first left out, a connection gets on with its work."""
_ENDS = (Kind.FIN, Kind.RST)
_NEVER = (1 << 63) - 1
OPEN = np.dtype(
    [
        ("flow", "<u8"), ("server_high", "<u8"), ("server_low", "<u8"), ("source_high", "<u8"), ("source_low", "<u8"),
        ("port", "<u2"), ("data", "<i4"), ("crumbs", "<i4"), ("pieces", "<i4"), ("bare", "<i4"),
        ("packets", "<i8"), ("bytes", "<i8"), ("first", "<i8"), ("last", "<i8"), ("crumbled", "<i8"),
        ("unheard", "<i8"), ("gap", "<i8"), ("doubled", "<i4"),
        ("lot", "<u4"), ("stands", "<i4"), ("answered", "?"), ("older", "?"), ("heard", "?"), ("done", "?"),
    ]
)  # fmt: skip
"""`bare`: segments without data; `crumbled`: the time of the first crumb or piece; `unheard`, `gap`, `doubled`: see
`sensors.stalled`; `answered`: by the client, to the handshake; `older`: than the capture; `heard`: the server sent
something; `done`: it is known to be no slow one."""


class Connections:
    """The connections that are followed."""

    def __init__(self, settings: SlowSettings, answers: bool) -> None:
        """`answers`: what servers send is handed over, too, as `gathered` does it."""
        self._settings, self._answers = settings, answers
        self._open = np.zeros(0, OPEN)

    def __len__(self) -> int:
        return len(self._open)

    def slow(self) -> ANY:
        """Those whose data comes in crumbs, or whose client takes no more, as `OPEN`."""
        data, pieces = np.maximum(self._open["data"] - 1, 1), self._pieces()
        # Of a connection that nobody saw begin, the first piece of a request isn't known, nor whether it had an answer
        # long ago: its server must be seen to listen and say nothing.
        enough = pieces >= self._settings.crumbs + self._open["older"]
        enough &= (~self._open["older"] | self._open["heard"]) & ~self._open["done"]
        enough &= pieces >= self._settings.share * data
        stalled = (self._open["doubled"] >= DOUBLED) & ~self._open["done"]
        doubtful = stalled | (enough & self._is_tls())
        slow: ANY = self._open[(enough & ~doubtful) | self._held_by_few(doubtful)]
        return slow

    def _is_tls(self) -> NDArray[np.bool_]:
        return np.isin(self._open["port"], _TLS_PORTS)

    def _held_by_few(self, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of some connections, those of clients that hold many of them to one server."""
        lines = self._open[some]
        ends = lines[["server_high", "server_low", "source_high", "source_low"]]
        _, places = np.unique(ends, return_inverse=True)
        held = np.bincount(places, lines["stands"])
        out = some.copy()
        out[some] = held[places] >= _EACH
        return out

    def _pieces(self) -> NDArray[np.int32]:
        """How many segments of each connection get nowhere: crumbs, and longer ones where the server says nothing."""
        lines = self._open
        drawn_out = lines["bare"] <= _UNHEARD
        drawn_out &= lines["last"] - lines["first"] >= _APART_NS * lines["pieces"].astype(np.int64)
        out: NDArray[np.int32] = np.where(drawn_out, lines["pieces"], lines["crumbs"])
        return out

    def follow(self, handed: Handed, now: int) -> None:
        """Takes what was gathered since the last time; `now`: analysis time in ns."""
        tcp, lots = self._part(handed, "destination_port")
        # Fewer connections are followed than before: those that stay stand for more.
        if handed.one_of > 1:
            self._keep(self._open["lot"] & np.uint32(handed.one_of - 1) == 0)
            self._open["stands"] = np.maximum(self._open["stands"], handed.one_of)
        self._begin(tcp, lots, handed.one_of)
        self._count(tcp[tcp["kind"] != Kind.SYN])
        ended = [flows(tcp[np.isin(tcp["kind"], _ENDS)])]
        # What gets on with its work is no longer of interest.
        done = self._open["done"] | (self._open["data"] - 1 - self._pieces() > _WORK)
        if self._answers:
            answers = _turned(self._part(handed, "source_port")[0])
            ended.append(flows(answers[np.isin(answers["kind"], _ENDS)]))
            # Kept: otherwise what it says next would be that of a connection older than the capture.
            self._open["done"] |= done | self._served(answers)
            done = np.zeros(len(done), bool)
        kept = ~np.isin(self._open["flow"], np.concatenate(ended)) & ~done
        kept &= now - self._open["last"] <= self._settings.idle_seconds * 1e9
        kept &= self._open["answered"] | (now - self._open["first"] <= HANDSHAKE_NS)
        self._keep(kept)
        if len(self._open) > self._settings.table:
            order = np.lexsort((self._open["first"], -self._open["crumbs"]))
            self._open = self._open[np.sort(order[: self._settings.table])]

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        if not kept.all():
            self._open = self._open[kept]

    def _part(self, handed: Handed, side: str) -> tuple[ANY, NDArray[np.uint32]]:
        """What went to servers (`destination_port`), or came from them (`source_port`)."""
        entries, ports = handed.entries, self._settings.ports
        wanted = (
            (entries["protocol"] == TCP)
            & (entries["marks"] & HAS_PORTS != 0)
            & (entries["fragment"] & 2 == 0)
            & np.isin(entries[side], ports)
        )
        if side == "source_port":
            wanted &= ~np.isin(entries["destination_port"], ports)
        places = np.flatnonzero(wanted)
        return entries[places], handed.lots[places]

    def _begin(self, tcp: ANY, lots: NDArray[np.uint32], one_of: int) -> None:
        """New lines, in the order of `flow`."""
        is_syn = tcp["kind"] == Kind.SYN
        begun = _opened(tcp[is_syn], lots[is_syn], one_of)
        if self._answers:
            # The same ports again are another connection.
            again = np.zeros(len(self._open), bool)
            at, known = _places(self._open["flow"], begun["flow"])
            again[at[known]] = True
            if (again := again & self._open["done"]).any():
                self._keep(~again)
            going = ~is_syn & (tcp["marks"] & HAS_PAYLOAD != 0)
            older = _opened(tcp[going], lots[going], one_of)
            older["older"], older["data"], older["packets"], older["bytes"] = True, 1, 0, 0
            self._add(begun)
            begun = older
        self._add(begun)

    def _add(self, lines: ANY) -> None:
        """Those that aren't known."""
        _, known = _places(self._open["flow"], lines["flow"])
        if not known.all():
            self._open = np.insert(
                self._open, np.searchsorted(self._open["flow"], lines["flow"][~known]), lines[~known]
            )

    def _among(self, packets: ANY) -> tuple[NDArray[np.int64], ANY]:
        """The packets of connections in the table, and whose lines those are."""
        at, known = _places(self._open["flow"], flows(packets))
        return at[known], packets[known]

    def _count(self, tcp: ANY) -> None:
        """Adds packets to the connections they belong to."""
        at, tcp = self._among(tcp)
        for name, amounts in (("packets", tcp["weight"]), ("bytes", tcp["weight"] * tcp["length"].astype(np.int64))):
            self._open[name] += np.bincount(at, amounts, minlength=len(self._open)).astype(np.int64)
        np.maximum.at(self._open["last"], at, tcp["time"])
        self._open["answered"][at] = True
        greets = self._is_tls()[at] & (tcp["time"] < self._open["first"][at] + _GREETING_NS)
        self._open["done"][at[greets & (self._open["packets"][at] > _VISIT)]] = True
        at, tcp = at[~greets], tcp[~greets]
        has_data = tcp["marks"] & HAS_PAYLOAD != 0
        stalled.follow(self._open, at[~has_data], tcp["time"][~has_data])
        length = tcp["length"] - np.where(tcp["marks"] & IS_IPV6 != 0, 20, 0)
        crumb, piece = has_data & (length <= CRUMB), has_data & (length <= PIECE) & (tcp["marks"] & IS_HTTP == 0)
        for name, amounts in (("data", has_data), ("crumbs", crumb), ("pieces", piece), ("bare", ~has_data)):
            self._open[name] += np.bincount(at, amounts, minlength=len(self._open)).astype(np.int32)
        np.minimum.at(self._open["crumbled"], at[crumb | piece], tcp["time"][crumb | piece])

    def _served(self, answers: ANY) -> NDArray[np.bool_]:
        """The connections that servers answer after a crumb. What comes before it is a handshake of TLS, or a page that
        was asked for at once."""
        at, answers = self._among(answers)
        self._open["heard"][at] = True
        served = (answers["marks"] & HAS_PAYLOAD != 0) & (answers["time"] > self._open["crumbled"][at])
        out = np.zeros(len(self._open), bool)
        out[at[served]] = True
        return out


def _places(among: NDArray[np.uint64], keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where keys stand among ascending ones, and which of them do at all."""
    if not len(among):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    among = np.ascontiguousarray(among)
    at = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return at, among[at] == keys


def _opened(first: ANY, lots: NDArray[np.uint32], one_of: int) -> ANY:
    """New lines for connections that begin here."""
    keys, places = np.unique(flows(first), return_index=True)
    out = np.zeros(len(keys), OPEN)
    first = first[places]
    out["flow"] = keys
    for half in ("high", "low"):
        out[f"server_{half}"], out[f"source_{half}"] = first[f"destination_{half}"], first[f"source_{half}"]
    out["port"], out["packets"], out["bytes"] = first["destination_port"], first["weight"], first["length"]
    out["first"] = out["last"] = first["time"]
    out["lot"], out["stands"], out["crumbled"] = lots[places], one_of, _NEVER
    return out


def _turned(answers: ANY) -> ANY:
    """Packets of servers as if their clients had sent them."""
    out = answers.copy()
    for one, other in (("source", "destination"), ("destination", "source")):
        for part in ("high", "low", "port"):
            out[f"{one}_{part}"] = answers[f"{other}_{part}"]
    return out
