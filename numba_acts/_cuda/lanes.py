"""What a thread does with numbers, its own and those of the other lanes of its warp.

A thread keeps its numbers in a small local array that the compiler holds in registers; for that,
every place in it must be known when it compiles. How many numbers an intrinsic handles is the
length of a tuple, as in `_cpu`.

The compiler may contract a product and a sum to one operation, or not, as it sees fit in each
kernel. Where bits must not depend on that, products that are added are made by `times`.

Each intrinsic has a stand-in in plain Python for Numba's simulator.
"""

import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import types

from numba_acts._cuda.emit import (
    I32,
    I64,
    SIMULATED,
    VOID,
    assembly,
    call_llvm,
    numbers_of,
    register,
    suffix,
    vector_of,
)

WARP = 32
SHORT = 1 << 32  # what a quotient in 32 bits takes


if SIMULATED:

    def lane(function):
        """A function of a thread, to be called from kernels."""
        return function

    def pairs(registers, at, stride, numbers):
        values = [registers[at + i * stride] for i in range(len(numbers))]
        while len(values) > 1:
            rest = values[len(values) & ~1 :]
            values = [a + b for a, b in zip(values[::2], values[1::2], strict=False)] + rest
        return values[0]

    def maximum(a, b):
        return np.fmax(a, b)

    def times(a, b):
        return a * b

    def wins(new, old):
        return new > old or (new != new and old == old)

    def afresh(number, after):
        return number

    def _no_cluster(*arguments):
        raise NotImplementedError("the simulator has no clusters of blocks")

    cluster_number = cluster_rank = cluster_size = _no_cluster
    arrive_early = arrive = wait = push = _no_cluster

    def quotient(number, divisor):
        if not (0 <= number < SHORT and 0 < divisor < SHORT):
            raise OverflowError(f"{number} // {divisor} in 32 bits")
        return np.int64(number) // np.int64(divisor)

    def syncthreads() -> None:
        thread: Any = threading.current_thread()
        thread.syncthreads()

    def exchange(value: Any, distance: int) -> Any:
        thread: Any = threading.current_thread()
        manager = thread._manager
        size = int(np.prod(manager._block_dim))
        warp = thread.thread_id // WARP
        with _LOCK:
            warps = manager.__dict__.setdefault("warps", {})
            if warp not in warps:
                members = min(WARP, size - warp * WARP)
                warps[warp] = threading.Barrier(members), [None] * WARP
        barrier, values = warps[warp]
        lane_number = thread.thread_id % WARP
        values[lane_number] = value
        barrier.wait(60)
        other = values[lane_number ^ distance]
        barrier.wait(60)
        return other

    _LOCK = threading.Lock()

else:
    from numba.cuda.extending import intrinsic

    lane = cuda.jit(device=True, forceinline=True)
    syncthreads = cuda.syncthreads  # under this name, the simulator knows it in lanes of any module

    @intrinsic
    def pairs(typingctx, registers, at, stride, numbers):
        """The sum of registers[at], registers[at + stride], ..., in pairs, neighbours first."""

        def emit(context, builder, sig, args):
            add = builder.fadd if isinstance(registers.dtype, types.Float) else builder.add
            values = []
            for j in range(len(numbers)):
                here = builder.add(args[1], builder.mul(args[2], args[2].type(j)))
                values.append(builder.load(register(context, builder, registers, args[0], here)))
            while len(values) > 1:
                rest = values[len(values) & ~1 :]
                values = [add(a, b) for a, b in zip(values[::2], values[1::2], strict=False)] + rest
            return values[0]

        return registers.dtype(registers, types.int64, types.int64, numbers), emit

    @intrinsic
    def maximum(typingctx, a, b):
        """The larger; a NaN beside a number is passed over."""

        def emit(context, builder, sig, args):
            return call_llvm(builder, f"llvm.maxnum.f{a.bitwidth}", *args)

        return a(a, a), emit

    @intrinsic
    def times(typingctx, a, b):
        """a·b, rounded, whatever it is added to."""

        def emit(context, builder, sig, args):
            return call_llvm(builder, f"llvm.nvvm.mul.rn.{suffix(a)}", *args)

        return a(a, a), emit

    @intrinsic
    def wins(typingctx, new, old):
        """Is `new` to replace `old` as the maximum: larger, or the first NaN?"""

        def emit(context, builder, sig, args):
            if isinstance(new, types.Float):
                larger = builder.fcmp_unordered(">", *args)
                return builder.and_(larger, builder.fcmp_ordered("ord", args[1], args[1]))
            compare = builder.icmp_signed if new.signed else builder.icmp_unsigned
            return compare(">", *args)

        return types.boolean(new, new), emit

    @intrinsic
    def afresh(typingctx, number, after):
        """The same integer, of which the compiler must not know that it is, once `after` is there.

        What follows from it, addresses above all, is computed again rather than kept in registers.
        """
        constraint = "=l,l,f" if after == types.float32 else "=l,l,d"

        def emit(context, builder, sig, args):
            code = "mov.b64 $0, $1;"
            return assembly(builder, args[0].type, code, constraint, *args, effect=True)

        return types.int64(types.int64, after), emit

    def _of_cluster(register):
        @intrinsic
        def number(typingctx):
            def emit(context, builder, sig, args):
                code = f"mov.u32 $0, %{register};"
                found = assembly(builder, I32, code, "=r", effect=True)
                return builder.zext(found, I64)

            return types.int64(), emit

        return number

    # Asked for anew rather than kept in registers.
    cluster_number = _of_cluster("clusterid.x")  # which cluster of the grid
    cluster_rank = _of_cluster("cluster_ctarank")  # which block of its cluster this is
    cluster_size = _of_cluster("cluster_nctarank")

    def _at_barrier(code):
        @intrinsic
        def meeting(typingctx):
            def emit(context, builder, sig, args):
                assembly(builder, VOID, code, "~{memory}", effect=True, together=True)
                return context.get_dummy_value()

            return types.void(), emit

        return meeting

    # A block may write to another's shared memory once that has begun, and may leave once nobody
    # will write to its own: all arrive before the first write, and wait after the last.
    arrive_early = _at_barrier("barrier.cluster.arrive.relaxed.aligned;")
    arrive = _at_barrier("barrier.cluster.arrive.release.aligned;")
    wait = _at_barrier("barrier.cluster.wait.acquire.aligned;")

    @intrinsic
    def push(typingctx, shared, i, rank, value):
        """shared[i] = value in the block of that rank of the cluster."""
        size, kind = (32, "f") if value == types.float32 else (64, "d")

        def emit(context, builder, sig, args):
            place = builder.ptrtoint(register(context, builder, shared, args[0], args[1]), I64)
            code = (
                "{ .reg .u64 t; .reg .u32 a; cvta.to.shared.u64 t, $0; cvt.u32.u64 a, t; "
                f"mapa.shared::cluster.u32 a, a, $1; st.shared::cluster.f{size} [a], $2; }}"
            )
            operands = place, builder.trunc(args[2], I32), args[3]
            assembly(builder, VOID, code, f"l,r,{kind},~{{memory}}", *operands, effect=True)
            return context.get_dummy_value()

        return types.void(shared, types.int64, types.int64, value), emit

    @intrinsic
    def quotient(typingctx, number, divisor):
        """⌊number / divisor⌋ of integers that 32 bits hold, without a sign."""

        def emit(context, builder, sig, args):
            short = builder.udiv(*(builder.trunc(arg, I32) for arg in args))
            return builder.zext(short, args[0].type)

        return types.int64(types.int64, types.int64), emit

    @intrinsic
    def exchange(typingctx, value, distance):
        """The value of the lane whose number differs by `distance`, a power of two."""

        def emit(context, builder, sig, args):
            step = builder.trunc(args[1], I32)

            def one(word):
                code = "shfl.sync.bfly.b32 $0, $1, $2, 31, -1;"
                return assembly(builder, I32, code, "=r,r,r", word, step, effect=True)

            if value.bitwidth == 32:
                return builder.bitcast(one(builder.bitcast(args[0], I32)), args[0].type)
            words = ir.VectorType(I32, 2)
            halves = numbers_of(builder, builder.bitcast(args[0], words))
            return builder.bitcast(vector_of(builder, [one(h) for h in halves]), args[0].type)

        return value(value, types.int64), emit


def short(divisor: int, tile: int) -> bool:
    """Can `divided` do with 32 bits?"""
    return divisor * tile <= SHORT


@lane
def divided(block, tile, offset, divisor, short):
    """⌊(block·tile + offset) / divisor⌋, the offset below the tile.

    If `short`, in 32 bits: with block = q·divisor + r it is q·tile + ⌊(r·tile + offset) / divisor⌋.
    """
    if short:
        q = quotient(block, divisor)
        return q * tile + quotient((block - q * divisor) * tile + offset, divisor)
    return (block * tile + offset) // divisor
