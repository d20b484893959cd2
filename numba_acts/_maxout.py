"""Maxout: the largest of the pieces of a unit, ready-made or of an affine map."""

from typing import Any

import numpy as np

from numba_acts._halls.door import hall


def maxout(x: Any, axis: int = -1, *, out: Any = None) -> Any:
    r"""Take the largest piece of each unit.

    Parameters
    ----------
    x : array_like
        The pieces, of any shape with at least one axis: (batch, units, pieces), say. float16,
        bfloat16, float32, float64, integers or bool.
    axis : int, default -1
        The axis of the pieces, which the result is without.
    out : array, optional
        Where to put the result, of its exact shape and dtype.

    Returns
    -------
    array
        The maxima, (batch, units) for (batch, units, pieces), in the dtype of `x`. For one unit a
        NumPy scalar.

    Raises
    ------
    TypeError
        If `x` is complex, an object, text, a date, a masked array or a tensor that requires grad.
    ValueError
        If there are no pieces, or `out` is not what the result would be.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    See Also
    --------
    maxout_with_index : Also which piece won, as the derivatives need it.
    maxout_affine : The whole unit, its affine map included.

    Notes
    -----
    Edge cases are as in `numpy.max`, and the same on every machine: a NaN anywhere makes the
    maximum NaN; of equal pieces the first wins, −0.0 being equal to 0.0; an infinity is a number
    like others. No rounding takes place: a maximum is one of the pieces, bit for bit.

    Formula
    -------
    A maxout unit with $k$ pieces, weights $W_i \in \mathbb{R}^d$ and biases $b_i$ is

    $$h(x) = \max_{i \in [1, k]} z_i, \qquad z_i = W_i \cdot x + b_i.$$

    A layer has a weight of shape (units, pieces, d), and the maximum is taken for each unit $u$ and
    each sample: $h_u(x) = \max_i (W_{u,i} \cdot x + b_{u,i})$. `maxout` takes the pieces $z$
    ready-made, from a matrix product or a convolution; `maxout_affine` makes them too.

    The maximum of linear functions is convex and piecewise linear, and the pieces are learned: so
    is the shape of the activation, which adapts to the data. It does not saturate anywhere, which
    eases vanishing gradients.

    Derivative
    ----------
    Where one piece is larger than all others, it stays so in a neighbourhood, and there the unit
    *is* that piece. So only the winner counts: with $i^* = \min \arg\max_i z_i$,

    $$\frac{\partial h}{\partial z_i} = [i = i^*],
      \qquad \frac{\partial h}{\partial x} = W_{i^*},
      \qquad \frac{\partial h}{\partial W_i} = [i = i^*]\, x,
      \qquad \frac{\partial h}{\partial b_i} = [i = i^*].$$

    The brackets are 1 where the statement holds and 0 elsewhere. The winner depends on the unit
    *and* on the sample. At a tie the function has a kink; every convex combination of the winners'
    gradients is a subgradient there, while the full gradient to each of them is not. Here the first
    winner has all of it. The second derivative in $x$ is zero wherever it exists; the mixed one, in
    $x$ and $W_{i^*}$, is not.

    Products
    --------
    From what the forward pass saves, the index $i^*$, both products follow without arithmetic. With
    a cotangent $g$ of $h$ and a tangent $t$ of $z$,

    $$\bar z_i = [i = i^*]\, g, \qquad \dot h = t_{i^*}.$$

    Of a layer, summed over the samples $s$ of a batch,

    $$\bar x_s = \sum_u g_{s,u} W_{u,i^*_{s,u}}, \qquad
      \bar W_{u,i} = \sum_s [i = i^*_{s,u}]\, g_{s,u}\, x_s, \qquad
      \bar b_{u,i} = \sum_s [i = i^*_{s,u}]\, g_{s,u},$$

    and forward, $\dot h_u = W_{u,i^*} \cdot \dot x + \dot W_{u,i^*} \cdot x + \dot b_{u,i^*}$.

    >>> import numpy as np
    >>> from numba_acts import maxout_jvp, maxout_vjp, maxout_with_index
    >>> h, index = maxout_with_index([[1.0, 4.0, 2.0], [0.0, -1.0, -2.0]])
    >>> maxout_vjp([10.0, 20.0], index, pieces=3)
    array([[ 0., 10.,  0.],
           [20.,  0.,  0.]])
    >>> maxout_jvp([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], index)
    array([0.2, 0.4])

    Special cases
    -------------
    Familiar activations are units whose pieces happen to be fixed:

    >>> from numba_acts import maxout_affine
    >>> x = np.array([[-2.0], [-0.5], [1.0]])
    >>> maxout_affine(x, [[0.0], [1.0]])   # ReLU
    array([0., 0., 1.])
    >>> maxout_affine(x, [[0.01], [1.0]])  # leaky ReLU
    array([-0.02 , -0.005,  1.   ])
    >>> maxout_affine(x, [[1.0], [-1.0]])  # the absolute value
    array([2. , 0.5, 1. ])

    On a closed and bounded set, one unit comes as close as is wanted to any continuous convex
    function, by enough tangents. **Two units suffice for any continuous function**: to within any
    error it is the difference of two convex ones, so $h_1(x) - h_2(x)$ approximates it there, given
    enough pieces [1]_.

    Special values
    --------------
    | given | the maximum | the index |
    |---|---|---|
    | a NaN among the pieces | NaN | the first NaN's |
    | +inf | +inf | its place |
    | −inf beside finite pieces | the largest finite piece | its place |
    | only −inf | −inf | 0 |
    | equal pieces | their value | the first of them |
    | −0.0 and 0.0 | equal: the first one, with its sign | the first of them |
    | no pieces | a ValueError | |
    | no units, an empty batch | an empty array | an empty array |
    | integers, bool | their own dtype, exact | |
    | float16, bfloat16 | exact; affine products are summed in float32 | |

    Use cases
    ---------
    * **An activation that is learned**, in deep networks, for classification and regression that
      are hard and need strong nonlinearity.
    * **Dense layers**: `maxout_affine` in the place of a matrix product and an activation.
    * **Convolutional layers**: the pieces are feature maps, and a group of $k$ maps gives one:
      ``maxout(maps.reshape(n, units, k, h, w), axis=2)``.
    * **With dropout**, for which it was made: dropout averages many thin networks, exactly so where
      the network is linear, and maxout is linear almost everywhere [1]_.
    * **Any maximum with a gradient**: pooling, the best of several candidates, the envelope of
      planes.

    The networks of the paper that introduced it, each with dropout and a softmax at its end [1]_:

    | data | maxout layers | test error |
    |---|---|---|
    | MNIST, pixels in any order | two dense, 240 units of 5 pieces each | 0.94 % |
    | MNIST | three convolutional | 0.45 % |
    | CIFAR-10 | three convolutional, one dense | 11.68 %; 9.38 % with augmentation |
    | CIFAR-100 | the same | 38.57 % |
    | SVHN | three convolutional, one dense | 2.47 % |

    Limitations
    -----------
    * **Parameters.** $k$ times the weights and products of a plain unit, and with them a higher
      risk of overfitting. Without dropout, two pieces a unit are advised.
    * **Computation.** $k$ products for one number; on large data that is felt. The maximum itself
      is bound by memory: fuse it with the products, as `maxout_affine` does.
    * **Dead pieces.** A piece that never wins is never trained. Spread initial weights, and count
      now and then how often each piece wins.
    * **Ties.** Equal pieces, as after an initialisation with zeros, have a kink under every sample,
      and all but the first are dead.
    * **Kinks.** The derivative jumps where the winner changes, and curvature is zero elsewhere:
      second-order methods see nothing of it.

    Textbook
    --------
    >>> def textbook(z, g):
    ...     y = z.max(-1)
    ...     return y, (z == y[..., None]) * g[..., None]

    The maximum is right. The gradient is wrong at ties, which get it several times over, and at
    NaN, which gets none:

    >>> z, g = np.array([[1.0, 2.0, 2.0]]), np.array([1.0])
    >>> textbook(z, g)[1]
    array([[0., 1., 1.]])
    >>> maxout_vjp(g, maxout_with_index(z)[1], pieces=3)
    array([[0., 1., 0.]])

    And NumPy's maximum over a short last axis, two or four pieces, runs at a fraction of the speed
    of memory, for want of vectors that short.

    Equivalents
    -----------
    With flat features, (batch, units · pieces), there are two conventions on which belong together,
    and they give different answers:

    >>> from numba_acts import maxout
    >>> features, units, pieces = np.arange(6.0)[None], 2, 3
    >>> maxout(features.reshape(-1, units, pieces), axis=-1)  # contiguous: neighbours
    array([[2., 5.]])
    >>> maxout(features.reshape(-1, pieces, units), axis=-2)  # strided: units apart
    array([[4., 5.]])

    With features $x$ in groups of $k$, or pieces $z$ on an axis of their own:

    | library | its call | the same here |
    |---|---|---|
    | Chainer | `chainer.functions.maxout(x, k)` | `maxout(x.reshape(n, -1, k))` |
    | Lasagne | `FeaturePoolLayer(incoming, k)` | `maxout(x.reshape(n, -1, k))` |
    | Paddle | `paddle.nn.functional.maxout(x, k)` | `maxout(x.reshape(n, -1, k, h, w), 2)` |
    | TensorFlow Addons | `tfa.layers.Maxout(units)(x)` | `maxout(x.reshape(n, -1, units), 1)` |
    | thinc | `ops.maxout(z)` | `maxout_with_index(z)` |
    | PyTorch | `z.max(-1)` | `maxout_with_index(z)` |
    | JAX | `z.max(-1)` | `maxout(z)` |
    | SciPy, CuPy | none, but `z.max(-1)` | `maxout(z)` |

    Chainer, Lasagne and Paddle group neighbours; Paddle takes images alone, (N, C, H, W). Of $u$
    units, TensorFlow Addons gives each every $u$-th feature. thinc takes three axes of float32 or
    float64. At a tie PyTorch's `max` gives the gradient to one winner, its `amax` and JAX share it
    among all. Chainer, Lasagne and TensorFlow Addons are no longer developed.

    Cost
    ----
    For $U$ units of $k$ pieces over $B$ samples, with $s$ bytes a number:

    | function | operations | memory read and written |
    |---|---|---|
    | `maxout` | $BUk$ comparisons | $s BU(k + 1)$ |
    | `maxout_with_index` | $BUk$ comparisons | the same, and the index: 1 to 8 bytes a unit |
    | `maxout_vjp` | none | $s BU(k + 1)$ and the index |
    | `maxout_jvp` | none | $s BU$ and what it touches of the tangent |
    | `maxout_affine` | $BUkd$ products | $x$, the weights, $s BU$ |
    | `maxout_affine_vjp` | $2BUd$ products, the winners' alone | $x$, the weights, both gradients |

    The affine function never stores its $BUk$ pieces; only the winner's index is kept for the
    gradient.

    References
    ----------
    .. [1] I. J. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville, Y. Bengio, [Maxout
       networks](https://proceedings.mlr.press/v28/goodfellow13.html), ICML 2013, pp. 1319-1327.

    Examples
    --------
    >>> from numba_acts import maxout
    >>> maxout([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]])
    array([[ 3,  6],
           [ 9, 12]])
    >>> maxout([0.5, -1.0])
    np.float64(0.5)
    """
    return hall(x, out).maxout(x, axis, out)


def maxout_with_index(
    x: Any, axis: int = -1, *, index_dtype: Any = np.int32, out: Any = None
) -> Any:
    r"""Take the largest piece of each unit, and say which it was.

    Parameters
    ----------
    x : array_like
        The pieces, of any shape with at least one axis.
    axis : int, default -1
        The axis of the pieces.
    index_dtype : dtype, default numpy.int32
        An integer dtype for the index; int8 is enough for 128 pieces and takes the least memory.
    out : pair of arrays, optional
        Where to put the maxima and the index, of their exact shapes and dtypes.

    Returns
    -------
    y : array
        The maxima, as `maxout` gives them.
    index : array
        The winning piece of each unit, from 0, of the shape of `y`: the first of the largest, or
        the first NaN.

    Raises
    ------
    TypeError
        As for `maxout`; also if `index_dtype` is not an integer dtype or `out` not a pair.
    ValueError
        As for `maxout`; also if `index_dtype` is too narrow for the number of pieces.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    Examples
    --------
    >>> from numba_acts import maxout_with_index
    >>> y, index = maxout_with_index([[1.0, 4.0, 4.0], [0.0, -1.0, -2.0]])
    >>> y, index
    (array([4., 0.]), array([1, 0], dtype=int32))
    """
    found = hall(x, *out) if isinstance(out, tuple) else hall(x, out)
    return found.maxout_with_index(x, axis, index_dtype, out)


def maxout_vjp(g: Any, index: Any, pieces: int, axis: int = -1, *, out: Any = None) -> Any:
    r"""Take a gradient from maxout's result back to its pieces.

    Parameters
    ----------
    g : array_like
        The cotangent, of the shape of maxout's result.
    index : array_like of int
        The winning pieces, from `maxout_with_index`.
    pieces : int
        How many pieces a unit has.
    axis : int, default -1
        Where the pieces axis stands in the result.
    out : array, optional
        Where to put the result, of its exact shape and dtype.

    Returns
    -------
    array
        g at the winning pieces and zeros elsewhere, in the dtype of `g`: for g of shape
        (batch, units), (batch, units, pieces).

    Raises
    ------
    TypeError
        If an array's kind or dtype does not serve, or `pieces` is not an int.
    ValueError
        If `g` and `index` differ in shape, `pieces` is below 1, or `out` is not what the result
        would be.
    IndexError
        If an index is not in [0, pieces).
    numpy.exceptions.AxisError
        If the result has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import maxout_vjp
    >>> maxout_vjp([10.0, 20.0], np.array([1, 0]), 3)
    array([[ 0., 10.,  0.],
           [20.,  0.,  0.]])
    """
    return hall(g, index, out).maxout_vjp(g, index, pieces, axis, out)


def maxout_jvp(t: Any, index: Any, axis: int = -1, *, out: Any = None) -> Any:
    r"""Take a change of maxout's pieces forward to its result: the winners' tangents.

    Parameters
    ----------
    t : array_like
        The tangent: how x changes, of its shape.
    index : array_like of int
        The winning pieces, from `maxout_with_index`.
    axis : int, default -1
        The axis of the pieces in `t`.
    out : array, optional
        Where to put the result, of its exact shape and dtype.

    Returns
    -------
    array
        Of the shape of `index`, in the dtype of `t`.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As for `maxout_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import maxout_jvp
    >>> maxout_jvp([[1.0, 2.0], [3.0, 4.0]], np.array([1, 0]))
    array([2., 3.])
    """
    return hall(t, index, out).maxout_jvp(t, index, axis, out)


def maxout_jacobian(
    index: Any, pieces: int, axis: int = -1, *, dtype: Any = np.float64, out: Any = None
) -> Any:
    r"""Write out the derivative of each unit by its pieces: one at the winner, else zero.

    Parameters
    ----------
    index : array_like of int
        The winning pieces, from `maxout_with_index`.
    pieces : int
        How many pieces a unit has.
    axis : int, default -1
        Where the pieces axis stands in the result.
    dtype : dtype, default numpy.float64
        The dtype of the result.
    out : array, optional
        Where to put the result, of its exact shape and dtype.

    Returns
    -------
    array
        One-hot, of the shape of x: units do not touch each other, and the zeros between them are
        left out.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As for `maxout_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import maxout_jacobian
    >>> maxout_jacobian(np.array([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    return hall(index, out).maxout_jacobian(index, pieces, axis, dtype, out)


def maxout_affine(x: Any, weight: Any, bias: Any = None, *, out: Any = None) -> Any:
    r"""Compute a layer of maxout units: the largest of several affine maps.

    Parameters
    ----------
    x : array_like
        Inputs, (..., d). Not all of the arguments may be bool, which has no sum.
    weight : array_like
        (units, pieces, d), or (pieces, d) for one unit alone.
    bias : array_like, optional
        (units, pieces), or (pieces,) for one unit.
    out : array, optional
        Where to put the result, of its exact shape and dtype.

    Returns
    -------
    array
        $y_u = \max_i\,(W_{u,i} \cdot x + b_{u,i})$, (..., units), or (...) for one unit. Integers
        stay integers; floats of different dtypes meet in the wider.

    Raises
    ------
    TypeError
        As for `maxout`.
    ValueError
        If the shapes do not fit each other, there are no pieces, or `out` is not what the result
        would be.

    See Also
    --------
    maxout : The formula, its derivative, what it is good for and what not.

    Notes
    -----
    The pieces of a few rows of `x` are made in cache, and the maximum follows at once: the array of
    (..., units, pieces) never exists. A product is summed in the order of d, in parts of at most
    256 numbers that are added up, in float32 for sixteen-bit floats and in the dtype itself
    otherwise, so a row has the same result, bit for bit, alone and in any batch.

    On a GPU the products are PyTorch's or CuPy's, with the exactness that was chosen there. As they
    come, that is full float32. After ``torch.set_float32_matmul_precision("high")``, or with
    ``CUPY_TF32=1``, factors are rounded to TF32, which has 11 bits, in the derivatives too.

    Examples
    --------
    The absolute value as a unit of two pieces:

    >>> import numpy as np
    >>> from numba_acts import maxout_affine
    >>> maxout_affine(np.array([[-2.0], [0.5]]), np.array([[1.0], [-1.0]]))
    array([2. , 0.5])
    """
    return hall(x, weight, bias, out).maxout_affine(x, weight, bias, False, None, out)


def maxout_affine_with_index(
    x: Any, weight: Any, bias: Any = None, *, index_dtype: Any = np.int32, out: Any = None
) -> Any:
    r"""Compute a layer of maxout units, and say which piece of each won.

    Parameters
    ----------
    x : array_like
        Inputs, (..., d).
    weight : array_like
        (units, pieces, d), or (pieces, d) for one unit alone.
    bias : array_like, optional
        (units, pieces), or (pieces,) for one unit.
    index_dtype : dtype, default numpy.int32
        An integer dtype for the index.
    out : pair of arrays, optional
        Where to put the maxima and the index, of their exact shapes and dtypes.

    Returns
    -------
    y : array
        As `maxout_affine` gives it.
    index : array
        The winning pieces, of the shape of `y`. They depend on the unit and on the sample.

    Raises
    ------
    TypeError, ValueError
        As for `maxout_affine` and `maxout_with_index`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import maxout_affine_with_index
    >>> maxout_affine_with_index(np.array([[-2.0], [0.5]]), np.array([[1.0], [-1.0]]))
    (array([2. , 0.5]), array([1, 0], dtype=int32))
    """
    found = hall(x, weight, bias, *out) if isinstance(out, tuple) else hall(x, weight, bias, out)
    return found.maxout_affine(x, weight, bias, True, index_dtype, out)


def maxout_affine_vjp(g: Any, x: Any, weight: Any, index: Any) -> Any:
    r"""Take a gradient from a layer of maxout units back to its inputs, weights and biases.

    Parameters
    ----------
    g : array_like
        The cotangent, of the shape of the result: (..., units), or (...) for one unit.
    x : array_like
        Inputs, (..., d).
    weight : array_like
        (units, pieces, d), or (pieces, d) for one unit alone.
    index : array_like of int
        The winning pieces, from `maxout_affine_with_index`.

    Returns
    -------
    dx : array
        $\sum_u g_u W_{u,i^*_u}$, of the shape of `x`.
    dweight : array
        $[i = i^*_u]\, g_u x$, summed over the batch, of the shape of `weight`.
    dbias : array
        $[i = i^*_u]\, g_u$, summed over the batch, (units, pieces) or (pieces,).

    Raises
    ------
    TypeError
        If an array's kind or dtype does not serve.
    ValueError
        If the shapes do not fit each other.
    IndexError
        If an index is not in [0, pieces).

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import maxout_affine_vjp
    >>> x, weight = np.array([[-2.0], [0.5]]), np.array([[1.0], [-1.0]])
    >>> dx, dweight, dbias = maxout_affine_vjp(np.ones(2), x, weight, np.array([1, 0]))
    >>> dx.ravel(), dweight.ravel(), dbias
    (array([-1.,  1.]), array([ 0.5, -2. ]), array([1., 1.]))
    """
    return hall(g, x, weight, index).maxout_affine_vjp(g, x, weight, index)


def maxout_affine_jvp(
    x: Any, weight: Any, index: Any, *, dx: Any = None, dweight: Any = None, dbias: Any = None
) -> Any:
    r"""Take changes of a layer's inputs, weights and biases forward to its result.

    Parameters
    ----------
    x : array_like
        Inputs, (..., d).
    weight : array_like
        (units, pieces, d), or (pieces, d) for one unit alone.
    index : array_like of int
        The winning pieces, from `maxout_affine_with_index`.
    dx, dweight, dbias : array_like, optional
        Tangents, of the shapes of `x`, `weight` and the bias. One that is left out is zero.

    Returns
    -------
    array
        $W_{u,i^*} \cdot \dot x + \dot W_{u,i^*} \cdot x + \dot b_{u,i^*}$, (..., units) or (...).

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `maxout_affine_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import maxout_affine_jvp
    >>> x, weight = np.array([[-2.0], [0.5]]), np.array([[1.0], [-1.0]])
    >>> maxout_affine_jvp(x, weight, np.array([1, 0]), dx=np.ones((2, 1)))
    array([-1.,  1.])
    """
    found = hall(x, weight, index, dx, dweight, dbias)
    return found.maxout_affine_jvp(x, weight, index, dx, dweight, dbias)


def maxout_affine_jacobian(weight: Any, index: Any) -> Any:
    r"""Write out the derivative of a layer's results by its inputs: the winners' weights.

    Parameters
    ----------
    weight : array_like
        (units, pieces, d), or (pieces, d) for one unit alone.
    index : array_like of int
        The winning pieces, (..., units), or (...) for one unit.

    Returns
    -------
    array
        $\partial y_u/\partial x = W_{u,i^*_u}$, (..., units, d), or (..., d) for one unit.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `maxout_affine_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import maxout_affine_jacobian
    >>> maxout_affine_jacobian(np.array([[1.0], [-1.0]]), np.array([1, 0]))
    array([[-1.],
           [ 1.]])
    """
    return hall(weight, index).maxout_affine_jacobian(weight, index)
