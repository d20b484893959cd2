"""How a CPU kernel is compiled, cached and run: on the calling thread or on all of them."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import prange, types
from numba.core.caching import IndexDataCacheFile

from numba_acts.cpu.math import call

# Elements from which several threads beat one. Two cores of an AMD Zen 3, OpenMP: a parallel region
# costs about 6 µs, an element of softmin 0.7 ns.
PARALLEL_FROM = 1 << 16

_pool = threading.Lock()
_forked = False


def _sources() -> tuple[float, int]:
    """When the newest file of this wing was changed, and the size of all: the cache's key."""
    files = [entry.stat() for entry in os.scandir(Path(__file__).parent) if entry.is_file()]
    return max(file.st_mtime for file in files), sum(file.st_size for file in files)


_SOURCES = _sources()


class _CacheFile(IndexDataCacheFile):
    """Numba's cache of a kernel, safe for processes that compile it at the same time.

    Numba numbers the files of machine code as they come and writes the index first: of two such
    processes one could find the other's code under its own signature. Here a file's name follows
    from the signature, and the index names it once it is there.
    """

    def save(self, key: Any, data: Any) -> None:
        digest = hashlib.sha256(repr(key).encode()).digest()
        name = self._data_name(int.from_bytes(digest[:8], "big"))
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on first use, and cache on disk where a folder can be written.

    Numba would notice a change only in the file that holds the function. The stamp of all files of
    this wing stands in for that file's, so that an edited helper is never answered for by old code.

    A kernel that a user's own compiled function is the first to call must not take over its fast
    mathematics, as Numba has it where nothing is said: the cache would keep that for everybody.
    """
    options |= {"error_model": "numpy", "nogil": True, "fastmath": False, "forceinline": False}
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # no folder for a cache, neither here nor at home
        if "no locator available" not in str(error):
            raise
        return numba.njit(**options)(function)
    cache = kernel._cache
    cache._cache_file = _CacheFile(cache.cache_path, cache._impl.filename_base, _SOURCES)
    return kernel


def kernel(function: Callable[..., Any]) -> Any:
    """A function that handles the units of work from `start` to `stop`, its last arguments."""
    return _compiled(function)


def cache_folder() -> str | None:
    """Where compiled kernels are kept, or None if no folder can be written."""
    from numba_acts.cpu import softmax

    return getattr(softmax.rows._cache, "cache_path", None)


def _shared(address, units, threads, *arguments):
    """Each thread its part of the units."""
    for p in prange(threads):
        t = np.int64(p)
        call(address, (*arguments, t * units // threads, (t + 1) * units // threads))


# One parallel loop for all kernels, which it knows by their addresses: a loop of its own for each
# would compile the kernel three times more.
shared = _compiled(_shared, parallel=True)


_addresses: dict[Any, int] = {}


def _address(one: Any, arguments: tuple[Any, ...]) -> int:
    """Where the machine code of a kernel for such arguments is."""
    # What tells arguments of different machine code apart, sooner than Numba would.
    key = (
        one,
        *[
            a.dtype if isinstance(a, np.ndarray) else a if isinstance(a, tuple) else type(a)
            for a in arguments
        ],
    )
    if key not in _addresses:
        kinds = *map(numba.typeof, arguments), types.int64, types.int64
        one.compile(kinds)
        compiled = one.overloads[kinds]
        name = compiled.fndesc.llvm_func_name
        _addresses[key] = compiled.library.get_pointer_to_function(name)
    return _addresses[key]


def run(one: Any, units: int, work: int, *arguments: Any) -> None:
    """Run a kernel over `units` of work, on this thread or on all.

    `work` is the number of elements read and written. A tuple, whose length the kernel is compiled
    for, comes last among the arguments. The threads serve one call at a time: a second caller
    computes on its own thread, as does a child forked after the threads were started (no threading
    layer survives both). The bits of the result are the same.
    """
    if work < PARALLEL_FROM or units < 2 or _forked or not _pool.acquire(blocking=False):
        one(*arguments, 0, units)
        return
    try:
        threads = min(numba.get_num_threads(), units)
        if threads > 1:
            address = _address(one, arguments)
            if type(arguments[-1]) is tuple:  # machine code takes its numbers one by one
                arguments = *arguments[:-1], *arguments[-1]
            shared(address, units, threads, *arguments)
        else:
            one(*arguments, 0, units)
    finally:
        _pool.release()


def _in_child() -> None:
    global _pool, _forked
    from numba.np.ufunc import parallel as layer

    _pool = threading.Lock()
    _forked = layer._is_initialized


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
