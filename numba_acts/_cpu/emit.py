"""LLVM's instructions for vectors, which intrinsics are made of."""

from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen, config

INT32 = ir.IntType(32)
# Of the processor that kernels are compiled for, as far as Numba is told them by name: beside a
# processor's name and an empty `NUMBA_CPU_FEATURES`, LLVM knows more. No result depends on them.
_TOLD: str | None = config.CPU_FEATURES
FEATURES = (codegen.get_host_cpu_features() if _TOLD is None else _TOLD).split(",")


def broadcast(builder, scalar, width):
    """A number in every lane."""
    vector = ir.VectorType(scalar.type, width)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    zeros = ir.Constant(ir.VectorType(INT32, width), [0] * width)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def shaped_like(scalar, value):
    """`scalar`'s LLVM type, widened to `value`'s number of lanes."""
    count = getattr(value.type, "count", None)
    return ir.VectorType(scalar, count) if count else scalar


def size_of(dtype):
    return dtype.bitwidth // 8 if isinstance(dtype, types.Number) else dtype.size


def zero_of(scalar):
    return ir.Constant(scalar, 0 if isinstance(scalar, ir.IntType) else 0.0)


def call_llvm(builder, name, *args):
    """Call one of LLVM's functions of numbers or vectors of them."""
    given = args[0].type
    scalar = getattr(given, "element", given)
    count = f"v{given.count}" if scalar != given else ""
    suffix = f"{count}{'f32' if scalar == ir.FloatType() else 'f64'}"
    kind = ir.FunctionType(given, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}")
    return builder.call(function, args)


def multiply_add(builder, kind, a, b, c):
    if isinstance(kind, types.Float):
        return call_llvm(builder, "fma", a, b, c)
    return builder.add(builder.mul(a, b), c)


def split_halves(builder, vector):
    half = vector.type.count // 2
    undefined = ir.Constant(vector.type, ir.Undefined)
    return (
        builder.shuffle_vector(
            vector,
            undefined,
            ir.Constant(ir.VectorType(INT32, half), list(range(start, start + half))),
        )
        for start in (0, half)
    )


def fold(builder, vector, combine):
    """Combine the upper half of the lanes with the lower, until one is left; in every lane."""
    width = vector.type.count
    while vector.type.count > 1:
        vector = combine(*split_halves(builder, vector))
    return broadcast(builder, builder.extract_element(vector, INT32(0)), width)


def compare(builder, lanes, comparison, a, b):
    if isinstance(lanes.dtype, types.Float):
        return builder.fcmp_ordered(comparison, a, b)
    compare = builder.icmp_signed if lanes.dtype.signed else builder.icmp_unsigned
    return compare(comparison, a, b)


def replaces(builder, lanes, new, old):
    """Is `new` to replace `old` as the maximum: larger, or the first NaN?"""
    if not isinstance(lanes.dtype, types.Float):
        return compare(builder, lanes, ">", new, old)
    larger = builder.fcmp_unordered(">", new, old)
    return builder.and_(larger, builder.fcmp_ordered("ord", old, old))
