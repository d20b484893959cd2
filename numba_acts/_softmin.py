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
    r"""Turn numbers into weights that sum to one, the largest for the smallest number.

    Parameters
    ----------
    x : array_like
        Numbers of any shape: costs, distances or energies, in the unit of `temperature`.
        float16, bfloat16, float32, float64, integers or bool.
    axis : int, tuple of ints or None, default -1
        The axis or axes along which the weights sum to one; None stands for all of them.
    temperature : float, default 1.0
        T > 0. Differences much smaller than T hardly matter; as T falls, all the weight goes to
        the smallest number.
    where : array_like of bool, optional
        A mask that broadcasts to `x`: entries where it is False get weight 0 and are otherwise
        ignored. A slice that is masked entirely gives zeros.
    out : array, optional
        An array of exactly the result's shape and dtype to write to. ``out=x`` computes in place.

    Returns
    -------
    array
        Weights in [0, 1] with the shape of `x`, in the same kind of array and the same dtype;
        integers and bool give float64. For a single number, 1.0 as a NumPy scalar.

    Raises
    ------
    TypeError
        If `x` is complex, an object, text, a date, a masked array or a tensor that requires grad.
    ValueError
        If `temperature` is not finite and positive, `where` does not broadcast to `x`, `axis`
        names an axis twice, or `out` does not match the result.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    See Also
    --------
    softmin_vjp : The product of its derivative with a cotangent.
    softmin_jacobian : The full derivative, as a matrix.
    softmax2d : The same formula with the opposite sign, over the channels of an image.

    Notes
    -----
    Sums of float16, bfloat16 and float32 are as exact as sums in float64 rounded once: every weight
    is within ``4 eps (1 + |x − min x|/T)`` of its true value, relative to that value, for slices of
    up to a million numbers. Here eps is that of float32 or float64; 16-bit results are rounded once
    more. There is one known exception, by a factor of 1.13: very many equal float32 numbers, 8 to
    10 temperatures above a single minimum. A slice has the same result, bit for bit, whatever else
    is in the array.

    Temperatures are limited by what the exponential can represent: in float32 (and below) 1.2e-38
    to 1.8e36, in float64 1e-307 to 1.5e305; one outside gives the weights of the nearest limit.
    Differences must not overflow. Arrays that are dense in
    some order of their axes are read in place; others, and slices over several axes that are not
    adjacent in memory, are first copied to the result. A mask that has to be broadcast is expanded,
    at one byte per entry.

    Formula
    -------
    Along the axis, with the temperature $T$,

    $$y_i = \frac{e^{-x_i/T}}{\sum_j e^{-x_j/T}}
          = \frac{e^{-(x_i - \min x)/T}}{\sum_j e^{-(x_j - \min x)/T}}.$$

    The weights lie in [0, 1] and sum to 1. They are the softmax of $-x/T$, and emphasise the
    smallest number as softmax emphasises the largest. They are smooth functions of $x$, with
    derivatives of every order, as gradient methods need.

    A constant added to all numbers cancels. That makes the two forms equal, and the second is the
    one that is computed: its largest exponential is 1. Without the shift, $e^{-x}$ overflows below
    −11.1, −88.7 and −709.8 in float16, float32 and float64, and the whole sum underflows above
    17.3, 104 and 745. The shift has to be by the *minimum*: by the maximum, [0, 100, 200] gives NaN
    in float32.

    As $T \to 0$ all the weight goes to the smallest number, shared equally if there are several; as
    $T \to \infty$ the weights become equal.

    Derivative
    ----------
    Take logarithms, $\log y_i = -x_i/T - \log \sum_k e^{-x_k/T}$, and differentiate with respect to
    $x_j$: the first term gives $-\delta_{ij}/T$, the second $+y_j/T$. Since
    $\partial y_i = y_i\, \partial \log y_i$, the Jacobian depends on the result alone,

    $$J_{ij} = \frac{\partial y_i}{\partial x_j} = \frac{y_i y_j - y_i \delta_{ij}}{T},
      \qquad J = -\frac{1}{T}\left(\operatorname{diag} y - y\, y^\top\right).$$

    Off the diagonal it is $+y_i y_j/T$: as one number grows, weight moves to all the others. $J$ is
    symmetric. Its rows sum to 0, because a constant added to all numbers changes no weight; its
    columns sum to 0, because the weights always sum to 1.

    By hand
    -------
    Let $x = (\log 1, \log 2, \log 4)$ and $T = 1$. The exponentials $e^{-x}$ are 1, 1/2 and 1/4,
    their sum is 7/4, and so $y = (4, 2, 1)/7$. With $y_i y_j - y_i \delta_{ij}$ in 49ths,

    $$J = \frac{1}{49} \begin{pmatrix}
      16 - 28 & 8 & 4 \\ 8 & 4 - 14 & 2 \\ 4 & 2 & 1 - 7
      \end{pmatrix} = \frac{1}{49} \begin{pmatrix}
      -12 & 8 & 4 \\ 8 & -10 & 2 \\ 4 & 2 & -6
      \end{pmatrix}.$$

    A loss that depends on the first weight alone, $g = (1, 0, 0)$, has the gradient
    $\bar x = J^\top g = (-12, 8, 4)/49$: raising the smallest number lowers its weight, raising one
    of the others moves weight to it.

    >>> import numpy as np
    >>> from numba_acts import softmin, softmin_jacobian, softmin_vjp
    >>> y = softmin(np.log([1.0, 2.0, 4.0]))
    >>> (49 * softmin_jacobian(y)).round(9)
    array([[-12.,   8.,   4.],
           [  8., -10.,   2.],
           [  4.,   2.,  -6.]])
    >>> (49 * softmin_vjp(np.array([1.0, 0.0, 0.0]), y)).round(9)
    array([-12.,   8.,   4.])

    Products
    --------
    The chain rule needs products with $J$, never $J$ itself. For a loss with the cotangent
    $g = \partial L/\partial y$,

    $$\bar x_j = \sum_i g_i J_{ij}
      = \frac{1}{T}\Big(y_j \sum_i g_i y_i - g_j y_j\Big),
      \qquad \bar x = -\tfrac1T\, y \odot \left(g - \langle g, y\rangle\right):$$

    each entry's weight times the difference between its $g$ and the weighted mean of all, times
    $-1/T$. This takes one reading of $g$ and $y$, and operations of the order of $n$ for $n$
    numbers instead of $n^2$. For a tangent $t$,
    a change of $x$, the change of the weights is $\dot y = J t$: the same formula with $t$ in place
    of $g$, because $J$ is symmetric.

    >>> y, g = softmin([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, 0.0, 0.0])
    >>> softmin_vjp(g, y).round(4)
    array([-0.2293,  0.1525,  0.0561,  0.0206])
    >>> np.allclose(softmin_jacobian(y).T @ g, softmin_vjp(g, y))
    True

    The temperature has a derivative as well, and the same product gives it. Since $y$ depends on
    $x/T$ alone, $\partial L/\partial T = -\langle \bar x, x \rangle / T$:

    >>> x, T = np.array([1.0, 2.0, 3.0, 4.0]), 1.5
    >>> y = softmin(x, temperature=T)
    >>> dT = -(softmin_vjp(g, y, temperature=T) * x).sum() / T
    >>> step = softmin(x, temperature=T + 1e-6)[0] - softmin(x, temperature=T - 1e-6)[0]
    >>> np.isclose(dT, step / 2e-6)
    np.True_

    The product can be differentiated again. With $v = \bar x$ and a cotangent $u$ of $v$,

    $$\bar g = -\tfrac1T\, y \odot \left(u - \langle u, y\rangle\right), \qquad
      \bar y = -\tfrac1T \left(u \odot (g - \langle g, y\rangle) - \langle u, y\rangle\, g\right).$$

    Diagonal
    --------
    For $j = i$ the Jacobian holds the derivative of each weight with respect to its own number,

    $$\frac{\partial y_i}{\partial x_i} = -\frac{y_i (1 - y_i)}{T}.$$

    It says how sensitive a weight is, and it is often given as *the* derivative of softmin. But it
    holds only $n$ of the $n^2$ derivatives. Let a loss be the sum of the weights: that is 1 for any
    $x$, so the gradient is zero. The diagonal alone claims otherwise:

    >>> from numba_acts import softmin_jacobian_diag
    >>> y, g = softmin([1.0, 2.0, 3.0, 4.0]), np.ones(4)
    >>> np.allclose(softmin_vjp(g, y), 0)
    True
    >>> (softmin_jacobian_diag(y) * g).round(4)
    array([-0.2293, -0.1808, -0.0796, -0.031 ])

    Soft minimum
    ------------
    Softmin is the gradient of the *soft minimum* of the numbers,

    $$m_T(x) = -T \log \sum_j e^{-x_j/T}
             = \min x - T \log \sum_j e^{-(x_j - \min x)/T},
      \qquad \frac{\partial m_T}{\partial x_i} = y_i.$$

    It lies below the minimum by at most $T \log n$, and tends to it as $T \to 0$. The logarithms of
    the weights follow from it, $\log y_i = (m_T(x) - x_i)/T$, in three lines:

    >>> x, T = np.float32([0, 1, 150]), 1
    >>> smallest = x.min()
    >>> soft_minimum = smallest - T * np.log(np.exp((smallest - x) / T).sum())
    >>> log_y = (soft_minimum - x) / T
    >>> log_y.round(4)
    array([  -0.3133,   -1.3133, -150.3133], dtype=float32)

    SciPy has it as ``-T * scipy.special.logsumexp(-x / T)``.

    The logarithm of the weights themselves fails where a weight has underflowed: it is −∞, and the
    gradient through it is NaN.

    >>> with np.errstate(divide="ignore"):
    ...     np.log(softmin(x)).round(4)
    array([-0.3133, -1.3133,    -inf], dtype=float32)

    A loss of the logarithms, with the cotangent $u$ of $\log y$, needs neither a logarithm nor a
    division on the way back: $\bar x = -\tfrac1T \left(u - y \sum_i u_i\right)$.

    Special values
    --------------
    Each case follows from the formula in IEEE arithmetic; masks are the only exception.

    | given | its weights |
    |---|---|
    | a NaN in the slice | all NaN |
    | +inf beside finite numbers | 0 for the +inf, the others share the weight |
    | only +inf | all NaN |
    | a −inf | all NaN |
    | entries masked by `where` | 0, whatever they hold, NaN included |
    | a slice masked entirely | all 0, and so is its gradient for a finite $g$ |
    | an empty array | an empty array of its shape |
    | a single number, rank 0 | 1.0 |
    | equal numbers | equal weights |
    | integers, bool | converted to float64 before anything is negated: uint8 works |
    | float16, bfloat16 | computed in float32 and rounded once; slices of any length |

    The product $\bar x$ is IEEE arithmetic too. A NaN or an infinity in $g$ makes the whole slice
    NaN, also at an entry of weight 0, masked or not, since $0 \cdot \infty$ is NaN. A loss with
    $\log y$ in it has such a cotangent; ``np.where(mask, g, 0)`` makes it safe. `numba_acts.torch`
    does so by itself for the entries that `where` masks.

    Use cases
    ---------
    * **Choosing among costs, smoothly.** Where `argmin` has no gradient, the weighted mean
      $m = \sum_i y_i x_i$ can stand in for the minimum. Its derivative
      $\partial m/\partial x_j = y_j \left(1 - (x_j - m)/T\right)$ is negative for numbers above
      $m + T$: raising one of those takes weight from it, and so lowers the mean. The soft minimum
      has no such region, as its derivative is $y_j$ itself.
    * **An expected index.** Stereo matching turns the matching costs $c_d$ of a pixel into its
      disparity by $\sum_d d\, y_d$ with $y = \operatorname{softmin}(c)$, which is accurate to
      a fraction of a pixel and has a gradient [3]_.
    * **Alignment.** Soft dynamic time warping replaces each minimum of its recursion by the soft
      minimum $-\gamma \log \sum_j e^{-a_j/\gamma}$; on the way back softmin appears, as its
      gradient [4]_.
    * **Boltzmann weights.** A system with energies $x_i$ is in state $i$ with probability $y_i$,
      where the temperature is in units of energy. A network may end in energies instead of scores.
    * **Attention over distances.** Soft nearest neighbours, soft assignment to cluster centres and
      kernel regression all weigh by proximity [2]_.
    * **Anomalies and unequal costs.** Where small scores are the interesting ones, softmin gives
      them the weight; together with softmax it covers both ends of a vector.
    * **Many classes**, where a model gives each class a cost or an energy and the lowest is the
      most likely.

    Limitations
    -----------
    * **Stability.** Computed as written, it overflows for large negative numbers and divides 0 by 0
      for large positive ones; the shift by the minimum is part of every sound implementation [5]_.
    * **Differences matter, not ratios**: [0, 1] and [1000, 1001] have the same weights. The
      temperature has to fit the scale of the numbers. It can be learned: ``softmin(x / T)`` is a
      function of $T$ whose derivative is given above, and `numba_acts.torch` takes a tensor as
      `temperature`.
    * **It saturates.** When one number is below all others by many T, the weights are those of
      `argmin` and all derivatives vanish; training cannot move such a choice. Start warm and cool
      down.
    * **No weight is exactly zero** until it underflows, so every entry costs time, and a long tail
      of poor candidates can outweigh a good one.
    * **It is rarely what a classifier's last layer needs**, where large scores mean likely classes:
      that is softmax [1]_.

    Textbook
    --------
    The formula as it stands, in NumPy:

    >>> def textbook(x):
    ...     e = np.exp(-x)
    ...     return e / e.sum(-1, keepdims=True)

    It overflows on ordinary numbers, and unsigned integers wrap around when they are negated:

    >>> with np.errstate(all="ignore"):
    ...     textbook(np.float32([-100, 0, 1])), textbook(np.uint8([0, 1, 2]))
    (array([nan,  0.,  0.], dtype=float32), array([ 0., nan, nan], dtype=float16))
    >>> softmin(np.float32([-100, 0, 1])).round(4), softmin(np.uint8([0, 1, 2])).round(4)
    (array([1., 0., 0.], dtype=float32), array([0.6652, 0.2447, 0.09  ]))

    Subtracting `x.min(-1, keepdims=True)` first cures the former. What remains: each step writes an
    array as large as the input and reads it again, half precision is summed in half precision, a
    slice that is masked entirely divides 0 by 0, and there is no gradient.

    Equivalents
    -----------
    | library | call | what differs |
    |---|---|---|
    | PyTorch | `torch.nn.functional.softmin(x, dim)` | one axis, no temperature, no mask |
    | JAX | `jax.nn.softmax(-x / T, axis, where=mask)` | |
    | SciPy | `scipy.special.softmax(-x / T, axis)` | no mask |
    | CuPy | `cupyx.scipy.special.softmax(-x / T, axis)` | no mask, no gradient |
    | TensorFlow | `tf.nn.softmax(-x / T, axis)` | one axis, no mask |
    | Keras | `keras.layers.Softmax(axis)(-x / T, mask)` | old versions: all masked sums to 1 |
    | Paddle | `paddle.nn.functional.softmax(-x / T, axis)` | one axis, no mask |
    | Chainer | `chainer.functions.softmax(-x / T, axis)` | one axis; no longer developed |
    | thinc | `ops.softmax(-x, axis=axis, temperature=T)` | one axis, single-threaded, no mask |

    PyTorch's softmin refuses uint8; with ``dtype=torch.float32`` it negates first and converts
    afterwards, so that 1 becomes 255. Convert unsigned integers to a float before they are negated.
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

    Beyond the result there are buffers of a bounded size per thread, whatever the size of the
    array. Slices too long for the processor's cache are read twice.

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
        The cotangent: the derivative of a loss with respect to each weight, of the shape of `y`.
    y : array_like
        What `softmin` returned.
    axis : int, tuple of ints or None, default -1
        As for `softmin`.
    temperature : float, default 1.0
        As for `softmin`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to; ``out=g`` and ``out=y`` are
        allowed.

    Returns
    -------
    array
        The derivative of the loss with respect to x, of the shape and dtype of `y`; if the dtypes
        of `g` and `y` differ, in the wider. A slice that was masked entirely, all zeros in `y`,
        gets zeros where `g` is finite.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmin`; also if `g` and `y` differ in shape.

    Notes
    -----
    $\bar x = -\tfrac1T\, y \odot (g - \langle g, y \rangle)$ in one reading of g and y, without a
    matrix. For equal entries of g it is zero, as the sum of the weights cannot change.

    `g` must be finite wherever `y` is 0, masked entries included: a NaN or an infinity there makes
    the slice NaN. ``np.where(mask, g, 0)`` removes it.

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
        An array of exactly the result's shape and dtype to write to; ``out=t`` and ``out=y`` are
        allowed.

    Returns
    -------
    array
        The change of the weights, of the shape of `y`. J is symmetric: this is `softmin_vjp` of t.

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
    r"""Give softmin's Jacobian: the derivative of each weight with respect to each number.

    Parameters
    ----------
    y : array_like
        What `softmin` returned.
    axis : int, default -1
        The axis of the slices.
    temperature : float, default 1.0
        As for `softmin`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to.

    Returns
    -------
    array
        $J_{ij} = (y_i y_j - y_i \delta_{ij})/T$ within each slice. In the place of `axis` there are
        two axes, output i and input j: (..., n) gives (..., n, n).

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmin`.

    Notes
    -----
    It takes n times the memory of `y`. Products with it cost one reading of `y` instead:
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
    r"""Differentiate each weight with respect to its own number: −y(1 − y)/T.

    Parameters
    ----------
    y : array_like
        What `softmin` returned.
    temperature : float, default 1.0
        As for `softmin`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to; ``out=y`` is allowed.

    Returns
    -------
    array
        The Jacobian's diagonal, of the shape of `y`. It takes no axis: the formula is elementwise.

    Raises
    ------
    TypeError, ValueError
        As for `softmin`.

    Notes
    -----
    It says how sensitive a weight is to its own number, and does not replace the Jacobian in the
    chain rule. With g = 1 the true product is 0, while the diagonal alone gives −y(1 − y)/T.

    Examples
    --------
    >>> from numba_acts import softmin, softmin_jacobian_diag
    >>> softmin_jacobian_diag(softmin([0.0, 0.0]))
    array([-0.25, -0.25])
    """
    return hall(y, out).softmax_jacobian_diag(y, -inverse_temperature(temperature), out)
