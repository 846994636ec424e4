"""How the per-packet code is compiled: cached, without the GIL, without reference counts.

Import this before any other part of the kernel. A cached function remembers the age of its own file only, not of the
files it calls into, so machine code of an old version could survive an upgrade: the cache directory is therefore
named by what the kernel's sources hold.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numba

_SOURCES = (
    "compiled.py",
    "headers.py",
    "tables.py",
    "framing.py",
    "parse.py",
    "keyed.py",
    "heat.py",
    "count.py",
    "walk.py",
    "walk_pcapng.py",
)


def _digest() -> str:
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in _SOURCES)).hexdigest()[:16]


_config: Any = numba.config
_beside = Path(__file__).parent / "__pycache__"
if not _config.CACHE_DIR and os.access(_beside if _beside.is_dir() else _beside.parent, os.W_OK):
    _config.CACHE_DIR = str(_beside)
if _config.CACHE_DIR and not _config.CACHE_DIR.endswith(_digest()):
    _config.CACHE_DIR = str(Path(_config.CACHE_DIR) / f"stopbank-{_digest()}")

_njit: Any = numba.njit
# The kernel only works on arrays that its callers own: counting references to them doubles what a packet costs.
kernel: Any = _njit(cache=True, nogil=True, _nrt=False)
"""For functions called once for many packets, or rarely for one."""
inlined: Any = _njit(cache=True, nogil=True, _nrt=False, forceinline=True)
"""For functions on every packet's path."""
