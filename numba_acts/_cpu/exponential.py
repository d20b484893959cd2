"""The exponential: exp(|β|·w) for w ≤ 0, eight at a time, the same bits on every machine."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from numba_acts._cpu.emit import call_llvm, multiply_add
from numba_acts._cpu.lanes import any_below, at_least, extract, fma, lane, splat
from numba_acts._cpu.memory import number_of

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
# Mantissa bits, bias, the power that raises 2^n to be normal, the smallest n, and that from which
# on the quotient by a sum of at most `CHUNK` terms is normal. The smallest is held as zero: every
# quotient would round it to zero, and some processors take ten times as long for a product that
# they round to nothing, as those of all masked entries would be.
_FORMAT = {types.float32: (23, 127, 24, -151, -113), types.float64: (52, 1023, 53, -1076, -1009)}


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
            value = call_llvm(builder, "fma", value, args[0], coefficient)
        return value

    return r(r), emit


@intrinsic
def magic(typingctx, lanes):
    """Added to a small number, it leaves the nearest integer n in the low bits, as 2^n's exponent.

    It is 1.5 * 2^mantissa, and the bias of exponents with the power by which 2^n is raised.
    """
    mantissa, bias, raised, *_ = _FORMAT[lanes.dtype]
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
    """What `raised_exp` needs to know of beta: its sign, |beta|·log2(e) in two parts, two floors.

    The shifted argument ``sign*x - max(sign*x)`` is exact or rounded once, so the error of an
    exponential grows with the distance from the maximum and not with the size of x. The factor has
    two parts, since the error of one would be the same in all terms of a sum; it is held within the
    range of the type it is computed in.
    """


@overload(exponent_law)
def _exponent_law(array, beta):
    kind = np.float32 if number_of(array) == types.float32 else np.float64
    number = types.float32 if kind is np.float32 else types.float64
    smallest, normal = kind(_FORMAT[number][3]), kind(_FORMAT[number][4])
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
        return sign, high, low, smallest / high, normal / high

    return law


def factor_law(array, beta):
    """beta in every lane, held within the range of the type that `array` is computed in."""


@overload(factor_law)
def _factor_law(array, beta):
    kind = np.float32 if number_of(array) == types.float32 else np.float64
    most = float(np.finfo(kind).max)
    return lambda array, beta: splat(kind(min(max(beta, -most), most)))


@lane
def raised_exp(w, law):
    """exp(|beta|·w) for w <= 0, times a power of two that keeps it normal; a NaN passes.

    In a quotient of such numbers the power cancels, and a subnormal result is rounded once. (Those
    that are not normal even so, just above the smallest 2^n, have a quotient of zero.)
    """
    _, high, low, floor, _ = law
    w = at_least(w, floor)
    shifted = fma(w, high, magic(w))
    r = fma(w, high, magic(w) - shifted)
    return times_power(polynomial(fma(w, low, r)), shifted)


# ---- quotients --------------------------------------------------------------------------------


@lane
def weighed(z, weight, beneath):
    """The quotient of an exponential, raised, and its slice's sum.

    It may be subnormal only if `beneath` is not None.
    """
    if beneath is None:
        return z * weight
    return times_beneath(z, weight)


@intrinsic
def times_beneath(typingctx, z, weight):
    """``z * weight``, subnormal or not, rounded once, without the processor's slow way to do so.

    A subnormal number is a whole multiple of the smallest one, and its bits are that number. A sum
    with 2^mantissa is rounded to whole numbers. What is not subnormal is multiplied in two steps,
    the others held up meanwhile. A weight is that of a raised sum: at most 2^-raised.
    """
    mantissa, bias, *_ = _FORMAT[z.dtype]
    smallest = bias - 1 + mantissa
    aside = bias // 2

    def emit(context, builder, sig, args):
        kind, integer = args[0].type, ir.VectorType(ir.IntType(z.dtype.bitwidth), z.count)

        def power(exponent):
            return ir.Constant(kind, [2.0**exponent] * z.count)

        wholes = builder.fmul(builder.fmul(args[1], power(aside)), power(smallest - aside))
        wholes = multiply_add(builder, z.dtype, args[0], wholes, power(mantissa))
        bits = builder.sub(
            builder.bitcast(wholes, integer), builder.bitcast(power(mantissa), integer)
        )
        normal = builder.fmul(args[0], builder.fmul(args[1], power(aside)))
        least = power(1 - bias + aside)
        normal = builder.select(builder.fcmp_ordered("<", normal, least), least, normal)
        normal = builder.fmul(normal, power(-aside))
        beneath = builder.fcmp_ordered("<", wholes, power(mantissa + 1))
        return builder.select(beneath, builder.bitcast(bits, kind), normal)

    return z(z, z), emit


@lane
def goes_beneath(low, law):
    """May quotients be subnormal where w goes down to `low`? Masked entries and −inf say so too."""
    return any_below(low, law[4])
