"""FlowSpec NLRI: bytes to values and back, arbitrary bytes, and the public vectors."""

import csv
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from strategies import families, matches

from rules.errors import Refused
from rules.match import Component, Family, Match
from rules.wire import decode, decode_first, encode


@given(matches())
def test_what_is_encoded_decodes_to_the_same_match(match: Match) -> None:
    assert decode(encode(match), match.ip_family) == match


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, Family]:
    """A valid NLRI with some bytes changed, cut or added."""
    match = draw(matches())
    raw = bytearray(encode(match))
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw), match.ip_family


@given(st.one_of(mutated(), st.tuples(st.binary(max_size=60), families)))
def test_arbitrary_bytes_give_a_match_or_a_refusal(nlri_of: tuple[bytes, Family]) -> None:
    nlri, family = nlri_of
    try:
        match = decode(nlri, family)
    except Refused as refusal:
        event("refused")
        assert refusal.problems
        return
    event("decoded")
    assert decode(encode(match), family) == match
    assert len(encode(match)) <= len(nlri)


def numeric_bytes(draw: st.DrawFn, limit: int) -> bytes:
    count, out = draw(st.integers(1, 4)), bytearray()
    for position in range(count):
        operator = draw(st.integers(1, 6)) | (0x40 if position and draw(st.booleans()) else 0)
        value = draw(st.integers(0, limit))
        width = 1 if value < 256 else 2 if value < 65536 else 4
        length_bits = {1: 0x00, 2: 0x10, 4: 0x20}[width]
        out += bytes((operator | length_bits | (0x80 if position == count - 1 else 0),)) + value.to_bytes(width, "big")
    return bytes(out)


@st.composite
def canonical(draw: st.DrawFn) -> tuple[bytes, Family]:
    """NLRIs written by hand, every value in its shortest form, prefixes without host bits."""
    family = draw(families)
    body = bytearray()
    for kind in (1, 2):
        if draw(st.booleans()):
            length = draw(st.integers(0, family.bits))
            offset = draw(st.integers(0, length - 1)) if family is Family.IPV6 and length else 0
            count = length - offset
            bits = draw(st.integers(0, 2**count - 1)) << (-count % 8)
            head = (kind, length) if family is Family.IPV4 else (kind, length, offset)
            body += bytes(head) + bits.to_bytes((count + 7) // 8, "big")
    limits = {3: 255, 4: 65535, 5: 65535, 6: 65535, 7: 255, 8: 255, 10: 65535, 11: 63, 13: 0xFFFFF}
    kinds = sorted(draw(st.sets(st.sampled_from([k for k in limits if k < 13 or family is Family.IPV6]), min_size=1)))
    for kind in kinds:
        body += bytes((kind,)) + numeric_bytes(draw, limits[kind])
    size = bytes((len(body),)) if len(body) < 240 else (0xF000 | len(body)).to_bytes(2, "big")
    return size + bytes(body), family


@given(canonical())
def test_bytes_in_shortest_form_come_back_byte_for_byte(nlri_of: tuple[bytes, Family]) -> None:
    nlri, family = nlri_of
    assert encode(decode(nlri, family)) == nlri


@given(st.lists(matches(Family.IPV4), min_size=1, max_size=4))
def test_a_sequence_of_nlris_is_read_one_by_one(given_matches: list[Match]) -> None:
    rest, found = b"".join(map(encode, given_matches)), []
    while rest:
        match, rest = decode_first(rest, Family.IPV4)
        found.append(match)
    assert found == given_matches


@pytest.mark.parametrize(
    ("nlri", "family", "says"),
    [
        ("", Family.IPV4, "too early"),
        ("00", Family.IPV4, "no components"),
        ("04038106", Family.IPV4, "too early"),
        ("0303810600", Family.IPV4, "too many"),
        ("02ff81", Family.IPV4, "unknown component type 255"),
        ("03008106", Family.IPV4, "unknown component type 0"),
        ("06038106038106", Family.IPV4, "stands twice"),
        ("06058106038106", Family.IPV4, "behind a higher type"),
        ("030d8105", Family.IPV4, "IPv6 only"),
        ("0201" + "21", Family.IPV4, "ends at 32"),
        ("0301" + "8100", Family.IPV6, "ends at 128"),
        ("0301" + "4040", Family.IPV6, "offset 64"),
        ("040c910002", Family.IPV4, "2 bytes"),
        ("040b910040", Family.IPV4, "2 bytes"),
        ("040c910002", Family.IPV6, "2 bytes"),
        ("0609a100000002", Family.IPV4, "4 bytes"),
        ("0a04b10000000100000050", Family.IPV4, "ends at 65535"),
        ("060da1001007dd", Family.IPV6, "ends at 1048575"),
        ("03010005", Family.IPV6, "offset 5"),
        ("0409911002", Family.IPV4, "data offset"),
        ("0403910100", Family.IPV4, "ends at 255"),
        ("04030106", Family.IPV4, "too early"),
    ],
)
def test_what_the_rfc_forbids_is_refused(nlri: str, family: Family, says: str) -> None:
    with pytest.raises(Refused, match=says):
        decode(bytes.fromhex(nlri), family)


def test_the_and_bit_of_a_first_operator_does_not_count() -> None:
    assert decode(bytes.fromhex("0303c106"), Family.IPV4) == decode(bytes.fromhex("03038106"), Family.IPV4)


@pytest.mark.parametrize(
    ("given_hex", "plain", "family"),
    [
        ("030c80f2", "030c8002", Family.IPV4),
        # IPv6 has no don't-fragment: its bit is one of those to be ignored (RFC 8956 §3.6).
        ("030c80f3", "030c8002", Family.IPV6),
        ("030c8001", "030c8000", Family.IPV6),
        # DSCP has six bits, the two above count as 0 (RFC 8955 §4.2.2.11).
        ("030b81ee", "030b812e", Family.IPV4),
        ("050b0342c540", "050b0302c500", Family.IPV6),
        # Operators: bit 4 of a numeric one, bits 4 and 5 of a bitmask one (RFC 8955 §4.2.1).
        ("03038906", "03038106", Family.IPV4),
        ("03098e02", "03098202", Family.IPV4),
        # What pads a prefix to whole bytes (RFC 4271 §4.3, RFC 8956 §3.1).
        ("060119c00002ff", "060119c0000280", Family.IPV4),
        ("04014841ff", "04014841fe", Family.IPV6),
        ("0502110781ff", "0502110781c0", Family.IPV6),
    ],
)
def test_bits_without_a_meaning_are_ignored_and_never_sent(given_hex: str, plain: str, family: Family) -> None:
    match = decode(bytes.fromhex(given_hex), family)
    assert match == decode(bytes.fromhex(plain), family)
    assert encode(match).hex() == plain


@pytest.mark.parametrize(
    ("nlri", "text"),
    [
        ("0b0118c00002038106048119", "destination 192.0.2.0/24; protocol =tcp; port =25;"),
        ("120118c000020218cb0071040389458b911f90",
         "destination 192.0.2.0/24; source 203.0.113.0/24; port [ >=137&<=139 =8080 ];"),
        ("090120c00002010c8005", "destination 192.0.2.1/32; fragment dont-fragment+first-fragment;"),
        ("1201200020010db8026840123456789a038106",
         "destination 2001:db8::/32; source ::1234:5678:9a00:0/104/64; next-header =tcp;"),
        ("0f01200020010db80268412468acf134", "destination 2001:db8::/32; source ::1234:5678:9a00:0/104/65;"),
    ],
)  # fmt: skip
def test_the_examples_of_the_rfcs(nlri: str, text: str) -> None:
    """RFC 8955 §4.3, RFC 8956 §3.8."""
    raw = bytes.fromhex(nlri)
    family = Family.IPV6 if "::" in text else Family.IPV4
    assert str(decode(raw, family)) == f"match {{ {text} }}"
    assert encode(Match.parse(f"match {{ {text} }}", family)) == raw


@pytest.mark.parametrize(
    ("long_form", "short"),
    [
        ("0a04b10000000000000050", "03048150"),
        ("0604a100000050", "03048150"),
        ("0403910006", "03038106"),
        ("060da1000007dd", "040d9107dd"),
        ("0409910002", "03098102"),
        ("f003038106", "03038106"),
    ],
)
def test_values_and_lengths_in_a_longer_form_are_read_and_written_in_the_shortest(long_form: str, short: str) -> None:
    """RFC 8955 only advises on most widths, and a length below 240 may take two bytes (§4.1)."""
    assert encode(decode(bytes.fromhex(long_form), Family.IPV6)).hex() == short


def test_long_nlris_carry_two_bytes_of_length() -> None:
    ports = " ".join(f"={2 * port}" for port in range(1000, 1100))
    match = Match.parse(f"match {{ destination-port [ {ports} ]; }}")
    nlri = encode(match)
    assert nlri[0] == 0xF1 and len(nlri) == 2 + 1 + 300
    assert decode(nlri, Family.IPV4) == match


def test_a_match_too_long_for_an_nlri_is_refused() -> None:
    ports = " ".join(f"={2 * port}" for port in range(1000, 2400))
    with pytest.raises(Refused, match="at most 4095"):
        encode(Match.parse(f"match {{ destination-port [ {ports} ]; }}"))


# ------------------------------------------------------------------------------------------------------------ vectors


def flow_nlris(update: bytes) -> bytes:
    """The NLRIs of MP_REACH (14) or MP_UNREACH (15) in a whole UPDATE message."""
    withdrawn = int.from_bytes(update[19:21], "big")
    at = 21 + withdrawn
    end = at + 2 + int.from_bytes(update[at : at + 2], "big")
    at += 2
    while at < end:
        extended = bool(update[at] & 0x10)
        kind = update[at + 1]
        length = int.from_bytes(update[at + 2 : at + 4], "big") if extended else update[at + 2]
        at += 4 if extended else 3
        value = update[at : at + length]
        if kind == 15:
            return value[3:]
        if kind == 14:
            return value[3 + 1 + value[3] + 1 :]
        at += length
    raise AssertionError("no multiprotocol attribute")


@pytest.mark.data
def test_public_vectors_decode_and_come_back_or_are_refused(data: Path) -> None:
    with (data / "flowspec" / "flowspec_vectors.tsv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    seen = {"valid": 0, "invalid": 0, "end": 0, "vpn": 0}
    for row in rows:
        if row["safi"] != "133":
            assert row["safi"] == "134", "only VPN FlowSpec is out of scope"
            seen["vpn"] += 1
            continue
        raw = bytes.fromhex(row["hex"])
        nlris = flow_nlris(raw) if row["kind"] == "update" else raw
        family = Family(int(row["afi"]))
        if row["expected"].startswith("LEGACY_OR_INVALID"):
            with pytest.raises(Refused):
                decode(nlris, family)
            seen["invalid"] += 1
        elif row["expected"] == "VALID_EOR":
            assert nlris == b""
            seen["end"] += 1
        else:
            assert row["expected"] == "VALID"
            assert_like_the_vector(row, nlris, family)
            seen["valid"] += 1
    assert seen["valid"] >= 10 and seen["invalid"] >= 1 and seen["end"] >= 1


_WORDS = {"dst": Component.DESTINATION, "src": Component.SOURCE, "proto": Component.PROTOCOL, "port": Component.PORT}
_WORDS |= {"dport": Component.DESTINATION_PORT, "sport": Component.SOURCE_PORT, "fragment": Component.FRAGMENT}
_WORDS |= {"pkt-len": Component.PACKET_LENGTH, "tcp-flags": Component.TCP_FLAGS}


def assert_like_the_vector(row: dict[str, str], nlris: bytes, family: Family) -> None:
    """The same components as the vector says, and the same bytes again."""
    match = decode(nlris, family)
    assert encode(match) == nlris, row["id"]
    said = row["decode"].removeprefix("announce ").removeprefix("withdraw ").split(" ec=")[0]
    assert [component for component, _ in match.components()] == [_WORDS[part.split()[0]] for part in said.split(";")]
