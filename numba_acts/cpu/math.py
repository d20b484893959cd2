"""Eight numbers at a time: the arithmetic that the kernels of this wing are written in.

A kernel handles `Lanes`, a vector of eight numbers that LLVM maps to the registers at hand, so that
it never hangs on whether a loop happens to be vectorised. Lanes support ``+ - *`` with each other
and with scalars of their own type; everything else is a function below. No operation may be
reordered or contracted by the compiler: the bits of a result follow from the source alone.

Sixteen-bit floats have no NumPy-like type in Numba. Their arrays are `held` as `FLOAT16` or
`BFLOAT16`; `load` widens them to float32 and `store` rounds them once, to nearest even. Those of
bool are held as `BOOL`: any byte but 0 is true, and loaded as 1.
"""

import functools
import operator

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    make_attribute_wrapper,
    models,
    overload,
    register_model,
)
from numba.np.numpy_support import from_dtype

from numba_acts._compiler import switched_on

LANES = 8
FAR_FROM = 1 << 24  # bytes of a result that goes around the caches: half of a last one's 32 MB,
FAR_RUN = 1 << 10  # if so many are written in a row: part of a line costs more than all of it

FLOAT16 = np.dtype([("float16", np.uint16)])
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
BOOL = np.dtype([("bool", np.uint8)])
_FLOAT16, _BFLOAT16, _BOOL = from_dtype(FLOAT16), from_dtype(BFLOAT16), from_dtype(BOOL)


@functools.cache
def held(dtype):
    """The dtype under which a kernel is compiled for an array's memory."""
    if dtype == np.float16:
        return FLOAT16
    if dtype.name == "bfloat16":
        return BFLOAT16
    return BOOL if dtype == np.bool_ else dtype


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


class Elements(types.Type):
    """The Numba type of a contiguous array that nobody counts references to.

    Numba counts them wherever an array goes to another function, atomically and in the innermost
    loops. A kernel takes the `elements` of its arguments once, or `operand`, and holds
    `scratch` memory until it calls `release`. What is loaded is of the type `number`.
    """

    def __init__(self, dtype, number=None):
        self.dtype, self.number = dtype, number or _register_type(dtype)
        super().__init__(name=f"Elements({dtype} as {self.number})")


@register_model(Elements)
class _ElementsModel(models.StructModel):
    def __init__(self, manager, kind):
        members = [("data", types.voidptr), ("size", types.intp), ("memory", types.voidptr)]
        super().__init__(manager, kind, members)


make_attribute_wrapper(Elements, "size", "size")


class Results(Elements):
    """The Numba type of an array that is written once, around the caches if it is large.

    A line that is written so need not be read from memory first.
    """

    def __init__(self, dtype):
        super().__init__(dtype)
        self.name = f"Results({dtype})"


@register_model(Results)
class _ResultsModel(models.StructModel):
    def __init__(self, manager, kind):
        members = [("data", types.voidptr), ("size", types.intp), ("memory", types.voidptr)]
        super().__init__(manager, kind, [*members, ("far", types.boolean)])


make_attribute_wrapper(Results, "far", "far")


@intrinsic
def elements(typingctx, array):
    """An array's memory and size, or None. The caller holds the array."""
    if array is types.none:
        return array(array), lambda context, builder, sig, args: args[0]
    if isinstance(array, Elements):
        return array(array), lambda context, builder, sig, args: args[0]
    return Elements(array.dtype)(array), _emit_elements


@intrinsic
def operand(typingctx, array, like):
    """The `elements` of an operand, to be loaded as the numbers that `like` is computed in."""
    if array is types.none:
        return array(array, like), lambda context, builder, sig, args: args[0]
    return Elements(array.dtype, _register_type(like.dtype))(array, like), _emit_elements


def _emit_elements(context, builder, sig, args):
    return _elements(context, builder, sig, args)._getvalue()


def _elements(context, builder, sig, args):
    source = context.make_array(sig.args[0])(context, builder, args[0])
    result = cgutils.create_struct_proxy(sig.return_type)(context, builder)
    result.data = builder.bitcast(source.data, cgutils.voidptr_t)
    result.size = source.nitems
    result.memory = ir.Constant(cgutils.voidptr_t, None)
    return result


@intrinsic
def results(typingctx, array, step, run):
    """A result that `store` writes once, at multiples of `step`, `run` numbers beside each other.

    It goes around the caches if it is large, its runs fill their lines, eight numbers have at least
    16 bytes, and all of it is written at multiples of those. `settle` comes when that is done.
    """
    kind, size = Results(array.dtype), _size(array.dtype)

    def emit(context, builder, sig, args):
        result = _elements(context, builder, sig, args)
        _, step, run = args
        number = run.type
        place = builder.ptrtoint(result.data, number)
        place = builder.and_(builder.or_(place, builder.mul(step, number(size))), number(15))
        far = builder.icmp_signed("==", place, number(0 if LANES * size >= 16 else -1))
        far = builder.and_(far, builder.icmp_signed(">=", run, number(FAR_RUN // size)))
        large = builder.icmp_signed(">=", result.size, number(FAR_FROM // size))
        result.far = builder.and_(far, large)
        return result._getvalue()

    return kind(array, types.intp, types.intp), emit


@intrinsic
def settle(typingctx, array):
    """What was written around the caches is there for other threads."""

    def emit(context, builder, sig, args):
        with builder.if_then(_far(context, builder, array, args[0])):
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(array), emit


def _far(context, builder, array, value):
    return cgutils.create_struct_proxy(array)(context, builder, value).far


# ---- arithmetic -------------------------------------------------------------------------------

_INT32 = ir.IntType(32)


def _splat(builder, scalar, width=LANES):
    vector = ir.VectorType(scalar.type, width)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INT32(0))
    zeros = ir.Constant(ir.VectorType(_INT32, width), [0] * width)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _as_lanes(context, builder, kind, value, lanes):
    """Broadcast a scalar argument of an operation on `lanes`; lanes pass as they are."""
    if isinstance(kind, Lanes):
        return value
    return _splat(builder, context.cast(builder, value, kind, lanes.dtype), lanes.count)


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
            _as_lanes(context, builder, kind, value, sig.return_type)
            for kind, value in zip(sig.args, args, strict=True)
        )
        emit = getattr(builder, ("f" if isinstance(element, types.Float) else "") + name)
        return emit(left, right)

    for left, right in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(operation, left, right)(lower)


for _operation, _name in ((operator.add, "add"), (operator.sub, "sub"), (operator.mul, "mul")):
    _define(_operation, _name)


def _call(builder, name, *args):
    vector = args[0].type
    suffix = f"v{vector.count}{'f32' if vector.element == ir.FloatType() else 'f64'}"
    kind = ir.FunctionType(vector, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}")
    return builder.call(function, args)


@intrinsic
def fma(typingctx, a, b, c):
    """``a*b + c``, rounded once if it is rounded; `b` and `c` may be scalars."""

    def emit(context, builder, sig, args):
        lanes = [
            _as_lanes(context, builder, kind, value, a)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        return _multiply_add(builder, a.dtype, *lanes)

    if isinstance(a, Lanes):
        return a(a, *(kind if isinstance(kind, Lanes) else a.dtype for kind in (b, c))), emit


def _multiply_add(builder, kind, a, b, c):
    if isinstance(kind, types.Float):
        return _call(builder, "fma", a, b, c)
    return builder.add(builder.mul(a, b), c)


@intrinsic
def add_products(typingctx, sums, lanes, array, places, k):
    """A tuple of lanes: each of `sums` plus `lanes` times the element ``array[place + k]``."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        element, results = _storage(context, dtype), []
        for total, place in zip(
            *(cgutils.unpack_tuple(builder, args[i]) for i in (0, 3)), strict=True
        ):
            pointer = _address(
                context, builder, array, args[2], builder.add(place, args[4]), element
            )
            number = _loaded(builder, array, builder.load(pointer, typ=element, align=_size(dtype)))
            factor = _splat(builder, number, lanes.count)
            results.append(_multiply_add(builder, lanes.dtype, args[1], factor, total))
        return context.make_tuple(builder, sig.return_type, results)

    return sums(sums, lanes, array, places, types.intp), emit


@intrinsic
def divide(typingctx, a, b):
    """``a/b`` lane by lane, the IEEE quotient."""
    return a(a, b), lambda context, builder, sig, args: builder.fdiv(*args)


@intrinsic
def maximum(typingctx, new, old):
    """``new if new > old else old``: a NaN in `new` is passed over, one in `old` stays."""

    def emit(context, builder, sig, args):
        return builder.select(_compare(builder, sig.args[0], ">", *args), *args)

    return new(new, new), emit


@intrinsic
def at_least(typingctx, value, floor):
    """``floor if floor > value else value`` with a scalar floor: a NaN in `value` stays."""

    def emit(context, builder, sig, args):
        low = _splat(builder, args[1], value.count)
        return builder.select(builder.fcmp_ordered(">", low, args[0]), low, args[0])

    return value(value, value.dtype), emit


@intrinsic
def splat(typingctx, scalar):
    """Eight copies of a number."""
    return Lanes(scalar)(scalar), lambda context, builder, sig, args: _splat(builder, args[0])


@intrinsic
def fill(typingctx, lanes, number):
    """Eight copies of a number, of the type of `lanes`."""
    return lanes(lanes, lanes.dtype), lambda context, builder, sig, args: _splat(
        builder, args[1], lanes.count
    )


@intrinsic
def lane_places(typingctx):
    """0, 1, ..., 7."""
    lanes = Lanes(types.int32)
    places = ir.Constant(ir.VectorType(_INT32, LANES), list(range(LANES)))
    return lanes(), lambda context, builder, sig, args: places


@intrinsic
def extract(typingctx, lanes, index):
    """One lane's number."""

    def emit(context, builder, sig, args):
        return builder.extract_element(args[0], builder.trunc(args[1], _INT32))

    return lanes.dtype(lanes, types.intp), emit


# ---- across the lanes -------------------------------------------------------------------------


def _halves(builder, vector):
    half = vector.type.count // 2
    undefined = ir.Constant(vector.type, ir.Undefined)
    return (
        builder.shuffle_vector(
            vector,
            undefined,
            ir.Constant(ir.VectorType(_INT32, half), list(range(start, start + half))),
        )
        for start in (0, half)
    )


def _fold(builder, vector, combine):
    """Combine the upper half of the lanes with the lower, until one is left; in every lane."""
    while vector.type.count > 1:
        vector = combine(*_halves(builder, vector))
    return _splat(builder, builder.extract_element(vector, _INT32(0)))


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
                    mask = ir.Constant(ir.VectorType(_INT32, LANES), places)
                    swapped[row] = builder.shuffle_vector(vectors[i], vectors[i + distance], mask)
            vectors = swapped
        return context.make_tuple(builder, sig.return_type, vectors)

    return rows(rows), emit


@intrinsic
def lanes_sum(typingctx, lanes):
    """((0+4)+(2+6)) + ((1+5)+(3+7)) in every lane."""

    def emit(context, builder, sig, args):
        add = builder.fadd if isinstance(lanes.dtype, types.Float) else builder.add
        return _fold(builder, args[0], add)

    return lanes(lanes), emit


@intrinsic
def lanes_max(typingctx, lanes):
    """The largest of the eight, in every lane."""

    def emit(context, builder, sig, args):
        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        return _fold(builder, args[0], larger)

    return lanes(lanes), emit


# ---- memory -----------------------------------------------------------------------------------


def _register_type(dtype):
    """What a stored element is held as: sixteen-bit floats as float32, the rest as themselves."""
    if dtype == _BOOL:
        return types.uint8
    return types.float32 if dtype in (_FLOAT16, _BFLOAT16) else dtype


def _number(array):
    return array.number if isinstance(array, Elements) else _register_type(array.dtype)


def _storage(context, dtype):
    if dtype == _FLOAT16:
        return ir.HalfType()
    if dtype == _BFLOAT16:
        return ir.IntType(16)
    return context.get_value_type(_register_type(dtype))


def _address(context, builder, array, value, index, element):
    data = cgutils.create_struct_proxy(array)(context, builder, value).data
    base = builder.bitcast(data, element.as_pointer())
    return builder.gep(base, [index], source_etype=element)


def _size(dtype):
    return dtype.bitwidth // 8 if isinstance(dtype, types.Number) else dtype.size


def _like(scalar, value):
    """`scalar`'s LLVM type, widened to `value`'s number of lanes."""
    count = getattr(value.type, "count", None)
    return ir.VectorType(scalar, count) if count else scalar


def _widen(builder, dtype, value):
    """Stored bits (one or several) as numbers."""
    if dtype == _FLOAT16:
        return builder.fpext(value, _like(ir.FloatType(), value))
    if dtype == _BFLOAT16:
        wide = builder.zext(value, _like(_INT32, value))
        sixteen = ir.Constant(_INT32, 16)
        shift = (
            _splat(builder, sixteen, value.type.count) if hasattr(value.type, "count") else sixteen
        )
        return builder.bitcast(builder.shl(wide, shift), _like(ir.FloatType(), value))
    if dtype == _BOOL:
        return builder.zext(builder.icmp_unsigned("!=", value, value.type(None)), value.type)
    return value


def _loaded(builder, array, value):
    """Stored bits (one or several) of an array as the numbers that they are loaded as."""
    value, held = _widen(builder, array.dtype, value), _register_type(array.dtype)
    wanted = _number(array)
    if held == wanted:
        return value
    if isinstance(held, types.Float) and wanted != types.float64 or wanted.bitwidth < held.bitwidth:
        raise TypingError(f"{held} is not read as {wanted}, which may not hold it")
    scalar = ir.DoubleType() if wanted == types.float64 else ir.IntType(wanted.bitwidth)
    target = _like(scalar, value)
    if isinstance(held, types.Float):
        return builder.fpext(value, target)
    if wanted == types.float64:
        return (builder.sitofp if held.signed else builder.uitofp)(value, target)
    return (builder.sext if held.signed else builder.zext)(value, target)


def _narrow(context, builder, dtype, value, kind):
    """Numbers of type `kind` (one or several) as stored bits of `dtype`."""
    if dtype in (_FLOAT16, _BFLOAT16) and kind != types.float32:
        raise TypingError(f"sixteen-bit floats are rounded from float32, not from {kind}")
    if dtype == _FLOAT16:
        return builder.fptrunc(value, _like(ir.HalfType(), value))
    if dtype == _BFLOAT16:
        integer = _like(_INT32, value)

        def constant(number):
            count = getattr(value.type, "count", None)
            return ir.Constant(integer, [number] * count if count else number)

        # A NaN needs no care: it is a sixteen-bit one, widened, or the processor's own, and what is
        # added does not reach beyond its low bits, which are zero.
        bits = builder.bitcast(value, integer)
        odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
        rounded = builder.add(builder.add(bits, constant(0x7FFF)), odd)
        top = builder.lshr(rounded, constant(16))
        return builder.trunc(top, _like(ir.IntType(16), value))
    dtype = _register_type(dtype)
    stored = _like(context.get_value_type(dtype), value)
    if stored == value.type:
        return value
    if isinstance(dtype, types.Float):
        if not isinstance(kind, types.Float):
            return (builder.sitofp if kind.signed else builder.uitofp)(value, stored)
        return (builder.fpext if dtype.bitwidth > kind.bitwidth else builder.fptrunc)(value, stored)
    if dtype.bitwidth < kind.bitwidth:
        return builder.trunc(value, stored)
    return (builder.sext if kind.signed else builder.zext)(value, stored)


@intrinsic
def load(typingctx, array, index):
    """Eight consecutive elements of a contiguous array, from `index` on."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        vector = ir.VectorType(_storage(context, dtype), LANES)
        element = _storage(context, dtype)
        pointer = _address(context, builder, array, args[0], args[1], element)
        pointer = builder.bitcast(pointer, vector.as_pointer())
        value = builder.load(pointer, typ=vector, align=_size(dtype))
        return _loaded(builder, array, value)

    return Lanes(_number(array))(array, types.intp), emit


@lane
def eight(x, i, step):
    """Eight vectors, `step` apart."""
    return (
        load(x, i),
        load(x, i + step),
        load(x, i + 2 * step),
        load(x, i + 3 * step),
        load(x, i + 4 * step),
        load(x, i + 5 * step),
        load(x, i + 6 * step),
        load(x, i + 7 * step),
    )


@intrinsic
def halves(typingctx, array, index, step):
    """Four numbers of each of eight rows, `step` apart: rows i and i + 4 in one vector."""
    dtype, half = array.dtype, LANES // 2
    lanes = types.UniTuple(Lanes(_number(array)), half)

    def emit(context, builder, sig, args):
        element, rows = _storage(context, dtype), []
        vector = ir.VectorType(element, half)
        for row in range(LANES):
            place = builder.add(args[1], builder.mul(args[2], args[2].type(row)))
            pointer = _address(context, builder, array, args[0], place, element)
            pointer = builder.bitcast(pointer, vector.as_pointer())
            rows.append(builder.load(pointer, typ=vector, align=_size(dtype)))
        both = ir.Constant(ir.VectorType(_INT32, LANES), list(range(LANES)))
        pairs = zip(rows[:half], rows[half:], strict=True)
        vectors = [builder.shuffle_vector(low, high, both) for low, high in pairs]
        vectors = [_loaded(builder, array, vector) for vector in vectors]
        return context.make_tuple(builder, sig.return_type, vectors)

    return lanes(array, types.intp, types.intp), emit


@intrinsic
def put_halves(typingctx, array, index, step, vectors):
    """Write what `halves` reads."""
    dtype, half = array.dtype, LANES // 2

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        for i, value in enumerate(cgutils.unpack_tuple(builder, args[3])):
            number = _narrow(context, builder, dtype, value, vectors.dtype.dtype)
            for row, part in zip((i, i + half), _halves(builder, number), strict=True):
                place = builder.add(args[1], builder.mul(args[2], args[2].type(row)))
                pointer = _address(context, builder, array, args[0], place, element)
                pointer = builder.bitcast(pointer, part.type.as_pointer())
                builder.store(part, pointer, align=_size(dtype))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vectors), emit


WIDE_BYTES = 64  # the numbers, as they are computed with, of the wide lanes in products


@intrinsic
def wide_lanes(typingctx, array):
    """How many numbers `load_wide` loads."""
    count = WIDE_BYTES // _size(_number(array))
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(
        types.intp, count
    )


@intrinsic
def load_wide(typingctx, array, index):
    """`WIDE_BYTES` of consecutive numbers."""
    dtype = array.dtype
    register = _number(array)
    lanes = Lanes(register, WIDE_BYTES // _size(register))

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        vector = ir.VectorType(element, lanes.count)
        pointer = _address(context, builder, array, args[0], args[1], element)
        pointer = builder.bitcast(pointer, vector.as_pointer())
        return _loaded(builder, array, builder.load(pointer, typ=vector, align=_size(dtype)))

    return lanes(array, types.intp), emit


@intrinsic
def gather(typingctx, array, index, stride):
    """Eight elements, `stride` apart."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        value = ir.Constant(ir.VectorType(element, LANES), ir.Undefined)
        position = args[1]
        for i in range(LANES):
            pointer = _address(context, builder, array, args[0], position, element)
            one = builder.load(pointer, typ=element, align=_size(dtype))
            value = builder.insert_element(value, one, _INT32(i))
            position = builder.add(position, args[2])
        return _loaded(builder, array, value)

    return Lanes(_number(array))(array, types.intp, types.intp), emit


@intrinsic
def load_some(typingctx, array, index, count):
    """`count` (1 to 8) consecutive elements; the other lanes repeat the last of them."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        value = ir.Constant(ir.VectorType(element, LANES), ir.Undefined)
        last = builder.sub(args[2], args[2].type(1))
        for i in range(LANES):
            here = args[2].type(i)
            step = builder.select(builder.icmp_signed("<", here, last), here, last)
            position = builder.add(args[1], step)
            pointer = _address(context, builder, array, args[0], position, element)
            one = builder.load(pointer, typ=element, align=_size(dtype))
            value = builder.insert_element(value, one, _INT32(i))
        return _loaded(builder, array, value)

    return Lanes(_number(array))(array, types.intp, types.intp), emit


@intrinsic
def head(typingctx, lanes, count, otherwise):
    """The first `count` lanes, and a number in the others."""

    def emit(context, builder, sig, args):
        limit = _splat(builder, builder.trunc(args[1], _INT32))
        lane_numbers = ir.Constant(limit.type, list(range(LANES)))
        return builder.select(
            builder.icmp_signed("<", lane_numbers, limit), args[0], _splat(builder, args[2])
        )

    return lanes(lanes, types.intp, lanes.dtype), emit


@intrinsic
def store(typingctx, array, index, lanes):
    """Write eight consecutive elements of a contiguous array, rounding to its dtype."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        value = _narrow(context, builder, dtype, args[2], lanes.dtype)
        element = _storage(context, dtype)
        pointer = _address(context, builder, array, args[0], args[1], element)
        pointer = builder.bitcast(pointer, value.type.as_pointer())
        if not isinstance(array, Results):
            builder.store(value, pointer, align=_size(dtype))
            return context.get_dummy_value()
        with builder.if_else(_far(context, builder, array, args[0])) as (far, near):
            with far:
                written = builder.store(value, pointer, align=16)
                written.set_metadata("nontemporal", builder.module.add_metadata([_INT32(1)]))
            with near:
                builder.store(value, pointer, align=_size(dtype))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), emit


@intrinsic
def scatter(typingctx, array, index, stride, lanes):
    """Write eight elements, `stride` apart."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        value = _narrow(context, builder, dtype, args[3], lanes.dtype)
        element = _storage(context, dtype)
        position = args[1]
        for i in range(LANES):
            pointer = _address(context, builder, array, args[0], position, element)
            one = builder.extract_element(value, _INT32(i))
            builder.store(one, pointer, align=_size(dtype))
            position = builder.add(position, args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), emit


@intrinsic
def get(typingctx, array, index):
    """One element of a contiguous array."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        pointer = _address(context, builder, array, args[0], args[1], element)
        return _loaded(builder, array, builder.load(pointer, typ=element, align=_size(dtype)))

    return _number(array)(array, types.intp), emit


@intrinsic
def put(typingctx, array, index, number):
    """Write one element, rounding to the array's dtype."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        value = _narrow(context, builder, dtype, args[2], number)
        pointer = _address(context, builder, array, args[0], args[1], value.type)
        builder.store(value, pointer, align=_size(dtype))
        return context.get_dummy_value()

    return types.void(array, types.intp, number), emit


@lane
def put_eight(out, i, step, vectors):
    """Write eight vectors, `step` apart."""
    a, b, c, d, e, f, g, h = vectors
    store(out, i, a)
    store(out, i + step, b)
    store(out, i + 2 * step, c)
    store(out, i + 3 * step, d)
    store(out, i + 4 * step, e)
    store(out, i + 5 * step, f)
    store(out, i + 6 * step, g)
    store(out, i + 7 * step, h)


@lane
def store_some(array, index, count, lanes):
    """Write the first `count` lanes; touch nothing beyond them."""
    for i in range(count):
        put(array, index + i, extract(lanes, i))


@intrinsic
def where(typingctx, chosen, lanes, otherwise):
    """`lanes` where the bytes of a mask are not zero, else `otherwise`, a number."""

    def emit(context, builder, sig, args):
        zero = ir.Constant(args[0].type, [0] * LANES)
        picked = builder.icmp_unsigned("!=", args[0], zero)
        return builder.select(picked, args[1], _splat(builder, args[2]))

    return lanes(chosen, lanes, lanes.dtype), emit


# ---- comparison -------------------------------------------------------------------------------


def _compare(builder, lanes, comparison, a, b):
    if isinstance(lanes.dtype, types.Float):
        return builder.fcmp_ordered(comparison, a, b)
    compare = builder.icmp_signed if lanes.dtype.signed else builder.icmp_unsigned
    return compare(comparison, a, b)


@intrinsic
def beats(typingctx, new, old):
    """Is `new` to replace `old` as the maximum: larger, or the first NaN? All bits set for yes."""

    def emit(context, builder, sig, args):
        return builder.sext(_beats(builder, new, *args), ir.VectorType(_INT32, LANES))

    return Lanes(types.int32)(new, new), emit


def _beats(builder, lanes, new, old):
    if not isinstance(lanes.dtype, types.Float):
        return _compare(builder, lanes, ">", new, old)
    larger = builder.fcmp_unordered(">", new, old)
    return builder.and_(larger, builder.fcmp_ordered("ord", old, old))


@intrinsic
def equals(typingctx, a, b):
    """Are the lanes equal? All bits set for yes. `b` may be a scalar."""

    def emit(context, builder, sig, args):
        right = _as_lanes(context, builder, sig.args[1], args[1], a)
        same = _compare(builder, a, "==", args[0], right)
        return builder.sext(same, ir.VectorType(_INT32, LANES))

    return Lanes(types.int32)(a, b if isinstance(b, Lanes) else a.dtype), emit


@intrinsic
def narrow(typingctx, lanes):
    """Integers of any size as 32 bits."""

    def emit(context, builder, sig, args):
        return _narrow(context, builder, types.int32, args[0], lanes.dtype)

    return Lanes(types.int32)(lanes), emit


@intrinsic
def choose(typingctx, condition, yes, no):
    """Lane by lane `yes` where all bits of the condition are set, else `no`."""

    def emit(context, builder, sig, args):
        bit = builder.trunc(args[0], ir.VectorType(ir.IntType(1), LANES))
        return builder.select(bit, args[1], args[2])

    return yes(condition, yes, yes), emit


# ---- units of few pieces, contiguous, their number known when compiled -------------------------


def _pieces(context, builder, array, args, count):
    """Each piece of eight units of `count`: numbers i, i + count, ..."""
    element = _storage(context, array.dtype)
    vector = ir.VectorType(element, LANES * count)
    pointer = _address(context, builder, array, args[0], args[1], element)
    pointer = builder.bitcast(pointer, vector.as_pointer())
    units = builder.load(pointer, typ=vector, align=_size(array.dtype))
    for i in range(count):
        places = ir.Constant(ir.VectorType(_INT32, LANES), list(range(i, LANES * count, count)))
        chosen = builder.shuffle_vector(units, ir.Constant(vector, ir.Undefined), places)
        yield _loaded(builder, array, chosen)


@intrinsic
def apart(typingctx, array, index, pieces):
    """The pieces of eight units, a vector of each; as many as the tuple `pieces` is long."""
    count = len(pieces)
    lanes = types.UniTuple(Lanes(_number(array)), count)

    def emit(context, builder, sig, args):
        vectors = list(_pieces(context, builder, array, args, count))
        return context.make_tuple(builder, sig.return_type, vectors)

    return lanes(array, types.intp, pieces), emit


@intrinsic
def put_together(typingctx, array, index, vectors):
    """Write what `apart` reads."""
    dtype, count = array.dtype, len(vectors)

    def emit(context, builder, sig, args):
        parts = cgutils.unpack_tuple(builder, args[2])
        parts = [_narrow(context, builder, dtype, part, vectors.dtype.dtype) for part in parts]
        element = parts[0].type.element
        while len(parts) & (len(parts) - 1):
            parts.append(ir.Constant(parts[0].type, ir.Undefined))
        while len(parts) > 1:  # one behind the other, then in turn
            width = 2 * parts[0].type.count
            both = ir.Constant(ir.VectorType(_INT32, width), list(range(width)))
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [builder.shuffle_vector(low, high, both) for low, high in pairs]
        places = [i * LANES + unit for unit in range(LANES) for i in range(count)]
        mask = ir.Constant(ir.VectorType(_INT32, LANES * count), places)
        value = builder.shuffle_vector(parts[0], ir.Constant(parts[0].type, ir.Undefined), mask)
        pointer = _address(context, builder, array, args[0], args[1], element)
        builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=_size(dtype))
        return context.get_dummy_value()

    return types.void(array, types.intp, vectors), emit


@intrinsic
def winners(typingctx, array, index, pieces):
    """The largest of each of eight units and its index; `pieces` is a tuple of their number."""
    values, indices = Lanes(_number(array)), Lanes(types.int32)

    def emit(context, builder, sig, args):
        best, *rest = _pieces(context, builder, array, args, len(pieces))
        winner = _splat(builder, _INT32(0))
        for i, new in enumerate(rest, 1):
            wins = _beats(builder, values, new, best)
            best = builder.select(wins, new, best)
            winner = builder.select(wins, _splat(builder, _INT32(i)), winner)
        return context.make_tuple(builder, sig.return_type, (best, winner))

    return types.Tuple((values, indices))(array, types.intp, pieces), emit


@intrinsic
def spread(typingctx, array, index, pieces, lanes, indices):
    """Write eight units: a lane's number at the piece that its index names, zeros elsewhere."""
    dtype, count = array.dtype, len(pieces)

    def emit(context, builder, sig, args):
        number = _narrow(context, builder, dtype, args[3], lanes.dtype)

        def repeated(vector):
            places = [lane for lane in range(LANES) for _ in range(count)]
            mask = ir.Constant(ir.VectorType(_INT32, LANES * count), places)
            return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

        winner = repeated(args[4])
        places = ir.Constant(winner.type, list(range(count)) * LANES)
        wide = repeated(number)
        zero = _splat(builder, _zero(wide.type.element), LANES * count)
        value = builder.select(builder.icmp_signed("==", winner, places), wide, zero)
        pointer = _address(context, builder, array, args[0], args[1], number.type.element)
        builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=_size(dtype))
        return context.get_dummy_value()

    return types.void(array, types.intp, pieces, lanes, indices), emit


def _zero(scalar):
    return ir.Constant(scalar, 0 if isinstance(scalar, ir.IntType) else 0.0)


def _fetch(context, builder, array, args, write):
    element = _storage(context, array.dtype)
    pointer = _address(context, builder, array, args[0], args[1], element)
    pointer = builder.bitcast(pointer, cgutils.voidptr_t)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT32, _INT32, _INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, _INT32(write), _INT32(3), _INT32(1)])
    return context.get_dummy_value()


@intrinsic
def fetch(typingctx, array, index):
    """Ask for the cache line of an element that will soon be read; it need not exist."""

    def emit(context, builder, sig, args):
        return _fetch(context, builder, array, args, 0)

    return types.void(array, types.intp), emit


@intrinsic
def fetch_to_write(typingctx, array, index):
    """Ask for the cache line of an element that will soon be written; it need not exist."""

    def emit(context, builder, sig, args):
        if isinstance(array, Results):
            near = builder.not_(_far(context, builder, array, args[0]))
            with builder.if_then(near):
                _fetch(context, builder, array, args, 1)
        else:
            _fetch(context, builder, array, args, 1)
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


# ---- scratch memory ---------------------------------------------------------------------------


def computed(dtype):
    """The dtype that numbers are computed in: float32 below it, else float64."""
    return np.dtype(np.float32 if dtype.itemsize == 2 or dtype == np.float32 else np.float64)


def _allocate(typingctx, number, size):
    kind = Elements(number)

    def emit(context, builder, sig, args):
        width = args[1].type(_size(number))
        bytes_ = builder.mul(args[1], width)
        align = ir.Constant(_INT32, 64)
        memory = context.nrt.meminfo_alloc_aligned(builder, bytes_, align)
        result = cgutils.create_struct_proxy(kind)(context, builder)
        result.memory = memory
        result.data = context.nrt.meminfo_data(builder, memory)
        result.size = args[1]
        return result._getvalue()

    return kind, emit


@intrinsic
def scratch(typingctx, array, size):
    """Uninitialised memory for `size` numbers of the float type that `array` is computed in."""
    single = _number(array) == types.float32
    kind, emit = _allocate(typingctx, types.float32 if single else types.float64, size)
    return kind(array, types.intp), emit


@intrinsic
def memory(typingctx, array, size):
    """Uninitialised memory for `size` numbers of the type that `array`'s are held as in lanes."""
    kind, emit = _allocate(typingctx, _number(array), size)
    return kind(array, types.intp), emit


@intrinsic
def counters(typingctx, size):
    """Uninitialised memory for integers."""
    kind, emit = _allocate(typingctx, types.intp, size)
    return kind(types.intp), lambda context, builder, sig, args: emit(
        context, builder, sig, (None, *args)
    )


@intrinsic
def release(typingctx, held):
    """Give scratch memory back."""

    def emit(context, builder, sig, args):
        block = cgutils.create_struct_proxy(held)(context, builder, args[0]).memory
        context.nrt.decref(builder, types.MemInfoPointer(types.voidptr), block)
        return context.get_dummy_value()

    return types.void(held), emit


# ---- the exponential --------------------------------------------------------------------------

# 2^r on [-1/2, 1/2], minimax in the relative error with the constant 1 held: 2.6e-9 and 1.8e-17.
_TWO_TO_R = {
    types.float32: (
        0.6931472149680279,
        0.24022652782887738,
        0.05550310551013797,
        0.009617692972993062,
        0.0013406643902351759,
        0.0001559467816132662,
    ),
    types.float64: (
        0.6931471805599457,
        0.24022650695910097,
        0.05550410866479039,
        0.009618129107607003,
        0.0013333558153439966,
        0.0001540353044157213,
        1.5252727385193868e-05,
        1.3215442675329823e-06,
        1.0180647659234139e-07,
        7.072570412814423e-09,
        4.078071929588337e-10,
    ),
}
# mantissa bits, bias, the power by which 2^n is raised to be normal, the smallest n
_FORMAT = {types.float32: (23, 127, 60, -186), types.float64: (52, 1023, 128, -1150)}


@intrinsic
def polynomial(typingctx, r):
    """2^r for |r| <= 1/2."""

    def emit(context, builder, sig, args):
        scalar = context.get_value_type(r.dtype)
        *lower, value = (
            ir.Constant(args[0].type, [scalar(c).constant] * r.count)
            for c in (1.0, *_TWO_TO_R[r.dtype])
        )
        for coefficient in reversed(lower):
            value = _call(builder, "fma", value, args[0], coefficient)
        return value

    return r(r), emit


@intrinsic
def magic(typingctx, lanes):
    """Added to a small number, it leaves the nearest integer n in the low bits, as 2^n's exponent.

    It is 1.5 * 2^mantissa, and the bias of exponents with the power by which 2^n is raised.
    """
    mantissa, bias, raised, _ = _FORMAT[lanes.dtype]
    number = 1.5 * 2.0**mantissa + (bias + raised)
    return lanes.dtype(lanes), lambda context, builder, sig, args: context.get_constant(
        lanes.dtype, number
    )


@intrinsic
def times_power(typingctx, value, shifted):
    """``value * 2^n``, raised, for the integer n in ``shifted = n + magic``."""
    mantissa = _FORMAT[value.dtype][0]

    def emit(context, builder, sig, args):
        integer = ir.IntType(value.dtype.bitwidth)
        vector = ir.VectorType(integer, value.count)
        bits = builder.bitcast(args[1], vector)
        bits = builder.shl(bits, ir.Constant(vector, [mantissa] * value.count))
        return builder.fmul(args[0], builder.bitcast(bits, args[0].type))

    return value(value, value), emit


@intrinsic
def lowered(typingctx, lanes):
    """What `raised_exp` raised, at its true size."""
    factor = 2.0 ** -_FORMAT[lanes.dtype][2]

    def emit(context, builder, sig, args):
        return builder.fmul(args[0], ir.Constant(args[0].type, [factor] * lanes.count))

    return lanes(lanes), emit


def exponent_law(array, beta):
    """What `raised_exp` needs to know of beta: its sign, |beta|·log2(e) in two parts, the floor.

    The shifted argument ``sign*x - max(sign*x)`` is exact or rounded once, so the error of an
    exponential grows with the distance from the maximum and not with the size of x. The factor has
    two parts, since the error of one would be the same in all terms of a sum; it is held within the
    range of the type it is computed in.
    """


@overload(exponent_law)
def _exponent_law(array, beta):
    kind = np.float32 if _number(array) == types.float32 else np.float64
    number = types.float32 if kind is np.float32 else types.float64
    smallest = kind(_FORMAT[number][3])
    largest = float(np.finfo(kind).max)
    least, most = -float(smallest) / largest * 1.0001, largest / 4
    log2e, log2e_low = 1.4426950408889634, 2.0355273740931033e-17

    def law(array, beta):
        size = min(max(abs(beta), least), most)
        product = size * log2e
        rest = extract(fma(splat(size), log2e, splat(-product)), 0) + size * log2e_low
        high = kind(product)
        low = kind((product - np.float64(high)) + rest)
        sign = kind(1.0) if beta > 0.0 else kind(-1.0)
        return sign, high, low, smallest / high

    return law


def factor_law(array, beta):
    """beta in every lane, held within the range of the type that `array` is computed in."""


@overload(factor_law)
def _factor_law(array, beta):
    kind = np.float32 if _number(array) == types.float32 else np.float64
    most = float(np.finfo(kind).max)
    return lambda array, beta: splat(kind(min(max(beta, -most), most)))


@lane
def raised_exp(w, law):
    """exp(|beta|·w) for w <= 0, times a power of two that keeps it normal; a NaN passes.

    In a quotient of such numbers the power cancels, and a subnormal result is rounded once.
    """
    _, high, low, floor = law
    w = at_least(w, floor)
    shifted = fma(w, high, magic(w))
    r = fma(w, high, magic(w) - shifted)
    return times_power(polynomial(fma(w, low, r)), shifted)


@intrinsic
def rolled(typingctx):
    """Keeps LLVM from unrolling the loop this stands in, whose constants would be spilled."""

    def emit(context, builder, sig, args):
        nothing = builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], True)
        nothing.attributes.add("convergent")
        return context.get_dummy_value()

    return types.void(), emit


# ---- kernels ----------------------------------------------------------------------------------


@intrinsic
def call(typingctx, address, arguments):
    """Call the compiled kernel at an address with a tuple of what it takes."""
    kinds = arguments.types

    def emit(context, builder, sig, args):
        convention = context.call_conv
        pointer = convention.get_function_type(types.none, kinds).as_pointer()
        place, values = builder.inttoptr(args[0], pointer), cgutils.unpack_tuple(builder, args[1])
        status, _ = convention.call_function(builder, place, types.none, kinds, values)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(address, arguments), emit
