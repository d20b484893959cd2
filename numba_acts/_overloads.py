"""Tell Numba that the public names can be called in `@njit` code, where they are those of `jit`.

That module is imported when the first of them is compiled: it would more than double what the
package takes to import.
"""

import importlib
import types
from collections.abc import Callable
from typing import Any

from numba.extending import overload

from numba_acts import _maxout, _softmax2d, _softmin
from numba_acts._compiler import OPTIONS


def _provide(function: Callable[..., Any]) -> None:
    @overload(function, strict=False, prefer_literal=True, jit_options=OPTIONS)
    def compiled(*args: Any, **kwargs: Any) -> Any:
        """Choose what is compiled for arguments of these types."""
        jit = importlib.import_module("numba_acts.jit")
        return jit.compiled(function.__name__, args, kwargs)


for _room in (_softmin, _softmax2d, _maxout):
    for _name, _value in vars(_room).items():
        _own = isinstance(_value, types.FunctionType) and _value.__module__ == _room.__name__
        if _own and not _name.startswith("_"):
            _provide(_value)
