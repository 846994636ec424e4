"""A machine for classic BPF, as the kernel's documentation describes it (Documentation/networking/filter.rst)."""

Steps = list[tuple[int, int, int, int]]

LINK_LAYER, NETWORK, PACKET_TYPE = 0xFFE00000, 0xFFF00000, 0xFFFFF004


def run(steps: Steps, frame: bytes, header: int, packet_type: int = 0) -> int:
    """What a program gives for a frame whose data begin behind `header` bytes of link layer: 0 where it reads outside
    of it. A frame that goes (`packet_type` 4) has its data begin with the link layer."""
    begin = 0 if packet_type == 4 else header
    a = x = at = 0
    memory = [0] * 16
    while True:
        code, true, false, value = steps[at]
        at += 1
        if code in (0x20, 0x28, 0x30, 0x40, 0x48, 0x50):
            size = {0x00: 4, 0x08: 2, 0x10: 1}[code & 0x18]
            where = (value + (x if code & 0x40 else 0)) & 0xFFFFFFFF
            if where == PACKET_TYPE:
                a = packet_type
                continue
            start = where + begin
            if where >= NETWORK:
                start = where - NETWORK + header
            elif where >= LINK_LAYER:
                start = where - LINK_LAYER
            if start + size > len(frame):
                return 0
            a = int.from_bytes(frame[start : start + size], "big")
        elif code == 0x01:
            x = value
        elif code == 0x61:
            x = memory[value]
        elif code == 0x02:
            memory[value] = a
        elif code == 0x07:
            x = a
        elif code == 0x87:
            a = x
        elif code in (0x04, 0x0C):
            a = a + (value if code == 0x04 else x) & 0xFFFFFFFF
        elif code == 0x94:
            a %= value
        elif code == 0x74:
            a >>= value
        elif code == 0x05:
            at += value
        elif code in (0x15, 0x25, 0x35, 0x45):
            held = {0x15: a == value, 0x25: a > value, 0x35: a >= value, 0x45: a & value != 0}[code]
            at += true if held else false
        elif code == 0x16:
            return a
        elif code == 0x06:
            return value
        else:
            raise ValueError(f"unknown instruction {code:#x}")
