"""The functions on PyTorch tensors that require grad or carry a tangent: differentiable.

Import it where PyTorch is installed: ``from numba_acts import torch as acts``. Tensors live on the
CPU or on a GPU, and derivatives are computed by this library's kernels: backward, forward and of
any order, those of `torch.func` and its `vmap` too. (Of the third order on not forward twice, where
PyTorch would lose tangents: that is refused.)
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
from torch.autograd import Function

import numba_acts as na
from numba_acts._halls import rules
from numba_acts._halls.door import hall
from numba_acts._halls.rules import Axis, inverse_temperature


def _keep(ctx: Any, *tensors: Any) -> None:
    """Save tensors for derivatives in both directions."""
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _check_forward_once() -> None:
    """Refuse two forward modes around a product, as the tangents of what it saved are lost.

    PyTorch loses them, and says nothing; it does so in any `Function` that saves its inputs.
    """
    levels = [level.key().name for level in retrieve_all_functorch_interpreters()]
    if levels.count("Jvp") > 1:
        raise NotImplementedError(
            "PyTorch loses tangents where a third derivative is taken forward twice (jacfwd or jvp "
            "within another): take one of the two backward, by jacrev or vjp"
        )


# ---- a batch that vmap adds -------------------------------------------------------------------


def _first(value: Any, dim: int | None, size: int) -> Any:
    """A tensor with the batch's axis in front; repeated if it has none, without a copy."""
    return value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)


def _behind(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes of `ndim`, where they come to stand behind the batch's."""
    return tuple(a + 1 for a in rules.slice_axes(axis, ndim))


def _ndim(value: Any, dim: int | None) -> int:
    return value.ndim - (dim is not None)


def _one_by_one(function: Any, info: Any, in_dims: Any, *given: Any) -> Any:
    """A function of each member of a batch."""
    if not info.batch_size:
        raise ValueError(
            "vmap over weights or gradients of maxout_affine needs a batch of at least 1"
        )
    members = [
        [a if dim is None else a.select(dim, i) for a, dim in zip(given, in_dims, strict=True)]
        for i in range(info.batch_size)
    ]
    results = [function.apply(*member) for member in members]
    if isinstance(results[0], torch.Tensor):
        return torch.stack(results), 0
    stacked = tuple(map(torch.stack, zip(*results, strict=True)))
    return stacked, (0,) * len(stacked)


# ---- softmin and softmax2d: y = softmax(βx), whose Jacobian is symmetric -----------------------


class _Softmax(Function):
    """y = softmax(βx)."""

    @staticmethod
    def forward(x: Any, axis: Axis, beta: float, where: Any) -> Any:
        x = x.detach()
        return hall(x, where).softmax(x, axis, beta, where, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, *ctx.task, _ = inputs
        _keep(ctx, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Product.apply(gradients[0], *ctx.saved_tensors, *ctx.task), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Product.apply(tangents[0], *ctx.saved_tensors, *ctx.task)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, axis: Axis, beta: float, where: Any) -> Any:
        axes = _behind(axis, _ndim(x, in_dims[0]))
        x = _first(x, in_dims[0], info.batch_size)
        if in_dims[3] is not None:
            where = where.movedim(in_dims[3], 0)
            where = where.reshape(len(where), *(1,) * (x.ndim - where.ndim), *where.shape[1:])
        return _Softmax.apply(x, axes, beta, where), 0


class _Product(Function):
    """v = β y (g − ⟨g, y⟩), itself differentiable by g and by y."""

    @staticmethod
    def forward(g: Any, y: Any, axis: Axis, beta: float) -> Any:
        g, y = g.detach(), y.detach()
        return hall(g, y).softmax_product("g", g, y, axis, beta, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        g, y, *ctx.task = inputs
        _keep(ctx, g, y)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (u,), (g, y), (axis, beta) = gradients, ctx.saved_tensors, ctx.task
        along_g, along_u = _sums(g * y, axis), _sums(u * y, axis)
        dy = beta * (u * (g - along_g) - g * along_u)
        return _Product.apply(u, y, axis, beta), dy, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        _check_forward_once()
        (dg, dy, *_), (g, y), (axis, beta) = tangents, ctx.saved_tensors, ctx.task
        more = beta * (dy * (g - _sums(g * y, axis)) - y * _sums(g * dy, axis))
        return _Product.apply(dg, y, axis, beta) + more

    @staticmethod
    def vmap(info: Any, in_dims: Any, g: Any, y: Any, axis: Axis, beta: float) -> Any:
        axes = _behind(axis, _ndim(y, in_dims[1]))
        size = info.batch_size
        g, y = _first(g, in_dims[0], size), _first(y, in_dims[1], size)
        return _Product.apply(g, y, axes, beta), 0


def _sums(terms: Any, axis: Axis) -> Any:
    axes = rules.slice_axes(axis, terms.ndim)
    return terms.sum(axes, keepdim=True) if axes else terms


# ---- maxout: the winning pieces; a gradient is spread to them, a tangent picked from them ------


class _Maxout(Function):
    """The maxima, and the index of the winners, which has no derivative."""

    @staticmethod
    def forward(x: Any, axis: int) -> Any:
        return na.maxout_with_index(x.detach(), axis)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.axis = inputs
        ctx.pieces = x.shape[ctx.axis]
        ctx.mark_non_differentiable(output[1])
        _keep(ctx, output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Spread.apply(gradients[0], *ctx.saved_tensors, ctx.pieces, ctx.axis), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Pick.apply(tangents[0], *ctx.saved_tensors, ctx.axis), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, axis: int) -> Any:
        (axis,) = _behind(axis, _ndim(x, in_dims[0]))
        return _Maxout.apply(_first(x, in_dims[0], info.batch_size), axis), (0, 0)


class _Spread(Function):
    """The cotangent at the winning pieces, zeros elsewhere: linear in the cotangent."""

    @staticmethod
    def forward(g: Any, index: Any, pieces: int, axis: int) -> Any:
        return na.maxout_vjp(g.detach(), index, pieces, axis)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, index, *ctx.task = inputs
        _keep(ctx, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Pick.apply(gradients[0], *ctx.saved_tensors, ctx.task[1]), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Spread.apply(tangents[0], *ctx.saved_tensors, *ctx.task)

    @staticmethod
    def vmap(info: Any, in_dims: Any, g: Any, index: Any, pieces: int, axis: int) -> Any:
        (axis,) = _behind(axis, _ndim(g, in_dims[0]) + 1)
        size = info.batch_size
        g, index = _first(g, in_dims[0], size), _first(index, in_dims[1], size)
        return _Spread.apply(g, index, pieces, axis), 0


class _Pick(Function):
    """The tangents of the winning pieces: linear in the tangents."""

    @staticmethod
    def forward(t: Any, index: Any, axis: int) -> Any:
        return na.maxout_jvp(t.detach(), index, axis)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        t, index, ctx.axis = inputs
        ctx.pieces = t.shape[ctx.axis]
        _keep(ctx, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        spread = _Spread.apply(gradients[0], *ctx.saved_tensors, ctx.pieces, ctx.axis)
        return spread, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Pick.apply(tangents[0], *ctx.saved_tensors, ctx.axis)

    @staticmethod
    def vmap(info: Any, in_dims: Any, t: Any, index: Any, axis: int) -> Any:
        (axis,) = _behind(axis, _ndim(t, in_dims[0]))
        size = info.batch_size
        t, index = _first(t, in_dims[0], size), _first(index, in_dims[1], size)
        return _Pick.apply(t, index, axis), 0


# ---- maxout of an affine map: bilinear where the winners stay the same -------------------------


class _Affine(Function):
    """The maxima over i of W_i·x + b_i, and the index of the winners."""

    @staticmethod
    def forward(x: Any, weight: Any, bias: Any) -> Any:
        return na.maxout_affine_with_index(*_detached(x, weight, bias))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.biased = inputs[2] is not None
        ctx.mark_non_differentiable(output[1])
        _keep(ctx, *inputs[:2], output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        dx, dweight, dbias = _AffineGradients.apply(gradients[0], *ctx.saved_tensors)
        return dx, dweight, dbias if ctx.biased else None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _AffineTangent.apply(*ctx.saved_tensors, *tangents), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, weight: Any, bias: Any) -> Any:
        if in_dims[1] is None and in_dims[2] is None:
            return _Affine.apply(x.movedim(in_dims[0], 0), weight, bias), (0, 0)
        return _one_by_one(_Affine, info, in_dims, x, weight, bias)


class _AffineGradients(Function):
    """Those of x, of the weight and of the bias: g W*, g x and g, summed where they meet."""

    @staticmethod
    def forward(g: Any, x: Any, weight: Any, index: Any) -> Any:
        g, x, weight = _detached(g, x, weight)
        return na.maxout_affine_vjp(g, x, weight, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (of_x, of_weight, of_bias), (g, x, weight, index) = gradients, ctx.saved_tensors
        dg = _AffineTangent.apply(x, weight, index, of_x, of_weight, of_bias)
        dx, _, _ = _AffineGradients.apply(g, x, of_weight, index)
        _, dweight, _ = _AffineGradients.apply(g, of_x, weight, index)
        return dg, dx, dweight, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        _check_forward_once()
        (dg, dx, dweight, _), (g, x, weight, index) = tangents, ctx.saved_tensors
        of_x, of_weight, of_bias = _AffineGradients.apply(dg, x, weight, index)
        more_of_x, _, _ = _AffineGradients.apply(g, x, dweight, index)
        _, more_of_weight, _ = _AffineGradients.apply(g, dx, weight, index)
        return of_x + more_of_x, of_weight + more_of_weight, of_bias

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        return _one_by_one(_AffineGradients, info, in_dims, *given)


class _AffineTangent(Function):
    """W*·dx + dW*·x + db*; a tangent that is None is zero."""

    @staticmethod
    def forward(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
        x, weight, dx, dweight, dbias = _detached(x, weight, dx, dweight, dbias)
        return na.maxout_affine_jvp(x, weight, index, dx=dx, dweight=dweight, dbias=dbias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.biased = inputs[5] is not None
        _keep(ctx, *inputs[:5])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (v,), (x, weight, index, dx, dweight) = gradients, ctx.saved_tensors
        of_dx, of_dweight, of_dbias = _AffineGradients.apply(v, x, weight, index)
        of_x, _, _ = _AffineGradients.apply(v, x, dweight, index)
        _, of_weight, _ = _AffineGradients.apply(v, dx, weight, index)
        return of_x, of_weight, None, of_dx, of_dweight, of_dbias if ctx.biased else None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        _check_forward_once()
        (x, weight, index, dx, dweight), (of_x, of_weight, _, *more) = ctx.saved_tensors, tangents
        along = _AffineTangent.apply(x, weight, index, *more)
        return along + _AffineTangent.apply(of_x, of_weight, index, dx, dweight, None)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        return _one_by_one(_AffineTangent, info, in_dims, *given)


def _detached(*tensors: Any) -> Iterable[Any]:
    return [None if tensor is None else tensor.detach() for tensor in tensors]


# ---- what users call --------------------------------------------------------------------------


def _check(**tensors: Any) -> None:
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} must be a torch.Tensor, got {type(value).__name__}: the functions of "
                "numba_acts itself take any array"
            )


def _as_autocast(x: Any) -> Any:
    """Widened where autocast has PyTorch's own softmax work in float32: on a GPU."""
    half = x.is_cuda and x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if half and torch.is_autocast_enabled("cuda") else x


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
    return _Softmax.apply(_as_autocast(x), axis, -inverse_temperature(temperature), where)


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
    return _Softmax.apply(_as_autocast(x), axis, inverse_temperature(temperature), where)


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
    y, _ = _Maxout.apply(x, axis)
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
    y, _ = _Affine.apply(x, weight, bias)
    return y
