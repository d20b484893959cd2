"""How a CPU kernel is compiled, cached and run: on the calling thread or on all of them."""

import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import prange, types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype
from numba.np.ufunc import parallel as layer

from numba_acts import _compiler
from numba_acts._dtypes import held

# Work from which several threads beat one, about 20 µs of it. Two cores of an AMD Zen 3, OpenMP: a
# call in two threads costs 5 µs more, and twice that while another library's threads wait busily.
PARALLEL_FROM = 1 << 16

_pool = threading.Lock()
_forked = False


_STAMP = _compiler.stamp(__package__)


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on first use, and keep that on disk."""
    with _compiler.switched_on():
        kernel = numba.njit(nogil=True, **_compiler.OPTIONS, **options)(function)
    _compiler.keep(kernel, FunctionCache, _STAMP)
    return kernel


def kernel(function: Callable[..., Any]) -> Any:
    """A function that handles the units of work from `start` to `stop`, its last arguments."""
    return _compiled(function)


@intrinsic
def call(typingctx, address, arguments):
    """Call the compiled kernel at an address with a tuple of what it takes."""
    kinds = arguments.types

    def emit(context, builder, sig, args):
        convention = context.call_conv
        pointer = convention.get_function_type(types.none, kinds).as_pointer()
        place, values = builder.inttoptr(args[0], pointer), cgutils.unpack_tuple(builder, args[1])
        status, _ = convention.call_function(builder, place, types.none, kinds, values)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(address, arguments), emit


def _shared(address, units, threads, arguments):
    """Each thread its part of the units."""
    for p in prange(threads):
        t = np.int64(p)
        call(address, (*arguments, t * units // threads, (t + 1) * units // threads))


# One parallel loop for all kernels, which it knows by their addresses: a loop of its own for each
# would compile the kernel three times more.
shared = _compiled(_shared, parallel=True)

# Compiled kernels as Python functions, by what they are compiled for: Numba would look at the types
# of all arguments in each call, and does not know sixteen-bit floats. They check nothing: an array
# of more axes than one, unaligned, not contiguous or in another byte order than the machine's, or a
# number that is not an int or a float as in the kernel's first call, would be misread.
_alone: dict[Any, Callable[..., None]] = {}
_together: dict[Any, Callable[..., None]] = {}


def _kind(value: Any) -> types.Type:
    """The type that a kernel is compiled for, in the place of an argument."""
    if isinstance(value, np.ndarray):
        return types.Array(from_dtype(held(value.dtype)), 1, "C")
    if isinstance(value, tuple):
        return types.BaseTuple.from_types([_kind(one) for one in value])
    return numba.typeof(value)


def _overload(one: Any, *arguments: Any) -> Any:
    kinds = tuple(map(_kind, arguments))
    with _compiler.switched_on():
        one.compile(kinds)
    return one.overloads[kinds]


def _compile_alone(key: Any, data: tuple[Any, ...], numbers: tuple[Any, ...]) -> Any:
    _alone[key] = _overload(key[0], *data, *numbers, 0, 0).entry_point
    return _alone[key]


def _compile_together(key: Any, data: tuple[Any, ...], numbers: tuple[Any, ...]) -> Any:
    kernel = _overload(key[0], *data, *numbers, 0, 0)
    with _compiler.switched_on():  # LLVM has a lock of its own, which no fork must find taken
        address = kernel.library.get_pointer_to_function(kernel.fndesc.llvm_func_name)
    loop = _overload(shared, 0, 0, 0, (*_unfolded(data), *numbers)).entry_point
    _together[key] = functools.partial(loop, address)
    return _together[key]


def _unfolded(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """The data one by one, as machine code takes a tuple's numbers."""
    return (*data[:-1], *data[-1]) if type(data[-1]) is tuple else data


def _threads() -> int:
    """How many threads a call may use: what `numba.get_num_threads` says, without its locks.

    Numba's own layer, workqueue, ends the process where two threads start a loop at once. Nobody
    else can, while one thread alone runs Python.
    """
    if not layer._is_initialized:
        numba.get_num_threads()
    if numba.threading_layer() == "workqueue" and len(sys._current_frames()) > 1:
        return 1
    return layer._get_num_threads()


def alone(key: Any, data: tuple[Any, ...], numbers: tuple[Any, ...], units: int) -> None:
    """`run` on this thread; `key` is the kernel and the data's dtypes, or what stands for them."""
    entry = _alone.get(key) or _compile_alone(key, data, numbers)
    entry(*data, *numbers, 0, units)


def run(one: Any, units: int, work: int, data: tuple[Any, ...], *numbers: Any) -> None:
    """Run a kernel over `units` of work, on this thread or on all.

    The kernel takes the `data` that it is compiled for: contiguous arrays of one axis, or None in
    the place of one, and last, maybe, a tuple, for its length; then `numbers`; then the units where
    it starts and stops. `work` is the number of float32 numbers that take as long to read and
    write. The threads serve one call at a time: a second caller computes on its own thread, as does
    a child forked after the threads were started (no threading layer survives both). The bits of
    the result are the same.
    """
    kinds = [one]
    for some in data:
        kinds.append(getattr(some, "dtype", some))
    key = tuple(kinds)
    if work < PARALLEL_FROM or units < 2 or _forked or not _pool.acquire(blocking=False):
        alone(key, data, numbers, units)
        return
    try:
        threads = min(_threads(), units)
        if threads > 1:
            entry = _together.get(key) or _compile_together(key, data, numbers)
            entry(units, threads, (*_unfolded(data), *numbers))
        else:
            alone(key, data, numbers, units)
    finally:
        _pool.release()


def _in_child() -> None:
    global _pool, _forked
    _pool = threading.Lock()
    starting = not layer._backend_init_thread_lock.acquire(blocking=False)
    _forked = layer._is_initialized or starting  # and never done: by a thread that is not here
    if not starting:
        layer._backend_init_thread_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
