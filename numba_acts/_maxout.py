"""Maxout: the largest of the pieces of a unit, ready-made or of an affine map."""

from typing import Any

import numpy as np

from numba_acts._halls.door import hall


def maxout(x: Any, axis: int = -1, *, out: Any = None) -> Any:
    r"""Take the largest piece of each unit.

    Parameters
    ----------
    x : array_like
        The pieces, of any shape with at least one axis, for instance (batch, units, pieces).
        float16, bfloat16, float32, float64, integers or bool.
    axis : int, default -1
        The axis of the pieces, which the result does not have.
    out : array, optional
        An array of exactly the result's shape and dtype to write to.

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
        If there are no pieces, or `out` does not match the result.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    See Also
    --------
    maxout_with_index : Also which piece won, which the derivatives need.
    maxout_affine : The whole unit, including its affine map.

    Notes
    -----
    Edge cases are as in `numpy.max`, and the same on every machine: a NaN anywhere makes the
    maximum NaN; of equal pieces the first wins, where −0.0 equals 0.0; an infinity is a number like
    any other. Nothing is rounded: a maximum is one of the pieces, bit for bit.

    Formula
    -------
    A maxout unit with $k$ pieces, weights $W_i \in \mathbb{R}^d$ and biases $b_i$ is

    $$h(x) = \max_{i \in [1, k]} z_i, \qquad z_i = W_i \cdot x + b_i.$$

    A layer has a weight of shape (units, pieces, d), and the maximum is taken for each unit $u$ and
    each sample: $h_u(x) = \max_i (W_{u,i} \cdot x + b_{u,i})$. `maxout` takes the pieces $z$
    ready-made, from a matrix product or a convolution; `maxout_affine` computes them as well.

    The maximum of affine functions is convex and piecewise linear. Since the pieces are learned, so
    is the shape of the activation, which adapts to the data. Nothing in its construction makes it
    saturate, as a sigmoid does, and that mitigates vanishing gradients: where the winning piece has
    a slope, the gradient passes with it. A piece of slope zero does saturate; ReLU has one.

    Derivative
    ----------
    Where one piece is larger than all others, it remains so in a neighbourhood, and there the unit
    *is* that piece. Hence only the winner matters: with $i^* = \min \arg\max_i z_i$,

    $$\frac{\partial h}{\partial z_i} = [i = i^*],
      \qquad \frac{\partial h}{\partial x} = W_{i^*},
      \qquad \frac{\partial h}{\partial W_i} = [i = i^*]\, x,
      \qquad \frac{\partial h}{\partial b_i} = [i = i^*].$$

    A bracket $[P]$ is 1 where $P$ is true and 0 elsewhere. The winner depends on the unit *and* on
    the sample. At a tie the function has a kink; every convex combination of the winners' gradients
    is a subgradient there, whereas giving each of them the full gradient is not. Here the first
    winner receives all of it. The second derivative in $x$ is zero wherever it exists; the mixed
    one, in $x$ and $W_{i^*}$, is not.

    By hand
    -------
    One unit with three pieces over two inputs, at $x = (2, -1)$:

    $$W = \begin{pmatrix} 1 & 1 \\ 2 & 0 \\ 0 & -3 \end{pmatrix}, \qquad
      b = \begin{pmatrix} 0 \\ 1 \\ 0 \end{pmatrix}, \qquad
      z = W x + b = \begin{pmatrix} 1 \\ 5 \\ 3 \end{pmatrix}.$$

    The second piece wins, and $h = 5$. For a loss with $\partial L/\partial h = 10$ the gradient
    with respect to $x$ is ten times the winner's weights, $(20, 0)$; the winner's weights receive
    $10\,x = (20, -10)$ and its bias 10, the other pieces nothing.

    >>> import numpy as np
    >>> from numba_acts import maxout_affine_vjp, maxout_affine_with_index
    >>> x = np.array([2.0, -1.0])
    >>> weight, bias = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, -3.0]]), np.array([0.0, 1.0, 0.0])
    >>> h, index = maxout_affine_with_index(x, weight, bias)
    >>> h, index
    (np.float64(5.0), np.int32(1))
    >>> dx, dweight, dbias = maxout_affine_vjp(np.float64(10), x, weight, index)
    >>> dx, dweight, dbias
    (array([20.,  0.]), array([[  0.,   0.],
           [ 20., -10.],
           [  0.,   0.]]), array([ 0., 10.,  0.]))

    Products
    --------
    The forward pass saves the index $i^*$, and from that both products follow without arithmetic.
    With a cotangent $g$ of $h$ and a tangent $t$ of $z$,

    $$\bar z_i = [i = i^*]\, g, \qquad \dot h = t_{i^*}.$$

    For a layer, summed over the samples $s$ of a batch,

    $$\bar x_s = \sum_u g_{s,u} W_{u,i^*_{s,u}}, \qquad
      \bar W_{u,i} = \sum_s [i = i^*_{s,u}]\, g_{s,u}\, x_s, \qquad
      \bar b_{u,i} = \sum_s [i = i^*_{s,u}]\, g_{s,u},$$

    and forward, $\dot h_u = W_{u,i^*} \cdot \dot x + \dot W_{u,i^*} \cdot x + \dot b_{u,i^*}$.

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

    On a closed, bounded and convex set, one unit with enough pieces approximates any continuous
    convex function to any accuracy, as the maximum of finitely many planes that support its graph.
    **Two units suffice for any continuous function** there: up to any error it is the difference of
    two convex functions, so $h_1(x) - h_2(x)$ approximates it, given enough pieces [1]_.

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
    * **An activation that is learned**, in deep networks, for hard classification and regression
      problems that need strong nonlinearity.
    * **Dense layers**: `maxout_affine` in place of a matrix product and an activation.
    * **Convolutional layers**: the pieces are feature maps, and a group of $k$ maps gives one:
      ``maxout(maps.reshape(n, units, k, h, w), axis=2)``.
    * **With dropout**, for which it was designed: dropout trains many thinned networks and replaces
      their average by one network with scaled weights. For a linear network with a softmax this is
      exact; maxout is linear almost everywhere, and the approximation is good in practice [1]_.
    * **Any maximum with a gradient**: pooling, the best of several candidates, the envelope of
      planes.

    The networks of the paper that introduced it, each with dropout and a final softmax [1]_:

    | data | maxout layers | test error |
    |---|---|---|
    | MNIST, permutation-invariant | two dense, 240 units of 5 pieces each [2]_ | 0.94 % |
    | MNIST | three convolutional | 0.45 % |
    | CIFAR-10 | three convolutional, one dense | 11.68 %; 9.38 % with augmentation |
    | CIFAR-100 | the same | 38.57 % |
    | SVHN | three convolutional, one dense | 2.47 % |

    Limitations
    -----------
    * **Parameters.** It has $k$ times the weights and products of a plain unit, and so a higher
      risk of overfitting: it needs more regularisation than a rectifier. Without any it works if
      the training set is large and the pieces are few [3]_.
    * **Computation.** $k$ products for each result, which is noticeable on large data. The maximum
      by itself is limited by memory: fuse it with the products, as `maxout_affine` does.
    * **Dead pieces.** A piece that never wins is never trained. Spread the initial weights, and
      count from time to time how often each piece wins.
    * **Ties.** Pieces with equal weights and biases, as after an initialisation with zeros, tie for
      every sample. In that step only the first is trained; a step that changes it ends the tie.
    * **Kinks.** The derivative jumps where the winner changes, and the curvature in $x$ is zero
      elsewhere: what second-order methods use comes from the loss and from products of layers, not
      from the activation.

    Textbook
    --------
    >>> def textbook(z, g):
    ...     y = z.max(-1)
    ...     return y, (z == y[..., None]) * g[..., None]

    The maximum is right. The gradient is wrong at ties, where every winner gets all of it, and at
    a NaN, where none gets any:

    >>> z, g = np.array([[1.0, 2.0, 2.0]]), np.array([1.0])
    >>> textbook(z, g)[1]
    array([[0., 1., 1.]])
    >>> maxout_vjp(g, maxout_with_index(z)[1], pieces=3)
    array([[0., 1., 0.]])

    And over a short last axis of two or four pieces, NumPy's maximum is far from the speed of
    memory, because it has no vectors that short.

    Equivalents
    -----------
    For flat features, (batch, units · pieces), there are two conventions as to which belong
    together, and they give different results:

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
    | Paddle, channels last | `F.maxout(x, k, axis=-1)` | `maxout(x.reshape(n, h, w, -1, k))` |
    | TensorFlow Addons | `tfa.layers.Maxout(units)(x)` | `maxout(x.reshape(n, -1, units), 1)` |
    | thinc | `ops.maxout(z)` | `maxout_with_index(z)` |
    | PyTorch | `z.max(-1)` | `maxout_with_index(z)` |
    | JAX | `z.max(-1)` | `maxout(z)` |
    | SciPy, CuPy | none, but `z.max(-1)` | `maxout(z)` |

    Chainer, Lasagne and Paddle group neighbours; Paddle takes images only, (N, C, H, W) or
    (N, H, W, C). TensorFlow Addons gives each of $u$ units every $u$-th feature. thinc takes three
    axes of float32 or float64. At a tie PyTorch's `max` gives the gradient to one winner; its
    `amax` and JAX share it among all. Chainer, Lasagne and TensorFlow Addons are no longer
    developed.

    Cost
    ----
    For $U$ units of $k$ pieces over $B$ samples, with $s$ bytes per number:

    | function | operations | memory read and written |
    |---|---|---|
    | `maxout` | $BUk$ comparisons | $s BU(k + 1)$ |
    | `maxout_with_index` | $BUk$ comparisons | the same, and the index: 1 to 8 bytes per unit |
    | `maxout_vjp` | none | $s BU(k + 1)$ and the index |
    | `maxout_jvp` | none | $s BU$ and the parts of the tangent that it selects |
    | `maxout_affine` | $BUkd$ products | $x$, the weights, $s BU$ |
    | `maxout_affine_vjp` | $2BUd$ products, the winners' only | $x$, the weights, both gradients |

    The affine function never stores its $BUk$ pieces; only the winner's index is kept for the
    gradient.

    References
    ----------
    .. [1] I. J. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville, Y. Bengio, [Maxout
       networks](https://proceedings.mlr.press/v28/goodfellow13.html), ICML 2013, pp. 1319-1327.
    .. [2] The numbers of units and pieces are those of the authors' own program,
       [mnist_pi.yaml](https://github.com/lisa-lab/pylearn2/blob/master/pylearn2/scripts/papers/maxout/mnist_pi.yaml);
       the paper itself does not give them.
    .. [3] I. Goodfellow, Y. Bengio, A. Courville, [Deep
       Learning](https://www.deeplearningbook.org/contents/mlp.html), MIT Press, 2016, section
       6.3.1.

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
    r"""Take the largest piece of each unit, and its index.

    Parameters
    ----------
    x : array_like
        The pieces, of any shape with at least one axis.
    axis : int, default -1
        The axis of the pieces.
    index_dtype : dtype, default numpy.int32
        An integer dtype for the index; int8 suffices for 128 pieces and takes the least memory.
    out : pair of arrays, optional
        Arrays of exactly the shapes and dtypes of the maxima and the index to write to.

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
        The position of the axis of pieces in the result.
    out : array, optional
        An array of exactly the result's shape and dtype to write to.

    Returns
    -------
    array
        g at the winning pieces and zeros elsewhere, in the dtype of `g`: (batch, units, pieces)
        for g of shape (batch, units).

    Raises
    ------
    TypeError
        If an array's kind or dtype is not supported, or `pieces` is not an int.
    ValueError
        If `g` and `index` differ in shape, `pieces` is below 1, or `out` does not match the result.
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
        The tangent: how x changes, of the shape of x.
    index : array_like of int
        The winning pieces, from `maxout_with_index`.
    axis : int, default -1
        The axis of the pieces in `t`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to.

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
    r"""Give the derivative of each unit with respect to its pieces: one at the winner, else zero.

    Parameters
    ----------
    index : array_like of int
        The winning pieces, from `maxout_with_index`.
    pieces : int
        How many pieces a unit has.
    axis : int, default -1
        The position of the axis of pieces in the result.
    dtype : dtype, default numpy.float64
        The dtype of the result.
    out : array, optional
        An array of exactly the result's shape and dtype to write to.

    Returns
    -------
    array
        One-hot, of the shape of x: units do not interact, and the zeros between them are left out.

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
        Inputs, (..., d). Not all of the arguments may be bool, for which sums are not defined.
    weight : array_like
        (units, pieces, d), or (pieces, d) for one unit alone.
    bias : array_like, optional
        (units, pieces), or (pieces,) for one unit.
    out : array, optional
        An array of exactly the result's shape and dtype to write to.

    Returns
    -------
    array
        $y_u = \max_i\,(W_{u,i} \cdot x + b_{u,i})$, (..., units), or (...) for one unit. Integers
        stay integers; floats of different dtypes give the wider.

    Raises
    ------
    TypeError
        As for `maxout`.
    ValueError
        If the shapes do not match each other, there are no pieces, or `out` does not match the
        result.

    See Also
    --------
    maxout : The formula, its derivative, its uses and limitations.

    Notes
    -----
    The pieces of a few rows of `x` are computed in cache, and their maximum follows at once: the
    array of (..., units, pieces) never exists. A product is summed in the order of d, in parts of
    at most 256 numbers that are then added up, in float32 for 16-bit floats and in the dtype itself
    otherwise. A row therefore has the same result, bit for bit, alone and in any batch.

    On a GPU the products are PyTorch's or CuPy's, with the precision that is set there. The default
    is full float32. After ``torch.set_float32_matmul_precision("high")``, or with ``CUPY_TF32=1``,
    factors are rounded to TF32, which has 11 bits, in the derivatives too.

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
    r"""Compute a layer of maxout units, and the index of the piece that won in each.

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
        Arrays of exactly the shapes and dtypes of the maxima and the index to write to.

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
        If an array's kind or dtype is not supported.
    ValueError
        If the shapes do not match each other.
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
    r"""Give the derivative of a layer's results with respect to its inputs: the winners' weights.

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
