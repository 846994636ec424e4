"""What the sender says it sent is what an interface received, frame for frame, whichever way they went."""

import os
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_network

import numpy as np
import pytest

from lab import sender
from lab.ebpf import Program, load_xdp
from lab.frames import Frames
from lab.live_frames import LiveFrames, NoLiveFrames
from lab.namespaces import Namespace, Port, join, namespaces
from lab.sender import Sent, Stream

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("root")]
NOBODY = "02:00:00:00:00:99"
TARGET = ip_network("203.0.113.7/32")
STREAMS = (
    Stream("syn_flood", TARGET, 1000, 0.4, seed=1),
    Stream("udp_amp:dns", TARGET, 500, 0.3, seed=2, start_seconds=0.1),
    Stream("benign", ip_network("203.0.113.0/24"), 1500, 0.2, seed=3),
)


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[Port, Port]]:
    if os.geteuid():
        pytest.skip("needs root")
    with namespaces("feed", "watch") as (feed, watch):
        for one in (feed, watch):
            one.set_kernel("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        ends = Port(feed, "feed"), Port(watch, "watch")
        join(*ends)
        yield ends


def listening(port: Port) -> socket.socket:
    """Hears everything that its interface receives."""

    def opened() -> socket.socket:
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        heard.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
        heard.bind((port.interface, 3))
        heard.setblocking(False)
        return heard

    return port.namespace.call(opened)


def all_of(heard: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield heard.recv(4096)
        except BlockingIOError:
            return


def sent(feed: Namespace, streams: tuple[Stream, ...], into: Port | None) -> tuple[list[Sent], str]:
    command = sender.command(feed, "feed", NOBODY, into)
    done = subprocess.run(command, input=sender.plan(streams), capture_output=True, text=True, check=True, timeout=30)
    return sender.results(done.stdout), done.stderr


@pytest.mark.parametrize("is_live", [True, False])
def test_every_frame_arrives_once_and_whole_and_in_its_streams_order(wire: tuple[Port, Port], is_live: bool) -> None:
    feed, watch = wire
    with listening(watch) as heard:
        counts, said = sent(feed.namespace, STREAMS, watch if is_live else None)
        arrived = [without_sender(frame) for frame in all_of(heard)]
    assert said == "", "the live way was not to be had"
    wanted = {stream.name: list(expected(stream, one.packets)) for stream, one in zip(STREAMS, counts, strict=True)}
    assert [one.packets for one in counts] == [stream.packets for stream in STREAMS]
    assert [one.bytes for one in counts] == [sum(len(frame) + 6 for frame in wanted[one.name]) for one in counts]
    assert sorted(arrived) == sorted(frame for frames in wanted.values() for frame in frames)
    places = {frame: (name, place) for name, frames in wanted.items() for place, frame in enumerate(frames)}
    order: dict[str, list[int]] = defaultdict(list)
    for frame in arrived:
        name, place = places[frame]
        order[name].append(place)
    assert all(seen == sorted(seen) for seen in order.values())
    assert all(one.processor_ns > 0 and one.first_ns <= one.last_ns for one in counts)


def expected(stream: Stream, packets: int) -> Iterator[bytes]:
    frames = stream.frames().addressed(bytes.fromhex(NOBODY.replace(":", "")), bytes(6))
    return (without_sender(frames.frame(place % len(frames))) for place in range(packets))


def without_sender(frame: bytes) -> bytes:
    """The interface's own address, which is drawn."""
    return frame[:6] + frame[12:]


def test_where_the_kernel_refuses_a_packet_socket_takes_over_and_says_so(wire: tuple[Port, Port]) -> None:
    feed, _ = wire
    elsewhere = Port(feed.namespace, "nosuch")
    counts, said = sent(feed.namespace, STREAMS[:1], elsewhere)
    assert counts[0].packets == STREAMS[0].packets
    assert "no live frames here" in said


def test_frames_of_every_length_arrive_as_they_are(wire: tuple[Port, Port]) -> None:
    _, watch = wire
    lengths = np.arange(14, 1515)
    block = np.random.default_rng(7).integers(0, 256, (len(lengths), 1514), np.uint8)
    block[:, 0] = 2
    pool = Frames(block, lengths)

    def received() -> list[bytes]:
        with listening(watch) as heard:
            live = LiveFrames([pool], watch.interface)
            assert live.hand([(0, 0, 1000)]) == [1000]
            assert live.hand([(0, 1000, 501)]) == [501]
            live.close()
            return list(all_of(heard))

    # The kernel may hand up frames of a type that it doesn't know behind others.
    assert sorted(watch.namespace.call(received)) == sorted(pool.frame(place) for place in range(len(pool)))


def test_what_is_no_interface_is_refused_before_any_frame(wire: tuple[Port, Port]) -> None:
    with pytest.raises(NoLiveFrames):
        LiveFrames([STREAMS[0].frames()], "nosuch")


def test_a_program_that_the_kernel_refuses_is_told_with_the_reason() -> None:
    with pytest.raises(OSError, match="R6 !read_ok"):
        load_xdp(_reads_what_was_never_written())


def _reads_what_was_never_written() -> Program:
    code = Program()
    code.copy(0, 6)
    code.give(0)
    return code
