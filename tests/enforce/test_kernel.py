"""The translation held against the kernel: real packets, and a matcher that knows nothing of nftables."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_interface

import pytest
from frames import WALKED, Dressing, fitted, ip_bytes, open_wire, send
from hypothesis import given, settings, target
from hypothesis import strategies as st
from packets import Packet, packets, selects
from strategies import matches

from lab.namespaces import Namespace, Port, join, namespaces, wait_until
from rules.action import Action, Discard, RateLimit
from rules.match import Family, Match
from rules.nft import build, transaction
from rules.nft_rule import FASTEST, compile_rule
from rules.relations import precedence
from rules.rule import FlowSpec

pytestmark = pytest.mark.peer

_WITNESS = """
table inet witness {
    set came4 { typeof ip ttl; flags dynamic; size 256; }
    set came6 { typeof ip6 hoplimit; flags dynamic; size 256; }
    set stayed4 { typeof ip ttl; flags dynamic; size 256; }
    set stayed6 { typeof ip6 hoplimit; flags dynamic; size 256; }
    chain before { type filter hook prerouting priority -460;
        iifname != "in" accept; add @came4 { ip ttl }; add @came6 { ip6 hoplimit }; }
    chain after { type filter hook prerouting priority -440;
        iifname != "in" accept; add @stayed4 { ip ttl }; add @stayed6 { ip6 hoplimit }; drop; }
}
"""
"""Notes each packet's serial before and behind our chain."""

_FIRST, _LAST = 2, 254
"""Serials of the first packet and of the one that closes a batch; the kernel's own IGMP and MLD reports have a TTL of
1, its neighbour discovery 255."""


@dataclass(frozen=True, slots=True)
class Bench:
    """An interface that packets are sent into, and who notes them there."""

    inside: Namespace
    wire: socket.socket
    hardware: bytes

    def passed(self, sent: list[tuple[Packet, Dressing]]) -> tuple[set[int], set[int]]:
        """Serials that arrived at all, and those that got past our chain."""
        self.inside.run(
            "nft", *(f"flush set inet witness {which}{family};" for which in ("came", "stayed") for family in (4, 6))
        )
        closing = replace(sent[0][0], fragment=0, protocol=17, length=100, source_port=1, destination_port=1)
        batch = [*sent, (closing, Dressing(serial=_LAST))]
        send(self.wire, [ip_bytes(packet, dressing) for packet, dressing in batch], self.hardware)
        wait_until(lambda: _LAST in self._noted("came"), "the closing packet", step_seconds=0.005)
        return self._noted("came") - {_LAST}, self._noted("stayed") - {_LAST}

    def _noted(self, which: str) -> set[int]:
        found: set[int] = set()
        for entry in json.loads(self.inside.run("nft", "-j", "list", "table", "inet", "witness"))["nftables"]:
            if "set" in entry and entry["set"]["name"].startswith(which):
                found |= set(entry["set"].get("elem", ()))
        # The hosts' own reports and neighbour discovery come whenever they like.
        return {serial for serial in found if _FIRST <= serial <= _LAST}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with namespaces("outside", "inside") as (outside, inside):
        left = Port(outside, "out", (ip_interface("192.0.2.1/24"),))
        join(left, Port(inside, "in", (ip_interface("192.0.2.2/24"),)), mtu=65535)
        inside.run("nft", "-f", "-", given=_WITNESS)
        link = json.loads(inside.run("ip", "-j", "link", "show", "in"))[0]
        wire = outside.call(lambda: open_wire("out"))
        yield Bench(inside, wire, bytes.fromhex(link["address"].replace(":", "")))
        wire.close()


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[FlowSpec], list[tuple[Packet, Dressing]]]:
    """Rules of one family, and packets drawn towards them; rules that let pass show who came first."""
    family = draw(st.sampled_from(Family))
    chosen = draw(st.lists(matches(family), min_size=1, max_size=5))
    actions: st.SearchStrategy[Action] = st.sampled_from([Discard(), RateLimit(FASTEST)])
    rules = [FlowSpec(match, draw(actions)) for match in chosen]
    drawn = st.sampled_from(chosen).flatmap(lambda match: st.tuples(packets(match), _dressings()))
    return rules, [
        _real(*one, serial) for serial, one in enumerate(draw(st.lists(drawn, min_size=8, max_size=40)), _FIRST)
    ]


def _dressings() -> st.SearchStrategy[Dressing]:
    return st.builds(
        Dressing, ecn=st.integers(0, 3), options=st.integers(0, 3), offset=st.sampled_from([1, 2, 185, 4096, 8000])
    )


def _real(packet: Packet, dressing: Dressing, serial: int) -> tuple[Packet, Dressing]:
    """What a receiver hands to prerouting at all: addresses that may be, and no headers in the place of protocols."""
    if packet.family is Family.IPV6:
        dropped_early = packet.source >> 120 == 0xFF or packet.destination >> 120 == 0xFF
        loopback = 1 in (packet.source, packet.destination)
        mapped = any(address >> 32 == 0xFFFF for address in (packet.source, packet.destination))
        if dropped_early or loopback or mapped:
            packet = replace(packet, source=0x20010DB8 << 96, destination=0x20010DB8 << 96 | 7)
        if packet.protocol in WALKED:
            packet = replace(packet, protocol=59)
    dressing = replace(dressing, serial=serial)
    return fitted(packet, dressing), dressing


def expected(rules: list[FlowSpec], packet: Packet) -> bool:
    """Whether the packet stays: the first rule that selects it decides."""
    strictest: dict[Match, FlowSpec] = {}
    for rule in rules:
        same = next((one for one in strictest if one.meaning() == rule.match.meaning()), rule.match)
        if same not in strictest or isinstance(rule.action, Discard):
            strictest[same] = FlowSpec(same, rule.action)
    for rule in sorted(strictest.values(), key=lambda one: precedence(one.match)):
        if selects(rule.match, packet):
            return not isinstance(rule.action, Discard)
    return True


@given(pair=traffic())
def test_the_kernel_drops_exactly_what_the_rules_select(
    bench: Bench, pair: tuple[list[FlowSpec], list[tuple[Packet, Dressing]]]
) -> None:
    rules, sent = pair
    document = transaction(build(compile_rule(rule) for rule in rules))
    bench.inside.run("nft", "-j", "-f", "-", given=document)
    came, stayed = bench.passed(sent)
    assert came == {dressing.serial for _, dressing in sent}, "the kernel threw packets away before our chain"
    wanted = {dressing.serial for packet, dressing in sent if expected(rules, packet)}
    target(len(came - wanted), label="dropped")
    wrong = {dressing.serial: packet for packet, dressing in sent if dressing.serial in stayed ^ wanted}
    assert not wrong, f"{[str(rule) for rule in rules]}\n{wrong}\n{document}"


def test_many_of_the_drawn_packets_are_selected_and_dropped() -> None:
    """The law above would be empty if hardly any packet were selected."""
    selected = dropped = 0

    @settings(derandomize=True)
    @given(pair=traffic())
    def count(pair: tuple[list[FlowSpec], list[tuple[Packet, Dressing]]]) -> None:
        nonlocal selected, dropped
        rules, sent = pair
        selected += sum(any(selects(rule.match, packet) for rule in rules) for packet, _ in sent)
        dropped += sum(not expected(rules, packet) for packet, _ in sent)

    count()
    assert selected > 50 and dropped > 25
