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
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils as untyped_builders
from numba.core import types
from numba.extending import intrinsic

_SOURCES = (
    "compiled.py",
    "loads.py",
    "headers.py",
    "tables.py",
    "tunnels.py",
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
_builders: Any = untyped_builders
# The kernel only works on arrays that its callers own: counting references to them doubles what a packet costs.
kernel: Any = _njit(cache=True, nogil=True, _nrt=False)
"""For functions called once for many packets, or rarely for one."""
inlined: Any = _njit(cache=True, nogil=True, _nrt=False, forceinline=True)
"""For functions on every packet's path."""


def _fetch_ahead(typing_context: Any, array: Any, place: Any) -> Any:
    """Asks the processor for the cache line of an array's element, given by a tuple of places within bounds: it comes
    while other work is done, and nothing waits for it."""

    def generated(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of, at = signature.args
        made = context.make_array(of)(context, builder, arguments[0])
        places = _builders.unpack_tuple(builder, arguments[1], len(at))
        pointer = _builders.get_item_pointer(context, builder, of, made, places, wraparound=False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        called = _builders.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For reading, to be kept in all caches, data.
        builder.call(called, [builder.bitcast(pointer, byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, place), generated


fetch_ahead: Any = intrinsic(_fetch_ahead)
