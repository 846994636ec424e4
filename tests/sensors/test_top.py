"""The page of `stopbank sensor top` on terminals that are narrow."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sensors.top import render

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=30)
VECTORS = st.lists(st.sampled_from(["syn_flood", "udp_amp:dns", "synack_reflection"]), min_size=1, max_size=3)


def line(target: str, zone: str, vectors: list[str]) -> dict[str, Any]:
    rates = {"severity": 12.4, "packets_per_second": 123_456, "interval_percent": 25.0, "bits_per_second": 1.2e9}
    return {"target": target, "zone": zone, "vectors": vectors, "sources": 12_345, **rates}


def page(lines: list[dict[str, Any]], width: int) -> list[str]:
    document = {
        "sensor": "s", "uptime_seconds": 1.0, "zones": ["z"], "link": None, "evidence": None, "learned": None,
        "interfaces": [], "attacks": lines, "targets": lines, "troubles": [],
        "numbers": {"process_cpu_share": 0.1, "process_cpu_nanoseconds_per_packet": 100.0, "resident_bytes": 10**8},
    }  # fmt: skip
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(render(document))
    return captured.get().splitlines()


@given(st.ip_addresses(v=4), NAMES, VECTORS, st.integers(80, 140))
def test_an_ipv4_target_and_its_numbers_are_whole_on_any_terminal(
    address: object, zone: str, vectors: list[str], width: int
) -> None:
    shown = page([line(f"{address}/32", zone, vectors)], width)
    assert not any("…" in one for one in shown)
    assert all(len(one.rstrip()) <= width for one in shown)
    rows = [one.split() for one in shown if one.startswith(f"{address}/32 ")]
    assert len(rows) == 2
    assert all({"123,456", "±25%", "1.2", "G"} <= {*row} for row in rows) and "12,345" in rows[0]


@given(st.ip_addresses(v=6), NAMES, VECTORS, st.integers(80, 140))
def test_no_character_of_an_ipv6_target_is_lost(address: object, zone: str, vectors: list[str], width: int) -> None:
    shown = page([line(f"{address}/128", zone, vectors)], width)
    assert not any("…" in one for one in shown)
    starts = [number for number, one in enumerate(shown) if one.startswith(("ATTACK ON", "TARGET"))]
    for start, end in zip(starts, (starts[1], len(shown)), strict=True):
        column = max(map(len, ("ATTACK ON", *(one.split()[0] for one in shown[start + 1 : end] if one[0] != " "))))
        assert "".join(one[:column].strip() for one in shown[start + 1 : end]) == f"{address}/128"
