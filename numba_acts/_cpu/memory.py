"""Arrays as kernels have them: what is loaded from them, stored in them, and scratch memory.

A kernel takes the `elements` of its results once, the `operand` of what it reads, and `load`s and
`store`s lanes of them. Sixteen-bit floats have no NumPy-like type in Numba. Their arrays are `held`
as `FLOAT16` or `BFLOAT16`; `load` widens them to float32 and `store` rounds them once, to nearest
even. Those of bool are held as `BOOL`: any byte but 0 is true, and loaded as 1.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import (
    NativeValue,
    intrinsic,
    make_attribute_wrapper,
    models,
    register_model,
    unbox,
)
from numba.np.numpy_support import from_dtype

from numba_acts._cpu.emit import (
    FEATURES,
    INT32,
    broadcast,
    call_llvm,
    multiply_add,
    replaces,
    shaped_like,
    size_of,
    split_halves,
    zero_of,
)
from numba_acts._cpu.lanes import LANES, Lanes, extract, lane
from numba_acts._dtypes import BFLOAT16, BOOL, FLOAT16

LINE = 64  # bytes of a cache's line
PAGE = 1 << 8  # elements that are poured at once: a processor goes on while they leave it
# Bytes in a row of what goes around the caches: part of a line costs more than it.
FAR_RUN = 1 << 10

# Bytes beyond what is read in order for which memory is asked: what a processor asks for by itself
# ends at a page of that size, or comes late.
AHEAD = 1 << 12

WIDE_BYTES = 64  # the numbers, as they are computed with, of the wide lanes in products
_FLOAT16, _BFLOAT16, _BOOL = from_dtype(FLOAT16), from_dtype(BFLOAT16), from_dtype(BOOL)


# ---- arrays -----------------------------------------------------------------------------------


class Elements(types.Type):
    """The Numba type of a contiguous array that nobody counts references to.

    Numba counts them wherever an array goes to another function, atomically and in the innermost
    loops. A kernel takes the `elements` of its arguments once, or `operand`, and holds
    `scratch` memory until it calls `release`. What is loaded is of the type `number`.

    Python gives any contiguous array for it, of whatever shape, and holds it during the call.
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


# Where a NumPy array has, behind what every object has, its memory, the number of its axes and
# their lengths: its headers tell all modules that are compiled with them, so it stays.
DATA, NDIM, LENGTHS = (object.__basicsize__ + i * np.dtype(np.intp).itemsize for i in range(3))


@unbox(Elements)
def _unbox_elements(kind, array, c):
    """An array's memory and size; nothing is checked."""
    builder, number = c.builder, cgutils.intp_t

    def field(offset, of):
        place = builder.gep(array, [number(offset)], source_etype=ir.IntType(8))
        return builder.load(builder.bitcast(place, of.as_pointer()))

    count, lengths = field(NDIM, INT32), field(LENGTHS, number.as_pointer())
    size = cgutils.alloca_once_value(builder, number(1))
    with cgutils.for_range(builder, builder.zext(count, number)) as axis:
        length = builder.load(builder.gep(lengths, [axis.index]))
        builder.store(builder.mul(builder.load(size), length), size)
    result = cgutils.create_struct_proxy(kind)(c.context, builder)
    result.data, result.size = field(DATA, cgutils.voidptr_t), builder.load(size)
    return NativeValue(result._getvalue())


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
    return Elements(array.dtype)(array), emit_elements


@intrinsic
def operand(typingctx, array, like):
    """The `elements` of an operand, to be loaded as the numbers that `like` is computed in."""
    if array is types.none:
        return array(array, like), lambda context, builder, sig, args: args[0]
    return Elements(array.dtype, _register_type(like.dtype))(array, like), emit_elements


def emit_elements(context, builder, sig, args):
    return _elements(context, builder, sig, args)._getvalue()


def _elements(context, builder, sig, args):
    kind, array = sig.args[0], args[0]
    result = cgutils.create_struct_proxy(sig.return_type)(context, builder)
    if isinstance(kind, Elements):
        source = cgutils.create_struct_proxy(kind)(context, builder, array)
        result.data, result.size, result.memory = source.data, source.size, source.memory
    else:
        source = context.make_array(kind)(context, builder, array)
        result.data = builder.bitcast(source.data, cgutils.voidptr_t)
        result.size = source.nitems
        result.memory = ir.Constant(cgutils.voidptr_t, None)
    return result


@intrinsic
def results(typingctx, array, step, run, far):
    """A result that `store` writes once, at multiples of `step`, `run` numbers beside each other.

    It goes around the caches if it has at least `far` bytes, its runs fill their lines, eight
    numbers have at least 16 bytes, and all of it is written at multiples of those. `settle` comes
    when that is done.
    """
    if array is types.none:
        return array(array, types.intp, types.intp, types.intp), lambda *of: of[-1][0]
    kind, size = Results(array.dtype), size_of(array.dtype)

    def emit(context, builder, sig, args):
        _, step, run, least = args
        number = run.type
        result, place = _result(context, builder, sig, args[0], least)
        place = builder.and_(builder.or_(place, builder.mul(step, number(size))), number(15))
        far = builder.icmp_signed("==", place, number(0 if LANES * size >= 16 else -1))
        far = builder.and_(far, builder.icmp_signed(">=", run, number(FAR_RUN // size)))
        result.far = builder.and_(far, result.far)
        return result._getvalue()

    return kind(array, types.intp, types.intp, types.intp), emit


@intrinsic
def lines(typingctx, array, far):
    """A result that `pour` writes around the caches, if it has at least `far` bytes."""

    def emit(context, builder, sig, args):
        result, place = _result(context, builder, sig, args[0], args[1])
        odd = builder.and_(place, place.type(size_of(array.dtype) - 1))
        result.far = builder.and_(result.far, builder.icmp_signed("==", odd, place.type(0)))
        return result._getvalue()

    return Results(array.dtype)(array, types.intp), emit


def _result(context, builder, sig, array, least):
    """An array as a result, far if it has at least so many bytes; where it lies."""
    result = _elements(context, builder, sig, (array,))
    number = least.type
    bytes_ = builder.mul(result.size, number(size_of(sig.return_type.dtype)))
    result.far = builder.icmp_signed(">=", bytes_, least)
    return result, builder.ptrtoint(result.data, number)


@intrinsic
def settle(typingctx, array):
    """What was written around the caches is there for other threads."""

    def emit(context, builder, sig, args):
        if array is types.none:
            return context.get_dummy_value()
        with builder.if_then(_far(context, builder, array, args[0])):
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(array), emit


@intrinsic
def past_line(typingctx, array):
    """How many numbers behind the begin of a line a result that goes around the caches begins."""

    def emit(context, builder, sig, args):
        if array is types.none:
            return context.get_constant(types.intp, 0)
        result = cgutils.create_struct_proxy(array)(context, builder, args[0])
        number = context.get_value_type(types.intp)
        place = builder.and_(builder.ptrtoint(result.data, number), number(LINE - 1))
        past = builder.sdiv(place, number(size_of(array.dtype)))
        return builder.select(result.far, past, number(0))

    return types.intp(array), emit


def _far(context, builder, array, value):
    return cgutils.create_struct_proxy(array)(context, builder, value).far


# ---- numbers in memory and in registers -------------------------------------------------------


def _register_type(dtype):
    """What a stored element is held as: sixteen-bit floats as float32, the rest as themselves."""
    if dtype == _BOOL:
        return types.uint8
    return types.float32 if dtype in (_FLOAT16, _BFLOAT16) else dtype


def number_of(array):
    return array.number if isinstance(array, Elements) else _register_type(array.dtype)


@intrinsic
def is_bool(typingctx, array):
    """Are an array's numbers but 0 and 1?"""
    answer = array.dtype == _BOOL
    return types.boolean(array), lambda context, builder, sig, args: context.get_constant(
        types.boolean, answer
    )


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


def _widen(builder, dtype, value):
    """Stored bits (one or several) as numbers."""
    if dtype == _FLOAT16:
        return builder.fpext(value, shaped_like(ir.FloatType(), value))
    if dtype == _BFLOAT16:
        wide = builder.zext(value, shaped_like(INT32, value))
        sixteen = ir.Constant(INT32, 16)
        shift = (
            broadcast(builder, sixteen, value.type.count)
            if hasattr(value.type, "count")
            else sixteen
        )
        return builder.bitcast(builder.shl(wide, shift), shaped_like(ir.FloatType(), value))
    if dtype == _BOOL:
        return builder.zext(builder.icmp_unsigned("!=", value, value.type(None)), value.type)
    return value


def _loaded(builder, array, value):
    """Stored bits (one or several) of an array as the numbers that they are loaded as."""
    value, held = _widen(builder, array.dtype, value), _register_type(array.dtype)
    wanted = number_of(array)
    if held == wanted:
        return value
    if isinstance(held, types.Float) and wanted != types.float64 or wanted.bitwidth < held.bitwidth:
        raise TypingError(f"{held} is not read as {wanted}, which may not hold it")
    scalar = ir.DoubleType() if wanted == types.float64 else ir.IntType(wanted.bitwidth)
    target = shaped_like(scalar, value)
    if isinstance(held, types.Float):
        return builder.fpext(value, target)
    if wanted == types.float64:
        return (builder.sitofp if held.signed else builder.uitofp)(value, target)
    return (builder.sext if held.signed else builder.zext)(value, target)


def _narrow(context, builder, dtype, value, kind):
    """Numbers of type `kind` (one or several) as stored bits of `dtype`."""
    if dtype in (_FLOAT16, _BFLOAT16) and kind != types.float32:
        raise TypingError(f"sixteen-bit floats are rounded from float32, not from {kind}")
    if dtype == _FLOAT16:  # a signalling NaN that was widened is quiet: LLVM is not to undo it
        value = call_llvm(builder, "arithmetic.fence", value)
        return builder.fptrunc(value, shaped_like(ir.HalfType(), value))
    if dtype == _BFLOAT16:
        integer = shaped_like(INT32, value)

        def constant(number):
            count = getattr(value.type, "count", None)
            return ir.Constant(integer, [number] * count if count else number)

        # A NaN needs no care: it is a sixteen-bit one, widened, or the processor's own, and what is
        # added does not reach beyond its low bits, which are zero.
        bits = builder.bitcast(value, integer)
        odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
        rounded = builder.add(builder.add(bits, constant(0x7FFF)), odd)
        top = builder.lshr(rounded, constant(16))
        return builder.trunc(top, shaped_like(ir.IntType(16), value))
    dtype = _register_type(dtype)
    stored = shaped_like(context.get_value_type(dtype), value)
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
def narrow(typingctx, lanes):
    """Integers of any size as 32 bits."""

    def emit(context, builder, sig, args):
        return _narrow(context, builder, types.int32, args[0], lanes.dtype)

    return Lanes(types.int32)(lanes), emit


# ---- lanes ------------------------------------------------------------------------------------


def _load(array, count):
    """The type and the code of `count` consecutive elements of a contiguous array."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        vector = ir.VectorType(element, count)
        pointer = _address(context, builder, array, args[0], args[1], element)
        pointer = builder.bitcast(pointer, vector.as_pointer())
        return _loaded(builder, array, builder.load(pointer, typ=vector, align=size_of(dtype)))

    return Lanes(number_of(array), count), emit


@intrinsic
def load(typingctx, array, index):
    """Eight consecutive elements of a contiguous array, from `index` on."""
    lanes, emit = _load(array, LANES)
    return lanes(array, types.intp), emit


def _wide(array):
    """How many numbers `WIDE_BYTES` are."""
    return WIDE_BYTES // size_of(number_of(array))


@intrinsic
def load_wide(typingctx, array, index):
    """`WIDE_BYTES` of consecutive numbers."""
    lanes, emit = _load(array, _wide(array))
    return lanes(array, types.intp), emit


@intrinsic
def load_beside(typingctx, array, index, beside):
    """As many consecutive elements as `beside` has lanes."""
    lanes, emit = _load(array, beside.count)
    return lanes(array, types.intp, beside), emit


@intrinsic
def wide_lanes(typingctx, array):
    """How many numbers `load_wide` loads."""
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(
        types.intp, _wide(array)
    )


@intrinsic
def splat_wide(typingctx, array, number):
    """A number in as many lanes as `load_wide` loads."""
    lanes = Lanes(number_of(array), _wide(array))
    return lanes(array, lanes.dtype), lambda context, builder, sig, args: broadcast(
        builder, args[1], lanes.count
    )


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
            one = builder.load(pointer, typ=element, align=size_of(dtype))
            value = builder.insert_element(value, one, INT32(i))
        return _loaded(builder, array, value)

    return Lanes(number_of(array))(array, types.intp, types.intp), emit


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


@lane
def four(x, i, step):
    """Four wide vectors, `step` apart."""
    return (
        load_wide(x, i),
        load_wide(x, i + step),
        load_wide(x, i + 2 * step),
        load_wide(x, i + 3 * step),
    )


@intrinsic
def halves(typingctx, array, index, step):
    """Four numbers of each of eight rows, `step` apart: rows i and i + 4 in one vector."""
    dtype, half = array.dtype, LANES // 2
    lanes = types.UniTuple(Lanes(number_of(array)), half)

    def emit(context, builder, sig, args):
        element, rows = _storage(context, dtype), []
        vector = ir.VectorType(element, half)
        for row in range(LANES):
            place = builder.add(args[1], builder.mul(args[2], args[2].type(row)))
            pointer = _address(context, builder, array, args[0], place, element)
            pointer = builder.bitcast(pointer, vector.as_pointer())
            rows.append(builder.load(pointer, typ=vector, align=size_of(dtype)))
        both = ir.Constant(ir.VectorType(INT32, LANES), list(range(LANES)))
        pairs = zip(rows[:half], rows[half:], strict=True)
        vectors = [builder.shuffle_vector(low, high, both) for low, high in pairs]
        vectors = [_loaded(builder, array, vector) for vector in vectors]
        return context.make_tuple(builder, sig.return_type, vectors)

    return lanes(array, types.intp, types.intp), emit


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
            one = builder.load(pointer, typ=element, align=size_of(dtype))
            value = builder.insert_element(value, one, INT32(i))
            position = builder.add(position, args[2])
        return _loaded(builder, array, value)

    return Lanes(number_of(array))(array, types.intp, types.intp), emit


@intrinsic
def get(typingctx, array, index):
    """One element of a contiguous array."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        pointer = _address(context, builder, array, args[0], args[1], element)
        return _loaded(builder, array, builder.load(pointer, typ=element, align=size_of(dtype)))

    return number_of(array)(array, types.intp), emit


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
            number = _loaded(
                builder, array, builder.load(pointer, typ=element, align=size_of(dtype))
            )
            factor = broadcast(builder, number, lanes.count)
            results.append(multiply_add(builder, lanes.dtype, args[1], factor, total))
        return context.make_tuple(builder, sig.return_type, results)

    return sums(sums, lanes, array, places, types.intp), emit


def _store(context, builder, array, args, value):
    """Write stored bits, several, from an index on: around the caches where `array` goes there."""
    pointer = _address(context, builder, array, args[0], args[1], value.type.element)
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    size = size_of(array.dtype)
    if not isinstance(array, Results):
        builder.store(value, pointer, align=size)
        return context.get_dummy_value()
    if isinstance(value.type.element, ir.HalfType):  # LLVM does not take those around the caches
        value = builder.bitcast(value, ir.VectorType(ir.IntType(16), value.type.count))
        if "+avx512fp16" in FEATURES and value.type.count in (LANES, 2 * LANES):
            # There it undoes that, unless something stands between that it can't see through.
            same = ir.FunctionType(value.type, [value.type])
            value = builder.asm(same, "", "=v,0", [value], False)
        pointer = builder.bitcast(pointer, value.type.as_pointer())
    with builder.if_else(_far(context, builder, array, args[0])) as (far, near):
        with far:
            written = builder.store(value, pointer, align=16)
            written.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))
        with near:
            builder.store(value, pointer, align=size)
    return context.get_dummy_value()


@intrinsic
def store(typingctx, array, index, lanes):
    """Write eight consecutive elements of a contiguous array, rounding to its dtype."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        value = _narrow(context, builder, dtype, args[2], lanes.dtype)
        return _store(context, builder, array, args, value)

    return types.void(array, types.intp, lanes), emit


@lane
def store_some(array, index, count, lanes):
    """Write the first `count` lanes; touch nothing beyond them."""
    for i in range(count):
        put(array, index + i, extract(lanes, i))


@lane
def load_up_to(array, index, count):
    """Eight consecutive elements, or those that there are."""
    return load(array, index) if count == LANES else load_some(array, index, count)


@lane
def store_up_to(array, index, count, lanes):
    """Write eight consecutive elements, or those that there are."""
    if count == LANES:
        store(array, index, lanes)
    else:
        store_some(array, index, count, lanes)


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
def put_four(out, i, step, vectors):
    """Write four vectors, `step` apart."""
    a, b, c, d = vectors
    store(out, i, a)
    store(out, i + step, b)
    store(out, i + 2 * step, c)
    store(out, i + 3 * step, d)


@intrinsic
def put_halves(typingctx, array, index, step, vectors):
    """Write what `halves` reads."""
    dtype, half = array.dtype, LANES // 2

    def emit(context, builder, sig, args):
        element = _storage(context, dtype)
        for i, value in enumerate(cgutils.unpack_tuple(builder, args[3])):
            number = _narrow(context, builder, dtype, value, vectors.dtype.dtype)
            for row, part in zip((i, i + half), split_halves(builder, number), strict=True):
                place = builder.add(args[1], builder.mul(args[2], args[2].type(row)))
                pointer = _address(context, builder, array, args[0], place, element)
                pointer = builder.bitcast(pointer, part.type.as_pointer())
                builder.store(part, pointer, align=size_of(dtype))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vectors), emit


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
            one = builder.extract_element(value, INT32(i))
            builder.store(one, pointer, align=size_of(dtype))
            position = builder.add(position, args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), emit


@intrinsic
def put(typingctx, array, index, number):
    """Write one element, rounding to the array's dtype."""
    dtype = array.dtype

    def emit(context, builder, sig, args):
        value = _narrow(context, builder, dtype, args[2], number)
        pointer = _address(context, builder, array, args[0], args[1], value.type)
        builder.store(value, pointer, align=size_of(dtype))
        return context.get_dummy_value()

    return types.void(array, types.intp, number), emit


# ---- units of few pieces, contiguous, their number known when compiled -------------------------


def _pieces(context, builder, array, args, count):
    """Each piece of eight units of `count`: numbers i, i + count, ..."""
    units = _units(context, builder, array, args, count)
    for i in range(count):
        chosen = _chosen(builder, units, range(i, LANES * count, count))
        yield _loaded(builder, array, chosen)


def _units(context, builder, array, args, count):
    """The numbers of eight units of `count`, as they are stored."""
    element = _storage(context, array.dtype)
    vector = ir.VectorType(element, LANES * count)
    pointer = _address(context, builder, array, args[0], args[1], element)
    pointer = builder.bitcast(pointer, vector.as_pointer())
    return builder.load(pointer, typ=vector, align=size_of(array.dtype))


def _chosen(builder, vector, places):
    """The numbers at some places of a vector."""
    mask = ir.Constant(ir.VectorType(INT32, len(places)), list(places))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _by_lanes(pairs, size):
    """Pairs of numbers in the order in which AVX2 takes them from two registers: by 16 bytes."""
    some = 8 // size
    if size < 4:
        return list(range(pairs))
    lanes = [first + lane * some for first in range(0, pairs, 4 * some) for lane in (0, 2, 1, 3)]
    return [pair for lane in lanes for pair in range(lane, lane + some)]


@intrinsic
def apart(typingctx, array, index, pieces):
    """The pieces of eight units, a vector of each; as many as the tuple `pieces` is long."""
    count = len(pieces)
    lanes = types.UniTuple(Lanes(number_of(array)), count)

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
        while len(parts) & (len(parts) - 1):
            parts.append(ir.Constant(parts[0].type, ir.Undefined))
        while len(parts) > 1:  # one behind the other, then in turn
            width = 2 * parts[0].type.count
            both = ir.Constant(ir.VectorType(INT32, width), list(range(width)))
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [builder.shuffle_vector(low, high, both) for low, high in pairs]
        places = [i * LANES + unit for unit in range(LANES) for i in range(count)]
        mask = ir.Constant(ir.VectorType(INT32, LANES * count), places)
        value = builder.shuffle_vector(parts[0], ir.Constant(parts[0].type, ir.Undefined), mask)
        return _store(context, builder, array, args, value)

    return types.void(array, types.intp, vectors), emit


@intrinsic
def largest_pieces(typingctx, array, index, pieces):
    """The largest of each of eight units; `pieces` is a tuple of their number.

    While that is even, of each two neighbours, all of them at once: that takes fewer shuffles.
    """
    lanes = Lanes(number_of(array))

    def emit(context, builder, sig, args):
        def larger(old, new):
            return builder.select(replaces(builder, lanes, new, old), new, old)

        count, stored = len(pieces), True
        best, places = _units(context, builder, array, args, count), list(range(LANES * count))
        while stored or count > 1:
            team = 2 if count % 2 == 0 else count
            count //= team
            teams = [places[i : i + team] for i in range(0, len(places), team)]
            order = list(range(len(teams)))
            if stored and count > 1:
                order = _by_lanes(len(teams), size_of(array.dtype))
            parts = [_chosen(builder, best, [teams[k][i] for k in order]) for i in range(team)]
            if stored:
                parts = [_loaded(builder, array, part) for part in parts]
            best, stored = functools.reduce(larger, parts), False
            places = [order.index(k) for k in range(len(teams))]
        return best

    return lanes(array, types.intp, pieces), emit


@intrinsic
def winners(typingctx, array, index, pieces):
    """The largest of each of eight units and its index; `pieces` is a tuple of their number."""
    values, indices = Lanes(number_of(array)), Lanes(types.int32)

    def emit(context, builder, sig, args):
        best, *rest = _pieces(context, builder, array, args, len(pieces))
        winner = broadcast(builder, INT32(0), LANES)
        for i, new in enumerate(rest, 1):
            wins = replaces(builder, values, new, best)
            best = builder.select(wins, new, best)
            winner = builder.select(wins, broadcast(builder, INT32(i), LANES), winner)
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
            mask = ir.Constant(ir.VectorType(INT32, LANES * count), places)
            return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

        winner = repeated(args[4])
        places = ir.Constant(winner.type, list(range(count)) * LANES)
        wide = repeated(number)
        zero = broadcast(builder, zero_of(wide.type.element), LANES * count)
        value = builder.select(builder.icmp_signed("==", winner, places), wide, zero)
        return _store(context, builder, array, args, value)

    return types.void(array, types.intp, pieces, lanes, indices), emit


# ---- whole lines around the caches ------------------------------------------------------------


@intrinsic
def line_of(typingctx, array):
    """How many elements a line of the caches has."""
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(
        types.intp, LINE // size_of(array.dtype)
    )


@intrinsic
def _copy_line(typingctx, array, index, page, place):
    """A line of elements from a page to an array: around the caches if it is a result."""
    around = isinstance(array, Results)

    def emit(context, builder, sig, args):
        line, pointers = ir.VectorType(INT32, LINE // 4), []
        for kind, held, i in ((array, args[0], args[1]), (page, args[2], args[3])):
            element = _storage(context, kind.dtype)
            pointer = _address(context, builder, kind, held, i, element)
            pointers.append(builder.bitcast(pointer, line.as_pointer()))
        value = builder.load(pointers[1], typ=line, align=1)
        written = builder.store(value, pointers[0], align=LINE if around else 1)
        if around:
            written.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, page, types.intp), emit


@lane
def way_to(out, near, page, first):
    """Where results from `first` on are written: in a page that is poured, or where they belong."""
    if out.far:
        return page, line_of(out)
    return near, first


@lane
def pour(page, out, first, size, begin):
    """Write `size` elements from `first` on, which a page has behind its first line.

    They go around the caches in whole lines. What is left of the last one moves to the end of the
    page's first, and is written with what comes next, or by `pour_rest`. Of the line in which a
    thread's results `begin`, which another thread's end in, they are written as usual.
    """
    line = line_of(out)
    past = (past_line(out) + first) & (line - 1)
    done = 0
    if first - past < begin:
        for i in range(min(line - past, size)):
            put(out, first + i, get(page, line + i))
        done = line
    for i in range(done, past + size - line + 1, line):
        _copy_line(out, first - past + i, page, line - past + i)
    _copy_line(page, 0, page, size)


@lane
def pour_rest(page, out, begin, end):
    """Write what `pour` left."""
    line = line_of(out)
    left = (past_line(out) + end) & (line - 1)
    for i in range(max(end - left, begin), end):
        put(out, i, get(page, line - end + i))


# ---- ahead of time ----------------------------------------------------------------------------


def _fetch(context, builder, array, args, write, further=0):
    element = _storage(context, array.dtype)
    pointer = _address(context, builder, array, args[0], args[1], element)
    pointer = builder.bitcast(pointer, cgutils.voidptr_t)
    pointer = builder.gep(pointer, [INT32(further)])
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, INT32, INT32, INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, INT32(write), INT32(3), INT32(1)])
    return context.get_dummy_value()


@intrinsic
def fetch(typingctx, array, index):
    """Ask for the cache line of an element that will soon be read; it need not exist."""

    def emit(context, builder, sig, args):
        return _fetch(context, builder, array, args, 0)

    return types.void(array, types.intp), emit


@intrinsic
def _fetch_further(typingctx, array, index):
    def emit(context, builder, sig, args):
        return _fetch(context, builder, array, args, 0, AHEAD)

    return types.void(array, types.intp), emit


@lane
def fetch_ahead(x, first, count):
    """Ask for the cache lines of `count` elements, `AHEAD` bytes beyond those from `first` on."""
    for i in range(first, first + count, line_of(x)):
        _fetch_further(x, i)


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
        width = args[1].type(size_of(number))
        bytes_ = builder.mul(args[1], width)
        align = ir.Constant(INT32, 64)
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
    single = number_of(array) == types.float32
    kind, emit = _allocate(typingctx, types.float32 if single else types.float64, size)
    return kind(array, types.intp), emit


@intrinsic
def memory(typingctx, array, size):
    """Uninitialised memory for `size` numbers of the type that `array`'s are held as in lanes."""
    kind, emit = _allocate(typingctx, number_of(array), size)
    return kind(array, types.intp), emit


@intrinsic
def page_for(typingctx, array, size, needed):
    """A line and `size` elements of an array's dtype, which `pour` takes; none if not needed."""
    kind, allocate = _allocate(typingctx, array.dtype, size)

    def emit(context, builder, sig, args):
        page = cgutils.alloca_once(builder, context.get_value_type(kind), zfill=True)
        with builder.if_then(args[2]):
            elements = builder.add(args[1], args[1].type(LINE // size_of(array.dtype)))
            builder.store(allocate(context, builder, sig, (None, elements)), page)
        return builder.load(page)

    return kind(array, types.intp, types.boolean), emit


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
