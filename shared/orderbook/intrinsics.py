"""Instructions that numba has no name for: words of memory by address, prefetch, a hash.

The kernel works on addresses, not on arrays: a function that takes arrays counts references, one that takes numbers is
free, so the kernel can be made of small functions. Nothing here checks bounds; books.py says where the room ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

_I8, _U4, _I32 = ir.IntType(64), ir.IntType(32), ir.IntType(32)
_WORD = types.int64


def _place(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    """Pointer to word `index` of `kind` after an address."""
    offset = builder.mul(index, _I8(kind.width // 8))
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


def _get(typing_context: Any, address: Any, word: Any) -> Any:
    """The 8-byte word number `word` after an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(builder, args[0], args[1], _I8), align=8)

    return _WORD(_WORD, _WORD), codegen


def _put(typing_context: Any, address: Any, word: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _place(builder, args[0], args[1], _I8), align=8)
        return context.get_dummy_value()

    return types.void(_WORD, _WORD, _WORD), codegen


def _get4(typing_context: Any, address: Any, half: Any) -> Any:
    """The unsigned 4-byte word number `half` after an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.load(_place(builder, args[0], args[1], _U4), align=4), _I8)

    return _WORD(_WORD, _WORD), codegen


def _put4(typing_context: Any, address: Any, half: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[2], _U4), _place(builder, args[0], args[1], _U4), align=4)
        return context.get_dummy_value()

    return types.void(_WORD, _WORD, _WORD), codegen


def _move(typing_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy `size` bytes; the two places may overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, _I8, ir.IntType(1)])
        function = builder.module.declare_intrinsic("llvm.memmove", [pointer, pointer, _I8], kind)
        places = [builder.inttoptr(each, pointer) for each in args[:2]]
        builder.call(function, [*places, args[2], ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(_WORD, _WORD, _WORD), codegen


def _prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line at an address; never faults."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(function, [pointer, _I32(0), _I32(3), _I32(1)])  # read, keep, data cache
        return context.get_dummy_value()

    return types.void(_WORD), codegen


def _fold(typing_context: Any, a: Any, b: Any) -> Any:
    """Both halves of the 128-bit product of two words, XORed: a hash whose collisions nobody without `b` can choose."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, wide(64)), _I8)
        return builder.xor(high, builder.trunc(product, _I8))

    return types.uint64(types.uint64, types.uint64), codegen


# As Any: a type checker sees the functions that generate code, not what they compile to.
get: Any = intrinsic(_get)
put: Any = intrinsic(_put)
get4: Any = intrinsic(_get4)
put4: Any = intrinsic(_put4)
move: Any = intrinsic(_move)
prefetch: Any = intrinsic(_prefetch)
fold: Any = intrinsic(_fold)

Function = Callable[..., Any]
inline: Callable[[Function], Any] = nb.njit(forceinline=True)  # of numbers only: costs nothing
apart: Callable[[Function], Any] = nb.njit(nogil=True)  # rare or long: a call
