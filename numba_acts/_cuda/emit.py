"""What intrinsics are made of, where they are compiled and not simulated."""

from llvmlite import ir
from numba.cuda import types
from numba.cuda.core import config

SIMULATED = bool(config.ENABLE_CUDASIM)
I8, I16, I32, I64 = map(ir.IntType, (8, 16, 32, 64))
VOID = ir.VoidType()
GLOBAL, SHARED = 1, 3  # address spaces
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()

if not SIMULATED:
    from numba.cuda import cgutils


def size_of(kind):
    if kind == types.boolean:
        return 1
    return 2 if kind in (types.float16, types.bfloat16) else kind.bitwidth // 8


def element_type(kind):
    if kind == types.float16:
        return ir.HalfType()
    if kind in (types.bfloat16, types.boolean):
        return I16 if kind == types.bfloat16 else I8
    return {types.float32: FLOAT, types.float64: DOUBLE}.get(kind) or ir.IntType(kind.bitwidth)


def register(context, builder, array, value, index):
    data = context.make_array(array)(context, builder, value).data
    return builder.gep(data, [index], source_etype=data.type.pointee)


def numbers_of(builder, vector):
    return [builder.extract_element(vector, I32(i)) for i in range(vector.type.count)]


def vector_of(builder, values):
    vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        vector = builder.insert_element(vector, value, I32(i))
    return vector


def assembly(builder, result, code, constraints, *operands, effect=False, together=False):
    """Assembly in a kernel; LLVM leaves where it is what threads do `together`."""
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    code = ir.InlineAsm(kind, code, constraints, side_effect=effect)
    return builder.call(code, list(operands), attrs=("convergent",) if together else ())


def call_llvm(builder, name, *args):
    kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def suffix(kind):
    return "f" if kind == types.float32 else "d"
