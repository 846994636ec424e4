"""Captures without zones: what is proven to be of no use is an attack at low rates, too; who looks for open ports is
none at high ones."""

from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.carpets import judge_prefix
from sensors.classify import classify
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PORTS, HEADER, MAPPED, Kind
from sensors.judge import judge
from sensors.ordinary import scans
from sensors.tables import ANY
from sensors.unwanted import forged, refused

PREFIX = ip_network("203.0.113.0/24")
HOST, SCANNER = 0xCB007109, 0x08080808
_PROTOCOLS = {Kind.UDP: 17, Kind.AMPLIFICATION: 17, Kind.ICMP: 1}
NOBODY = np.zeros(0, HEADER)


def got(kind: Kind, count: int, source: ANY | int, ports: tuple[ANY | int, ANY | int], length: int = 40) -> ANY:
    """So many packets in a second, with their own ports and the host's."""
    out = np.zeros(count, HEADER)
    out["time"] = np.linspace(0, 1e9, count, endpoint=False).astype(np.int64)
    out["source_low"], out["destination_low"] = MAPPED | source, MAPPED | HOST
    out["kind"], out["protocol"], out["weight"], out["length"] = kind, _PROTOCOLS.get(kind, 6), 1, length
    out["marks"] = HAS_ICMP if kind is Kind.ICMP else HAS_PORTS | (HAS_FLAGS if out["protocol"][0] == 6 else 0)
    out["source_port"], out["destination_port"] = ports
    return out


def back(packets: ANY, kind: Kind, icmp_type: int = 3) -> ANY:
    """What the host sends for each of them."""
    out = packets.copy()
    for one, other in (("source", "destination"), ("destination", "source")):
        out[f"{one}_low"], out[f"{one}_port"] = packets[f"{other}_low"], packets[f"{other}_port"]
    out["kind"], out["protocol"] = kind, _PROTOCOLS.get(kind, 6)
    out["icmp_type"] = icmp_type if kind is Kind.ICMP else 0
    return out


def guilty(incoming: ANY, outgoing: ANY = NOBODY) -> bool:
    return judge(incoming, outgoing, 1.0).guilty


def anywhere(count: int) -> ANY:
    """Addresses that networks have, as many as wanted, none twice."""
    return (np.arange(count, dtype=np.int64) * 2_654_435_761 % (100 << 24)) + (20 << 24)


TCP_KINDS = (Kind.SYN, Kind.ACK, Kind.FIN, Kind.TCP_NULL, Kind.TCP_XMAS, Kind.TCP_OTHER)


@pytest.mark.parametrize("kind", TCP_KINDS)
@pytest.mark.parametrize("rate", [3_000, 40_000])
@pytest.mark.parametrize("answered", [False, True])
def test_who_tries_port_after_port_scans_however_fast(kind: Kind, rate: int, answered: bool) -> None:
    order = np.random.default_rng(1).permutation(60_000)[:rate] + 1
    for own in (45_678, 1_024 + np.arange(rate) % 60_000):
        probes = got(kind, rate, SCANNER, (own, order))
        assert not guilty(probes, back(probes, Kind.RST) if answered else NOBODY)


def test_a_flood_to_any_ports_hits_some_twice_and_is_no_scan() -> None:
    draw = np.random.default_rng(2)
    flood = got(Kind.SYN, 18_000, SCANNER, (draw.integers(1, 65_536, 18_000), draw.integers(1, 65_536, 18_000)))
    assert guilty(flood)
    many = got(Kind.SYN, 18_000, SCANNER + np.arange(18_000) % 60, (4_000, np.arange(18_000) % 60_000))
    assert guilty(many)
    assert not guilty(got(Kind.UDP, 9_000, SCANNER, (4_000, np.arange(9_000))))
    assert guilty(got(Kind.UDP, 12_000, SCANNER, (4_000, np.arange(12_000)), 900))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 300), st.integers(0, 5), st.integers(1, 3)), max_size=400),
    st.integers(0, 2**32),
)
def test_what_scans_depends_neither_on_order_nor_on_names(rows: list[tuple[int, int, int, int]], seed: int) -> None:
    table = np.array([row[:3] for row in rows for _ in range(row[3])], np.int64).reshape(-1, 3)
    part = (
        got(Kind.SYN, len(table), table[:, 0] % 3, (table[:, 2], table[:, 0] * 300 + table[:, 1])) if rows else NOBODY
    )
    found = scans(part)
    order = np.random.default_rng(seed).permutation(len(part))
    assert (scans(part[order]) == found[order]).all()
    renamed = part.copy()
    renamed["source_low"] += 77
    assert (scans(renamed) == found).all()
    for source in np.unique(part["source_low"][found]):
        assert len(np.unique(part["destination_port"][part["source_low"] == source])) >= 100


@pytest.mark.parametrize(("rate", "ports", "expected"), [(1_500, 1, True), (600, 1, False), (1_500, 1_500, False)])
@pytest.mark.parametrize("takes_back", [False, True])
def test_one_sender_that_knocks_at_one_port_and_never_comes_in_floods(
    rate: int, ports: int, expected: bool, takes_back: bool
) -> None:
    own = 1_024 + np.arange(rate)
    syns = got(Kind.SYN, rate, SCANNER, (own, 80 + np.arange(rate) % ports))
    resets = got(Kind.RST, rate if takes_back else 0, SCANNER, (own[: rate * takes_back], 80)) if takes_back else NOBODY
    answers = back(syns, Kind.SYN_ACK)
    assert guilty(np.concatenate([syns, resets]), answers) == expected
    # Those that come in are visitors.
    assert not guilty(np.concatenate([syns, got(Kind.ACK, rate, SCANNER, (own, 80))]), answers)


def test_a_client_that_never_tires_of_a_server_that_is_down_is_no_flood() -> None:
    for length, expected in ((60, False), (40, True)):
        syns = got(Kind.SYN, 3_000, SCANNER, (np.arange(3_000), 8_080), length)
        assert guilty(syns, back(syns, Kind.RST)) == expected


@pytest.mark.parametrize(
    ("rate", "senders", "expected"), [(9_000, 9_000, True), (9_000, 3, False), (3_500, 3_500, False)]
)
def test_half_open_syns_over_a_prefix_are_a_carpet_earlier(rate: int, senders: int, expected: bool) -> None:
    syns = got(Kind.SYN, rate, np.resize(anywhere(senders), rate), (np.arange(rate) + 1_024, 443), 60)
    syns["destination_low"] = MAPPED | (HOST & ~0xFF) + np.arange(rate) % 256
    assert judge_prefix(PREFIX, syns, NOBODY, 1.0).guilty == expected
    visitors = np.concatenate([syns, syns])
    visitors["kind"][rate:] = Kind.ACK
    assert not judge_prefix(PREFIX, visitors, NOBODY, 1.0).guilty


@pytest.mark.parametrize(("to", "expected"), [(256, True), (1, False)])
def test_who_sends_to_many_hosts_from_one_port_goes_on_with_none_of_them(to: int, expected: bool) -> None:
    """Seen in one direction: a carpet of bots that keep their ports, and as many streams to a host each."""
    bots, rate = 1_000, 300_000
    flood = got(Kind.UDP, rate, np.tile(anywhere(bots), rate // bots), (4_000 + np.arange(rate) % bots, 80), 900)
    hosts = np.arange(rate) // bots % 256 if to > 1 else np.arange(rate) % bots % 256
    flood["destination_low"] = MAPPED | (HOST & ~0xFF) + hosts
    assert judge_prefix(PREFIX, flood, NOBODY, 1.0).guilty == expected


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.FIN])
def test_segments_that_the_host_refuses_are_a_flood_earlier(kind: Kind) -> None:
    flood = got(kind, 1_900, anywhere(1_900), (np.arange(1_900) + 1_024, 80))
    assert guilty(flood, back(flood, Kind.RST))
    assert not guilty(flood)
    assert not guilty(flood[::2], back(flood[::2], Kind.RST))


@pytest.mark.parametrize(("rate", "expected"), [(8_000, True), (4_000, False)])
def test_who_keeps_its_ports_floods_too_where_it_is_refused(rate: int, expected: bool) -> None:
    flood = got(Kind.ACK, rate, SCANNER, (4_000, 80))
    assert guilty(flood, back(flood, Kind.RST)) == expected
    for answers in (NOBODY, back(flood, Kind.ACK), back(flood[::3], Kind.RST)):
        assert not guilty(flood, answers)


def test_datagrams_to_closed_ports_are_a_flood_earlier_even_as_streams() -> None:
    bots = anywhere(60)
    flood = got(Kind.UDP, 6_000, np.tile(bots, 100), (np.tile(np.arange(60) + 2_000, 100), 9_987), 540)
    errors = back(flood[:60], Kind.ICMP)
    assert guilty(flood, np.repeat(errors, 5))
    assert not guilty(flood)
    # Another host's service is refused, this port answers somebody.
    assert not guilty(flood, np.concatenate([errors[:1], back(flood[60:61], Kind.UDP)]))


def test_errors_that_few_get_close_a_port_for_all_unless_it_speaks() -> None:
    flood = got(Kind.UDP, 4_000, anywhere(4_000), (np.arange(4_000) + 1_024, 9_987))
    errors = back(flood[:300], Kind.ICMP)
    assert refused(flood, errors, 1.0).all()
    spoken = np.concatenate([errors, back(flood[3_000:3_001], Kind.UDP)])
    assert refused(flood, spoken, 1.0).sum() == 300
    assert refused(flood, errors[:50], 1.0).sum() == 50


@given(st.integers(0, 2**32), st.integers(1, 200))
def test_whom_the_host_answers_is_never_refused(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    datagrams = got(Kind.UDP, count, anywhere(20)[draw.integers(0, 20, count)], (5_000, draw.integers(1, 9, count)))
    answered = datagrams[draw.integers(0, count, 5)]
    out = np.concatenate([back(datagrams, Kind.ICMP), back(answered, Kind.UDP)])
    known = np.isin(datagrams["source_low"], answered["source_low"])
    assert (refused(datagrams, out, 1.0) == ~known).all()


def test_senders_that_no_network_has_give_a_flood_away() -> None:
    drawn = np.random.default_rng(4).integers(1 << 24, 1 << 32, 1_800)
    assert forged(got(Kind.ACK, 1_800, drawn, (1, 80)))
    assert guilty(got(Kind.ACK, 1_800, drawn, (np.arange(1_800), 80)))
    assert guilty(got(Kind.UDP, 1_800, drawn, (np.arange(1_800), 80), 300))
    inside = np.where(np.arange(1_800) % 3 == 0, (10 << 24) + np.arange(1_800), anywhere(1_800))
    for senders in (anywhere(1_800), inside, np.tile(drawn[:90], 20)):
        assert not guilty(got(Kind.ACK, 1_800, senders, (np.arange(1_800), 80)))


@pytest.mark.parametrize(
    ("port", "name"), [(3_478, "udp_amp:stun"), (5_060, "udp_amp:sip"), (1_194, "udp_amp:openvpn")]
)
def test_many_servers_of_a_kind_that_answer_one_port_were_asked_by_a_forger(port: int, name: str) -> None:
    senders = np.tile(anywhere(300), 20)
    answers = got(Kind.AMPLIFICATION, 6_000, senders, (port, 40_404), 180)
    assert guilty(answers)
    assert str(classify(answers, by_bytes=False).vectors[0].vector) == name
    registering = got(Kind.AMPLIFICATION, 3_000, anywhere(3_000), (port, port), 520)
    assert not guilty(registering)
    assert (str(classify(registering, by_bytes=False).vectors[0].vector) == name) == (name != "udp_amp:sip")
    assert not guilty(got(Kind.AMPLIFICATION, 6_000, np.tile(anywhere(1_000), 6), (port, port), 520))
    # Peers with the same port, and calls from there to a port each.
    assert not guilty(got(Kind.AMPLIFICATION, 6_000, senders, (port, port), 180))
    assert not guilty(got(Kind.AMPLIFICATION, 6_000, senders, (port, 20_000 + np.arange(6_000) % 300), 180))


@pytest.mark.parametrize(("port", "rate", "expected"), [(123, 1_500, True), (1_900, 1_500, True), (53, 1_500, False)])
def test_few_reflectors_of_what_nobody_uses_in_bulk_are_enough(port: int, rate: int, expected: bool) -> None:
    answers = got(Kind.AMPLIFICATION, rate, anywhere(3)[np.arange(rate) % 3], (port, 40_404), 468)
    assert guilty(answers) == expected
    assert guilty(answers, np.repeat(back(answers[:3], Kind.ICMP), 3))


def test_answers_seen_alone_are_no_floods_of_who_answers() -> None:
    # A benchmark of a name server, a scan from one port.
    answers = got(Kind.AMPLIFICATION, 15_000, SCANNER, (53, 30_000 + np.arange(15_000) % 20), 71)
    assert not guilty(answers)
    assert guilty(got(Kind.AMPLIFICATION, 15_000, anywhere(200)[np.arange(15_000) % 200], (53, 30_000), 71))
    refusals = got(Kind.RST, 15_000, SCANNER, (np.arange(15_000) + 1, 45_678))
    refusals["tcp_flags"] = 0x14
    assert not guilty(refusals)
    refusals["tcp_flags"] = 0x04
    assert guilty(refusals)


@pytest.mark.parametrize(("rate", "expected"), [(2_000, False), (12_000, True)])
def test_more_errors_than_any_stack_sends_are_no_answers(rate: int, expected: bool) -> None:
    errors = got(Kind.ICMP, rate, SCANNER, (0, 0), 56)
    errors["icmp_type"] = 3
    assert guilty(errors) == expected


def flows(count: int, senders: int, ports: ANY | int, length: int = 92) -> ANY:
    """A second of datagrams over one flow of each sender's."""
    which = np.arange(count) % senders
    return got(Kind.UDP, count, SCANNER + which, (40_000 + which, np.resize(ports, count)), length)


@pytest.mark.parametrize("length", [60, 92, 208])
def test_what_few_keep_sending_over_one_flow_each_is_a_flood_from_ten_thousand_on(length: int) -> None:
    # Bots and load generators keep a port each, as meters do: nothing but the rate tells them apart.
    for senders in (1, 4, 15):
        assert guilty(flows(16_000, senders, 5_201, length))
        assert not guilty(flows(9_000, senders, 5_201, length))
    assert guilty(flows(30_000, 40, 5_201, length))
    assert guilty(got(Kind.UDP, 16_000, SCANNER, (np.arange(16_000) + 1_024, 5_201), length))


@pytest.mark.parametrize(
    ("rate", "own", "expected"), [(9_000, True, False), (24_000, True, True), (9_000, False, True)]
)
def test_devices_that_log_a_little_each_keep_their_ports(rate: int, own: bool, expected: bool) -> None:
    which = np.arange(rate) % (rate // 6)
    ports = 1_024 + which if own else 1_024 + np.arange(rate)
    assert guilty(got(Kind.UDP, rate, anywhere(rate)[which], (ports, 514), 210)) == expected
    # One tool's own port says nothing.
    assert guilty(got(Kind.UDP, rate, anywhere(rate)[which], (4_000, 514), 210))


@pytest.mark.parametrize(
    ("rate", "senders", "ports", "expected"),
    [
        (12_000, 1, 16_384 + np.arange(240) * 2, False),  # calls to a media server that is down
        (9_000, 5, 514, False),  # logs to one
        (12_000, 5, 514, True),
        (4_000, 60, 514, False),
        (6_000, 60, 514, True),
    ],
)
def test_who_calls_or_logs_goes_on_where_nobody_hears(
    rate: int, senders: int, ports: ANY | int, expected: bool
) -> None:
    sent = flows(rate, senders, ports)
    sent["source_port"] = sent["destination_port"] + 1 if senders == 1 else sent["source_port"]
    assert guilty(sent, np.repeat(back(sent[:100], Kind.ICMP), 5)) == expected


def test_a_load_test_of_a_server_that_is_down_is_no_flood_and_a_crowd_of_them_is() -> None:
    for senders, expected in ((1, False), (3, False), (300, True)):
        syns = got(Kind.SYN, 16_000, SCANNER + np.arange(16_000) % senders, (np.arange(16_000) + 1_024, 81), 60)
        assert guilty(syns, back(syns, Kind.RST)) == expected


def test_a_few_forged_senders_that_try_any_ports_flood_and_a_scanner_with_several_addresses_does_not() -> None:
    draw = np.random.default_rng(9)
    senders = SCANNER + np.arange(15_000) % 8
    assert guilty(got(Kind.SYN, 15_000, senders, (57_217, draw.integers(1, 65_536, 15_000)), 44))
    assert not guilty(got(Kind.SYN, 15_000, senders, (57_217, draw.permutation(65_535)[:15_000] + 1), 44))


@pytest.mark.parametrize(("decoys", "expected"), [(21, False), (120, False), (200, True)])
def test_a_scanner_among_decoys_scans(decoys: int, expected: bool) -> None:
    each = 24_000 // decoys
    syns = got(
        Kind.SYN,
        each * decoys,
        SCANNER + np.arange(each * decoys) % decoys,
        (45_678, np.arange(each * decoys) // decoys + 1),
        44,
    )
    assert guilty(syns) == expected
