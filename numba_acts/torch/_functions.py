"""The functions: arguments checked, temperature and autocast settled, then one operation."""

from typing import Any

import numpy as np
import torch

from numba_acts._halls import rules, tensors
from numba_acts._halls.arrays import Call
from numba_acts._halls.rules import Axis
from numba_acts.torch import _formulas as formulas

_NUMBERS = frozenset(tensors.dtypes(torch))
_HALF = (torch.float16, torch.bfloat16)


def check(**given: Any) -> None:
    """Refuse what is no tensor, or not a dense one of numbers."""
    for name, value in given.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} must be a torch.Tensor, got {type(value).__name__}: the functions of "
                "numba_acts itself take any array"
            )
        if value.layout is not torch.strided or value.is_nested or value.dtype not in _NUMBERS:
            tensors.check(torch, name, value.detach())
    first, *others = given.values()
    if any(other.device != first.device for other in others):
        where = ", ".join(f"{name} on {value.device}" for name, value in given.items())
        raise TypeError(f"tensors must be on one device, got {where}")


# ---- softmin and softmax2d --------------------------------------------------------------------


def softmin(
    x: torch.Tensor,
    axis: Axis = -1,
    *,
    temperature: float | torch.Tensor = 1.0,
    where: Any = None,
) -> torch.Tensor:
    r"""Turn numbers into weights that sum to 1, the largest for the smallest number.

    Softmin is $y_i = e^{-x_i/T} / \sum_j e^{-x_j/T}$, as in `numba_acts.softmin`. It is
    differentiable to any order with respect to $x$ and, if it is a tensor, to the temperature $T$.

    Parameters
    ----------
    x : torch.Tensor
        Numbers of any shape: float16, bfloat16, float32, float64, integers or bool, on the CPU or a
        GPU.
    axis : int, tuple of ints or None, default -1
        The axis or axes over which the weights sum to 1; None means all.
    temperature : float or torch.Tensor, default 1.0
        T > 0. A tensor has to broadcast to `x`, as (heads, 1, 1) does to (heads, n, m), and may
        require grad. Its numbers are not checked, as that would wait for the GPU.
    where : tensor or array_like of bool, optional
        A mask that broadcasts to `x`. Masked entries get weight 0 and no gradient, whatever the
        derivative of a loss is there.

    Returns
    -------
    torch.Tensor
        Weights of the shape and dtype of `x`; float64 for integers and bool. Under autocast on a
        GPU sixteen-bit floats give float32, as in `torch.nn.functional.softmin`.

    Raises
    ------
    TypeError
        If `x` is not a dense tensor of one of these dtypes, or `where` is not a boolean mask.
    ValueError
        If a float `temperature` is not finite and above 0, or a tensor does not broadcast to `x`.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    Notes
    -----
    With a cotangent or a tangent $g$, the product with the Jacobian is
    $-\frac1T\, y\,(g - \langle g, y\rangle)$, since the Jacobian is symmetric. One kernel computes
    it; it is differentiable itself, with respect to $g$ and $y$.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    >>> acts.softmin(x)[0].backward()
    >>> x.grad
    tensor([-0.2293,  0.1525,  0.0561,  0.0206])

    A temperature that is learned, as its logarithm so that it stays positive:

    >>> log_t = torch.zeros((), requires_grad=True)
    >>> acts.softmin(x.detach(), temperature=log_t.exp())[0].backward()
    >>> log_t.grad
    tensor(-0.3267)
    """
    check(x=x)
    return _softmax(x, axis, -1.0, temperature, where)


def softmax2d(
    x: torch.Tensor,
    *,
    channel_axis: int = -3,
    temperature: float | torch.Tensor = 1.0,
    where: Any = None,
) -> torch.Tensor:
    r"""Give each pixel of an image probabilities over the channels.

    Softmax2d is $y_{c,h,w} = e^{x_{c,h,w}/T} / \sum_k e^{x_{k,h,w}/T}$, as in
    `numba_acts.softmax2d`. It is differentiable to any order with respect to $x$ and, if it is a
    tensor, to the temperature $T$.

    Parameters
    ----------
    x : torch.Tensor
        Logits, (C, H, W) or (N, C, H, W), on the CPU or a GPU, of the dtypes of `softmin`.
    channel_axis : -3 or -1, default -3
        Where the channels are; -1 says that they come last, (H, W, C) or (N, H, W, C).
    temperature : float or torch.Tensor, default 1.0
        T > 0, as for `softmin`.
    where : tensor or array_like of bool, optional
        A mask that broadcasts to `x`, as for `softmin`.

    Returns
    -------
    torch.Tensor
        Probabilities of the shape and dtype of `x`, under autocast as for `softmin`.

    Raises
    ------
    TypeError, ValueError
        As for `softmin`; a ValueError too if `x` is not an image or a batch of images.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.zeros(2, 1, 1, requires_grad=True)
    >>> acts.softmax2d(x)[0].sum().backward()
    >>> x.grad.ravel()
    tensor([ 0.2500, -0.2500])
    """
    check(x=x)
    axis = rules.channel_axis("x", x.ndim, channel_axis)
    return _softmax(x, axis, 1.0, temperature, where)


def _softmax(x: Any, axis: Axis, sign: float, temperature: Any, where: Any) -> Any:
    """softmax(sign x / T)."""
    axes = rules.slice_axes(axis, x.ndim)
    if x.is_cuda and x.dtype in _HALF and torch.is_autocast_enabled("cuda"):
        x = x.float()  # where PyTorch's own softmax works in float32 as well
    mask = None if where is None else _mask(where, x)
    if not isinstance(temperature, torch.Tensor):
        return formulas.softmax(x, axes, sign * rules.inverse_temperature(temperature), mask)
    check(temperature=temperature)
    _check_broadcasts("temperature", temperature, x)
    dtype = x.dtype if x.is_floating_point() else torch.float64
    wide = torch.float32 if dtype in _HALF else dtype
    if mask is not None:  # masked numbers, NaN among them, are nothing to a temperature's gradient
        x = torch.where(mask, x, 0)
    return formulas.softmax(x.to(wide) / temperature.to(wide), axes, sign, mask).to(dtype)


def _mask(where: Any, x: Any) -> Any:
    if isinstance(where, torch.Tensor):
        check(x=x, where=where)
    else:
        if not torch.compiler.is_dynamo_compiling():  # which reads no more than `asarray`
            where = Call().admit("where", where, tensors.BOOLS).copy()
        where = torch.tensor(np.asarray(where), device=x.device)
    if where.dtype is not torch.bool:
        kind = str(where.dtype).removeprefix("torch.")
        raise TypeError(f"where must be a boolean mask, got dtype {kind}")
    _check_broadcasts("where", where, x)
    return where


def _check_broadcasts(name: str, value: Any, x: Any) -> None:
    given, shape = value.shape, x.shape
    ends = zip(reversed(given), reversed(shape), strict=False)
    if len(given) > len(shape) or not all(n == 1 or n == length for n, length in ends):
        raise ValueError(
            f"{name} must broadcast to x's shape {tuple(shape)}, got shape {tuple(given)}"
        )


# ---- maxout -----------------------------------------------------------------------------------


def maxout(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    r"""Take the largest piece of each unit.

    Maxout of pieces $z$ is $y = \max_i z_i$, as in `numba_acts.maxout`. Its gradient goes to the
    first of the largest pieces.

    Parameters
    ----------
    x : torch.Tensor
        The pieces, (batch, units, pieces), say, on the CPU or a GPU: floats, integers or bool.
    axis : int, default -1
        The axis of the pieces, which the result is without.

    Returns
    -------
    torch.Tensor
        The maxima, in the dtype of `x`, under autocast too, as in `torch.amax`.

    Raises
    ------
    TypeError
        If `x` is not a dense tensor of numbers.
    ValueError
        If there are no pieces.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    Notes
    -----
    The second derivative with respect to `x` is zero almost everywhere. But the gradient is
    differentiable with respect to the cotangent, of which it is a linear function, and that is what
    gradient penalties need.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.tensor([1.0, 4.0, 4.0], requires_grad=True)
    >>> acts.maxout(x).backward()
    >>> x.grad
    tensor([0., 1., 0.])
    """
    check(x=x)
    y, _ = formulas.maxout(x, rules.one_axis(axis, x.ndim))
    return y


def maxout_affine(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    r"""Compute a layer of maxout units: the largest of several affine maps.

    The units are $y_u = \max_i\,(W_{u,i} \cdot x + b_{u,i})$, as in `numba_acts.maxout_affine`,
    differentiable with respect to all three arguments, as are the gradients.

    Parameters
    ----------
    x : torch.Tensor
        Inputs, (..., d), on the CPU or a GPU.
    weight : torch.Tensor
        (units, pieces, d), or (pieces, d) for one unit alone.
    bias : torch.Tensor, optional
        (units, pieces), or (pieces,) for one unit.

    Returns
    -------
    torch.Tensor
        (..., units), or (...) for one unit. Floats of different dtypes meet in the wider. Under
        autocast all but float64 are computed in its dtype, as in `torch.nn.functional.linear`.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor of numbers.
    ValueError
        If the shapes do not fit each other, or there are no pieces.

    See Also
    --------
    MaxoutLinear : The same as a module, with its weight and bias.

    Notes
    -----
    On a GPU its float32 products are as exact as `torch.set_float32_matmul_precision` says, as for
    `numba_acts.maxout_affine`.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.tensor([[-2.0], [0.5]])
    >>> weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    >>> acts.maxout_affine(x, weight).sum().backward()
    >>> weight.grad
    tensor([[ 0.5000],
            [-2.0000]])
    """
    check(x=x, weight=weight, **({} if bias is None else {"bias": bias}))
    device = x.device.type
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = _lowered(x, dtype), _lowered(weight, dtype)
        bias = None if bias is None else _lowered(bias, dtype)
    if bias is not None and bias.shape != weight.shape[:-1]:
        raise ValueError(
            f"bias must have {rules.WITHOUT_D} {tuple(weight.shape[:-1])}, got {tuple(bias.shape)}"
        )
    y, _ = formulas.maxout_affine(x, weight, bias)
    return y


def _lowered(tensor: Any, dtype: Any) -> Any:
    """A tensor in autocast's dtype, where autocast would have it so."""
    stays = not tensor.is_floating_point() or tensor.dtype is torch.float64
    return tensor if stays else tensor.to(dtype)
