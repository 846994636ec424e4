"""From where a record starts to its IP header, compiled by Numba: link types, tags, labels, pseudowires.

Never reads outside the record, whatever the bytes are. Where no IP header can follow, it says so. Tunnels above IP are
not looked into, but where `INSIDE` says so: they are their endpoints' traffic.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import inlined, kernel
from sensors.loads import be16, be32, le16, le32
from sensors.tunnels import BRIDGED as _BRIDGED
from sensors.tunnels import IP as _IP
from sensors.tunnels import inner

NULL, ETHERNET, PPP, RAW, RAW_BSD, PPP_SERIAL, PPP_ETHER, RAW_LINKTYPE = 0, 1, 9, 12, 14, 50, 51, 101
C_HDLC, IEEE802_11, FRAME_RELAY, LOOP, ENC, LINUX_SLL, PRISM = 104, 105, 107, 108, 109, 113, 119
IEEE802_11_RADIO, IEEE802_11_AVS, PPI, PPP_WITH_DIRECTION, MPLS, IPV4, IPV6 = 127, 163, 192, 204, 219, 228, 229
PKTAP, LINUX_SLL2 = 258, 276
LINK_TYPES = frozenset({NULL, ETHERNET, PPP, RAW, RAW_BSD, PPP_SERIAL, PPP_ETHER, RAW_LINKTYPE, C_HDLC, IEEE802_11,
                        FRAME_RELAY, LOOP, ENC, LINUX_SLL, PRISM, IEEE802_11_RADIO, IEEE802_11_AVS, PPI,
                        PPP_WITH_DIRECTION, MPLS, IPV4, IPV6, PKTAP, LINUX_SLL2})  # fmt: skip
"""The DLT_ and LINKTYPE_ numbers (tcpdump.org/linktypes.html) that `network` knows."""

INSIDE = 1 << 16
"""Added to a link type: what counts is what lies in the tunnels, where there are any."""

_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)


@kernel
def _ppp(buffer, at, end):
    """Behind address and control bytes, if present, and a protocol number that may be compressed to one byte."""
    if at + 2 <= end and buffer[at] == 0xFF and buffer[at + 1] == 0x03:
        at += 2
    if at + 2 > end:
        return at, 0
    if buffer[at] & 1:
        number, at = np.int64(buffer[at]), at + 1
    else:
        number, at = be16(buffer, at), at + 2
    if number == 0x0021 or number == 0x0057:
        return at, _IP
    return at, 0x8847 if number == 0x0281 else 0


@kernel
def _serial(buffer, at, end, link):
    """PPP and Cisco HDLC, which captures of serial lines mix under each other's numbers."""
    if at + 4 <= end and (link == C_HDLC or (buffer[at] & 0x7F == 0x0F and buffer[at + 1] == 0)):
        return at + 4, be16(buffer, at + 2)
    return _ppp(buffer, at, end)


@kernel
def _wireless(buffer, at, end):
    """Behind an 802.11 data header and LLC/SNAP; encrypted frames hold no IP."""
    if at + 24 > end:
        return at, 0
    control, more = np.int64(buffer[at]), np.int64(buffer[at + 1])
    if (control >> 2) & 3 != 2 or control & 0x40 or more & 0x40:
        return at, 0
    length = 30 if more & 3 == 3 else 24
    if control & 0x80:
        length += 6 if more & 0x80 else 2
    at += length
    if length & 2 and at + 10 <= end and buffer[at] != 0xAA:
        at += 2  # some drivers pad the header to four bytes
    if at + 8 > end or buffer[at] != 0xAA or buffer[at + 1] != 0xAA:
        return at, 0
    return at + 8, be16(buffer, at + 6)


@kernel
def _behind_radio(buffer, at, end, link):
    """Where the frame starts behind what a radio tells of it, and the link type of that frame (-1: unknown)."""
    if at + 12 > end:
        return end, -1
    if link == IEEE802_11_RADIO:
        return at + le16(buffer, at + 2), IEEE802_11
    if link == PPI:
        return at + le16(buffer, at + 2), le32(buffer, at + 4)
    if be32(buffer, at) & 0xFFFFF000 == 0x80211000:  # AVS, also under Prism's number
        return at + be32(buffer, at + 4), IEEE802_11
    if link == PRISM:
        little, big = le32(buffer, at + 4), be32(buffer, at + 4)
        return at + min(little, big), IEEE802_11
    return end, -1


@kernel
def _frame_relay(buffer, at, end):
    """RFC 2427: an address whose last byte has its lowest bit set, a control byte, then what protocol follows."""
    for _ in range(4):
        if at >= end or buffer[at] & 1:
            break
        at += 1
    at += 1
    if at + 2 > end:
        return at, 0
    if be16(buffer, at) == 0x0800 or be16(buffer, at) == 0x86DD:  # Cisco puts an EtherType there
        return at + 2, be16(buffer, at)
    at += 1
    if buffer[at] == 0 and at + 1 < end:
        at += 1
    if buffer[at] == 0xCC or buffer[at] == 0x8E:
        return at + 1, _IP
    if buffer[at] == 0x80 and at + 6 <= end:
        return at + 6, be16(buffer, at + 4)
    return at, 0


@kernel
def _loopback(buffer, at):
    """BSD's address family in either byte order: 2, or one of the numbers that systems gave to IPv6."""
    family = min(le32(buffer, at), be32(buffer, at))
    known = family == 2 or family == 10 or family == 23 or family == 24 or family == 28 or family == 30
    return at + 4, (_IP if known else 0)


@kernel
def _behind_link(buffer, at, end, link):  # one branch for each link type
    """Where the link layer ends, and the EtherType of what follows."""
    if link == ETHERNET:
        if at + 14 > end:
            return at, 0
        return at + 14, be16(buffer, at + 12)
    if link == PKTAP and at + 12 <= end:
        at, link = at + le32(buffer, at), le32(buffer, at + 8)
        if link == ETHERNET:
            return at, _BRIDGED
    if link in (IEEE802_11_RADIO, PPI, PRISM, IEEE802_11_AVS):
        at, link = _behind_radio(buffer, at, end, link)
        if link == ETHERNET:
            return at, _BRIDGED
    if link == IEEE802_11:
        return _wireless(buffer, at, end)
    if link in (RAW, RAW_LINKTYPE, RAW_BSD, IPV4, IPV6):
        return at, _IP
    if link == LINUX_SLL and at + 16 <= end:
        return at + 16, be16(buffer, at + 14)
    if link == LINUX_SLL2 and at + 20 <= end:
        return at + 20, be16(buffer, at)
    if link in (NULL, LOOP) and at + 4 <= end:
        return _loopback(buffer, at)
    if link in (C_HDLC, PPP, PPP_SERIAL):
        return _serial(buffer, at, end, link)
    if link == PPP_WITH_DIRECTION:
        return _ppp(buffer, at + 1, end)
    if link == PPP_ETHER:
        return at, 0x8864
    if link == MPLS:
        return at, 0x8847
    if link == FRAME_RELAY:
        return _frame_relay(buffer, at, end)
    if link == ENC:
        return at + 12, _IP
    return at, 0


@kernel
def _is_frame(buffer, at, end):
    """Whether an Ethernet header with something we know behind it can stand here."""
    if at + 16 > end:
        return False
    kind = be16(buffer, at + 12)
    if kind == 0x0800:
        return buffer[at + 14] >> 4 == 4
    if kind == 0x86DD:
        return buffer[at + 14] >> 4 == 6
    return kind in _TAGS or kind == 0x0806 or kind == 0x8847 or kind == 0x8864


@kernel
def _labels(buffer, at, end):
    """Behind an MPLS label stack (RFC 3032): IP, or an Ethernet pseudowire with or without its control word (RFC
    4448). Nothing in the packet says which, so what makes sense decides; an Ethernet address may begin with any
    number."""
    while at + 4 <= end and not buffer[at + 2] & 1:
        at += 4
    at += 4
    if at >= end:
        return at, 0
    first = buffer[at] >> 4
    if first == 0 and _is_frame(buffer, at + 4, end):
        return at + 4, _BRIDGED
    if (first != 4 and first != 6) or _is_frame(buffer, at, end):
        return at, _BRIDGED
    return at, _IP


@kernel
def _link_control(buffer, at, end):
    """Behind IEEE 802.2 logical link control."""
    if at + 8 <= end and buffer[at] == 0xAA and buffer[at + 1] == 0xAA:
        return at + 8, be16(buffer, at + 6)
    if at + 3 <= end and buffer[at] == 0x06 and buffer[at + 1] == 0x06:
        return at + 3, _IP
    return at, 0


@kernel
def _above(buffer, at, end, kind):
    """One more layer between link and IP: where it ends, what follows, whether it was a VLAN tag."""
    if kind == 0x8864:
        at, kind = _ppp(buffer, at + 6, end)
    elif kind == 0x8847 or kind == 0x8848:
        at, kind = _labels(buffer, at, end)
    elif kind == _BRIDGED:
        if at + 14 > end:
            return at, 0
        at, kind = at + 14, be16(buffer, at + 12)
    elif kind == 0x88E7 and at + 6 <= end:  # backbone bridging (802.1ah): a service tag, then a whole frame
        at, kind = at + 4, _BRIDGED
    elif kind == 0x8926 and at + 6 <= end:  # VN-tag
        at, kind = at + 6, be16(buffer, at + 4)
    elif 0 < kind < 1536:
        at, kind = _link_control(buffer, at, end)
    else:
        kind = 0
    return at, kind


@kernel
def _follow(buffer, at, end, kind):
    """From where an EtherType stands for what follows to the IP header (-1: there is none), and whether a VLAN tag was
    stepped over."""
    tagged = False
    for _ in range(8):
        if kind == 0x0800 or kind == 0x86DD or kind == _IP:
            return at, tagged
        if kind == 0:
            break
        if kind == 0x8100 or kind == 0x88A8 or kind == 0x9100 or kind == 0x9200 or kind == 0x9300:
            if at + 4 > end:
                break
            at, kind, tagged = at + 4, be16(buffer, at + 2), True
        else:
            at, kind = _above(buffer, at, end, kind)
    return np.int64(-1), tagged


@kernel
def _inside(buffer, start, end, link):
    """As `network`, of what lies in a tunnel; without one, of the packet itself."""
    at, kind = _behind_link(buffer, start, end, link)
    at, tagged = _follow(buffer, at, end, kind)
    if at >= 0:
        deeper, kind = inner(buffer, at, end)
        if kind != 0:
            at, _ = _follow(buffer, deeper, end, kind)
    return at, tagged


@inlined
def network(buffer, start, end, link):
    """Where the IP header starts (-1: there is none), and whether a VLAN tag was stepped over."""
    if link == ETHERNET and start + 14 <= end:
        kind = be16(buffer, start + 12)
        if kind == 0x0800 or kind == 0x86DD:
            return start + 14, False
    if link >= INSIDE:
        return _inside(buffer, start, end, link - INSIDE)
    at, kind = _behind_link(buffer, start, end, link)
    return _follow(buffer, at, end, kind)
