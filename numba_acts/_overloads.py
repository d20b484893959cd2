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

# A caller's fast mathematics would do away with NaN, and Numba hands it down where nothing is said.
OPTIONS: dict[str, Any] = {"fastmath": False, "error_model": "numpy", "forceinline": False}


# Numba itself hands over keywords so; what they were meant for can't always be seen.
BY_PLACE = (
    " (on Python 3.11 and 3.12 Numba takes keywords inside `try` for positions: name them in the "
    "signature's order, from the first on)"
)


def _provide(function: Callable[..., Any]) -> None:
    @overload(function, strict=False, prefer_literal=True, jit_options=OPTIONS)
    def compiled(*args: Any, **kwargs: Any) -> Any:
        """Choose what is compiled for arguments of these types."""
        if function is _maxout.maxout_affine_jvp and 3 < len(args) < 6:
            raise TypeError(f"dx, dweight and dbias must be keywords, or all given{BY_PLACE}")
        jit = importlib.import_module("numba_acts.jit")
        return getattr(jit, function.__name__)(*args, **kwargs)


for _room in (_softmin, _softmax2d, _maxout):
    for _name, _value in vars(_room).items():
        if isinstance(_value, types.FunctionType) and _value.__module__ == _room.__name__:
            _provide(_value)
