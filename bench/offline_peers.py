"""What a packet of a capture costs: our kernel, the whole of `stopbank analyze` on one second of a flood and on ten (an
attack's verdict and rules cost the same however long it lasts), a pcapy callback that counts, and ftagent-lite's own
handler.

ftagent-lite takes each packet through scapy, one Python object a layer. It is installed, with scapy, into an
environment under the folder for temporary files, which goes when the figures are there. Ratios are the peer's cost over
ours. Processor time, best of several rounds.
"""

import struct
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pcapy

from bench.packet_cost import callback, write_mix
from bench.result import Result
from sensors import analyze
from sensors.pcapfile import open_capture
from sensors.tables import make
from sensors.walk import NEVER

PACKETS, PEER_PACKETS, ROUNDS = 300_000, 2_000, 3
LONG_SECONDS = 10
PACKAGES = ("ftagent-lite[scapy]",)
_U32 = struct.Struct("<I")
_NOTE = "ratio is the peer's over ours"

_THEIRS = """
import sys, time
import ftagent_lite
from scapy.all import Ether
from scapy.utils import RawPcapReader
frames = [raw for raw, _ in RawPcapReader(sys.argv[1])]
for raw in frames[:50]:
    ftagent_lite._handle_packet(Ether(raw))
best = float("inf")
for _ in range(3):
    began = time.process_time()
    for raw in frames:
        ftagent_lite._handle_packet(Ether(raw))
    best = min(best, time.process_time() - began)
print(best * 1e9 / len(frames))
"""
"""What its capture does with each packet: scapy takes it apart, the handler counts it."""


def run(packets: int = PACKETS) -> Iterator[Result]:
    """Every figure; those of a peer that can't be installed are left out, with a line that says so."""
    with tempfile.TemporaryDirectory(prefix="stopbank-peers-") as folder:
        path, small = Path(folder, "mix.pcap"), Path(folder, "small.pcap")
        write_mix(path, packets)
        write_mix(small, PEER_PACKETS)
        cost = analysed(path, packets)
        by_callback = called_back(path, packets)
        yield Result("offline_peers.analyze", cost, "ns/packet", "pcapy callback, struct and dict", by_callback,
                     by_callback / cost, _NOTE)  # fmt: skip
        try:
            theirs = ftagent(small, Path(folder, "peers"))
        except (subprocess.SubprocessError, OSError) as error:
            print(f"ftagent-lite can't be measured here: {_last_line(error)}", file=sys.stderr)
            return
        lasting = Path(folder, "long.pcap")
        lengthen(path, lasting, LONG_SECONDS)
        longer = analysed(lasting, packets * LONG_SECONDS)
        for metric, value in (("kernel", counted(path, packets)), ("analyze", cost), ("analyze_long", longer)):
            name = "ftagent-lite handler with scapy"
            yield Result(f"offline_peers.{metric}", value, "ns/packet", name, theirs, theirs / value, _NOTE)


def lengthen(path: Path, longer: Path, seconds: int) -> None:
    """Writes a capture of one second so many times, each a second later."""
    whole = path.read_bytes()
    records, places, at = bytearray(whole[24:]), [], 0
    while at < len(records):
        places.append(at)
        at += 16 + int(_U32.unpack_from(records, at + 8)[0])
    with longer.open("wb") as file:
        file.write(whole[:24])
        for _ in range(seconds):
            file.write(records)
            for place in places:
                _U32.pack_into(records, place, _U32.unpack_from(records, place)[0] + 1)


def counted(path: Path, packets: int) -> float:
    """Nanoseconds a packet of what a handler does, too: reading, parsing, counting."""
    tables = make()

    def once() -> float:
        source = open_capture(path)
        began = time.process_time()
        source.feed(tables, NEVER)
        spent = time.process_time() - began
        source.close()
        return spent

    once()  # compiles
    return min(once() for _ in range(ROUNDS)) * 1e9 / packets


def analysed(path: Path, packets: int) -> float:
    """Nanoseconds a packet of the whole analysis: reading, counting, windows, verdicts, rules."""

    def once() -> float:
        began = time.process_time()
        analyze.run(path)
        return time.process_time() - began

    once()  # compiles
    return min(once() for _ in range(ROUNDS)) * 1e9 / packets


def called_back(path: Path, packets: int) -> float:
    """Nanoseconds a packet of a callback that only counts packets and bytes by destination."""

    def once() -> float:
        reader = pcapy.open_offline(str(path))
        began = time.process_time()
        reader.loop(0, callback({}))
        return time.process_time() - began

    return min(once() for _ in range(ROUNDS)) * 1e9 / packets


def ftagent(path: Path, environment: Path) -> float:
    """Nanoseconds a packet of ftagent-lite, in an environment made for it; raises `SubprocessError` when it can't be
    installed or run."""
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    subprocess.run(install, check=True, capture_output=True, text=True, timeout=180)
    command = [python, "-c", _THEIRS, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180, cwd=environment)
    return float(done.stdout.split()[-1])


def _last_line(error: subprocess.SubprocessError | OSError) -> str:
    said = getattr(error, "stderr", None) or str(error)
    return str(said).strip().splitlines()[-1]
