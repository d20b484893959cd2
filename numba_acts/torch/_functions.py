"""What users call: arguments checked, temperature and autocast settled, one operation called."""

from typing import Any

import numpy as np
import torch

from numba_acts._halls import rules, tensors
from numba_acts._halls.rules import Axis
from numba_acts.torch import _formulas as formulas

_NUMBERS = frozenset(tensors.dtypes(torch))
_HALF = (torch.float16, torch.bfloat16)


def _check(**given: Any) -> None:
    """Refuse what is no tensor, or no dense one of numbers."""
    for name, value in given.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} must be a torch.Tensor, got {type(value).__name__}: the functions of "
                "numba_acts itself take any array"
            )
        if value.layout is not torch.strided or value.is_nested or value.dtype not in _NUMBERS:
            tensors.check(torch, name, value.detach())


def _softmax(x: Any, axis: Axis, sign: float, temperature: Any, where: Any) -> Any:
    """softmax(sign x / T)."""
    axes = rules.slice_axes(axis, x.ndim)
    if x.is_cuda and x.dtype in _HALF and torch.is_autocast_enabled("cuda"):
        x = x.float()  # as PyTorch's own softmax does there
    if where is not None and not isinstance(where, torch.Tensor):
        where = torch.as_tensor(np.asarray(where), device=x.device)
    if not isinstance(temperature, torch.Tensor):
        beta = sign * rules.inverse_temperature(temperature)
        return formulas.softmax(x, axes, beta, where)
    return formulas.softmax(_divided(x, temperature), axes, sign, where).to(_result_dtype(x))


def _result_dtype(x: Any) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float64


def _divided(x: Any, temperature: Any) -> Any:
    """x / T, in float32 at least."""
    _check(temperature=temperature)
    try:
        fits = torch.broadcast_shapes(x.shape, temperature.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"temperature must broadcast to x's shape {tuple(x.shape)}, got shape "
            f"{tuple(temperature.shape)}"
        )
    wide = torch.float32 if x.dtype in _HALF else _result_dtype(x)
    return x.to(wide) / temperature.to(wide)


def softmin(
    x: torch.Tensor, axis: Axis = -1, *, temperature: float = 1.0, where: Any = None
) -> torch.Tensor:
    r"""Apply `numba_acts.softmin`, differentiable as often as is wanted.

    Parameters
    ----------
    x : torch.Tensor
        Numbers of any shape, on the CPU or a GPU.
    axis : int, tuple of ints or None, default -1
        As for `numba_acts.softmin`, as are `temperature` and `where`.
    temperature : float, default 1.0
        T > 0.
    where : array_like of bool, optional
        A mask that broadcasts to `x`.

    Returns
    -------
    torch.Tensor
        Weights of the shape and dtype of `x`; of float32 if `x` is a sixteen-bit float on a GPU and
        autocast is enabled there, as PyTorch's own.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    >>> acts.softmin(x)[0].backward()
    >>> x.grad
    tensor([-0.2293,  0.1525,  0.0561,  0.0206])
    """
    _check(x=x)
    return _softmax(x, axis, -1.0, temperature, where)


def softmax2d(
    x: torch.Tensor, *, channel_axis: int = -3, temperature: float = 1.0, where: Any = None
) -> torch.Tensor:
    r"""Apply `numba_acts.softmax2d`, differentiable as often as is wanted.

    Parameters
    ----------
    x : torch.Tensor
        Logits, (C, H, W) or (N, C, H, W), on the CPU or a GPU.
    channel_axis : -3 or -1, default -3
        As for `numba_acts.softmax2d`, as are `temperature` and `where`.
    temperature : float, default 1.0
        T > 0.
    where : array_like of bool, optional
        A mask that broadcasts to `x`.

    Returns
    -------
    torch.Tensor
        Probabilities of the shape and dtype of `x`, under autocast as for `softmin`.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.zeros(2, 1, 1, requires_grad=True)
    >>> acts.softmax2d(x)[0].sum().backward()
    >>> x.grad.ravel()
    tensor([ 0.2500, -0.2500])
    """
    _check(x=x)
    axis = rules.channel_axis("x", x.ndim, channel_axis)
    return _softmax(x, axis, 1.0, temperature, where)


def maxout(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    r"""Apply `numba_acts.maxout`, differentiable: in a gradient's own cotangent as well.

    Parameters
    ----------
    x : torch.Tensor
        The pieces, (batch, units, pieces), say, on the CPU or a GPU.
    axis : int, default -1
        The axis of the pieces, which the result is without.

    Returns
    -------
    torch.Tensor
        The maxima.

    Notes
    -----
    The first of equal pieces gets the gradient. The second derivative in `x` is zero almost
    everywhere; the gradient is differentiable in what flows into it, as gradient penalties need it.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.tensor([1.0, 4.0, 4.0], requires_grad=True)
    >>> acts.maxout(x).backward()
    >>> x.grad
    tensor([0., 1., 0.])
    """
    _check(x=x)
    y, _ = formulas.maxout(x, rules.one_axis(axis, x.ndim))
    return y


def maxout_affine(x: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
    r"""Apply `numba_acts.maxout_affine`, differentiable by all three arguments, as is its gradient.

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
        (..., units), or (...) for one unit.

    Notes
    -----
    The result has the dtype of the arguments under autocast too. On a GPU its float32 products are
    as exact as `torch.set_float32_matmul_precision` says, as for `numba_acts.maxout_affine`.

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
    _check(x=x, weight=weight, **({} if bias is None else {"bias": bias}))
    y, _ = formulas.maxout_affine(x, weight, bias)
    return y
