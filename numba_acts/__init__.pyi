"""The public names for type checkers: what kind of array comes in, comes out."""

from typing import Any, Protocol, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from numba_acts._version import __version__ as __version__
from numba_acts._versions import show_versions as show_versions

__all__ = [
    "maxout",
    "maxout_affine",
    "maxout_affine_jacobian",
    "maxout_affine_jvp",
    "maxout_affine_vjp",
    "maxout_affine_with_index",
    "maxout_jacobian",
    "maxout_jvp",
    "maxout_vjp",
    "maxout_with_index",
    "softmax2d",
    "softmax2d_jacobian",
    "softmax2d_jacobian_diag",
    "softmax2d_jvp",
    "softmax2d_vjp",
    "softmin",
    "softmin_jacobian",
    "softmin_jacobian_diag",
    "softmin_jvp",
    "softmin_vjp",
]

class _Array(Protocol):
    """An array of some library: a tensor, say."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...

_A = TypeVar("_A", bound=_Array)
_F = TypeVar("_F", bound=np.floating[Any])
_I = TypeVar("_I", bound=np.integer[Any])
_S = TypeVar("_S", bound=np.generic)
_Axes = SupportsIndex | tuple[SupportsIndex, ...] | None
_Number = float | np.floating[Any] | np.integer[Any]
_Scalar = float | np.generic
_Whole = NDArray[np.integer[Any] | np.bool_]

# ---- softmin and softmax2d ----

@overload
def softmin(
    x: NDArray[_F],
    axis: _Axes = -1,
    *,
    temperature: _Number = 1.0,
    where: Any = None,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmin(
    x: _Whole,
    axis: _Axes = -1,
    *,
    temperature: _Number = 1.0,
    where: Any = None,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]: ...
@overload
def softmin(
    x: _Scalar, axis: _Axes = -1, *, temperature: _Number = 1.0, where: Any = None, out: Any = None
) -> Any: ...
@overload
def softmin(
    x: _A, axis: _Axes = -1, *, temperature: _Number = 1.0, where: Any = None, out: _A | None = None
) -> _A: ...
@overload
def softmin(
    x: ArrayLike,
    axis: _Axes = -1,
    *,
    temperature: _Number = 1.0,
    where: Any = None,
    out: Any = None,
) -> Any: ...
@overload
def softmin_vjp(
    g: NDArray[_F],
    y: NDArray[_F],
    axis: _Axes = -1,
    *,
    temperature: _Number = 1.0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmin_vjp(
    g: NDArray[Any],
    y: NDArray[Any],
    axis: _Axes = -1,
    *,
    temperature: _Number = 1.0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
@overload
def softmin_vjp(
    g: NDArray[Any], y: _A, axis: _Axes = -1, *, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmin_vjp(
    g: _A, y: NDArray[Any], axis: _Axes = -1, *, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmin_vjp(
    g: _A, y: _A, axis: _Axes = -1, *, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmin_vjp(
    g: Any, y: Any, axis: _Axes = -1, *, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmin_jvp(
    t: NDArray[_F],
    y: NDArray[_F],
    axis: _Axes = -1,
    *,
    temperature: _Number = 1.0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmin_jvp(
    t: NDArray[Any],
    y: NDArray[Any],
    axis: _Axes = -1,
    *,
    temperature: _Number = 1.0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
@overload
def softmin_jvp(
    t: NDArray[Any], y: _A, axis: _Axes = -1, *, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmin_jvp(
    t: _A, y: NDArray[Any], axis: _Axes = -1, *, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmin_jvp(
    t: _A, y: _A, axis: _Axes = -1, *, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmin_jvp(
    t: Any, y: Any, axis: _Axes = -1, *, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmin_jacobian(
    y: NDArray[_F],
    axis: SupportsIndex = -1,
    *,
    temperature: _Number = 1.0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmin_jacobian(
    y: _Whole,
    axis: SupportsIndex = -1,
    *,
    temperature: _Number = 1.0,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]: ...
@overload
def softmin_jacobian(
    y: _Scalar, axis: SupportsIndex = -1, *, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmin_jacobian(
    y: _A, axis: SupportsIndex = -1, *, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmin_jacobian(
    y: ArrayLike, axis: SupportsIndex = -1, *, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmin_jacobian_diag(
    y: NDArray[_F], *, temperature: _Number = 1.0, out: NDArray[_F] | None = None
) -> NDArray[_F]: ...
@overload
def softmin_jacobian_diag(
    y: _Whole, *, temperature: _Number = 1.0, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]: ...
@overload
def softmin_jacobian_diag(y: _Scalar, *, temperature: _Number = 1.0, out: Any = None) -> Any: ...
@overload
def softmin_jacobian_diag(y: _A, *, temperature: _Number = 1.0, out: _A | None = None) -> _A: ...
@overload
def softmin_jacobian_diag(y: ArrayLike, *, temperature: _Number = 1.0, out: Any = None) -> Any: ...
@overload
def softmax2d(
    x: NDArray[_F],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    where: Any = None,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmax2d(
    x: _Whole,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    where: Any = None,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]: ...
@overload
def softmax2d(
    x: _Scalar,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    where: Any = None,
    out: Any = None,
) -> Any: ...
@overload
def softmax2d(
    x: _A,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    where: Any = None,
    out: _A | None = None,
) -> _A: ...
@overload
def softmax2d(
    x: ArrayLike,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    where: Any = None,
    out: Any = None,
) -> Any: ...
@overload
def softmax2d_vjp(
    g: NDArray[_F],
    y: NDArray[_F],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmax2d_vjp(
    g: NDArray[Any],
    y: NDArray[Any],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
@overload
def softmax2d_vjp(
    g: NDArray[Any],
    y: _A,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: _A | None = None,
) -> _A: ...
@overload
def softmax2d_vjp(
    g: _A,
    y: NDArray[Any],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: _A | None = None,
) -> _A: ...
@overload
def softmax2d_vjp(
    g: _A,
    y: _A,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: _A | None = None,
) -> _A: ...
@overload
def softmax2d_vjp(
    g: Any, y: Any, *, channel_axis: SupportsIndex = -3, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmax2d_jvp(
    t: NDArray[_F],
    y: NDArray[_F],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmax2d_jvp(
    t: NDArray[Any],
    y: NDArray[Any],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
@overload
def softmax2d_jvp(
    t: NDArray[Any],
    y: _A,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: _A | None = None,
) -> _A: ...
@overload
def softmax2d_jvp(
    t: _A,
    y: NDArray[Any],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: _A | None = None,
) -> _A: ...
@overload
def softmax2d_jvp(
    t: _A,
    y: _A,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: _A | None = None,
) -> _A: ...
@overload
def softmax2d_jvp(
    t: Any, y: Any, *, channel_axis: SupportsIndex = -3, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmax2d_jacobian(
    y: NDArray[_F],
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def softmax2d_jacobian(
    y: _Whole,
    *,
    channel_axis: SupportsIndex = -3,
    temperature: _Number = 1.0,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]: ...
@overload
def softmax2d_jacobian(
    y: _Scalar, *, channel_axis: SupportsIndex = -3, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmax2d_jacobian(
    y: _A, *, channel_axis: SupportsIndex = -3, temperature: _Number = 1.0, out: _A | None = None
) -> _A: ...
@overload
def softmax2d_jacobian(
    y: ArrayLike, *, channel_axis: SupportsIndex = -3, temperature: _Number = 1.0, out: Any = None
) -> Any: ...
@overload
def softmax2d_jacobian_diag(
    y: NDArray[_F], *, temperature: _Number = 1.0, out: NDArray[_F] | None = None
) -> NDArray[_F]: ...
@overload
def softmax2d_jacobian_diag(
    y: _Whole, *, temperature: _Number = 1.0, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]: ...
@overload
def softmax2d_jacobian_diag(y: _Scalar, *, temperature: _Number = 1.0, out: Any = None) -> Any: ...
@overload
def softmax2d_jacobian_diag(y: _A, *, temperature: _Number = 1.0, out: _A | None = None) -> _A: ...
@overload
def softmax2d_jacobian_diag(
    y: ArrayLike, *, temperature: _Number = 1.0, out: Any = None
) -> Any: ...

# ---- maxout ----

@overload
def maxout(
    x: NDArray[_S], axis: SupportsIndex = -1, *, out: NDArray[_S] | None = None
) -> NDArray[_S]: ...
@overload
def maxout(x: _A, axis: SupportsIndex = -1, *, out: _A | None = None) -> _A: ...
@overload
def maxout(x: ArrayLike, axis: SupportsIndex = -1, *, out: Any = None) -> Any: ...
@overload
def maxout_with_index(
    x: NDArray[_S],
    axis: SupportsIndex = -1,
    *,
    out: tuple[NDArray[_S], NDArray[np.int32]] | None = None,
) -> tuple[NDArray[_S], NDArray[np.int32]]: ...
@overload
def maxout_with_index(
    x: NDArray[_S],
    axis: SupportsIndex = -1,
    *,
    index_dtype: type[_I],
    out: tuple[NDArray[_S], NDArray[_I]] | None = None,
) -> tuple[NDArray[_S], NDArray[_I]]: ...
@overload
def maxout_with_index(
    x: NDArray[_S],
    axis: SupportsIndex = -1,
    *,
    index_dtype: DTypeLike,
    out: tuple[NDArray[_S], NDArray[Any]] | None = None,
) -> tuple[NDArray[_S], NDArray[Any]]: ...
@overload
def maxout_with_index(
    x: _A, axis: SupportsIndex = -1, *, index_dtype: Any = ..., out: tuple[_A, _A] | None = None
) -> tuple[_A, _A]: ...
@overload
def maxout_with_index(
    x: Any, axis: SupportsIndex = -1, *, index_dtype: Any = ..., out: Any = None
) -> Any: ...
@overload
def maxout_vjp(
    g: NDArray[_S],
    index: NDArray[Any],
    pieces: SupportsIndex,
    axis: SupportsIndex = -1,
    *,
    out: NDArray[_S] | None = None,
) -> NDArray[_S]: ...
@overload
def maxout_vjp(
    g: NDArray[Any],
    index: _A,
    pieces: SupportsIndex,
    axis: SupportsIndex = -1,
    *,
    out: _A | None = None,
) -> _A: ...
@overload
def maxout_vjp(
    g: _A, index: Any, pieces: SupportsIndex, axis: SupportsIndex = -1, *, out: _A | None = None
) -> _A: ...
@overload
def maxout_vjp(
    g: Any, index: Any, pieces: SupportsIndex, axis: SupportsIndex = -1, *, out: Any = None
) -> Any: ...
@overload
def maxout_jvp(
    t: NDArray[_S], index: NDArray[Any], axis: SupportsIndex = -1, *, out: NDArray[_S] | None = None
) -> NDArray[_S]: ...
@overload
def maxout_jvp(
    t: NDArray[Any], index: _A, axis: SupportsIndex = -1, *, out: _A | None = None
) -> _A: ...
@overload
def maxout_jvp(t: _A, index: Any, axis: SupportsIndex = -1, *, out: _A | None = None) -> _A: ...
@overload
def maxout_jvp(t: Any, index: Any, axis: SupportsIndex = -1, *, out: Any = None) -> Any: ...
@overload
def maxout_jacobian(
    index: NDArray[Any],
    pieces: SupportsIndex,
    axis: SupportsIndex = -1,
    *,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]: ...
@overload
def maxout_jacobian(
    index: NDArray[Any],
    pieces: SupportsIndex,
    axis: SupportsIndex = -1,
    *,
    dtype: type[_S],
    out: NDArray[_S] | None = None,
) -> NDArray[_S]: ...
@overload
def maxout_jacobian(
    index: NDArray[Any],
    pieces: SupportsIndex,
    axis: SupportsIndex = -1,
    *,
    dtype: DTypeLike,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
@overload
def maxout_jacobian(
    index: _A,
    pieces: SupportsIndex,
    axis: SupportsIndex = -1,
    *,
    dtype: Any = ...,
    out: _A | None = None,
) -> _A: ...
@overload
def maxout_jacobian(
    index: Any,
    pieces: SupportsIndex,
    axis: SupportsIndex = -1,
    *,
    dtype: Any = ...,
    out: Any = None,
) -> Any: ...
@overload
def maxout_affine(
    x: NDArray[_S],
    weight: NDArray[_S],
    bias: NDArray[_S] | None = None,
    *,
    out: NDArray[_S] | None = None,
) -> NDArray[_S]: ...
@overload
def maxout_affine(x: _A, weight: _A, bias: _A | None = None, *, out: _A | None = None) -> _A: ...
@overload
def maxout_affine(x: Any, weight: Any, bias: Any = None, *, out: Any = None) -> Any: ...
@overload
def maxout_affine_with_index(
    x: NDArray[_S],
    weight: NDArray[_S],
    bias: NDArray[_S] | None = None,
    *,
    out: tuple[NDArray[_S], NDArray[np.int32]] | None = None,
) -> tuple[NDArray[_S], NDArray[np.int32]]: ...
@overload
def maxout_affine_with_index(
    x: NDArray[_S],
    weight: NDArray[_S],
    bias: NDArray[_S] | None = None,
    *,
    index_dtype: type[_I],
    out: tuple[NDArray[_S], NDArray[_I]] | None = None,
) -> tuple[NDArray[_S], NDArray[_I]]: ...
@overload
def maxout_affine_with_index(
    x: NDArray[_S],
    weight: NDArray[_S],
    bias: NDArray[_S] | None = None,
    *,
    index_dtype: DTypeLike,
    out: tuple[NDArray[_S], NDArray[Any]] | None = None,
) -> tuple[NDArray[_S], NDArray[Any]]: ...
@overload
def maxout_affine_with_index(
    x: _A,
    weight: _A,
    bias: _A | None = None,
    *,
    index_dtype: Any = ...,
    out: tuple[_A, _A] | None = None,
) -> tuple[_A, _A]: ...
@overload
def maxout_affine_with_index(
    x: Any, weight: Any, bias: Any = None, *, index_dtype: Any = ..., out: Any = None
) -> Any: ...
@overload
def maxout_affine_vjp(
    g: NDArray[_S], x: NDArray[_S], weight: NDArray[_S], index: NDArray[Any]
) -> tuple[NDArray[_S], NDArray[_S], NDArray[_S]]: ...
@overload
def maxout_affine_vjp(g: _A, x: _A, weight: _A, index: _A) -> tuple[_A, _A, _A]: ...
@overload
def maxout_affine_vjp(g: Any, x: Any, weight: Any, index: Any) -> Any: ...
@overload
def maxout_affine_jvp(
    x: NDArray[_S],
    weight: NDArray[_S],
    index: NDArray[Any],
    *,
    dx: NDArray[_S] | None = None,
    dweight: NDArray[_S] | None = None,
    dbias: NDArray[_S] | None = None,
) -> NDArray[_S]: ...
@overload
def maxout_affine_jvp(
    x: _A,
    weight: _A,
    index: _A,
    *,
    dx: _A | None = None,
    dweight: _A | None = None,
    dbias: _A | None = None,
) -> _A: ...
@overload
def maxout_affine_jvp(
    x: Any, weight: Any, index: Any, *, dx: Any = None, dweight: Any = None, dbias: Any = None
) -> Any: ...
@overload
def maxout_affine_jacobian(weight: NDArray[_S], index: NDArray[Any]) -> NDArray[_S]: ...
@overload
def maxout_affine_jacobian(weight: _A, index: _A) -> _A: ...
@overload
def maxout_affine_jacobian(weight: Any, index: Any) -> Any: ...
