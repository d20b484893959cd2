"""The functions on PyTorch tensors that require grad: differentiable, softmin and softmax2d twice.

Import it where PyTorch is installed: ``from numba_acts import torch as acts``. Tensors live on the
CPU or on a GPU, and gradients are computed by this library's kernels.
"""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

import numba_acts as na
from numba_acts._arrays import Axis, image_axis


class _Softmax(Function):
    """softmax(βx); β is 1/T times a sign."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: Any, sign: int, temperature: float, where: Any) -> Any:
        if sign < 0:
            y = na.softmin(x.detach(), axis, temperature=temperature, where=where)
        else:
            y = na.softmax2d(x.detach(), channel_axis=axis, temperature=temperature, where=where)
        ctx.save_for_backward(y)
        ctx.axis, ctx.sign, ctx.temperature = axis, sign, temperature
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (y,) = ctx.saved_tensors
        dx = _Product.apply(gradients[0], y, ctx.axis, ctx.sign, ctx.temperature)
        return dx, None, None, None, None


class _Product(Function):
    """v = β y (g − ⟨g, y⟩), itself differentiable by g and by y."""

    @staticmethod
    def forward(ctx: Any, g: Any, y: Any, axis: Axis, sign: int, temperature: float) -> Any:
        ctx.save_for_backward(g, y)
        ctx.axis, ctx.sign, ctx.temperature = axis, sign, temperature
        v = na.softmin_vjp(g.detach(), y.detach(), axis, temperature=temperature)
        return v if sign < 0 else v.neg_()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (u,), (g, y) = gradients, ctx.saved_tensors
        axis = tuple(range(y.ndim)) if ctx.axis is None else ctx.axis
        dg = _Product.apply(u, y, ctx.axis, ctx.sign, ctx.temperature)
        along_g, along_u = ((a * y).sum(axis, keepdim=True) for a in (g, u))
        dy = ctx.sign / ctx.temperature * (u * (g - along_g) - g * along_u)
        return dg, dy, None, None, None


class _Maxout(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, axis: int) -> Any:
        y, index = na.maxout_with_index(x.detach(), axis)
        ctx.save_for_backward(index)
        ctx.axis, ctx.pieces = axis, x.shape[axis]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        (index,) = ctx.saved_tensors
        return na.maxout_vjp(gradients[0], index, ctx.pieces, ctx.axis), None


class _MaxoutAffine(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
        given = (None if a is None else a.detach() for a in (x, weight, bias))
        y, index = na.maxout_affine_with_index(*given)
        ctx.save_for_backward(x, weight, index)
        ctx.biased = bias is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, index = ctx.saved_tensors
        dx, dweight, dbias = na.maxout_affine_vjp(gradients[0], x.detach(), weight.detach(), index)
        return dx, dweight, dbias if ctx.biased else None


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
        Weights of the shape and dtype of `x`.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    >>> acts.softmin(x)[0].backward()
    >>> x.grad
    tensor([-0.2293,  0.1525,  0.0561,  0.0206])
    """
    return _Softmax.apply(x, axis, -1, temperature, where)


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
        Probabilities of the shape and dtype of `x`.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.zeros(2, 1, 1, requires_grad=True)
    >>> acts.softmax2d(x)[0].sum().backward()
    >>> x.grad.ravel()
    tensor([ 0.2500, -0.2500])
    """
    axis = image_axis("x", x, channel_axis)
    return _Softmax.apply(x, axis, 1, temperature, where)


def maxout(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    r"""Apply `numba_acts.maxout`, differentiable once.

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
    The first of equal pieces gets the gradient. The second derivative is zero almost everywhere.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> x = torch.tensor([1.0, 4.0, 4.0], requires_grad=True)
    >>> acts.maxout(x).backward()
    >>> x.grad
    tensor([0., 1., 0.])
    """
    return _Maxout.apply(x, axis)


def maxout_affine(x: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
    r"""Apply `numba_acts.maxout_affine`, differentiable once, by all three of its arguments.

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
    return _MaxoutAffine.apply(x, weight, bias)
