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
        it sharpens it.
    where : array_like of bool, optional
        A mask that broadcasts to `x`: entries where it is False get probability 0. A position that
        is masked whole gives zeros.
    out : array, optional
        Where to put the result, of its exact shape and dtype. ``out=x`` computes in place.

    Returns
    -------
    array
        Probabilities in [0, 1], of the shape of `x`, as the kind of array that came in, in its
        dtype; integers and bool give float64.

    Raises
    ------
    TypeError
        If `x` is complex, an object, text, a date, a masked array or a tensor that requires grad.
    ValueError
        If `x` has not three or four axes, `channel_axis` is neither -3 nor -1, `temperature` is not
        finite and above 0, `where` does not broadcast to `x`, or `out` is not what the result would
        be.

    See Also
    --------
    softmax2d_vjp : The product of its derivative with a cotangent.
    softmax2d_jacobian : The derivative, written out, position by position.
    softmin : The same formula with the other sign, along any axis.

    Notes
    -----
    Every probability is within ``4 eps (1 + |x − max x|/T)`` of its true value, relative to itself,
    where eps is that of float32 or float64; sixteen-bit results are rounded once more. A position
    has the same result, bit for bit, whatever lies beside it.

    Formula
    -------
    At every position $(h, w)$, with the temperature $T$,

    $$y_{c,h,w} = \frac{e^{(x_{c,h,w} - m_{h,w})/T}}{\sum_k e^{(x_{k,h,w} - m_{h,w})/T}},
      \qquad m_{h,w} = \max_k x_{k,h,w}.$$

    Softmax turns $C$ real numbers into $C$ probabilities, which lie in [0, 1] and sum to 1;
    softmax2d does so at every position for itself. The exponential sharpens the differences between
    classes. The shift by the maximum $m$ cancels, and keeps the exponential from overflowing [5]_.

    This is not "spatial softmax", whose sum runs over the H × W positions of one channel. That is
    ``softmin(-x, axis=(-2, -1))``.

    Derivative
    ----------
    At one position, $\log y_c = x_c/T - \log \sum_k e^{x_k/T}$. Derived by $x_k$, the first term
    gives $\delta_{ck}/T$, the second $-y_k/T$. As $\partial y_c = y_c\, \partial \log y_c$,

    $$\frac{\partial y_{c,h,w}}{\partial x_{k,h,w}}
      = \frac{y_{c,h,w}\,(\delta_{ck} - y_{k,h,w})}{T},
      \qquad
      \frac{\partial y_{c,h,w}}{\partial x_{k,h',w'}} = 0
      \quad\text{where } (h', w') \ne (h, w).$$

    Positions do not touch each other: of the $(CHW)^2$ derivatives of an image only
    $H W$ symmetric blocks of $C \times C$ are not zero, and only they are ever stored.

    Products
    --------
    No block has to be written out for a chain rule. With the cotangent $g = \partial L/\partial y$,

    $$\bar x_{k} = \sum_c g_c\, \frac{y_c (\delta_{ck} - y_k)}{T}
      = \tfrac1T\, y_k \Big(g_k - \sum_c g_c y_c\Big)$$

    at each position, in one reading of $g$ and $y$; for a tangent $t$ the same with $t$ for $g$, as
    each block is symmetric. For the cross-entropy of a pixel with the label $\ell$, where
    $g = -e_\ell/y_\ell$, it becomes $\bar x = (y - e_\ell)/T$.

    >>> import numpy as np
    >>> from numba_acts import softmax2d, softmax2d_jacobian, softmax2d_vjp
    >>> x, g = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    >>> y = softmax2d(x)
    >>> blocks = softmax2d_jacobian(y)  # (output channel, input channel, H, W)
    >>> np.allclose(np.einsum("ckhw,chw->khw", blocks, g), softmax2d_vjp(g, y))
    True

    Diagonal
    --------
    The derivative of a probability by its own logit is $y_c(1 - y_c)/T$. It is largest, $1/(4T)$,
    where the probability is one half: a map of where a decision may still tip. As a gradient it
    would leave out what a logit takes from all other classes: with $g = 1$ the true product is 0
    everywhere.

    Special values
    --------------
    Each case follows from the formula in IEEE arithmetic; a mask alone is an exception.

    | given | its probabilities |
    |---|---|
    | a NaN in the channels of a position | all NaN at that position, and there alone |
    | −inf beside finite numbers | 0 for the −inf, the others share the rest |
    | only −inf | all NaN |
    | a +inf | all NaN |
    | entries masked by `where` | 0, and what they hold does not matter, be it NaN |
    | a position masked whole | all 0, with a gradient of 0 |
    | an empty array | an empty array of its shape |
    | a single channel | 1 everywhere |
    | integers, bool | converted to float64 before anything is subtracted |
    | float16, bfloat16 | computed in float32, rounded once |
    | two axes, or five | a ValueError: three axes mean (C, H, W), never a batch |

    Use cases
    ---------
    * **Semantic segmentation**: the last layer of a fully convolutional network, one class for
      each pixel [1]_ [2]_, on features of a residual network [3]_, say.
    * **Any other choice among channels at each place**: bins of depth, candidates of optical flow,
      parts of a body.
    * **Calibration**: a temperature fitted on held-out images, usually above 1, makes the
      probabilities mean what they say, and moves no decision [4]_.
    * **Uncertainty maps**: the entropy of a position's probabilities, or one minus the largest,
      shows where a segmentation should not be trusted.
    * **Soft clustering** of pixels, with negative squared distances to the centres as logits.

    Limitations
    -----------
    * **Memory.** Time and memory grow with classes times pixels: 150 classes at 512 × 512 take
      157 MB in float32, and as much again for a gradient. Where only the label counts, take
      `argmax` of the logits.
    * **Imbalance.** It leans towards the frequent classes, as the logits that were trained on them
      do. Weights in the loss, sampling, or logits shifted by the log of the class frequencies make
      up for that.
    * **Calibration.** Probabilities of large networks are often overconfident: check them before
      they are trusted.
    * **Neighbours.** It knows nothing of them: smooth maps are the network's business, or a later
      step's, such as a random field.

    Textbook
    --------
    Shifted, as everybody writes it:

    >>> def textbook(x):
    ...     e = np.exp(x - x.max(0))
    ...     return e / e.sum(0)

    For one image in float32 this is right, in five passes over memory. A batch is where it goes
    wrong without a word, as axis 0 is then no longer the channels:

    >>> batch = np.zeros((2, 3, 4, 4), np.float32)
    >>> textbook(batch)[0, :, 0, 0], softmax2d(batch)[0, :, 0, 0].round(4)
    (array([0.5, 0.5, 0.5], dtype=float32), array([0.3333, 0.3333, 0.3333], dtype=float32))

    Unsigned integers wrap around when the maximum is subtracted from them:

    >>> votes = np.uint8([0, 1, 2]).reshape(3, 1, 1)
    >>> with np.errstate(all="ignore"):
    ...     textbook(votes).ravel(), softmax2d(votes).ravel().round(4)
    (array([nan, nan,  0.], dtype=float16), array([0.09  , 0.2447, 0.6652]))

    And half precision is rounded at every step and summed in half precision.

    Equivalents
    -----------
    | library | call | what differs |
    |---|---|---|
    | PyTorch | `torch.nn.Softmax2d()(x)` | no temperature, no mask |
    | JAX | `jax.nn.softmax(x / T, axis=-3, where=mask)` | |
    | SciPy | `scipy.special.softmax(x / T, axis=-3)` | no mask, no gradient |
    | CuPy | `cupyx.scipy.special.softmax(x / T, axis=-3)` | no mask, no gradient |
    | TensorFlow, Keras | `tf.nn.softmax(x / T, axis=-1)` | channels last: here `channel_axis=-1` |
    | Paddle | `paddle.nn.Softmax2D()(x)` | no temperature, no mask |
    | Chainer | `chainer.functions.softmax(x / T, axis=1)` | no mask; no longer developed |
    | thinc | `ops.softmax(x, axis=-3, temperature=T)` | one thread, no mask |

    TensorFlow Addons has none of its own.

    Cost
    ----
    For $N$ images of $C$ channels and $P = HW$ positions, with $s$ bytes a number:

    | function | operations | memory read and written |
    |---|---|---|
    | `softmax2d` | $O(NCP)$ | $2 s NCP$: one reading, one writing |
    | `softmax2d_vjp`, `softmax2d_jvp` | $O(NCP)$ | $3 s NCP$ |
    | `softmax2d_jacobian_diag` | $O(NCP)$ | $2 s NCP$ |
    | `softmax2d_jacobian` | $O(NC^2P)$ | $s NC^2P$ and a little more |

    Channels lie $P$ numbers apart, which is what makes the channel axis slow elsewhere. Here some
    positions at a time are taken through a small buffer in cache, whose size does not depend on the
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
        The cotangent: the derivative of a loss by each probability, of the shape of `y`.
    y : array_like
        What `softmax2d` returned.
    channel_axis : -3 or -1, default -3
        As for `softmax2d`.
    temperature : float, default 1.0
        As for `softmax2d`.
    out : array, optional
        Where to put the result, of its exact shape and dtype; ``out=g`` and ``out=y`` are allowed.

    Returns
    -------
    array
        The derivative of the loss by x, of the shape and dtype of `y`. If the dtypes of `g` and
        `y` differ, the wider counts. A position that was masked whole gets zeros.

    Raises
    ------
    TypeError, ValueError
        As for `softmax2d`; also if `g` and `y` differ in shape.

    Notes
    -----
    $\bar x = \tfrac1T\, y \odot (g - \langle g, y \rangle)$ in one reading of g and y.

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
        Where to put the result, of its exact shape and dtype; ``out=t`` and ``out=y`` are allowed.

    Returns
    -------
    array
        How the probabilities change. J is symmetric: this is `softmax2d_vjp` of t.

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
    r"""Write out softmax2d's Jacobian: at each position, each channel by each channel.

    Parameters
    ----------
    y : array_like
        What `softmax2d` returned.
    channel_axis : -3 or -1, default -3
        As for `softmax2d`.
    temperature : float, default 1.0
        As for `softmax2d`.
    out : array, optional
        Where to put the result, of its exact shape and dtype.

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
    It takes C times the memory of `y`; a product with it, `softmax2d_vjp`, takes none.

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
    r"""Derive each probability by its own logit: the Jacobian's diagonal, y(1 − y)/T.

    Parameters
    ----------
    y : array_like
        What `softmax2d` returned, (C, H, W) or (N, C, H, W), or with channels last.
    temperature : float, default 1.0
        As for `softmax2d`.
    out : array, optional
        Where to put the result, of its exact shape and dtype; ``out=y`` is allowed.

    Returns
    -------
    array
        Of the shape of `y`.

    Raises
    ------
    TypeError, ValueError
        As for `softmax2d`.

    Notes
    -----
    It is no substitute for the Jacobian in a chain rule: see `softmin_jacobian_diag`.

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
