"""eBPF without a compiler: instructions with labels, and the calls of bpf(2) that load, attach and run a program.

Must never leave anything behind: maps, programs and links live as long as their file descriptors.
"""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

_NUMBERS = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _PROG_LOAD, _PROG_TEST_RUN, _LINK_CREATE = 0, 5, 10, 28
_MAP_ARRAY, _PROGRAM_XDP, _ATTACH_XDP = 2, 6, 37
_MAPPABLE, _LIVE_FRAMES, _GENERIC = 1 << 10, 1 << 1, 1 << 1
_ATTRIBUTE_BYTES, _LOG_BYTES = 128, 1 << 16
_MAP_VALUE = 2
"""BPF_PSEUDO_MAP_VALUE: the number is an address within a map's value."""
_CONDITIONS = {"==": 0x10, ">": 0x20, "!=": 0x50, "<": 0xA0}
_SIZES = {8: 0x18, 4: 0x00}


@dataclass(frozen=True, slots=True)
class _Step:
    code: int
    into: int = 0
    source: int = 0
    offset: int = 0
    value: int = 0
    to: str = ""
    """Of a jump: where to."""


class Program:
    """One under construction. Registers are numbers: 0 the result, 1 to 5 arguments, 6 to 9 outlive calls."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        """The next instruction is called so."""
        self._labels[name] = len(self._steps)

    def put(self, into: int, value: int) -> None:
        """A number into a register."""
        self._steps.append(_Step(0xB7, into, value=value))

    def copy(self, into: int, source: int) -> None:
        """A register into another."""
        self._steps.append(_Step(0xBF, into, source))

    def add(self, into: int, value: int) -> None:
        """More by a number."""
        self._steps.append(_Step(0x07, into, value=value))

    def add_register(self, into: int, source: int) -> None:
        """More by a register."""
        self._steps.append(_Step(0x0F, into, source))

    def keep_bits(self, into: int, mask: int) -> None:
        """Only these bits."""
        self._steps.append(_Step(0x57, into, value=mask))

    def shift_left(self, into: int, bits: int) -> None:
        """Times a power of two."""
        self._steps.append(_Step(0x67, into, value=bits))

    def shift_right(self, into: int, bits: int) -> None:
        """Its upper bits."""
        self._steps.append(_Step(0x77, into, value=bits))

    def load(self, size: int, into: int, source: int, offset: int = 0) -> None:
        """So many bytes from where a register points to, and so far on."""
        self._steps.append(_Step(0x61 | _SIZES[size], into, source, offset))

    def store(self, size: int, into: int, source: int, offset: int = 0) -> None:
        """A register's bytes to where another points to."""
        self._steps.append(_Step(0x63 | _SIZES[size], into, source, offset))

    def point(self, into: int, map_descriptor: int, offset: int) -> None:
        """The address of a byte in the only value of an array map."""
        self._steps.append(_Step(0x18, into, _MAP_VALUE, value=map_descriptor))
        self._steps.append(_Step(0, value=offset))

    def when(self, register: int, condition: str, value: int, to: str) -> None:
        """Goes on there if the register is `==`, `!=`, `<` or `>` (unsigned) the number."""
        self._steps.append(_Step(0x05 | _CONDITIONS[condition], register, value=value, to=to))

    def call(self, helper: int) -> None:
        """A helper of the kernel by its number in linux/bpf.h."""
        self._steps.append(_Step(0x85, value=helper))

    def give(self, value: int) -> None:
        """Ends with a number."""
        self.put(0, value)
        self._steps.append(_Step(0x95))

    def packed(self) -> bytes:
        """As `struct bpf_insn`, one behind the other."""
        return b"".join(
            struct.pack(
                "<BBhi",
                step.code,
                step.into | step.source << 4,
                self._labels[step.to] - number - 1 if step.to else step.offset,
                step.value,
            )
            for number, step in enumerate(self._steps)
        )


def array_map(size: int) -> int:
    """A map of one value, which mmap(2) shares with us; its descriptor."""
    return _bpf(_MAP_CREATE, struct.pack("<IIIII", _MAP_ARRAY, 4, size, 1, _MAPPABLE))


def load_xdp(program: Program) -> int:
    """An XDP program's descriptor; raises `OSError` with what the kernel's verifier objects to."""
    code, license_ = ctypes.create_string_buffer(program.packed()), ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    places = [ctypes.addressof(one) for one in (code, license_, log)]
    attribute = struct.pack(
        "<IIQQIIQ", _PROGRAM_XDP, (len(code) - 1) // 8, places[0], places[1], 1, len(log), places[2]
    )
    try:
        return _bpf(_PROG_LOAD, attribute)
    except OSError as error:
        said = log.value.decode(errors="replace").strip().splitlines()
        raise OSError(error.errno, f"{error.strerror}: {' / '.join(said[-3:])}") from None


def attach_xdp(program: int, interface: int) -> int:
    """Attaches to an interface (by index) of the current namespace, without its driver; the link's descriptor."""
    return _bpf(_LINK_CREATE, struct.pack("<IIII", program, interface, _ATTACH_XDP, _GENERIC))


class LiveRun:
    """A program run on frames that then go where it says, as if this interface had received them (kernel 5.18)."""

    def __init__(self, program: int, interface: int, size: int) -> None:
        self._program, self._size = program, size
        self._data = ctypes.create_string_buffer(size)
        # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        self._context = ctypes.create_string_buffer(struct.pack("<6I", 0, size, 0, interface, 0, 0), 24)

    def __call__(self, times: int) -> None:
        """So many frames of `size` bytes; raises `InterruptedError` when a signal ended it early."""
        data, context = ctypes.addressof(self._data), ctypes.addressof(self._context)
        attribute = struct.pack(
            "<4I2Q4I2Q3I",
            *(self._program, 0, self._size, 0),
            *(data, 0),
            *(times, 0, len(self._context), 0),
            *(context, 0),
            *(_LIVE_FRAMES, 0, 0),
        )
        _bpf(_PROG_TEST_RUN, attribute)


_LIBC = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attribute: bytes) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) is not known for {platform.machine()}")
    given = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    result: int = _LIBC.syscall(number, command, given, _ATTRIBUTE_BYTES)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
