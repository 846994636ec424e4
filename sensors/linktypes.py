"""Names of link types, for messages about captures that can't be read."""

NAMES = {
    0: "NULL", 1: "ETHERNET", 3: "AX25", 6: "IEEE802_5", 7: "ARCNET_BSD", 8: "SLIP", 9: "PPP", 10: "FDDI",
    50: "PPP_HDLC", 51: "PPP_ETHER", 100: "ATM_RFC1483", 101: "RAW", 104: "C_HDLC", 105: "IEEE802_11", 106: "ATM_CLIP",
    107: "FRELAY", 108: "LOOP", 109: "ENC", 113: "LINUX_SLL", 114: "LTALK", 117: "PFLOG", 119: "IEEE802_11_PRISM",
    122: "IP_OVER_FC", 123: "SUNATM", 127: "IEEE802_11_RADIOTAP", 129: "ARCNET_LINUX", 138: "APPLE_IP_OVER_IEEE1394",
    140: "MTP2", 141: "MTP3", 142: "SCCP", 143: "DOCSIS", 144: "LINUX_IRDA", **{147 + n: f"USER{n}" for n in range(16)},
    163: "IEEE802_11_AVS", 177: "LINUX_LAPD", 186: "USB_FREEBSD", 187: "BLUETOOTH_HCI_H4", 189: "USB_LINUX",
    192: "PPI", 195: "IEEE802_15_4", 197: "ERF", 201: "BLUETOOTH_HCI_H4_WITH_PHDR", 204: "PPP_WITH_DIR",
    209: "IPMB_LINUX", 212: "LIN", 219: "MPLS", 220: "USB_LINUX_MMAPPED", 224: "FC_2", 226: "IPNET",
    227: "CAN_SOCKETCAN", 228: "IPV4", 229: "IPV6", 230: "IEEE802_15_4_NOFCS", 231: "DBUS", 239: "NFLOG",
    240: "NETANALYZER", 242: "IPOIB", 243: "MPEG_2_TS", 247: "INFINIBAND", 248: "SCTP", 249: "USBPCAP", 251:
    "BLUETOOTH_LE_LL", 252: "WIRESHARK_UPPER_PDU", 253: "NETLINK", 254: "BLUETOOTH_LINUX_MONITOR", 258: "PKTAP",
    266: "USB_DARWIN", 270: "LORATAP", 271: "VSOCK", 276: "LINUX_SLL2", 283: "IEEE802_15_4_TAP", 290: "USB_2_0",
}  # fmt: skip
"""tcpdump.org/linktypes.html, without the LINKTYPE_ in front."""


def called(link: int) -> str:
    """Name and number: `USB_LINUX (189)`."""
    return f"{NAMES.get(link, 'unknown')} ({link})"
