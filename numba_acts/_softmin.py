"""Softmin: weights that favour small numbers. A softmax of −x/T along any axis."""

from typing import Any

from numba_acts._halls.door import hall
from numba_acts._halls.rules import Axis, inverse_temperature


def softmin(
    x: Any,
    axis: Axis = -1,
    *,
    temperature: float = 1.0,
    where: Any = None,
    out: Any = None,
) -> Any:
    r"""Turn numbers into weights that sum to one, the smallest number getting the largest.

    Parameters
    ----------
    x : array_like
        Numbers of any shape: costs, distances or energies, in the unit of `temperature`.
        float16, bfloat16, float32, float64, integers or bool.
    axis : int, tuple of ints or None, default -1
        The axis or axes along which the weights sum to one; None stands for all of them.
    temperature : float, default 1.0
        T > 0. Differences much smaller than T hardly count; as T falls, all weight goes to the
        smallest number.
    where : array_like of bool, optional
        A mask that broadcasts to `x`: entries where it is False get weight 0 and count for nothing.
        A slice that is masked whole gives zeros.
    out : array, optional
        Where to put the result, of its exact shape and dtype. ``out=x`` computes in place.

    Returns
    -------
    array
        Weights in [0, 1], of the shape of `x`, as the kind of array that came in, in its dtype;
        integers and bool give float64. For a number, 1.0 as a NumPy scalar.

    Raises
    ------
    TypeError
        If `x` is complex, an object, text, a date, a masked array or a tensor that requires grad.
    ValueError
        If `temperature` is not finite and above 0, `where` does not broadcast to `x`, `axis` names
        an axis twice, or `out` is not what the result would be.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    See Also
    --------
    softmin_vjp : The product of its derivative with a cotangent.
    softmin_jacobian : The derivative, written out.
    softmax2d : The same formula with the other sign, over the channels of an image.

    Notes
    -----
    Sums of float16, bfloat16 and float32 are as exact as sums of float64 rounded once: every weight
    is within ``4 eps (1 + |x − min x|/T)`` of its true value, relative to itself, for slices of up
    to a million numbers, where eps is that of float32 or float64; sixteen-bit results are rounded
    once more. A slice has the same result, bit for bit, whatever lies beside it in the array.

    Temperatures are held to what the exponential can work with: in float32 (and below) between
    1e-38 and 1.8e36, in float64 between 1e-307 and 1.5e305; differences must not overflow.
    Arrays that are dense in some order of their axes are read in place; others, and slices over
    several axes that do not stand together, are copied to the result first. A mask that has to be
    broadcast is written out, one byte an entry.

    Formula
    -------
    Along the axis, with the temperature $T$,

    $$y_i = \frac{e^{-x_i/T}}{\sum_j e^{-x_j/T}}
          = \frac{e^{-(x_i - \min x)/T}}{\sum_j e^{-(x_j - \min x)/T}}.$$

    The weights lie in [0, 1] and sum to 1. They are the softmax of $-x/T$, and stress the smallest
    number as softmax stresses the largest. They are smooth functions of $x$, with derivatives of
    every order, as gradient methods need.

    A constant added to all numbers cancels, which makes the second form equal to the first, and the
    second is what is computed: its largest exponential is 1. Without the shift, $e^{-x}$ overflows
    below −11.1, −88.7 and −709.8 in float16, float32 and float64, and the whole sum underflows
    above 17.3, 104 and 745. It must be the *minimum*: shifted by the maximum, [0, 100, 200] gives
    NaN in float32.

    As $T \to 0$ all weight goes to the smallest number, shared where several are equal; as
    $T \to \infty$ the weights become equal.

    Derivative
    ----------
    Take logarithms, $\log y_i = -x_i/T - \log \sum_k e^{-x_k/T}$, and derive by $x_j$: the first
    term gives $-\delta_{ij}/T$, the second $+y_j/T$. As
    $\partial y_i = y_i\, \partial \log y_i$, the Jacobian depends on the result alone,

    $$J_{ij} = \frac{\partial y_i}{\partial x_j} = \frac{y_i y_j - y_i \delta_{ij}}{T},
      \qquad J = -\frac{1}{T}\left(\operatorname{diag} y - y\, y^\top\right).$$

    Off the diagonal it is $+y_i y_j/T$: as one number grows, weight moves to all the others. $J$ is
    symmetric, and its rows sum to 0, since the weights always sum to 1.

    Products
    --------
    A chain rule needs products with $J$, never $J$ itself. For a loss with the cotangent
    $g = \partial L/\partial y$,

    $$\bar x_j = \sum_i g_i J_{ij}
      = \frac{1}{T}\Big(y_j \sum_i g_i y_i - g_j y_j\Big),
      \qquad \bar x = -\tfrac1T\, y \odot \left(g - \langle g, y\rangle\right):$$

    each entry's weight times how far its $g$ lies from the weighted mean of all. That takes one
    reading of $g$ and $y$, and $n$ operations for $n$ numbers in place of $n^2$. For a tangent
    $t$, a change of $x$, the change of the weights is $\dot y = J t$, the same formula with $t$ for
    $g$, because $J$ is symmetric.

    >>> import numpy as np
    >>> from numba_acts import softmin, softmin_jacobian, softmin_vjp
    >>> y, g = softmin([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, 0.0, 0.0])
    >>> softmin_vjp(g, y).round(4)
    array([-0.2293,  0.1525,  0.0561,  0.0206])
    >>> np.allclose(softmin_jacobian(y).T @ g, softmin_vjp(g, y))
    True

    The product is differentiable once more. With $v = \bar x$ and a cotangent $u$ of $v$,

    $$\bar g = -\tfrac1T\, y \odot \left(u - \langle u, y\rangle\right), \qquad
      \bar y = -\tfrac1T \left(u \odot (g - \langle g, y\rangle) - \langle u, y\rangle\, g\right).$$

    Diagonal
    --------
    For $j = i$ the Jacobian holds the derivative of a weight by its own number,

    $$\frac{\partial y_i}{\partial x_i} = -\frac{y_i (1 - y_i)}{T}.$$

    It says how sensitive a weight is, and it is often given as *the* derivative of softmin. But it
    holds $n$ of the $n^2$ derivatives. Let a loss be the sum of the weights: that is 1 whatever $x$
    is, so the gradient is zero. The diagonal alone claims otherwise:

    >>> from numba_acts import softmin_jacobian_diag
    >>> g = np.ones(4)
    >>> np.allclose(softmin_vjp(g, y), 0)
    True
    >>> (softmin_jacobian_diag(y) * g).round(4)
    array([-0.2293, -0.1808, -0.0796, -0.031 ])

    Special values
    --------------
    Each case follows from the formula in IEEE arithmetic; a mask alone is an exception.

    | given | its weights |
    |---|---|
    | a NaN in the slice | all NaN |
    | +inf beside finite numbers | 0 for the +inf, the others share the weight |
    | only +inf | all NaN |
    | a −inf | all NaN |
    | entries masked by `where` | 0, and what they hold does not matter, be it NaN |
    | a slice masked whole | all 0, with a gradient of 0 |
    | an empty array | an empty array of its shape |
    | a single number, rank 0 | 1.0 |
    | equal numbers | equal weights |
    | integers, bool | converted to float64 before anything is negated: uint8 works |
    | float16, bfloat16 | computed in float32, rounded once; any length of slice |

    Use cases
    ---------
    * **Choosing among costs, smoothly.** Where `argmin` has no gradient, the weighted mean
      $\sum_i y_i x_i$ stands in for the minimum, and gradients flow to all candidates, most to the
      cheapest. Matching in stereo [3]_ and time warping [4]_ are done so.
    * **Boltzmann weights.** A system with energies $x_i$ is in state $i$ with probability $y_i$,
      the temperature being in units of energy. A network may end in energies rather than scores.
    * **Attention over distances.** Soft nearest neighbours, soft assignment to cluster centres and
      kernel regression weigh by how near something is [2]_.
    * **Anomalies and unequal costs.** Where small scores are what matters, softmin attends to them;
      beside softmax, which attends to the largest, both ends of a vector are in view.
    * **Many classes**, where a model gives each class a cost or an energy and the least is the
      likeliest.

    Limitations
    -----------
    * **Stability.** Computed as it is written, it overflows or divides 0 by 0 for very large and
      very small numbers; the shift by the minimum is part of every sound implementation [5]_.
    * **Differences count, not ratios**: [0, 1] and [1000, 1001] have the same weights. The
      temperature has to fit the scale of the numbers, or be learned with them.
    * **It saturates.** When one number is smaller than the rest by many T, the weights are those
      of `argmin` and all derivatives vanish; training cannot move such a choice. Start warm, cool
      later.
    * **No weight is ever exactly zero** before it underflows, so every entry costs time, and a long
      tail of poor candidates can outweigh a good one.
    * **It is rarely what a classifier's last layer wants**, where large scores mean likely classes:
      that is softmax [1]_.

    Textbook
    --------
    The formula as it stands, in NumPy:

    >>> def textbook(x):
    ...     e = np.exp(-x)
    ...     return e / e.sum(-1, keepdims=True)

    It overflows on ordinary numbers, and turns those of unsigned integers around before the
    exponential sees them:

    >>> with np.errstate(all="ignore"):
    ...     textbook(np.float32([-100, 0, 1])), textbook(np.uint8([0, 1, 2]))
    (array([nan,  0.,  0.], dtype=float32), array([ 0., nan, nan], dtype=float16))
    >>> softmin(np.float32([-100, 0, 1])).round(4), softmin(np.uint8([0, 1, 2])).round(4)
    (array([1., 0., 0.], dtype=float32), array([0.6652, 0.2447, 0.09  ]))

    Subtracting `x.min(-1, keepdims=True)` first mends the first of the two. What remains: each step
    writes an array as large as the input and reads it again, half precision is summed in half
    precision, a slice that is all masked divides 0 by 0, and there is no gradient.

    Equivalents
    -----------
    | library | call | what differs |
    |---|---|---|
    | PyTorch | `torch.nn.functional.softmin(x, dim)` | one axis, no temperature, no mask |
    | JAX | `jax.nn.softmax(-x / T, axis, where=mask)` | |
    | SciPy | `scipy.special.softmax(-x / T, axis)` | no mask, no gradient |
    | CuPy | `cupyx.scipy.special.softmax(-x / T, axis)` | no mask, no gradient |
    | TensorFlow | `tf.nn.softmax(-x / T, axis)` | one axis, no mask |
    | Paddle | `paddle.nn.functional.softmax(-x / T, axis)` | one axis, no mask |
    | Chainer | `chainer.functions.softmax(-x / T, axis)` | one axis; no longer developed |
    | thinc | `ops.softmax(-x, axis=axis, temperature=T)` | one axis, one thread, no mask |

    Negated unsigned integers wrap around, in PyTorch's softmin too: convert them to a float first.
    TensorFlow Addons has no softmin.

    Cost
    ----
    For $n$ numbers in a slice and $N$ in all, with $s$ bytes each:

    | function | operations | memory read and written |
    |---|---|---|
    | `softmin` | $O(N)$ | $2 s N$: one reading, one writing |
    | `softmin_vjp`, `softmin_jvp` | $O(N)$ | $3 s N$ |
    | `softmin_jacobian_diag` | $O(N)$ | $2 s N$ |
    | `softmin_jacobian` | $O(n N)$ | $s n N$ and a little more |

    Beyond the result there are buffers of a bounded size for each thread, whatever the size of the
    array. Slices that are too long for a processor's cache are read twice.

    References
    ----------
    .. [1] C. M. Bishop, [Pattern Recognition and Machine
       Learning](https://link.springer.com/book/9780387310732), Springer, 2006, section 4.3.
    .. [2] T. Plötz, S. Roth, [Neural nearest neighbors
       networks](https://arxiv.org/abs/1810.12575), NeurIPS 2018.
    .. [3] A. Kendall et al., [End-to-end learning of geometry and context for deep stereo
       regression](https://arxiv.org/abs/1703.04309), ICCV 2017.
    .. [4] M. Cuturi, M. Blondel, [Soft-DTW: a differentiable loss function for
       time-series](https://arxiv.org/abs/1703.01541), ICML 2017.
    .. [5] P. Blanchard, D. J. Higham, N. J. Higham, [Accurately computing the log-sum-exp and
       softmax functions](https://doi.org/10.1093/imanum/draa038), IMA Journal of Numerical Analysis
       41(4), 2311-2330, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import softmin
    >>> softmin([1.0, 2.0, 3.0, 4.0]).round(4)
    array([0.6439, 0.2369, 0.0871, 0.0321])
    >>> softmin([0.0, 100.0, 200.0], temperature=100.0).round(4)
    array([0.6652, 0.2447, 0.09  ])
    >>> softmin([[3, 1], [1, 1]], where=[[True, True], [False, False]]).round(4)
    array([[0.1192, 0.8808],
           [0.    , 0.    ]])
    """
    return hall(x, where, out).softmax(x, axis, -inverse_temperature(temperature), where, out)


def softmin_vjp(
    g: Any, y: Any, axis: Axis = -1, *, temperature: float = 1.0, out: Any = None
) -> Any:
    r"""Take a gradient from softmin's result back to its argument: dx = Jᵀg.

    Parameters
    ----------
    g : array_like
        The cotangent: the derivative of a loss by each weight, of the shape of `y`.
    y : array_like
        What `softmin` returned.
    axis : int, tuple of ints or None, default -1
        As for `softmin`.
    temperature : float, default 1.0
        As for `softmin`.
    out : array, optional
        Where to put the result, of its exact shape and dtype; ``out=g`` and ``out=y`` are allowed.

    Returns
    -------
    array
        The derivative of the loss by x, of the shape and dtype of `y`. If the dtypes of `g` and
        `y` differ, the wider counts. A slice that was masked whole, all zeros in `y`, gets zeros.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmin`; also if `g` and `y` differ in shape.

    Notes
    -----
    $\bar x = -\tfrac1T\, y \odot (g - \langle g, y \rangle)$ in one reading of g and y, with no
    matrix. For equal entries of g it is zero, as the weights' sum cannot change.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import softmin, softmin_vjp
    >>> y = softmin([1.0, 2.0, 3.0, 4.0])
    >>> softmin_vjp(np.array([1.0, 0.0, 0.0, 0.0]), y).round(4)
    array([-0.2293,  0.1525,  0.0561,  0.0206])
    >>> abs(softmin_vjp(np.ones(4), y)).max() < 1e-15
    np.True_
    """
    return hall(g, y, out).softmax_product("g", g, y, axis, -inverse_temperature(temperature), out)


def softmin_jvp(
    t: Any, y: Any, axis: Axis = -1, *, temperature: float = 1.0, out: Any = None
) -> Any:
    r"""Take a change of softmin's argument forward to its result: dy = Jt.

    Parameters
    ----------
    t : array_like
        The tangent: how x changes, of the shape of `y`.
    y : array_like
        What `softmin` returned.
    axis : int, tuple of ints or None, default -1
        As for `softmin`.
    temperature : float, default 1.0
        As for `softmin`.
    out : array, optional
        Where to put the result, of its exact shape and dtype; ``out=t`` and ``out=y`` are allowed.

    Returns
    -------
    array
        How the weights change, of the shape of `y`. J is symmetric: this is `softmin_vjp` of t.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmin`; also if `t` and `y` differ in shape.

    Examples
    --------
    >>> from numba_acts import softmin, softmin_jvp
    >>> softmin_jvp([1.0, 0.0], softmin([0.0, 0.0]))
    array([-0.25,  0.25])
    """
    return hall(t, y, out).softmax_product("t", t, y, axis, -inverse_temperature(temperature), out)


def softmin_jacobian(y: Any, axis: int = -1, *, temperature: float = 1.0, out: Any = None) -> Any:
    r"""Write out softmin's Jacobian, the derivative of each weight by each number of its slice.

    Parameters
    ----------
    y : array_like
        What `softmin` returned.
    axis : int, default -1
        The axis of the slices.
    temperature : float, default 1.0
        As for `softmin`.
    out : array, optional
        Where to put the result, of its exact shape and dtype.

    Returns
    -------
    array
        $J_{ij} = (y_i y_j - y_i \delta_{ij})/T$. In the place of `axis` stand two axes, output i
        and input j: (..., n) gives (..., n, n).

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmin`.

    Notes
    -----
    It takes n times the memory of `y`. A product with it is to be had for the price of one reading:
    `softmin_vjp`, `softmin_jvp`.

    Examples
    --------
    >>> from numba_acts import softmin, softmin_jacobian
    >>> softmin_jacobian(softmin([0.0, 0.0]))
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    return hall(y, out).softmax_jacobian(y, axis, -inverse_temperature(temperature), out)


def softmin_jacobian_diag(y: Any, *, temperature: float = 1.0, out: Any = None) -> Any:
    r"""Derive each weight by its own number: the Jacobian's diagonal, −y(1 − y)/T.

    Parameters
    ----------
    y : array_like
        What `softmin` returned.
    temperature : float, default 1.0
        As for `softmin`.
    out : array, optional
        Where to put the result, of its exact shape and dtype; ``out=y`` is allowed.

    Returns
    -------
    array
        Of the shape of `y`. No axis is asked for: the formula is entry by entry.

    Raises
    ------
    TypeError, ValueError
        As for `softmin`.

    Notes
    -----
    It tells how sensitive a weight is to its own number, and is no substitute for the Jacobian in a
    chain rule. With g = 1 the true product is 0, while the diagonal alone gives −y(1 − y)/T.

    Examples
    --------
    >>> from numba_acts import softmin, softmin_jacobian_diag
    >>> softmin_jacobian_diag(softmin([0.0, 0.0]))
    array([-0.25, -0.25])
    """
    return hall(y, out).softmax_jacobian_diag(y, -inverse_temperature(temperature), out)
