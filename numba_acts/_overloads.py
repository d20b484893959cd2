"""Tell Numba what it has to know from the start: where TBB is, and which names it can compile.

The public names can be called in `@njit` code, where they are those of `jit`. That module is
imported when the first of them is compiled, and kernels are when the first is called: they would
multiply what the package takes to import.
"""

import importlib
import types
from collections.abc import Callable
from typing import Any

from numba.core.registry import cpu_target
from numba.core.types import Function
from numba.core.typing.typeof import Purpose
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox

from numba_acts import _maxout, _softmax2d, _softmin
from numba_acts._compiler import OPTIONS
from numba_acts._cpu.threads import find_tbb

find_tbb()

_provided: list[Callable[..., Any]] = []


def _provide(function: Callable[..., Any]) -> None:
    _provided.append(function)

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


# ---- the names as arguments of compiled functions -----------------------------------------------


class Given(Function):
    """The type of one of these functions, where it is handed to compiled code."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        cpu_target.typing_context.refresh()
        super().__init__(cpu_target.typing_context.resolve_value_type(function).templates)

    def __reduce__(self) -> Any:
        return Given, (self.function,)


register_model(Given)(models.OpaqueModel)


@unbox(Given)
def _unbox(kind: Given, function: Any, at: Any) -> NativeValue:
    return NativeValue(at.context.get_dummy_value())


@typeof_impl.register(types.FunctionType)
def _typeof(function: Any, context: Any) -> Any:
    if context.purpose is Purpose.argument and function in _provided:
        return Given(function)
    return getattr(function, "_numba_type_", None)
