"""Holds the process to the memory that is in use.

glibc keeps freed blocks of up to 32 MB for later, once a program has freed some: the arrays of a tick, each used for a
moment, then hold a hundred megabytes for good. The compiler's code, fifty megabytes, is of no use once all is compiled.
"""

import ctypes
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8
"""As in malloc.h, for mallopt(3)."""
_DONTNEED = 4  # madvise(2)
_COMPILER = "libllvmlite"
_LARGE, _AT_THE_END = 1 << 20, 8 << 20
"""Blocks from here on go back to the system when they are freed, and as much at the end of the heap. Smaller ones are
made anew in every tick: to get their pages one by one would cost more than what is done with them."""


def keep_small() -> None:
    """From now on, in this process; elsewhere than on glibc, nothing."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _AT_THE_END), (_ARENAS, 2)):
            library.mallopt(option, value)


def give_back() -> None:
    """What was freed so far, and the pages of the compiler's code, to the system; takes milliseconds. Code that is
    needed again is read again."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        span, rights, *_, name = line.split()
        # Nobody ever writes to these pages: they are what the file holds.
        if _COMPILER in name and rights == "r-xp":
            begin, end = (int(address, 16) for address in span.split("-"))
            library.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)
