"""How a thread reads and writes memory: accesses as wide as they are written.

Kernels take typed addresses instead of arrays, one parameter each. Sixteen-bit floats are widened
to float32 by `load` and rounded once, to nearest even, by `store`.

In Numba's simulator each access is checked for what a GPU would not forgive: a place out of bounds,
an access out of alignment or too wide.
"""

from types import SimpleNamespace

import numpy as np
from llvmlite import ir
from numba.cuda import types

from numba_acts._cuda.emit import (
    FLOAT,
    GLOBAL,
    I8,
    I16,
    I32,
    I64,
    SHARED,
    SIMULATED,
    VOID,
    assembly,
    element_type,
    numbers_of,
    register,
    size_of,
    vector_of,
)

WIDE_BYTES = 16  # the widest access of a thread

# The types of stored elements that have other names in Numba; bits of bfloat16 are one field.
_STORED = {"bool": "boolean", "void16": "bfloat16"}


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


if SIMULATED:

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

    def window(tile, at):
        return tile[at:]

    def fetch(x, i, place, at, numbers):
        size = len(numbers) * x.dtype.itemsize
        if x.dtype != place.dtype or size not in (4, 8, 16):
            raise TypeError(f"{size} bytes of {x.dtype} are fetched to {place.dtype}")
        registers = np.empty(len(numbers), held(x.dtype))
        load(x, i, registers, 0, numbers)
        store(place, at, registers, 0, numbers)

    def fetched():
        pass

    def get(x, i):
        number = np.empty(1, held(x.dtype))
        load(x, i, number, 0, (0,))
        return number[0]

    def put(out, i, number):
        store(out, i, np.array([number]), 0, (0,))

    def like(x, number):
        return computed(x.dtype)(number)

else:
    from numba.cuda.extending import intrinsic

    def _address(context, builder, memory, value, index, wanted):
        """The place of an element in global or shared memory, as one of the type wanted there."""
        kind = memory.dtype
        if isinstance(memory, types.Array):
            place = register(context, builder, memory, value, index)
            return builder.bitcast(place, wanted.as_pointer())
        base = builder.bitcast(value, element_type(kind).as_pointer())
        place = builder.gep(base, [index], source_etype=element_type(kind))
        return builder.addrspacecast(
            builder.bitcast(place, wanted.as_pointer()), wanted.as_pointer(GLOBAL)
        )

    def _words(count, kind):
        """The type of memory access that takes several elements at once."""
        size = count * size_of(kind)
        if size <= 4:
            return ir.IntType(8 * size)
        return ir.VectorType(I32, size // 4)

    def _in_words(kind, count):
        """Are several elements in each word, which LLVM must not load one by one?"""
        narrow = size_of(kind) < 4 and kind != types.float16
        return narrow and count * size_of(kind) >= 4

    def _split(builder, words, count, kind):
        """The elements in what was loaded."""
        element = element_type(kind)
        if count == 1:
            return [builder.bitcast(words, element)]
        if _in_words(kind, count):
            each = [words] if words.type == I32 else numbers_of(builder, words)
            shifts = [I32(bits) for bits in range(0, 32, element.width)]
            parts = [builder.lshr(word, shift) for word in each for shift in shifts]
            return [builder.trunc(part, element) for part in parts]
        return numbers_of(builder, builder.bitcast(words, ir.VectorType(element, count)))

    def _join(builder, elements, kind):
        words = _words(len(elements), kind)
        if len(elements) == 1:
            return builder.bitcast(elements[0], words)
        if _in_words(kind, len(elements)):
            width = element_type(kind).width
            each = []
            for i in range(0, len(elements), 32 // width):
                word = I32(0)
                for j, part in enumerate(elements[i : i + 32 // width]):
                    shifted = builder.shl(builder.zext(part, I32), I32(j * width))
                    word = builder.or_(word, shifted)
                each.append(word)
            return each[0] if len(each) == 1 else vector_of(builder, each)
        return builder.bitcast(vector_of(builder, elements), words)

    def register_type(kind):
        if kind == types.boolean or isinstance(kind, types.Integer) and kind.bitwidth < 32:
            return types.int32
        return types.float32 if kind in (types.float16, types.bfloat16) else kind

    def _converted(builder, value, kind, wanted):
        """A number of one plain type as one of another."""
        target = element_type(wanted)
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
            value, kind = builder.zext(builder.icmp_unsigned("!=", value, I8(0)), I8), types.uint8
        elif kind == types.float16:
            value, kind = builder.fpext(value, FLOAT), types.float32
        elif kind == types.bfloat16:
            value = builder.shl(builder.zext(value, I32), I32(16))
            value, kind = builder.bitcast(value, FLOAT), types.float32
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
        return assembly(builder, I16, "cvt.rn.bf16.f32 $0, $1;", "=h,f", value)

    @intrinsic
    def load(typingctx, x, i, registers, at, numbers):
        """registers[at:] = x[i:], as many as the tuple `numbers` is long, in one access.

        x is an address or an array in shared memory, here and in `store`.
        """
        kind, count = x.dtype, len(numbers)

        def emit(context, builder, sig, args):
            words = _words(count, kind)
            place = _address(context, builder, x, args[0], args[1], words)
            value = builder.load(place, typ=words, align=count * size_of(kind))
            for j, element in enumerate(_split(builder, value, count, kind)):
                number = _widened(builder, element, kind, registers.dtype)
                here = builder.add(args[3], args[3].type(j))
                builder.store(number, register(context, builder, registers, args[2], here))
            return context.get_dummy_value()

        return types.void(x, types.int64, registers, types.int64, numbers), emit

    def _stream(builder, value, place):
        """A store that asks for no place in caches, which LLVM has no lasting way to say."""
        words = numbers_of(builder, value) if isinstance(value.type, ir.VectorType) else [value]
        width, many = words[0].type.width, len(words)
        names = ", ".join(f"${j + 1}" for j in range(many))
        code = f"st.global.cs.b{width} [$0], {names};"
        if many > 1:
            code = f"st.global.cs.v{many}.b{width} [$0], {{{names}}};"
        if width == 8:
            words = [builder.zext(words[0], I16)]
        constraints = ",".join(["l", *(["r" if width == 32 else "h"] * many), "~{memory}"])
        address = builder.ptrtoint(place, I64)
        assembly(builder, VOID, code, constraints, address, *words, effect=True)

    def _store(once):
        def typing(typingctx, out, i, registers, at, numbers):
            """out[i:] = registers[at:], rounded, in one access."""
            kind, count = out.dtype, len(numbers)

            def emit(context, builder, sig, args):
                elements = []
                for j in range(count):
                    here = builder.add(args[3], args[3].type(j))
                    number = builder.load(register(context, builder, registers, args[2], here))
                    elements.append(_narrowed(builder, number, registers.dtype, kind))
                value = _join(builder, elements, kind)
                place = _address(context, builder, out, args[0], args[1], value.type)
                if once:
                    _stream(builder, value, place)
                else:
                    builder.store(value, place, align=count * size_of(kind))
                return context.get_dummy_value()

            return types.void(out, types.int64, registers, types.int64, numbers), emit

        return typing

    store = intrinsic(_store(False))
    store_once = intrinsic(_store(True))  # of what nobody will read soon, to global memory

    @intrinsic
    def window(typingctx, tile, at):
        """Where tile[at] is in a block's shared memory, in bytes."""

        def emit(context, builder, sig, args):
            place = register(context, builder, tile, *args)
            place = builder.addrspacecast(place, place.type.pointee.as_pointer(SHARED))
            return builder.ptrtoint(place, I32)

        return types.int32(tile, types.int64), emit

    @intrinsic
    def fetch(typingctx, x, i, place, at, numbers):
        """x[i:] to `at` numbers behind a place in shared memory, in the background.

        As many as the tuple is long, of 4, 8 or 16 bytes in all.
        """
        size, kind = len(numbers) * size_of(x.dtype), element_type(x.dtype)

        def emit(context, builder, sig, args):
            source = builder.bitcast(args[0], kind.as_pointer())
            source = builder.gep(source, [args[1]], source_etype=kind)
            source = builder.ptrtoint(source, I64)
            behind = builder.mul(builder.trunc(args[3], I32), I32(size_of(x.dtype)))
            code = (
                f"cp.async.{'cg' if size == WIDE_BYTES else 'ca'}.shared.global [$0], [$1], {size};"
            )
            operands = builder.add(args[2], behind), source
            assembly(builder, VOID, code, "r,l,~{memory}", *operands, effect=True)
            return context.get_dummy_value()

        return types.void(x, types.int64, types.int32, types.int64, numbers), emit

    @intrinsic
    def fetched(typingctx):
        """Wait for what this thread fetched."""

        def emit(context, builder, sig, args):
            assembly(builder, VOID, "cp.async.wait_all;", "~{memory}", effect=True)
            return context.get_dummy_value()

        return types.void(), emit

    @intrinsic
    def get(typingctx, x, i):
        """One element."""
        kind, wanted = x.dtype, register_type(x.dtype)

        def emit(context, builder, sig, args):
            place = _address(context, builder, x, args[0], args[1], element_type(kind))
            value = builder.load(place, typ=element_type(kind), align=size_of(kind))
            return _widened(builder, value, kind, wanted)

        return wanted(x, types.int64), emit

    @intrinsic
    def put(typingctx, out, i, number):
        """Write one element, rounded."""
        kind = out.dtype

        def emit(context, builder, sig, args):
            value = _narrowed(builder, args[2], number, kind)
            place = _address(context, builder, out, args[0], args[1], value.type)
            builder.store(value, place, align=size_of(kind))
            return context.get_dummy_value()

        return types.void(out, types.int64, number), emit

    @intrinsic
    def like(typingctx, x, number):
        """A number of the type that the elements at an address are computed in."""
        small = register_type(x.dtype) == types.float32
        wanted = types.float32 if small else types.float64

        def emit(context, builder, sig, args):
            return context.cast(builder, args[1], number, wanted)

        return wanted(x, number), emit
