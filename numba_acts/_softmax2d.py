"""Softmax2d: a distribution over the channels at every position of an image."""

from typing import Any

from numba_acts._halls import rules
from numba_acts._halls.door import hall
from numba_acts._halls.rules import inverse_temperature


def softmax2d(
    x: Any,
    *,
    channel_axis: int = -3,
    temperature: float = 1.0,
    where: Any = None,
    out: Any = None,
) -> Any:
    r"""Give every position of an image a distribution over its channels.

    Parameters
    ----------
    x : array_like
        Logits, (C, H, W) or (N, C, H, W), or with channels last (H, W, C) or (N, H, W, C).
        float16, bfloat16, float32, float64, integers or bool.
    channel_axis : -3 or -1, default -3
        Where the channels are.
    temperature : float, default 1.0
        T > 0; logits are divided by it. Above 1 it softens a distribution (calibration), below 1
        it sharpens one.
    where : array_like of bool, optional
        A mask that broadcasts to `x`: entries where it is False get probability 0. A position
        that is masked entirely gives zeros.
    out : array, optional
        An array of exactly the result's shape and dtype to write to. ``out=x`` computes in place.

    Returns
    -------
    array
        Probabilities in [0, 1] with the shape of `x`, in the same kind of array and the same
        dtype; integers and bool give float64.

    Raises
    ------
    TypeError
        If `x` is complex, an object, text, a date, a masked array or a tensor that requires grad.
    ValueError
        If `x` does not have three or four axes, `channel_axis` is neither -3 nor -1, `temperature`
        is not finite and positive, `where` does not broadcast to `x`, or `out` does not match the
        result.

    See Also
    --------
    softmax2d_vjp : The product of its derivative with a cotangent.
    softmax2d_jacobian : The full derivative, as a matrix for each position.
    softmin : The same formula with the opposite sign, along any axis.

    Notes
    -----
    Every probability is within ``4 eps (1 + |x − max x|/T)`` of its true value, relative to that
    value, for up to a million channels, where eps is that of float32 or float64; 16-bit results are
    rounded once more. There is one known exception, by a factor of 1.13: very many equal float32
    logits, 8 to 10 temperatures below a single maximum. A position has the same result, bit for
    bit, whatever else is in the array.

    Formula
    -------
    At every position $(h, w)$, with the temperature $T$,

    $$y_{c,h,w} = \frac{e^{(x_{c,h,w} - m_{h,w})/T}}{\sum_k e^{(x_{k,h,w} - m_{h,w})/T}},
      \qquad m_{h,w} = \max_k x_{k,h,w}.$$

    Softmax turns $C$ real numbers into $C$ probabilities, which lie in [0, 1] and sum to 1;
    softmax2d does this at each position separately. The exponential sharpens the differences
    between classes. The shift by the maximum $m$ cancels, and keeps the exponential from
    overflowing [5]_.

    This is not the "spatial softmax", whose sum runs over the H × W positions of one channel. That
    is ``softmin(-x, axis=(-2, -1))``.

    Derivative
    ----------
    At one position, $\log y_c = x_c/T - \log \sum_k e^{x_k/T}$. Differentiated with respect to
    $x_k$, the first term gives $\delta_{ck}/T$, the second $-y_k/T$. Since
    $\partial y_c = y_c\, \partial \log y_c$,

    $$\frac{\partial y_{c,h,w}}{\partial x_{k,h,w}}
      = \frac{y_{c,h,w}\,(\delta_{ck} - y_{k,h,w})}{T},
      \qquad
      \frac{\partial y_{c,h,w}}{\partial x_{k,h',w'}} = 0
      \quad\bigl((h', w') \ne (h, w)\bigr).$$

    Positions do not interact: of the $(CHW)^2$ derivatives of an image only $H W$ symmetric blocks
    of $C \times C$ are not zero, and only those are ever stored. In each block the rows and the
    columns sum to 0.

    By hand
    -------
    Take one position with three classes, the logits $x = (0, \log 2, \log 5)$ and $T = 1$. The
    exponentials are 1, 2 and 5, so $y = (1, 2, 5)/8$, and with $y_c (\delta_{ck} - y_k)$ in 64ths
    its block is

    $$J = \frac{1}{64} \begin{pmatrix}
      8 - 1 & -2 & -5 \\ -2 & 16 - 4 & -10 \\ -5 & -10 & 40 - 25
      \end{pmatrix} = \frac{1}{64} \begin{pmatrix}
      7 & -2 & -5 \\ -2 & 12 & -10 \\ -5 & -10 & 15
      \end{pmatrix}.$$

    If the second class is the true one, the cross-entropy $-\log y_2$ has the cotangent
    $g = (0, -4, 0)$, and $\bar x = J^\top g = (8, -48, 40)/64 = (1, -6, 5)/8$: that is $y$ minus
    the one-hot label.

    >>> import numpy as np
    >>> from numba_acts import softmax2d, softmax2d_jacobian, softmax2d_vjp
    >>> y = softmax2d(np.log([1.0, 2.0, 5.0]).reshape(3, 1, 1))
    >>> (64 * softmax2d_jacobian(y)[:, :, 0, 0]).round(9)
    array([[  7.,  -2.,  -5.],
           [ -2.,  12., -10.],
           [ -5., -10.,  15.]])
    >>> g = np.array([0.0, -4.0, 0.0]).reshape(3, 1, 1)
    >>> (8 * softmax2d_vjp(g, y)).ravel().round(9)
    array([ 1., -6.,  5.])

    Products
    --------
    The chain rule needs no block in full. With the cotangent $g = \partial L/\partial y$,

    $$\bar x_{k} = \sum_c g_c\, \frac{y_c (\delta_{ck} - y_k)}{T}
      = \tfrac1T\, y_k \Big(g_k - \sum_c g_c y_c\Big)$$

    at each position, in one reading of $g$ and $y$; for a tangent $t$ it is the same with $t$ in
    place of $g$, as each block is symmetric. For the cross-entropy of a pixel with the label
    $\ell$, where $g = -e_\ell/y_\ell$ and $e_\ell$ is the one-hot vector of the label, it becomes
    $\bar x = (y - e_\ell)/T$.

    >>> x, g = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    >>> y = softmax2d(x)
    >>> blocks = softmax2d_jacobian(y)  # (output channel, input channel, H, W)
    >>> np.allclose(np.einsum("ckhw,chw->khw", blocks, g), softmax2d_vjp(g, y))
    True

    Diagonal
    --------
    The derivative of a probability with respect to its own logit is $y_c(1 - y_c)/T$. It is
    largest, $1/(4T)$, where the probability is one half: it maps where a decision may still tip. As
    a gradient it would ignore what a logit takes from all other classes: with $g = 1$ the true
    product is 0 everywhere.

    Special values
    --------------
    Each case follows from the formula in IEEE arithmetic; masks are the only exception.

    | given | its probabilities |
    |---|---|
    | a NaN in the channels of a position | all NaN at that position, and there alone |
    | −inf beside finite numbers | 0 for the −inf, the others share the rest |
    | only −inf | all NaN |
    | a +inf | all NaN |
    | entries masked by `where` | 0, whatever they hold, NaN included |
    | a position masked entirely | all 0, and so is its gradient for a finite $g$ |
    | an empty array | an empty array of its shape |
    | a single channel | 1 everywhere |
    | integers, bool | converted to float64 before anything is subtracted |
    | float16, bfloat16 | computed in float32 and rounded once |
    | two axes, or five | a ValueError: three axes mean (C, H, W), never a batch |

    A NaN or an infinity in the cotangent $g$ makes the product NaN in all channels of its position,
    also at an entry of probability 0, masked or not, since $0 \cdot \infty$ is NaN. A loss with
    $\log y$ in it has such a cotangent; ``np.where(mask, g, 0)`` makes it safe.

    Use cases
    ---------
    * **Semantic segmentation**: the last layer of a fully convolutional network, one class for
      each pixel [1]_ [2]_, for instance on features of a residual network [3]_.
    * **Any other choice among channels at each position**: depth bins, candidates for optical
      flow, parts of a body.
    * **Calibration**: a temperature fitted on held-out images, usually above 1, makes the
      probabilities mean what they say, and changes no decision [4]_.
    * **Uncertainty maps**: the entropy of a position's probabilities, or one minus the largest,
      shows where a segmentation should not be trusted.
    * **Soft clustering** of pixels, with negative squared distances to the centres as logits.

    Limitations
    -----------
    * **Memory.** Time and memory grow with classes times pixels: 150 classes at 512 × 512 take
      157 MB in float32, and as much again for a gradient. Where only the label is needed, take
      `argmax` of the logits.
    * **Imbalance.** It favours frequent classes, as the logits trained on them do. Weights in the
      loss, sampling, or logits shifted by the logarithm of the class frequencies compensate.
    * **Calibration.** The probabilities of large networks are often overconfident: check them
      before relying on them.
    * **Neighbours.** It ignores neighbouring positions: smooth maps are up to the network, or to a
      later step such as a random field.

    Textbook
    --------
    With the shift, as it is usually written:

    >>> def textbook(x):
    ...     e = np.exp(x - x.max(0))
    ...     return e / e.sum(0)

    For one image in float32 this is right, in five passes over memory. For a batch it is silently
    wrong, because axis 0 is no longer the channels:

    >>> batch = np.zeros((2, 3, 4, 4), np.float32)
    >>> textbook(batch)[0, :, 0, 0], softmax2d(batch)[0, :, 0, 0].round(4)
    (array([0.5, 0.5, 0.5], dtype=float32), array([0.3333, 0.3333, 0.3333], dtype=float32))

    Unsigned integers wrap around when the maximum is subtracted from them:

    >>> votes = np.uint8([0, 1, 2]).reshape(3, 1, 1)
    >>> with np.errstate(all="ignore"):
    ...     textbook(votes).ravel(), softmax2d(votes).ravel().round(4)
    (array([nan, nan,  0.], dtype=float16), array([0.09  , 0.2447, 0.6652]))

    Half precision is rounded at every step and summed in half precision.

    Equivalents
    -----------
    | library | call | what differs |
    |---|---|---|
    | PyTorch | `torch.nn.Softmax2d()(x)` | no temperature, no mask |
    | JAX | `jax.nn.softmax(x / T, axis=-3, where=mask)` | |
    | SciPy | `scipy.special.softmax(x / T, axis=-3)` | no mask |
    | CuPy | `cupyx.scipy.special.softmax(x / T, axis=-3)` | no mask, no gradient |
    | TensorFlow | `tf.nn.softmax(x / T, axis=-1)` | channels last: here `channel_axis=-1` |
    | Keras | `keras.layers.Softmax(axis=-1)(x / T, mask)` | old versions: all masked sums to 1 |
    | Paddle | `paddle.nn.Softmax2D()(x)` | no temperature, no mask |
    | Chainer | `chainer.functions.softmax(x / T, axis=1)` | no mask; no longer developed |
    | thinc | `ops.softmax(x, axis=-3, temperature=T)` | single-threaded, no mask |

    TensorFlow Addons has no equivalent.

    Cost
    ----
    For $N$ images of $C$ channels and $P = HW$ positions, with $s$ bytes per number:

    | function | operations | memory read and written |
    |---|---|---|
    | `softmax2d` | $O(NCP)$ | $2 s NCP$: one reading, one writing |
    | `softmax2d_vjp`, `softmax2d_jvp` | $O(NCP)$ | $3 s NCP$ |
    | `softmax2d_jacobian_diag` | $O(NCP)$ | $2 s NCP$ |
    | `softmax2d_jacobian` | $O(NC^2P)$ | $s NC^2P$ and a little more |

    Channels are $P$ numbers apart in memory, which makes a reduction over them slow elsewhere. Here
    a few positions at a time go through a small buffer in cache, whose size does not depend on the
    image.

    References
    ----------
    .. [1] J. Long, E. Shelhamer, T. Darrell, [Fully convolutional networks for semantic
       segmentation](https://doi.org/10.1109/CVPR.2015.7298965), CVPR 2015, pp. 3431-3440.
    .. [2] L.-C. Chen, G. Papandreou, I. Kokkinos, K. Murphy, A. L. Yuille, [DeepLab: semantic image
       segmentation with deep convolutional nets, atrous convolution, and fully connected
       CRFs](https://doi.org/10.1109/TPAMI.2017.2699184), IEEE TPAMI 40(4), 834-848, 2018.
    .. [3] K. He, X. Zhang, S. Ren, J. Sun, [Deep residual learning for image
       recognition](https://doi.org/10.1109/CVPR.2016.90), CVPR 2016, pp. 770-778.
    .. [4] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, [On calibration of modern neural
       networks](https://proceedings.mlr.press/v70/guo17a.html), ICML 2017, pp. 1321-1330.
    .. [5] P. Blanchard, D. J. Higham, N. J. Higham, [Accurately computing the log-sum-exp and
       softmax functions](https://doi.org/10.1093/imanum/draa038), IMA Journal of Numerical Analysis
       41(4), 2311-2330, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import softmax2d
    >>> x = np.zeros((3, 4, 4))
    >>> x[0, 0, 0] = np.log(2)
    >>> y = softmax2d(x)
    >>> y[:, 0, 0]
    array([0.5 , 0.25, 0.25])
    >>> np.allclose(y.sum(axis=0), 1)
    True
    """
    axis = _channels("x", x, channel_axis)
    return hall(x, where, out).softmax(x, axis, inverse_temperature(temperature), where, out)


def softmax2d_vjp(
    g: Any, y: Any, *, channel_axis: int = -3, temperature: float = 1.0, out: Any = None
) -> Any:
    r"""Take a gradient from softmax2d's result back to its argument: dx = Jᵀg.

    Parameters
    ----------
    g : array_like
        The cotangent: the derivative of a loss with respect to each probability, of the shape of
        `y`.
    y : array_like
        What `softmax2d` returned.
    channel_axis : -3 or -1, default -3
        As for `softmax2d`.
    temperature : float, default 1.0
        As for `softmax2d`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to; ``out=g`` and ``out=y`` are
        allowed.

    Returns
    -------
    array
        The derivative of the loss with respect to x, of the shape and dtype of `y`; if the dtypes
        of `g` and `y` differ, in the wider. A position that was masked entirely gets zeros where
        `g` is finite.

    Raises
    ------
    TypeError, ValueError
        As for `softmax2d`; also if `g` and `y` differ in shape.

    Notes
    -----
    $\bar x = \tfrac1T\, y \odot (g - \langle g, y \rangle)$ in one reading of g and y. `g` must be
    finite wherever `y` is 0, masked entries included; ``np.where(mask, g, 0)`` makes it so.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import softmax2d, softmax2d_vjp
    >>> y = softmax2d(np.zeros((2, 1, 1)))
    >>> g = np.array([1.0, 0.0]).reshape(2, 1, 1)
    >>> softmax2d_vjp(g, y).ravel()
    array([ 0.25, -0.25])
    """
    axis = _channels("y", y, channel_axis)
    return hall(g, y, out).softmax_product("g", g, y, axis, inverse_temperature(temperature), out)


def softmax2d_jvp(
    t: Any, y: Any, *, channel_axis: int = -3, temperature: float = 1.0, out: Any = None
) -> Any:
    r"""Take a change of softmax2d's argument forward to its result: dy = Jt.

    Parameters
    ----------
    t : array_like
        The tangent: how x changes, of the shape of `y`.
    y : array_like
        What `softmax2d` returned.
    channel_axis : -3 or -1, default -3
        As for `softmax2d`.
    temperature : float, default 1.0
        As for `softmax2d`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to; ``out=t`` and ``out=y`` are
        allowed.

    Returns
    -------
    array
        The change of the probabilities. J is symmetric: this is `softmax2d_vjp` of t.

    Raises
    ------
    TypeError, ValueError
        As for `softmax2d`; also if `t` and `y` differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import softmax2d, softmax2d_jvp
    >>> y = softmax2d(np.zeros((2, 1, 1)))
    >>> softmax2d_jvp(np.ones((2, 1, 1)), y).ravel()
    array([0., 0.])
    """
    axis = _channels("y", y, channel_axis)
    return hall(t, y, out).softmax_product("t", t, y, axis, inverse_temperature(temperature), out)


def softmax2d_jacobian(
    y: Any, *, channel_axis: int = -3, temperature: float = 1.0, out: Any = None
) -> Any:
    r"""Give softmax2d's Jacobian: at each position, a matrix of channels by channels.

    Parameters
    ----------
    y : array_like
        What `softmax2d` returned.
    channel_axis : -3 or -1, default -3
        As for `softmax2d`.
    temperature : float, default 1.0
        As for `softmax2d`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to.

    Returns
    -------
    array
        $y_c (\delta_{ck} - y_k)/T$, (C, C, H, W) or (N, C, C, H, W): the output's channel, then
        the input's. With channels last (H, W, C, C) or (N, H, W, C, C).

    Raises
    ------
    TypeError, ValueError
        As for `softmax2d`.

    Notes
    -----
    It takes C times the memory of `y`; a product with it, `softmax2d_vjp`, no more than `y` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import softmax2d, softmax2d_jacobian
    >>> softmax2d_jacobian(softmax2d(np.zeros((2, 1, 1))))[:, :, 0, 0]
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    axis = _channels("y", y, channel_axis)
    return hall(y, out).softmax_jacobian(y, axis, inverse_temperature(temperature), out)


def softmax2d_jacobian_diag(y: Any, *, temperature: float = 1.0, out: Any = None) -> Any:
    r"""Differentiate each probability with respect to its own logit: y(1 − y)/T.

    Parameters
    ----------
    y : array_like
        What `softmax2d` returned, (C, H, W) or (N, C, H, W), or with channels last.
    temperature : float, default 1.0
        As for `softmax2d`.
    out : array, optional
        An array of exactly the result's shape and dtype to write to; ``out=y`` is allowed.

    Returns
    -------
    array
        The diagonal of each position's block, of the shape of `y`.

    Raises
    ------
    TypeError, ValueError
        As for `softmax2d`.

    Notes
    -----
    It does not replace the Jacobian in the chain rule: see `softmin_jacobian_diag`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_acts import softmax2d, softmax2d_jacobian_diag
    >>> softmax2d_jacobian_diag(softmax2d(np.zeros((2, 1, 1)))).ravel()
    array([0.25, 0.25])
    """
    _channels("y", y, -3)
    return hall(y, out).softmax_jacobian_diag(y, inverse_temperature(temperature), out)


def _channels(name: str, image: Any, channel_axis: Any) -> int:
    """The channel axis, of an image or of a batch of them."""
    ndim = image.ndim if hasattr(image, "ndim") else hall(image).ndim(name, image)
    return rules.channel_axis(name, ndim, channel_axis)
