"""Arrays of other libraries in host memory, by the array API standard and DLPack: JAX's, say.

None of these libraries is imported here: an array says itself where it lies, and which functions
belong to it.
"""

import contextlib
import sys
from typing import Any

import numpy as np

_HOST = 1, 3  # DLPack's names of host memory, ordinary and pinned
_ALIGNED = 64  # bytes: JAX takes over memory that begins at a multiple of it without a copy
# What a library raises where DLPack has no name for a dtype, or a library none for an array's.
_UNKNOWN = BufferError, RuntimeError, TypeError, ValueError


def namespace(name: str, value: Any) -> Any:
    """The functions for arrays like an argument; None if it is none of another library."""
    kind = type(value)
    functions = getattr(kind, "__array_namespace__", None)
    if isinstance(value, np.ndarray | np.generic) or not callable(functions):
        return None
    _check_traced(name, value)
    if not (hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__")):
        return None
    try:
        device, _ = value.__dlpack_device__()
    except BufferError as error:
        raise TypeError(f"{name} must lie in host memory, in one piece: {error}") from None
    if device not in _HOST:
        raise TypeError(f"{name} must lie in host memory, got an array on DLPack's {device!r}")
    return value.__array_namespace__()


def _check_traced(name: str, value: Any) -> None:
    """Refuse what has no numbers, since a compiler is reading the code that calls."""
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} is a JAX tracer, whose numbers are not known yet: in traced code, call back "
            "when they are, softmin(x) by\n"
            "    like = jax.ShapeDtypeStruct(x.shape, x.dtype)\n"
            '    y = jax.pure_callback(numba_acts.softmin, like, x, vmap_method="expand_dims")'
        )


def taken(value: Any) -> np.ndarray:
    """The memory of an array, as NumPy sees it; a copy where DLPack can't name the dtype."""
    try:
        return np.from_dlpack(value)
    except _UNKNOWN:
        return np.asarray(value)


def fresh(shape: Any, dtype: np.dtype) -> np.ndarray:
    """Memory for a result that another library is to take over."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def given(functions: Any, result: np.ndarray, device: Any) -> Any:
    """A result as the library's own array, where its operand is, without a copy if that may be."""
    for make in (functions.from_dlpack, functions.asarray):
        with contextlib.suppress(*_UNKNOWN):
            return make(result, device=device)
    return functions.asarray(result)
