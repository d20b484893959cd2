"""Eight numbers at a time: the arithmetic that kernels are written in.

A kernel handles `Lanes`, a vector of eight numbers that LLVM maps to the registers at hand, so that
it never hangs on whether a loop happens to be vectorised. Lanes support ``+ - *`` with each other
and with scalars of their own type; everything else is a function below. No operation may be
reordered or contracted by the compiler: the bits of a result follow from the source alone.
"""

import operator

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from numba_acts._compiler import switched_on
from numba_acts._cpu.emit import (
    INT32,
    broadcast,
    compare,
    fold,
    multiply_add,
    replaces,
)

LANES = 8


def lane(function):
    """A function to be called from kernels, which it becomes a part of."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
    with switched_on():
        return njit(forceinline=True, **options)(function)


class Lanes(types.Type):
    """The Numba type of a vector of numbers: eight, but for matrix products."""

    def __init__(self, dtype, count=LANES):
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype} x {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


# ---- arithmetic -------------------------------------------------------------------------------


def as_lanes(context, builder, kind, value, lanes):
    """Broadcast a scalar argument of an operation on `lanes`; lanes pass as they are."""
    if isinstance(kind, Lanes):
        return value
    return broadcast(builder, context.cast(builder, value, kind, lanes.dtype), lanes.count)


class _Arithmetic(AbstractTemplate):
    def generic(self, args, kws):
        lanes = [arg for arg in args if isinstance(arg, Lanes)]
        if lanes:
            kinds = [a if isinstance(a, Lanes) else lanes[0].dtype for a in args]
            return signature(lanes[0], *kinds)


def _define(operation, name):
    infer_global(operation)(type(f"_{operation.__name__}", (_Arithmetic,), {}))

    def lower(context, builder, sig, args):
        element = sig.return_type.dtype
        left, right = (
            as_lanes(context, builder, kind, value, sig.return_type)
            for kind, value in zip(sig.args, args, strict=True)
        )
        emit = getattr(builder, ("f" if isinstance(element, types.Float) else "") + name)
        return emit(left, right)

    for left, right in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(operation, left, right)(lower)


for _operation, _name in ((operator.add, "add"), (operator.sub, "sub"), (operator.mul, "mul")):
    _define(_operation, _name)


@intrinsic
def fma(typingctx, a, b, c):
    """``a*b + c``, rounded once if it is rounded; `b` and `c` may be scalars."""

    def emit(context, builder, sig, args):
        lanes = [
            as_lanes(context, builder, kind, value, a)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        return multiply_add(builder, a.dtype, *lanes)

    if isinstance(a, Lanes):
        return a(a, *(kind if isinstance(kind, Lanes) else a.dtype for kind in (b, c))), emit


@intrinsic
def flip(typingctx, lanes, sign):
    """``sign * lanes`` for a sign of ±1, where no multiplication is left over."""

    def emit(context, builder, sig, args):
        integer = ir.IntType(lanes.dtype.bitwidth)
        bits = ir.VectorType(integer, lanes.count)
        top = builder.and_(builder.bitcast(args[1], integer), integer(1 << (integer.width - 1)))
        flipped = builder.xor(builder.bitcast(args[0], bits), broadcast(builder, top, lanes.count))
        return builder.bitcast(flipped, args[0].type)

    return lanes(lanes, lanes.dtype), emit


@intrinsic
def divide(typingctx, a, b):
    """``a/b`` lane by lane, the IEEE quotient."""
    return a(a, b), lambda context, builder, sig, args: builder.fdiv(*args)


@intrinsic
def maximum(typingctx, new, old):
    """``new if new > old else old``: a NaN in `new` is passed over, one in `old` stays."""

    def emit(context, builder, sig, args):
        return builder.select(compare(builder, sig.args[0], ">", *args), *args)

    return new(new, new), emit


@intrinsic
def minimum(typingctx, new, old):
    """``new if new < old else old``: a NaN in `new` is passed over, one in `old` stays."""

    def emit(context, builder, sig, args):
        return builder.select(compare(builder, sig.args[0], "<", *args), *args)

    return new(new, new), emit


@intrinsic
def at_least(typingctx, value, floor):
    """``floor if floor > value else value`` with a scalar floor: a NaN in `value` stays."""

    def emit(context, builder, sig, args):
        low = broadcast(builder, args[1], value.count)
        return builder.select(builder.fcmp_ordered(">", low, args[0]), low, args[0])

    return value(value, value.dtype), emit


@intrinsic
def splat(typingctx, scalar):
    """Eight copies of a number."""
    return Lanes(scalar)(scalar), lambda context, builder, sig, args: broadcast(
        builder, args[0], LANES
    )


@intrinsic
def fill(typingctx, lanes, number):
    """Eight copies of a number, of the type of `lanes`."""
    return lanes(lanes, lanes.dtype), lambda context, builder, sig, args: broadcast(
        builder, args[1], lanes.count
    )


@intrinsic
def lane_places(typingctx):
    """0, 1, ..., 7."""
    lanes = Lanes(types.int32)
    places = ir.Constant(ir.VectorType(INT32, LANES), list(range(LANES)))
    return lanes(), lambda context, builder, sig, args: places


@intrinsic
def extract(typingctx, lanes, index):
    """One lane's number."""

    def emit(context, builder, sig, args):
        return builder.extract_element(args[0], builder.trunc(args[1], INT32))

    return lanes.dtype(lanes, types.intp), emit


# ---- across the lanes -------------------------------------------------------------------------


@intrinsic
def transposed(typingctx, rows):
    """Eight rows of eight numbers as their columns; or of four, in four vectors, as in `halves`.

    It undoes itself.
    """

    def emit(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        for distance in (1, 2, 4)[: len(vectors) // 4 + 1]:  # rows so far apart exchange blocks
            low = [i for i in range(len(vectors)) if not i & distance]
            swapped = list(vectors)
            for i in low:
                for side, row in ((0, i), (1, i + distance)):
                    places = [
                        (j & ~distance) + side * distance + (LANES if j & distance else 0)
                        for j in range(LANES)
                    ]
                    mask = ir.Constant(ir.VectorType(INT32, LANES), places)
                    swapped[row] = builder.shuffle_vector(vectors[i], vectors[i + distance], mask)
            vectors = swapped
        return context.make_tuple(builder, sig.return_type, vectors)

    return rows(rows), emit


@intrinsic
def lanes_sum(typingctx, lanes):
    """((0+4)+(2+6)) + ((1+5)+(3+7)) in every lane."""

    def emit(context, builder, sig, args):
        add = builder.fadd if isinstance(lanes.dtype, types.Float) else builder.add
        return fold(builder, args[0], add)

    return lanes(lanes), emit


@intrinsic
def any_equal(typingctx, lanes, number):
    """Is some lane equal to a number?"""

    def emit(context, builder, sig, args):
        same = compare(builder, lanes, "==", args[0], broadcast(builder, args[1], lanes.count))
        bits = builder.bitcast(same, ir.IntType(lanes.count))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(lanes, lanes.dtype), emit


@intrinsic
def any_below(typingctx, lanes, number):
    """Is some lane less than a number?"""

    def emit(context, builder, sig, args):
        less = compare(builder, lanes, "<", args[0], broadcast(builder, args[1], lanes.count))
        bits = builder.bitcast(less, ir.IntType(lanes.count))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(lanes, lanes.dtype), emit


@intrinsic
def lanes_max(typingctx, lanes):
    """The largest, in every lane."""

    def emit(context, builder, sig, args):
        def larger(a, b):
            return builder.select(compare(builder, lanes, ">", a, b), a, b)

        return fold(builder, args[0], larger)

    return lanes(lanes), emit


@intrinsic
def head(typingctx, lanes, count, otherwise):
    """The first `count` lanes, and a number in the others."""

    def emit(context, builder, sig, args):
        limit = broadcast(builder, builder.trunc(args[1], INT32), LANES)
        lane_numbers = ir.Constant(limit.type, list(range(LANES)))
        return builder.select(
            builder.icmp_signed("<", lane_numbers, limit),
            args[0],
            broadcast(builder, args[2], LANES),
        )

    return lanes(lanes, types.intp, lanes.dtype), emit


# ---- comparison -------------------------------------------------------------------------------


@intrinsic
def beats(typingctx, new, old):
    """Is `new` to replace `old` as the maximum: larger, or the first NaN? All bits set for yes."""

    def emit(context, builder, sig, args):
        return builder.sext(replaces(builder, new, *args), ir.VectorType(INT32, LANES))

    return Lanes(types.int32)(new, new), emit


@intrinsic
def equals(typingctx, a, b):
    """Are the lanes equal? All bits set for yes. `b` may be a scalar."""

    def emit(context, builder, sig, args):
        right = as_lanes(context, builder, sig.args[1], args[1], a)
        same = compare(builder, a, "==", args[0], right)
        return builder.sext(same, ir.VectorType(INT32, LANES))

    return Lanes(types.int32)(a, b if isinstance(b, Lanes) else a.dtype), emit


@intrinsic
def choose(typingctx, condition, yes, no):
    """Lane by lane `yes` where all bits of the condition are set, else `no`."""

    def emit(context, builder, sig, args):
        bit = builder.trunc(args[0], ir.VectorType(ir.IntType(1), LANES))
        return builder.select(bit, args[1], args[2])

    return yes(condition, yes, yes), emit


@intrinsic
def where(typingctx, chosen, lanes, otherwise):
    """`lanes` where the bytes of a mask are not zero, else `otherwise`, a number."""

    def emit(context, builder, sig, args):
        zero = ir.Constant(args[0].type, [0] * lanes.count)
        picked = builder.icmp_unsigned("!=", args[0], zero)
        return builder.select(picked, args[1], broadcast(builder, args[2], lanes.count))

    return lanes(chosen, lanes, lanes.dtype), emit


# ---- loops ------------------------------------------------------------------------------------


@intrinsic
def rolled(typingctx):
    """Keeps LLVM from unrolling the loop this stands in, whose constants would be spilled."""

    def emit(context, builder, sig, args):
        nothing = builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], True)
        nothing.attributes.add("convergent")
        return context.get_dummy_value()

    return types.void(), emit
