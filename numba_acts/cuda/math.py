"""What a thread does with memory and numbers: every intrinsic of this wing.

Kernels take typed addresses instead of arrays, one parameter each, so that an access is as wide as
it is written. A thread keeps its numbers in a small local array that the compiler holds in
registers; for that, every place in it must be known when it compiles. How many numbers an intrinsic
handles is the length of a tuple, as in the CPU wing. Sixteen-bit floats are widened to float32 by
`load` and rounded once, to nearest even, by `store`.

The compiler may contract a product and a sum to one operation, or not, as it sees fit in each
kernel. Where bits must not depend on that, products that are added are made by `times`.

Each intrinsic has a stand-in in plain Python for Numba's simulator, which also checks what a GPU
would not forgive: a place out of bounds, an access out of alignment or too wide.
"""

import functools
import threading
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.core import config

SIMULATED = bool(config.ENABLE_CUDASIM)
WARP = 32
WIDE_BYTES = 16  # the widest access of a thread

# The types of stored elements that have other names in Numba; bits of bfloat16 are one field.
_STORED = {"bool": "boolean", "void16": "bfloat16"}
_LOG2E = Fraction("1.442695040888963407359924681001892137427")
# mantissa bits, bias, the power by which 2^n is raised to be normal, the smallest n and |beta|
_FORMAT = {
    "float32": (23, 127, 64, -190, 1e-36),
    "float64": (52, 1023, 128, -1150, 1e-305),
}
# 2^r for |r| <= 1/2 in float64: the coefficients of r, r², ...
_TWO_TO_R = (
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
)


def stored(dtype):
    """The Numba type of an array's elements."""
    return getattr(types, _STORED.get(dtype.name, dtype.name))


def computed(dtype):
    """The dtype that numbers are computed in: float32 for floats below it, else float64."""
    small = dtype.itemsize == 2 and dtype.kind in "fV" or dtype == np.float32
    return np.float32 if small else np.float64


def held(dtype):
    """The dtype of a thread's copy of numbers that are compared and moved: 32 bits at least."""
    if dtype.kind in "biu" and dtype.itemsize < 4:
        return np.int32
    return np.float32 if dtype.kind in "fV" and dtype.itemsize == 2 else dtype.type


@functools.lru_cache(1 << 10)
def exponent_law(beta, dtype):
    """What `raised_exp` needs to know of beta: its sign, |beta|·log2(e) in two parts, the floor.

    The shifted argument ``sign*x - max(sign*x)`` is exact or rounded once, so that the error of an
    exponential grows with the distance from the maximum and not with the size of x. The factor has
    two parts, since the error of one would be the same in all terms of a sum; it is held within the
    range of the dtype. Below the floor a weight is 0.
    """
    *_, smallest, least = _FORMAT[dtype.__name__]
    size = min(max(abs(beta), least), float(np.finfo(dtype).max) / 4)
    product = Fraction(size) * _LOG2E
    high = float(dtype(product))
    return float(np.sign(beta)), high, float(dtype(product - Fraction(high))), smallest / high


def factor(beta, dtype):
    """beta, held within the range of the dtype."""
    largest = float(np.finfo(dtype).max)
    return min(max(beta, -largest), largest)


if SIMULATED:

    def lane(function):
        """A function of a thread, to be called from kernels."""
        return function

    class Address:
        """An array's memory, flat, as a kernel sees it."""

        def __init__(self, pointer, dtype, size):
            interface = {
                "data": (pointer or 8, False),
                "shape": (size,),
                "typestr": f"|V{dtype.itemsize}" if dtype.kind == "V" else dtype.str,
                "version": 3,
            }
            self.array = np.asarray(SimpleNamespace(__array_interface__=interface)).view(dtype)
            self.dtype = dtype

        def at(self, i, count=1):
            if not 0 <= i <= self.array.size - count:
                raise IndexError(f"{count} from {i} on, of {self.array.size}")
            size = count * self.dtype.itemsize
            if size > WIDE_BYTES or (self.array.ctypes.data + i * self.dtype.itemsize) % size:
                raise RuntimeError(f"{count} numbers from {i} on are too wide or not aligned")
            return i

    def _shared(x):
        """Shared memory is a NumPy array here; its places are checked as those of addresses are."""
        return Address(x.ctypes.data, x.dtype, x.size) if isinstance(x, np.ndarray) else x

    def load(x, i, registers, at, numbers):
        x = _shared(x)
        i = x.at(int(i), len(numbers))
        bits = x.array[i : i + len(numbers)]
        if x.dtype.kind == "V":
            bits = (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        registers[at : at + len(numbers)] = bits

    def store(out, i, registers, at, numbers):
        out = _shared(out)
        i = out.at(int(i), len(numbers))
        values = registers[at : at + len(numbers)]
        if out.dtype.kind == "V":
            bits = values.astype(np.float32).view(np.uint32)
            rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
            values = np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)
            values = values.view(out.dtype)
        out.array[i : i + len(numbers)] = values

    store_once = store

    def get(x, i):
        number = np.empty(1, held(x.dtype))
        load(x, i, number, 0, (0,))
        return number[0]

    def put(out, i, number):
        store(out, i, np.array([number]), 0, (0,))

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

    def raised_exp(w, law):
        kind = type(w)
        wide = np.longdouble if kind is np.float64 else np.float64
        w = wide(law[3] if w < law[3] else w)
        n = np.rint(w * law[1])
        rest = kind(w * law[2] + kind(w * law[1] - n))
        power = wide(kind(np.exp2(wide(rest))))
        return kind(power * wide(2.0) ** (n + _FORMAT[kind.__name__][2]))

    def lowered(number):
        kind = type(number)
        return number * kind(2.0 ** -_FORMAT[kind.__name__][2])

    def like(x, number):
        return computed(x.dtype)(number)

    def afresh(number, after):
        return number

    def wins(new, old):
        return new > old or (new != new and old == old)

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
    from numba.cuda import cgutils
    from numba.cuda.extending import intrinsic

    lane = cuda.jit(device=True, forceinline=True)
    _I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
    _FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
    _GLOBAL = 1  # the address space

    def _size(kind):
        if kind == types.boolean:
            return 1
        return 2 if kind in (types.float16, types.bfloat16) else kind.bitwidth // 8

    def _element(kind):
        if kind == types.float16:
            return ir.HalfType()
        if kind in (types.bfloat16, types.boolean):
            return _I16 if kind == types.bfloat16 else _I8
        return {types.float32: _FLOAT, types.float64: _DOUBLE}.get(kind) or ir.IntType(
            kind.bitwidth
        )

    def _address(context, builder, memory, value, index, wanted):
        """The place of an element in global or shared memory, as one of the type wanted there."""
        kind = memory.dtype
        if isinstance(memory, types.Array):
            place = _registers(context, builder, memory, value, index)
            return builder.bitcast(place, wanted.as_pointer())
        base = builder.bitcast(value, _element(kind).as_pointer())
        place = builder.gep(base, [index], source_etype=_element(kind))
        return builder.addrspacecast(
            builder.bitcast(place, wanted.as_pointer()), wanted.as_pointer(_GLOBAL)
        )

    def _words(count, kind):
        """The type of memory access that takes several elements at once."""
        size = count * _size(kind)
        if size <= 4:
            return ir.IntType(8 * size)
        return ir.VectorType(_I32, size // 4)

    def _in_words(kind, count):
        """Are several elements in each word, which LLVM must not load one by one?"""
        narrow = _size(kind) < 4 and kind != types.float16
        return narrow and count * _size(kind) >= 4

    def _split(builder, words, count, kind):
        """The elements in what was loaded."""
        element = _element(kind)
        if count == 1:
            return [builder.bitcast(words, element)]
        if _in_words(kind, count):
            each = [words] if words.type == _I32 else _lanes(builder, words)
            shifts = [_I32(bits) for bits in range(0, 32, element.width)]
            parts = [builder.lshr(word, shift) for word in each for shift in shifts]
            return [builder.trunc(part, element) for part in parts]
        return _lanes(builder, builder.bitcast(words, ir.VectorType(element, count)))

    def _lanes(builder, vector):
        return [builder.extract_element(vector, _I32(i)) for i in range(vector.type.count)]

    def _vector(builder, values):
        vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
        for i, value in enumerate(values):
            vector = builder.insert_element(vector, value, _I32(i))
        return vector

    def _join(builder, elements, kind):
        words = _words(len(elements), kind)
        if len(elements) == 1:
            return builder.bitcast(elements[0], words)
        if _in_words(kind, len(elements)):
            width = _element(kind).width
            each = []
            for i in range(0, len(elements), 32 // width):
                word = _I32(0)
                for j, part in enumerate(elements[i : i + 32 // width]):
                    shifted = builder.shl(builder.zext(part, _I32), _I32(j * width))
                    word = builder.or_(word, shifted)
                each.append(word)
            return each[0] if len(each) == 1 else _vector(builder, each)
        return builder.bitcast(_vector(builder, elements), words)

    def _held(kind):
        if kind == types.boolean or isinstance(kind, types.Integer) and kind.bitwidth < 32:
            return types.int32
        return types.float32 if kind in (types.float16, types.bfloat16) else kind

    def _converted(builder, value, kind, wanted):
        """A number of one plain type as one of another."""
        target = _element(wanted)
        if kind == wanted:
            return value
        if isinstance(wanted, types.Float):
            if isinstance(kind, types.Float):
                wider = wanted.bitwidth > kind.bitwidth
                return (builder.fpext if wider else builder.fptrunc)(value, target)
            return (builder.sitofp if kind.signed else builder.uitofp)(value, target)
        if isinstance(kind, types.Float):
            return (builder.fptosi if wanted.signed else builder.fptoui)(value, target)
        if wanted.bitwidth < kind.bitwidth:
            return builder.trunc(value, target)
        return (builder.sext if kind.signed else builder.zext)(value, target)

    def _widened(builder, value, kind, wanted):
        """A stored element as a number of the type that is wanted; any byte but 0 is true."""
        if kind == types.boolean:
            value, kind = builder.zext(builder.icmp_unsigned("!=", value, _I8(0)), _I8), types.uint8
        elif kind == types.float16:
            value, kind = builder.fpext(value, _FLOAT), types.float32
        elif kind == types.bfloat16:
            value = builder.shl(builder.zext(value, _I32), _I32(16))
            value, kind = builder.bitcast(value, _FLOAT), types.float32
        return _converted(builder, value, kind, wanted)

    def _narrowed(builder, value, kind, wanted):
        """A number as an element to be stored."""
        if wanted == types.boolean:
            wanted = types.uint8
        if wanted not in (types.float16, types.bfloat16):
            return _converted(builder, value, kind, wanted)
        value = _converted(builder, value, kind, types.float32)
        if wanted == types.float16:
            return builder.fptrunc(value, ir.HalfType())
        return _asm(builder, _I16, "cvt.rn.bf16.f32 $0, $1;", "=h,f", value)

    def _asm(builder, result, code, constraints, *operands, effect=False):
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        return builder.asm(kind, code, constraints, list(operands), side_effect=effect)

    def _registers(context, builder, array, value, index):
        data = context.make_array(array)(context, builder, value).data
        return builder.gep(data, [index], source_etype=data.type.pointee)

    @intrinsic
    def load(typingctx, x, i, registers, at, numbers):
        """registers[at:] = x[i:], as many as the tuple `numbers` is long, in one access.

        x is an address or an array in shared memory, here and in `store`.
        """
        kind, count = x.dtype, len(numbers)

        def emit(context, builder, sig, args):
            words = _words(count, kind)
            place = _address(context, builder, x, args[0], args[1], words)
            value = builder.load(place, typ=words, align=count * _size(kind))
            for j, element in enumerate(_split(builder, value, count, kind)):
                number = _widened(builder, element, kind, registers.dtype)
                here = builder.add(args[3], args[3].type(j))
                builder.store(number, _registers(context, builder, registers, args[2], here))
            return context.get_dummy_value()

        return types.void(x, types.int64, registers, types.int64, numbers), emit

    def _store(once):
        def typing(typingctx, out, i, registers, at, numbers):
            """out[i:] = registers[at:], rounded, in one access."""
            kind, count = out.dtype, len(numbers)

            def emit(context, builder, sig, args):
                elements = []
                for j in range(count):
                    here = builder.add(args[3], args[3].type(j))
                    number = builder.load(_registers(context, builder, registers, args[2], here))
                    elements.append(_narrowed(builder, number, registers.dtype, kind))
                value = _join(builder, elements, kind)
                place = _address(context, builder, out, args[0], args[1], value.type)
                write = builder.store(value, place, align=count * _size(kind))
                if once:
                    node = builder.module.add_metadata([_I32(1)])
                    write.set_metadata("nontemporal", node)
                return context.get_dummy_value()

            return types.void(out, types.int64, registers, types.int64, numbers), emit

        return typing

    store = intrinsic(_store(False))
    store_once = intrinsic(
        _store(True)
    )  # of what nobody will read soon: it need not stay in a cache

    @intrinsic
    def get(typingctx, x, i):
        """One element."""
        kind, wanted = x.dtype, _held(x.dtype)

        def emit(context, builder, sig, args):
            place = _address(context, builder, x, args[0], args[1], _element(kind))
            value = builder.load(place, typ=_element(kind), align=_size(kind))
            return _widened(builder, value, kind, wanted)

        return wanted(x, types.int64), emit

    @intrinsic
    def put(typingctx, out, i, number):
        """Write one element, rounded."""
        kind = out.dtype

        def emit(context, builder, sig, args):
            value = _narrowed(builder, args[2], number, kind)
            place = _address(context, builder, out, args[0], args[1], value.type)
            builder.store(value, place, align=_size(kind))
            return context.get_dummy_value()

        return types.void(out, types.int64, number), emit

    @intrinsic
    def pairs(typingctx, registers, at, stride, numbers):
        """The sum of registers[at], registers[at + stride], ..., in pairs, neighbours first."""

        def emit(context, builder, sig, args):
            add = builder.fadd if isinstance(registers.dtype, types.Float) else builder.add
            values = []
            for j in range(len(numbers)):
                here = builder.add(args[1], builder.mul(args[2], args[2].type(j)))
                values.append(builder.load(_registers(context, builder, registers, args[0], here)))
            while len(values) > 1:
                rest = values[len(values) & ~1 :]
                values = [add(a, b) for a, b in zip(values[::2], values[1::2], strict=False)] + rest
            return values[0]

        return registers.dtype(registers, types.int64, types.int64, numbers), emit

    def _call(builder, name, *args):
        kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    def _negative(builder, number):
        return builder.fsub(number.type(-0.0), number)

    def _suffix(kind):
        return "f" if kind == types.float32 else "d"

    @intrinsic
    def maximum(typingctx, a, b):
        """The larger; a NaN beside a number is passed over."""

        def emit(context, builder, sig, args):
            return _call(builder, f"llvm.maxnum.f{a.bitwidth}", *args)

        return a(a, a), emit

    @intrinsic
    def times(typingctx, a, b):
        """a·b, rounded, whatever it is added to."""

        def emit(context, builder, sig, args):
            return _call(builder, f"llvm.nvvm.mul.rn.{_suffix(a)}", *args)

        return a(a, a), emit

    def _at_least(builder, number, floor):
        """The number, or the floor if it is less; a NaN stays."""
        if number.type == _FLOAT:
            return _asm(builder, _FLOAT, "max.NaN.f32 $0, $1, $2;", "=f,f,f", number, floor)
        return builder.select(builder.fcmp_ordered("<", number, floor), floor, number)

    def _two_to(builder, r):
        """2^r for |r| <= 1/2."""
        if r.type == _FLOAT:
            return _asm(builder, _FLOAT, "ex2.approx.ftz.f32 $0, $1;", "=f,f", r)
        *lower, value = map(_DOUBLE, (1.0, *_TWO_TO_R))
        for coefficient in reversed(lower):
            value = _call(builder, "llvm.fma.f64", value, r, coefficient)
        return value

    @intrinsic
    def raised_exp(typingctx, w, law):
        """exp(|beta|·w) for w <= 0, times a power of two that keeps it normal; a NaN passes.

        In a quotient of such numbers the power cancels, and a subnormal result is rounded once.
        The argument of 2^ is split, exactly, into a whole number and the rest: rounded as one, it
        would be off by the same for all equal numbers of a slice, and so would their sum.
        """
        mantissa, bias, power, *_ = _FORMAT[w.name]
        integer = ir.IntType(w.bitwidth)

        def emit(context, builder, sig, args):
            _, high, low, floor = cgutils.unpack_tuple(builder, args[1])
            # added to a number, it leaves the exponent of 2^(number + power) in the low bits
            magic = floor.type(1.5 * 2.0**mantissa + bias + power)
            fma = functools.partial(_call, builder, f"llvm.fma.f{w.bitwidth}")
            number = _at_least(builder, args[0], floor)
            shifted = fma(number, high, magic)
            whole = builder.fsub(shifted, magic)
            rest = fma(number, high, _negative(builder, whole))
            exponent = builder.shl(builder.bitcast(shifted, integer), integer(mantissa))
            exponent = builder.bitcast(exponent, floor.type)
            fraction = _two_to(builder, fma(number, low, rest))
            return _call(builder, f"llvm.nvvm.mul.rn.{_suffix(w)}", fraction, exponent)

        return w(w, law), emit

    @intrinsic
    def lowered(typingctx, number):
        """What `raised_exp` raised, at its true size."""
        factor = 2.0 ** -_FORMAT[number.name][2]

        def emit(context, builder, sig, args):
            return builder.fmul(args[0], args[0].type(factor))

        return number(number), emit

    @intrinsic
    def like(typingctx, x, number):
        """A number of the type that the elements at an address are computed in."""
        small = _held(x.dtype) == types.float32
        wanted = types.float32 if small else types.float64

        def emit(context, builder, sig, args):
            return context.cast(builder, args[1], number, wanted)

        return wanted(x, number), emit

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
            return _asm(builder, args[0].type, "mov.b64 $0, $1;", constraint, *args, effect=True)

        return types.int64(types.int64, after), emit

    @intrinsic
    def exchange(typingctx, value, distance):
        """The value of the lane whose number differs by `distance`, a power of two."""

        def emit(context, builder, sig, args):
            step = builder.trunc(args[1], _I32)

            def one(word):
                code = "shfl.sync.bfly.b32 $0, $1, $2, 31, -1;"
                return _asm(builder, _I32, code, "=r,r,r", word, step, effect=True)

            if value.bitwidth == 32:
                return builder.bitcast(one(builder.bitcast(args[0], _I32)), args[0].type)
            words = ir.VectorType(_I32, 2)
            halves = _lanes(builder, builder.bitcast(args[0], words))
            return builder.bitcast(_vector(builder, [one(h) for h in halves]), args[0].type)

        return value(value, types.int64), emit
