"""The exponential: exp(|β|·w) for w ≤ 0."""

import functools
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir

from numba_acts._cuda.emit import DOUBLE, FLOAT, SIMULATED, assembly, call_llvm, suffix
from numba_acts._cuda.lanes import lane

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

    def raised_exp(w, law):
        kind = type(w)
        wide = np.longdouble if kind is np.float64 else np.float64
        w = wide(law[3] if w < law[3] else w)
        n = np.rint(w * law[1])
        rest = kind(w * law[2] + kind(w * law[1] - n))
        power = wide(kind(np.exp2(wide(rest))))
        return kind(power * wide(2.0) ** (n + _FORMAT[kind.__name__][2]))

    def law_of(beta, x):
        kind: Any = np.asarray(x).dtype.type
        if kind not in (np.float32, np.float64):
            raise TypeError(f"softmax's numbers must be float32 or float64, got {kind.__name__}")
        number = float(kind(beta))
        return tuple(map(kind, (number,) * 4 if number != number else exponent_law(number, kind)))

    def factor_of(beta, x):
        return x.dtype.type(factor(float(beta), x.dtype.type))

    def alike(number, *others):
        single = any(type(one) is np.float32 for one in (number, *others))
        return (np.float32 if single else np.float64)(number)

    def _scaled(share):
        def scaled(number):
            kind = type(number)
            return number * kind(2.0 ** (share * _FORMAT[kind.__name__][2]))

        return scaled

else:
    from numba.cuda import cgutils, types
    from numba.cuda.core.errors import TypingError
    from numba.cuda.extending import intrinsic

    def _negative(builder, number):
        return builder.fsub(number.type(-0.0), number)

    def _at_least(builder, number, floor):
        """The number, or the floor if it is less; a NaN stays."""
        if number.type == FLOAT:
            return assembly(builder, FLOAT, "max.NaN.f32 $0, $1, $2;", "=f,f,f", number, floor)
        return builder.select(builder.fcmp_ordered("<", number, floor), floor, number)

    def _two_to(builder, r):
        """2^r for |r| <= 1/2."""
        if r.type == FLOAT:
            return assembly(builder, FLOAT, "ex2.approx.ftz.f32 $0, $1;", "=f,f", r)
        *lower, value = map(DOUBLE, (1.0, *_TWO_TO_R))
        for coefficient in reversed(lower):
            value = call_llvm(builder, "llvm.fma.f64", value, r, coefficient)
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
            fma = functools.partial(call_llvm, builder, f"llvm.fma.f{w.bitwidth}")
            number = _at_least(builder, args[0], floor)
            shifted = fma(number, high, magic)
            whole = builder.fsub(shifted, magic)
            rest = fma(number, high, _negative(builder, whole))
            exponent = builder.shl(builder.bitcast(shifted, integer), integer(mantissa))
            exponent = builder.bitcast(exponent, floor.type)
            fraction = _two_to(builder, fma(number, low, rest))
            return call_llvm(builder, f"llvm.nvvm.mul.rn.{suffix(w)}", fraction, exponent)

        return w(w, law), emit

    def _float_type(x):
        """The type of softmax's numbers, an array's or one by itself."""
        kind = getattr(x, "dtype", x)
        if kind not in (types.float32, types.float64):
            raise TypingError(f"softmax's numbers must be float32 or float64, got {kind}")
        return kind

    def _within(builder, number, least, most):
        """The number, held in a range; a NaN stays."""
        kind = f"f{32 if number.type == FLOAT else 64}"
        held = call_llvm(builder, f"llvm.minnum.{kind}", number, number.type(most))
        held = call_llvm(builder, f"llvm.maxnum.{kind}", held, number.type(least))
        return builder.select(builder.fcmp_ordered("ord", number, number), held, number)

    @intrinsic
    def law_of(typingctx, beta, x):
        """`exponent_law` of a beta that is known when a kernel runs, in the type of x's numbers."""
        kind = _float_type(x)
        *_, smallest, least = _FORMAT[kind.name]
        log2e = exponent_law(1.0, getattr(np, kind.name))[1:3]
        most = float(np.finfo(kind.name).max) / 4

        def emit(context, builder, sig, args):
            beta = context.cast(builder, args[0], sig.args[0], kind)
            number, zero = beta.type, beta.type(0.0)
            fma = functools.partial(call_llvm, builder, f"llvm.fma.f{kind.bitwidth}")
            sign = builder.select(builder.fcmp_ordered("<", beta, zero), number(-1.0), number(1.0))
            sign = builder.select(builder.fcmp_ordered("==", beta, zero), zero, sign)
            size = _within(builder, builder.fmul(beta, sign), least, most)
            high = call_llvm(builder, f"llvm.nvvm.mul.rn.{suffix(kind)}", size, number(log2e[0]))
            low = fma(size, number(log2e[0]), _negative(builder, high))
            low = fma(size, number(log2e[1]), low)
            floor = builder.fdiv(number(smallest), high)
            return context.make_tuple(builder, sig.return_type, [sign, high, low, floor])

        return types.UniTuple(kind, 4)(beta, x), emit

    @intrinsic
    def factor_of(typingctx, beta, x):
        """`factor` of such a beta."""
        kind = _float_type(x)
        most = float(np.finfo(kind.name).max)

        def emit(context, builder, sig, args):
            return _within(builder, context.cast(builder, args[0], beta, kind), -most, most)

        return kind(beta, x), emit

    @intrinsic
    def alike(typingctx, number, *others):
        """A number in float32 if it or one of the others is, else in float64."""
        kind = types.float32 if types.float32 in (number, *others) else types.float64
        if not all(isinstance(one, types.Float | types.Integer) for one in (number, *others)):
            raise TypingError(f"numbers are needed, got {(number, *others)}")

        def emit(context, builder, sig, args):
            return context.cast(builder, args[0], number, kind)

        return kind(number, types.BaseTuple.from_types(others)), emit

    def _scaled(share):
        @intrinsic
        def scaled(typingctx, number):
            power = 2.0 ** (share * _FORMAT[number.name][2])

            def emit(context, builder, sig, args):
                return builder.fmul(args[0], args[0].type(power))

            return number(number), emit

        return scaled


lowered = _scaled(-1.0)  # what `raised_exp` raised, at its true size
_half_raised, _settled = _scaled(0.5), _scaled(-1.5)


@lane
def chunk_weight(m, largest, weight, law):
    """exp(m − largest) times the weight 1/Σ, raised: what a chunk of maximum m is weighted by."""
    return raised_exp(m - largest, law) * _half_raised(weight)


@lane
def weighted(power, chunk):
    """The weight exp(βx − max βx) / Σ of an entry: normal until it is rounded, once."""
    return _settled(power * chunk)
