"""The functions as operations, and their derivatives, and theirs.

Softmin and softmax2d are y = softmax(βx). Its Jacobian is symmetric, so one product serves
cotangents and tangents. Maxout has winners: a gradient is spread to them, a tangent picked from
them. The maximum of an affine map is bilinear where the winners stay the same.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import guard_or_false

from numba_acts._halls import rules, tensors
from numba_acts._halls.door import hall
from numba_acts.torch._operations import Operation, operator

# ---- softmin and softmax2d --------------------------------------------------------------------


class Softmax(Operation):
    """y = softmax(βx) over the axes."""

    schema = "softmax(Tensor x, int[] axes, float beta, Tensor? where) -> Tensor"

    @staticmethod
    def empty(x: Any, axes: Any, beta: float, where: Any) -> Any:
        return torch.empty_like(x, dtype=_dtype(x) if x.is_floating_point() else torch.float64)

    @staticmethod
    def kernel(x: Any, axes: Any, beta: float, where: Any, *, out: Any) -> None:
        hall(x, where, out).softmax(x, _axis(axes), beta, where, out)

    @staticmethod
    def keep(y: Any, x: Any, axes: Any, beta: float, where: Any) -> Any:
        return (y, where), (axes, beta)

    @staticmethod
    def backward(y: Any, where: Any, axes: Any, beta: float, g: Any) -> Any:
        return _masked_product(g, y, where, axes, beta), None, None, None

    @staticmethod
    def jvp(y: Any, where: Any, axes: Any, beta: float, dx: Any, *_: None) -> Any:
        return _masked_product(dx, y, where, axes, beta)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, axes: Any, beta: float, where: Any) -> Any:
        x = _in_front(x, in_dims[0], info.batch_size)
        if in_dims[3] is not None:
            where = where.movedim(in_dims[3], 0)
            where = where.reshape(len(where), *(1,) * (x.ndim - where.ndim), *where.shape[1:])
        return softmax(x, _behind(axes), beta, where), 0


softmax = operator(Softmax)


class SoftmaxProduct(Operation):
    """v = β y (g − ⟨g, y⟩), linear in g."""

    schema = "softmax_product(Tensor g, Tensor y, int[] axes, float beta) -> Tensor"

    @staticmethod
    def empty(g: Any, y: Any, axes: Any, beta: float) -> Any:
        return torch.empty_like(y, dtype=_dtype(g, y))

    @staticmethod
    def kernel(g: Any, y: Any, axes: Any, beta: float, *, out: Any) -> None:
        hall(g, y, out).softmax_product("g", g, y, _axis(axes), beta, out)

    @staticmethod
    def keep(v: Any, g: Any, y: Any, axes: Any, beta: float) -> Any:
        return (g, y), (axes, beta)

    @staticmethod
    def backward(g: Any, y: Any, axes: Any, beta: float, u: Any) -> Any:
        g_, y_, u_ = _widened(g, y, u)
        dy = beta * (u_ * (g_ - _inner(g_, y_, axes)) - g_ * _inner(u_, y_, axes))
        return softmax_product(u, y, axes, beta), dy.to(y.dtype), None, None

    @staticmethod
    def jvp(g: Any, y: Any, axes: Any, beta: float, dg: Any, dy: Any, *_: None) -> Any:
        along_g = None if dg is None else softmax_product(dg, y, axes, beta)
        if dy is None:
            return along_g
        g_, y_, dy_ = _widened(g, y, dy)
        along_y = beta * (dy_ * (g_ - _inner(g_, y_, axes)) - y_ * _inner(g_, dy_, axes))
        along_y = along_y.to(_dtype(g, y))
        return along_y if along_g is None else along_g + along_y

    @staticmethod
    def vmap(info: Any, in_dims: Any, g: Any, y: Any, axes: Any, beta: float) -> Any:
        g, y = (_in_front(a, dim, info.batch_size) for a, dim in zip((g, y), in_dims, strict=False))
        return softmax_product(g, y, _behind(axes), beta), 0


softmax_product = operator(SoftmaxProduct)


def _masked_product(g: Any, y: Any, where: Any, axes: Any, beta: float) -> Any:
    """The product, zero at masked entries, whatever a loss's derivative is there, of any order."""
    if where is None:
        return softmax_product(g, y, axes, beta)
    return torch.where(where, softmax_product(torch.where(where, g, 0), y, axes, beta), 0)


def _widened(*tensors: Any) -> Any:
    """Sixteen-bit floats in float32, for sums that are PyTorch's own."""
    return [a.float() if a.dtype.itemsize == 2 else a for a in tensors]


def _inner(g: Any, y: Any, axes: Any) -> Any:
    """⟨g, y⟩ over the axes, which stay, of length 1."""
    return (g * y).sum(axes, keepdim=True) if axes else g * y


# ---- maxout -----------------------------------------------------------------------------------


class Maxout(Operation):
    """The maxima over the axis, and the index of the winners, which has no derivative."""

    schema = "maxout(Tensor x, int axis) -> (Tensor, Tensor)"

    @staticmethod
    def empty(x: Any, axis: int) -> Any:
        if guard_or_false(x.shape[axis] == 0):
            raise ValueError(
                f"x must have at least one piece on axis {axis}, got shape {tuple(x.shape)}"
            )
        y = torch.empty_like(x.select(axis, 0))
        return y, torch.empty_like(y, dtype=torch.int32)

    @staticmethod
    def kernel(x: Any, axis: int, *, out: Any) -> None:
        hall(x, *out).maxout_with_index(x, axis, rules.INT32.type, out)

    @staticmethod
    def keep(output: Any, x: Any, axis: int) -> Any:
        return output[1:], (x.shape[axis], axis)

    @staticmethod
    def backward(index: Any, pieces: int, axis: int, g: Any, _: Any) -> Any:
        return maxout_spread(g, index, pieces, axis), None

    @staticmethod
    def jvp(index: Any, pieces: int, axis: int, dx: Any, _: None) -> Any:
        return maxout_pick(dx, index, axis), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, axis: int) -> Any:
        return maxout(x.movedim(in_dims[0], 0), axis + 1), (0, 0)


maxout = operator(Maxout)


class MaxoutSpread(Operation):
    """g at the winning pieces, zeros elsewhere: linear in g."""

    schema = "maxout_spread(Tensor g, Tensor index, SymInt pieces, int axis) -> Tensor"

    @staticmethod
    def empty(g: Any, index: Any, pieces: int, axis: int) -> Any:
        return g.new_empty((*g.shape[:axis], pieces, *g.shape[axis:]))

    @staticmethod
    def kernel(g: Any, index: Any, pieces: int, axis: int, *, out: Any) -> None:
        hall(g, index, out).maxout_vjp(g, index, pieces, axis, out)

    @staticmethod
    def keep(dx: Any, g: Any, index: Any, pieces: int, axis: int) -> Any:
        return (index,), (pieces, axis)

    @staticmethod
    def backward(index: Any, pieces: int, axis: int, u: Any) -> Any:
        return maxout_pick(u, index, axis), None, None, None

    @staticmethod
    def jvp(index: Any, pieces: int, axis: int, dg: Any, *_: None) -> Any:
        return maxout_spread(dg, index, pieces, axis)

    @staticmethod
    def vmap(info: Any, in_dims: Any, g: Any, index: Any, pieces: int, axis: int) -> Any:
        size = info.batch_size
        g, index = _in_front(g, in_dims[0], size), _in_front(index, in_dims[1], size)
        return maxout_spread(g, index, pieces, axis + 1), 0


maxout_spread = operator(MaxoutSpread)


class MaxoutPick(Operation):
    """t of the winning pieces: linear in t."""

    schema = "maxout_pick(Tensor t, Tensor index, int axis) -> Tensor"

    @staticmethod
    def empty(t: Any, index: Any, axis: int) -> Any:
        return t.new_empty(index.shape)

    @staticmethod
    def kernel(t: Any, index: Any, axis: int, *, out: Any) -> None:
        hall(t, index, out).maxout_jvp(t, index, axis, out)

    @staticmethod
    def keep(dy: Any, t: Any, index: Any, axis: int) -> Any:
        return (index,), (t.shape[axis], axis)

    @staticmethod
    def backward(index: Any, pieces: int, axis: int, u: Any) -> Any:
        return maxout_spread(u, index, pieces, axis), None, None

    @staticmethod
    def jvp(index: Any, pieces: int, axis: int, dt: Any, *_: None) -> Any:
        return maxout_pick(dt, index, axis)

    @staticmethod
    def vmap(info: Any, in_dims: Any, t: Any, index: Any, axis: int) -> Any:
        size = info.batch_size
        t, index = _in_front(t, in_dims[0], size), _in_front(index, in_dims[1], size)
        return maxout_pick(t, index, axis + 1), 0


maxout_pick = operator(MaxoutPick)


# ---- maxout of an affine map ------------------------------------------------------------------


class MaxoutAffine(Operation):
    """The maxima over i of W_i·x + b_i, and the index of the winners."""

    schema = "maxout_affine(Tensor x, Tensor weight, Tensor? bias) -> (Tensor, Tensor)"
    makes = True

    @staticmethod
    def empty(x: Any, weight: Any, bias: Any) -> Any:
        depth = rules.layer_weight(_SHAPES, weight).shape[-1]
        rules.layer_inputs(_SHAPES, x, depth)
        y = x.new_empty((*x.shape[:-1], *weight.shape[:-2]), dtype=_dtype(x, weight, bias))
        return y, torch.empty_like(y, dtype=torch.int32)

    @staticmethod
    def kernel(x: Any, weight: Any, bias: Any) -> Any:
        return hall(x, weight, bias).maxout_affine(x, weight, bias, True, rules.INT32.type, None)

    @staticmethod
    def keep(output: Any, x: Any, weight: Any, bias: Any) -> Any:
        return (x, weight, output[1]), (bias is not None,)

    @staticmethod
    def backward(x: Any, weight: Any, index: Any, biased: bool, g: Any, _: Any) -> Any:
        dx, dweight, dbias = maxout_affine_gradients(g, x, weight, index)
        return dx, dweight, dbias if biased else None

    @staticmethod
    def jvp(x: Any, weight: Any, index: Any, biased: bool, *tangents: Any) -> Any:
        return maxout_affine_tangent(x, weight, index, *tangents), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, weight: Any, bias: Any) -> Any:
        if in_dims[1] is None and in_dims[2] is None:
            return maxout_affine(x.movedim(in_dims[0], 0), weight, bias), (0, 0)
        return _one_by_one(maxout_affine, info, in_dims, x, weight, bias)


maxout_affine = operator(MaxoutAffine)


class MaxoutAffineGradients(Operation):
    """Those of x, weight and bias, g W*, g x and g, summed where they meet: trilinear."""

    schema = (
        "maxout_affine_gradients(Tensor g, Tensor x, Tensor weight, Tensor index)"
        " -> (Tensor, Tensor, Tensor)"
    )

    makes = True

    @staticmethod
    def empty(g: Any, x: Any, weight: Any, index: Any) -> Any:
        shapes, dtype = (x.shape, weight.shape, weight.shape[:-1]), _dtype(g, x, weight)
        return tuple(x.new_empty(shape, dtype=dtype) for shape in shapes)

    @staticmethod
    def kernel(g: Any, x: Any, weight: Any, index: Any) -> Any:
        return hall(g, x, weight, index).maxout_affine_vjp(g, x, weight, index)

    @staticmethod
    def keep(output: Any, *given: Any) -> Any:
        return given, ()

    @staticmethod
    def backward(g: Any, x: Any, weight: Any, index: Any, *cotangents: Any) -> Any:
        of_x, of_weight, of_bias = cotangents
        dg = maxout_affine_tangent(x, weight, index, of_x, of_weight, of_bias)
        dx = dweight = None
        if of_weight is not None:
            dx, _, _ = maxout_affine_gradients(g, x, of_weight, index)
        if of_x is not None:
            _, dweight, _ = maxout_affine_gradients(g, of_x, weight, index)
        return dg, dx, dweight, None

    @staticmethod
    def jvp(g: Any, x: Any, weight: Any, index: Any, *tangents: Any) -> Any:
        dg, dx, dweight, _ = tangents
        if dg is None:
            of_x, of_weight = torch.zeros_like(x), torch.zeros_like(weight)
            of_bias = weight.new_zeros(weight.shape[:-1])
        else:
            of_x, of_weight, of_bias = maxout_affine_gradients(dg, x, weight, index)
        if dweight is not None:
            of_x = of_x + maxout_affine_gradients(g, x, dweight, index)[0]
        if dx is not None:
            of_weight = of_weight + maxout_affine_gradients(g, dx, weight, index)[1]
        return of_x, of_weight, of_bias

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        return _one_by_one(maxout_affine_gradients, info, in_dims, *given)


maxout_affine_gradients = operator(MaxoutAffineGradients)


class MaxoutAffineTangent(Operation):
    """W*·dx + dW*·x + db*: a tangent that is None is zero."""

    schema = (
        "maxout_affine_tangent(Tensor x, Tensor weight, Tensor index, Tensor? dx, Tensor? dweight,"
        " Tensor? dbias) -> Tensor"
    )

    makes = True

    @staticmethod
    def empty(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
        return x.new_empty(index.shape, dtype=_dtype(x, weight, dx, dweight, dbias))

    @staticmethod
    def kernel(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
        found = hall(x, weight, index, dx, dweight, dbias)
        return found.maxout_affine_jvp(x, weight, index, dx, dweight, dbias)

    @staticmethod
    def keep(dy: Any, x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
        return (x, weight, index, dx, dweight), (dbias is not None,)

    @staticmethod
    def backward(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, *more: Any) -> Any:
        biased, u = more
        of_dx, of_dweight, of_dbias = maxout_affine_gradients(u, x, weight, index)
        of_x = of_weight = None
        if dweight is not None:
            of_x, _, _ = maxout_affine_gradients(u, x, dweight, index)
        if dx is not None:
            _, of_weight, _ = maxout_affine_gradients(u, dx, weight, index)
        gradients = of_dx, of_dweight, of_dbias
        given = dx is not None, dweight is not None, biased
        kept = (g if there else None for g, there in zip(gradients, given, strict=True))
        return of_x, of_weight, None, *kept

    @staticmethod
    def jvp(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, *more: Any) -> Any:
        _, of_x, of_weight, _, *of_tangents = more
        along = maxout_affine_tangent(x, weight, index, *of_tangents)
        if of_x is not None and dweight is not None:
            along = along + maxout_affine_tangent(x, dweight, index, of_x, None, None)
        if of_weight is not None and dx is not None:
            along = along + maxout_affine_tangent(x, of_weight, index, dx, None, None)
        return along

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        return _one_by_one(maxout_affine_tangent, info, in_dims, *given)


maxout_affine_tangent = operator(MaxoutAffineTangent)


class _Shapes:
    """A call whose tensors need not have numbers."""

    def admit(self, name: str, tensor: Any, wanted: str = "") -> Any:
        return SimpleNamespace(ndim=tensor.ndim, shape=tuple(tensor.shape))


_SHAPES: Any = _Shapes()


# ---- what they have in common -----------------------------------------------------------------


def _axis(axes: Any) -> Any:
    """The axes as halls take them, one alone by itself."""
    return axes[0] if len(axes) == 1 else tuple(axes)


def _dtype(*given: Any) -> Any:
    """The dtype of what is computed of tensors together, as everywhere in the library."""
    kinds = {a.dtype for a in given if a is not None}
    if len(kinds) == 1:
        return kinds.pop()
    known = tensors.dtypes(torch)
    common = rules.common(*(known[kind] for kind in kinds))
    return next(kind for kind, dtype in known.items() if dtype == common)


# A batch that vmap adds: its axis comes first.


def _in_front(tensor: Any, dim: int | None, size: int) -> Any:
    """A tensor with the batch's axis in front; repeated if it has none, without a copy."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _behind(axes: Any) -> list[int]:
    """The axes, where they come to stand behind the batch's."""
    return [axis + 1 for axis in axes]


def _one_by_one(function: Any, info: Any, in_dims: Any, *given: Any) -> Any:
    """A function of each member of a batch."""
    if not info.batch_size:
        raise ValueError(
            "vmap over weights or gradients of maxout_affine needs a batch of at least 1"
        )
    members = [
        [
            None if a is None else a if dim is None else a.select(dim, i)
            for a, dim in zip(given, in_dims, strict=True)
        ]
        for i in range(info.batch_size)
    ]
    results = [function(*member) for member in members]
    if isinstance(results[0], torch.Tensor):
        return torch.stack(results), 0
    stacked = tuple(map(torch.stack, zip(*results, strict=True)))
    return stacked, (0,) * len(stacked)
