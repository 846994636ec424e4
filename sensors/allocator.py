"""Holds the C library's allocator to what is in use.

glibc keeps freed blocks of up to 32 MB for later, once a program has freed some: the arrays of a tick, each used for a
moment, then hold a hundred megabytes for good.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8
"""As in malloc.h, for mallopt(3)."""
_LARGE = 256 << 10
"""Blocks from here on go back to the system when they are freed."""


def keep_small() -> None:
    """From now on, in this process; elsewhere than on glibc, nothing."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE), (_ARENAS, 2)):
            library.mallopt(option, value)


def give_back() -> None:
    """What was freed so far, to the system; takes milliseconds."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
