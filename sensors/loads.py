"""Numbers out of bytes, wherever they begin: one load each, where a number put together from bytes takes a dozen steps.

For little-endian machines, which all are that Numba compiles for. Who asks must know that the bytes are there: they are
looked for only under NUMBA_BOUNDSCHECK, and a place below 0 is not counted from the end.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils as untyped_builders
from numba.core import types
from numba.extending import intrinsic

_builders: Any = untyped_builders


def _load(bits: int, *, is_big: bool) -> Any:
    """A function of an array of bytes and a place: the number of so many bits that stands there; int64, or uint64
    where it needs all of them."""
    word, whole = ir.IntType(bits), ir.IntType(64)

    def load(typing_context: Any, buffer: Any, at: Any) -> Any:
        def generated(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            of, at = signature.args[0], arguments[1]
            made = context.make_array(of)(context, builder, arguments[0])

            def place(number: Any) -> Any:
                return _builders.get_item_pointer(
                    context, builder, of, made, [number], wraparound=False, boundscheck=context.enable_boundscheck
                )

            if context.enable_boundscheck:
                place(builder.add(at, whole(bits // 8 - 1)))
            number = builder.load(builder.bitcast(place(at), word.as_pointer()))
            number.align = 1
            if is_big:
                kind = ir.FunctionType(word, [word])
                swap = _builders.get_or_insert_function(builder.module, kind, f"llvm.bswap.i{bits}")
                number = builder.call(swap, [number])
            return number if bits == whole.width else builder.zext(number, whole)

        return (types.uint64 if bits == whole.width else types.int64)(buffer, types.int64), generated

    return intrinsic(load)


byte: Any = _load(8, is_big=False)
be16: Any = _load(16, is_big=True)
be32: Any = _load(32, is_big=True)
be64: Any = _load(64, is_big=True)
le16: Any = _load(16, is_big=False)
le32: Any = _load(32, is_big=False)
