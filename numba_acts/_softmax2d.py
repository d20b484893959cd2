"""Softmax2d: a distribution over the channels at every position of an image."""

from typing import Any

from numba_acts import _arrays
from numba_acts._arrays import image_axis, inverse_temperature


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
    channel_axis : {-3, -1}, default -3
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

    Special values follow from the formula in IEEE arithmetic:

    ==================================  ==============================================
    in the channels of a position       its probabilities
    ==================================  ==============================================
    a NaN                               all NaN
    −inf beside finite numbers          0 for the −inf, the others share the rest
    only −inf                           all NaN
    a +inf                              all NaN
    nothing unmasked (``where=``)       all 0
    ==================================  ==============================================

    Formula
    -------
    At every position $(h, w)$, with the temperature $T$,

    $$y_{c,h,w} = \frac{e^{(x_{c,h,w} - m_{h,w})/T}}{\sum_k e^{(x_{k,h,w} - m_{h,w})/T}},
      \qquad m_{h,w} = \max_k x_{k,h,w}.$$

    The shift by the maximum leaves the value and keeps the exponential from overflowing. This is
    not "spatial softmax", whose sum runs over the H × W positions of one channel.

    Derivative
    ----------
    Positions do not touch each other: the Jacobian is N·H·W separate blocks of C × C,

    $$\frac{\partial y_{c,h,w}}{\partial x_{k,h,w}}
      = \frac{y_{c,h,w}\,(\delta_{ck} - y_{k,h,w})}{T},$$

    and its product with a cotangent $g$ needs none of them written out:
    $\bar x = \tfrac1T\, y \odot (g - \sum_k g_k y_k)$, the sum over the channels of the position.

    Use cases
    ---------
    * Semantic segmentation: the last layer of a fully convolutional network, one class a pixel.
    * Any other choice among channels at each place of an image: depth bins, flow candidates, parts.
    * Calibration by temperature, and uncertainty maps from the entropy of the probabilities.
    * Soft clustering of pixels, with negative distances to the centres as logits.

    Limitations
    -----------
    * Time and memory grow with classes times pixels: 150 classes at 512 × 512 take 157 MB.
    * Under strong class imbalance it leans towards the frequent classes; weights in the loss,
      sampling or shifted logits must make up for that.
    * Its probabilities are often overconfident; check the calibration before they are trusted.
    * It knows nothing of neighbours: smooth maps are the network's, or a later step's, business.

    References
    ----------
    .. [1] J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015, pp. 3431-3440.
    .. [2] L.-C. Chen, G. Papandreou, I. Kokkinos, K. Murphy, A. L. Yuille, "DeepLab: semantic image
       segmentation with deep convolutional nets, atrous convolution, and fully connected CRFs",
       IEEE TPAMI 40(4), 834-848, 2018.
    .. [3] K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR
       2016, pp. 770-778.

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
    axis = image_axis("x", x, channel_axis)
    return _arrays.softmax(x, axis, inverse_temperature(temperature), where, out)


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
    channel_axis : {-3, -1}, default -3
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
    axis = image_axis("y", y, channel_axis)
    return _arrays.softmax_product("g", g, y, axis, inverse_temperature(temperature), out)


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
    channel_axis : {-3, -1}, default -3
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
    axis = image_axis("y", y, channel_axis)
    return _arrays.softmax_product("t", t, y, axis, inverse_temperature(temperature), out)


def softmax2d_jacobian(
    y: Any, *, channel_axis: int = -3, temperature: float = 1.0, out: Any = None
) -> Any:
    r"""Write out softmax2d's Jacobian: at each position, each channel by each channel.

    Parameters
    ----------
    y : array_like
        What `softmax2d` returned.
    channel_axis : {-3, -1}, default -3
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
    axis = image_axis("y", y, channel_axis)
    return _arrays.softmax_jacobian(y, axis, inverse_temperature(temperature), out)


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
    image_axis("y", y, -3)
    return _arrays.softmax_jacobian_diag(y, inverse_temperature(temperature), out)
