"""How a GPU kernel is specialised, compiled, cached and started."""

import contextlib
import ctypes
import functools
import importlib
import math
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda import types

from numba_acts import _compiler
from numba_acts._cuda.emit import SIMULATED
from numba_acts._cuda.memory import WIDE_BYTES, stored

if not SIMULATED and not hasattr(np, "row_stack"):
    # numba-cuda 0.30, which gets no more features, asks for this name while it imports its own
    # functions of arrays; NumPy 2.5 has dropped it. No kernel here calls it.
    vars(np)["row_stack"] = lambda arrays: np.vstack(arrays)
    try:
        importlib.import_module("numba.cuda.cudaimpl")
    finally:
        del vars(np)["row_stack"]

LARGEST_GRID = 2**31 - 1  # blocks
CLUSTER = 8  # blocks of a cluster, which every device that has clusters can take
PLANS = 4096  # that are remembered
CAPABILITY = 8, 0  # of the oldest GPU that has all instructions that kernels are made of


class Queue:
    """Where kernels run, in which order: a device and a stream; and what the caller's library does.

    `allocate` takes a number of elements and a dtype and gives an address and its owner, which is
    kept until the kernels that use the memory are in the stream: from then on the library may hand
    it out again in the stream's order. `multiply` is its matrix product. `stream` is a handle, and
    `source` what the library has for it, which may have to be kept as long. `calls` is the hall's,
    and `runs`, if it is a list, notes what was started, with which addresses and numbers.
    """

    __slots__ = ("allocate", "calls", "device", "multiply", "runs", "source", "stream")

    def __init__(
        self, device: int, stream: int, allocate: Any, multiply: Any, source: Any = None
    ) -> None:
        self.device, self.stream, self.source = device, stream, source
        self.allocate, self.multiply = allocate, multiply
        self.calls: dict[Any, Any] = {}
        self.runs: list[Any] | None = None

    def noting(self) -> "Queue":
        """The same queue, for somebody who wants to know its runs."""
        queue = Queue(self.device, self.stream, self.allocate, self.multiply, self.source)
        queue.calls, queue.runs = self.calls, []
        return queue

    def empty(self, size: int, dtype: Any) -> "Memory":
        """Fresh memory for intermediate results."""
        dtype = np.dtype(dtype)
        pointer, owner = self.allocate(size, dtype)
        return Memory(pointer, dtype, size, self, owner)


class Memory:
    """Contiguous memory on a GPU, as kernels take it: one axis and a dtype."""

    __slots__ = ("dtype", "owner", "pointer", "queue", "size")

    def __init__(self, pointer: int, dtype: np.dtype, size: int, queue: Queue, owner: Any = None):
        self.pointer, self.dtype, self.size, self.queue = pointer, dtype, size, queue
        self.owner = owner

    def past(self, start: int) -> "Memory":
        """What lies behind the first `start` elements."""
        pointer = self.pointer + start * self.dtype.itemsize
        return Memory(pointer, self.dtype, self.size - start, self.queue, self.owner)

    def as_dtype(self, dtype: Any) -> "Memory":
        """The same bits, of a dtype of the same size."""
        return Memory(self.pointer, np.dtype(dtype), self.size, self.queue, self.owner)

    def interface(self, shape: tuple[int, ...]) -> Any:
        """What other libraries make arrays of, without waiting for a stream."""
        described = {
            "shape": shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }
        return SimpleNamespace(__cuda_array_interface__=described, owner=self.owner)

    def aligned(self, count: int) -> bool:
        """May `count` elements be accessed at once?"""
        return self.pointer % (count * self.dtype.itemsize) == 0


class Clusters(NamedTuple):
    """Blocks in clusters: those of one run at once and reach each other's shared memory."""

    number: int
    size: int  # blocks of each


# ---- compilation ------------------------------------------------------------------------------


def _dispatcher(function: Callable[..., None], bounds: Any) -> Any:
    """Compile on first use, and keep that on disk."""
    if SIMULATED:
        return cuda.jit(function)
    from numba.cuda.dispatcher import CUDACache

    kernel = cuda.jit(lto=True, launch_bounds=bounds)(function)
    _compiler.keep(kernel, CUDACache, _compiler.stamp(__package__))
    return kernel


class Kernel:
    """A kernel for some constants, compiled for each device and each combination of dtypes.

    `shared` is how many bytes of shared memory a block is given when it is started, beside the
    arrays whose sizes are known when it is compiled. A multiprocessor is to have so many `blocks`
    at once, or as many as come; 0 says so.
    """

    def __init__(self, function: Callable[..., None], name: str, sizes: Any, constants: Any):
        self.function, self.name, self.constants = function, name, constants
        self.threads, self.shared, blocks = sizes
        self.bounds = (self.threads, blocks) if blocks else self.threads  # as the compiler has them
        self._compiled: dict[Any, Any] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def dispatcher(self) -> Any:
        """Numba's."""
        return _dispatcher(self.function, self.bounds)

    def compiled(self, device: int, arguments: tuple[Any, ...]) -> Any:
        """What the driver starts; the device's context must be current."""
        key = device, *[a.dtype if type(a) is Memory else type(a) for a in arguments]
        handle = self._compiled.get(key)
        if handle is None:
            _check(device)
            with self._lock:
                kernel = self.dispatcher.compile(signature(arguments))
                kernel.bind()
                handle = kernel._codelibrary.get_cufunc().kernel
                if self.shared:
                    _allow(handle, self.shared, device)
                self._compiled[key] = handle
        return handle


def _check(device: int) -> None:
    """Say that a device is too old, before a linker does."""
    found = cuda.gpus[device]
    if found.compute_capability < CAPABILITY:
        name = found.name.decode() if isinstance(found.name, bytes) else found.name
        raise RuntimeError(
            f"device {device}, {name}, has compute capability "
            "{}.{}; numba_acts needs {}.{} (Ampere) or newer".format(
                *found.compute_capability, *CAPABILITY
            )
        )


def _allow(handle: Any, shared: int, device: int) -> None:
    """A block has more than 48 KB of shared memory where the driver is told beforehand."""
    driver = _driver()
    wanted = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    own = getattr(handle, "handle", None) or handle._handle  # which cuda-core 0.5 does not show
    (error,) = driver.cuKernelSetAttribute(wanted, shared, own, device)
    if error:
        raise RuntimeError(f"device {device} gives a block no {shared} bytes: {error.name}")


def signature(arguments: tuple[Any, ...]) -> Any:
    """The Numba types of a kernel's parameters."""
    plain = {int: types.int64, float: types.float64}
    return types.void(
        *(
            types.CPointer(stored(a.dtype)) if type(a) is Memory else plain[type(a)]
            for a in arguments
        )
    )


def specialised(
    threads: Callable[..., int],
    shared: Callable[..., int] = lambda *constants: 0,
    blocks: Callable[..., int] = lambda *constants: 0,
) -> Callable[[Callable[..., Any]], Any]:
    """A maker of kernels from constants, each made once.

    `threads` in a block, the `shared` memory it is given, and the `blocks` that a multiprocessor is
    to have at once follow from the constants.
    """

    def decorate(factory: Callable[..., Any]) -> Any:
        @functools.cache
        def kernel(*constants: Any) -> Kernel:
            sizes = threads(*constants), shared(*constants), blocks(*constants)
            return Kernel(factory(*constants), factory.__name__, sizes, constants)

        kernel.factory = factory  # type: ignore[attr-defined]
        return kernel

    return decorate


def as_tuple(count: int) -> tuple[int, ...]:
    """A number as a constant that says how many: compiled code can take a tuple's length apart."""
    return (0,) * count


_plans: dict[Any, Any] = {}


def planned(choose: Callable[..., Any], arrays: tuple[Memory, ...], *given: Any) -> tuple[Any, ...]:
    """What to `run`: the kernel, its blocks and all arguments, as `choose` says.

    What it says is kept for the next call. It may regard all that is given, but of arrays only
    their device, their dtypes, which are empty, and how far each lies behind a multiple of
    `WIDE_BYTES`, the widest access.
    """
    key: Any = choose, arrays[0].queue.device, *given
    for array in arrays:
        key += array.dtype, array.size > 0, array.pointer % WIDE_BYTES
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= PLANS:
            _plans.clear()
        plan = _plans[key] = choose(*arrays, *given)
    kernel, blocks, further = plan
    return (kernel, blocks, *arrays, *further)


# ---- start ------------------------------------------------------------------------------------


@functools.lru_cache(1 << 10)
def _configuration(blocks: int | Clusters, threads: int, shared: int) -> Any:
    from cuda.core import LaunchConfig

    if isinstance(blocks, Clusters):
        return LaunchConfig(
            grid=blocks.number, cluster=blocks.size, block=threads, shmem_size=shared
        )
    return LaunchConfig(grid=blocks, block=threads, shmem_size=shared)


@functools.lru_cache(1 << 6)
def _stream(handle: int) -> Any:
    from cuda.core import Stream

    return Stream.from_handle(handle)


@functools.cache
def devices() -> int:
    """How many devices there are."""
    return len(cuda.gpus)


class Device(NamedTuple):
    """What the sizes of a grid hang on."""

    multiprocessors: int
    shared: int  # bytes that a block may have
    cache: int  # bytes of L2
    clusters: int = 1  # blocks of a cluster at most


@functools.cache
def device(number: int) -> Device:
    """A device's sizes."""
    if SIMULATED:
        return Device(2, 48 << 10, 48 << 10)
    found = cuda.gpus[number]
    shared, cache = found.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, found.L2_CACHE_SIZE
    clusters = CLUSTER if found.compute_capability >= (9, 0) else 1
    return Device(found.MULTIPROCESSOR_COUNT, shared, cache, clusters)


def run(kernel: Kernel, blocks: int | Clusters, *arguments: Any) -> None:
    """Put a kernel in the stream of its first argument, which is memory; do not wait for it."""
    count = math.prod(blocks) if isinstance(blocks, Clusters) else blocks
    if count > LARGEST_GRID:
        raise ValueError(f"an array needs {count} blocks of threads, a GPU takes {LARGEST_GRID}")
    queue = arguments[0].queue
    with on(queue.device):
        start = _starter(kernel, blocks, queue, arguments)
        addresses = [a.pointer for a in arguments if type(a) is Memory]  # the first of them
        numbers = arguments[len(addresses) :]
        start(*addresses, *numbers)
    if queue.runs is not None:
        queue.runs.append((start, addresses, numbers))


def _starter(
    kernel: Kernel, blocks: int | Clusters, queue: Queue, arguments: tuple[Any, ...]
) -> Any:
    """What starts a kernel when it is called with addresses and numbers."""
    if SIMULATED:
        from numba_acts._cuda.memory import Address

        simulated = kernel.dispatcher[blocks, kernel.threads, 0, kernel.shared]
        described = [(a.dtype, a.size) if type(a) is Memory else () for a in arguments]
        return lambda *values: simulated(
            *(Address(v, *d) if d else v for v, d in zip(values, described, strict=True))
        )
    handle = kernel.compiled(queue.device, arguments)
    configuration = _configuration(blocks, kernel.threads, kernel.shared)
    return functools.partial(_launch(), _stream(queue.stream), configuration, handle)


class _Here(threading.local):
    """A number for the driver to write to, each thread's own."""

    def __init__(self) -> None:
        self.number = ctypes.c_int()
        self.place = ctypes.byref(self.number)


_here = _Here()


@functools.cache
def _native(name: str) -> Any:
    """A function of the driver by ctypes: cuda.bindings takes longer."""
    return getattr(ctypes.PyDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1"), name)


def is_current(device: int) -> bool:
    """Is it this thread's? Not if the thread has no context yet, or another device's."""
    here = _here
    return SIMULATED or (not _native("cuCtxGetDevice")(here.place) and here.number.value == device)


def on(device: int) -> Any:
    """Where the driver's calls go to a device."""
    return _NOWHERE_ELSE if is_current(device) else cuda.gpus[device]


_NOWHERE_ELSE = contextlib.nullcontext()


def again(number: int, start: Any, addresses: tuple[int, ...], numbers: tuple[Any, ...]) -> None:
    """Start on a device what was started there before."""
    if SIMULATED or devices() == 1:
        # Either the device is current or nothing is: then the start fails, and is tried with it.
        try:
            start(*addresses, *numbers)
            return
        except Exception:
            if is_current(number):
                raise
    with on(number):
        start(*addresses, *numbers)


class Relaxed:
    """Where memory may be allocated although a stream is being captured."""

    def __enter__(self) -> None:
        self._mode = ctypes.c_int(2)  # CU_STREAM_CAPTURE_MODE_RELAXED
        self._failed = self._exchange()

    def __exit__(self, *error: object) -> None:
        if not self._failed:
            self._exchange()

    def _exchange(self) -> int:
        return int(_native("cuThreadExchangeStreamCaptureMode")(ctypes.byref(self._mode)))


def wait(number: int, stream: int, other: int) -> None:
    """What comes next in a device's stream comes after what is in the other; the host goes on."""
    if stream == other:
        return
    driver = _driver()
    with on(number):
        error, event = driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        if not error:
            (error,) = driver.cuEventRecord(event, other)
            if not error:
                (error,) = driver.cuStreamWaitEvent(stream, event, 0)
            driver.cuEventDestroy(event)  # once it is no longer waited for
    if error:
        raise RuntimeError(f"device {number}: a stream can't wait for another: {error.name}")


@functools.cache
def _driver() -> Any:
    from cuda.bindings import driver

    return driver


@functools.cache
def _launch() -> Any:
    from cuda.core import launch

    return launch
