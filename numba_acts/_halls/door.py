"""The door: which hall arguments belong to.

A public function asks for the `hall` of its arrays, and calls there what it is after. One array of
another kind is enough: a hall knows what may stand beside its own.
"""

import functools
import itertools
import sys
from typing import Any

import numpy as np

from numba_acts import _compiler
from numba_acts._halls import rules

_modules, _ndarray = sys.modules, np.ndarray
_host: Any = None  # the hall of arrays in host memory, opened by the first who goes there


def hall(x: Any, y: Any = None, z: Any = None, *others: Any) -> Any:
    """The hall that arrays belong to; None is no array."""
    if "torch._dynamo" in _modules and _traced():
        return _UNTRACED
    if (
        type(x) is _ndarray
        and (y is None or type(y) is _ndarray)
        and (z is None or type(z) is _ndarray)
        and not (others and any(map(_is_special, others)))
    ):
        return _host or _opened_host()
    if rules.on_gpu(x):
        return _gpu()
    if y is not None or z is not None or others:
        for array in (y, z, *others):
            if _is_special(array) and rules.on_gpu(array):
                return _gpu()
    if "dask.array" in _modules and any(map(_is_lazy, (x, y, z, *others))):
        return _dask()
    return _host or _opened_host()


def _opened_host() -> Any:
    global _host
    with _compiler.switched_on():  # no fork meanwhile, in whose child the import would never end
        from numba_acts._halls import host
    _host = host
    return host


def _is_special(array: Any) -> bool:
    return array is not None and type(array) is not _ndarray


def call(name: str, *given: Any, **more: Any) -> Any:
    """What a function of that name gives for arguments of any kind."""
    arguments = [a for a in (*given, *more.values()) if type(a) is not tuple]
    inside = itertools.chain.from_iterable(a for a in given if type(a) is tuple)
    return getattr(hall(*arguments, *inside), name)(*given, **more)


@functools.cache
def _gpu() -> Any:
    from numba_acts._halls import gpu

    return gpu


def _is_lazy(value: Any) -> bool:
    dask = _modules["dask.array"]  # whole, in the middle of its import, or None: not to be had
    return isinstance(value, getattr(dask, "Array", ()))


@functools.cache
def _dask() -> Any:
    from numba_acts._halls import dask

    return dask.Hall(call)  # its chunks may be of any kind


def _traced() -> bool:
    """Is PyTorch's compiler reading this code, which it shall run instead?"""
    return _modules["torch"].compiler.is_dynamo_compiling()


class _Untraced:
    """Any hall's functions, as PyTorch's compiler takes them: as they are."""

    def __getattr__(self, name: str) -> Any:
        def function(*given: Any) -> Any:
            return _modules["torch"].compiler.disable(call)(name, *given)

        return function


_UNTRACED = _Untraced()
