"""The hall's other door: arrays on a GPU, of any library, for the GPU wing.

`_arrays` turns here when an argument lives on a GPU, and the same checks follow in the same order.
An array on a GPU is described by a NumPy array whose address, shape and strides are true and whose
numbers nobody may read: with it the hall's own functions decide about axes, order and overlap.
Memory comes from the caller's library, kernels go to its current stream, and nothing waits for the
host. That stream waits for those of the other arrays, and that of an `out` for the result. What the
kernels can't take as it lies, they copy themselves.
"""

import functools
import importlib
import importlib.util
import math
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from numba_acts import _arrays, _tensors
from numba_acts.cpu.math import BFLOAT16

if TYPE_CHECKING:
    from numba_acts.cuda.launch import Memory, Queue

_FLOATS = {"float16", "bfloat16", "float32", "float64"}


# ---- whether there is a GPU to run on ---------------------------------------------------------


@functools.cache
def _wing() -> SimpleNamespace:
    """The GPU wing, once it is sure that it can run here."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise ImportError(
            "arrays on a GPU need numba-cuda: pip install 'numba-acts[cuda]' for a driver of "
            "CUDA 13 (580 or newer), 'numba-acts[cu12]' for one of CUDA 12"
        )
    from numba import cuda

    if not cuda.is_available():
        raise RuntimeError(
            "arrays on a GPU need NVIDIA's driver, and none could be started here"
            f"{_reason()}: install or update it, to 580 or newer for the extra 'cuda'"
        )
    if not getattr(cuda, "implementation", "") == "NVIDIA":
        raise ImportError("arrays on a GPU need numba-cuda, but Numba's own target was imported")
    _check_driver()
    from numba_acts.cuda import affine, copies, launch, maxout, softmax

    return SimpleNamespace(
        affine=affine, copies=copies, launch=launch, maxout=maxout, softmax=softmax
    )


def _reason() -> str:
    from numba.cuda.cudadrv.driver import driver

    error = getattr(driver, "initialization_error", None)
    return f" ({' '.join(str(error).split())})" if error else ""


def _check_driver() -> None:
    """A driver runs code of compilers up to its own CUDA version's major number."""
    from numba.cuda.core import config

    if config.ENABLE_CUDASIM:
        return
    from cuda.bindings import driver, nvrtc

    _, number = driver.cuDriverGetVersion()
    _, major, minor = nvrtc.nvrtcVersion()
    if number // 1000 < major:
        raise RuntimeError(
            f"the driver is one of CUDA {number // 1000}.{number % 1000 // 10}, the compiler that "
            f"is installed makes code for CUDA {major}.{minor}: update the driver (580 or newer "
            "for CUDA 13), or install 'numba-acts[cu12]'"
        )


# ---- what comes in, what goes out -------------------------------------------------------------


def _description(pointer: int, shape: Any, strides: Any, dtype: np.dtype, owner: Any) -> np.ndarray:
    """A NumPy array that stands for memory on a GPU, and keeps it; nobody may read its numbers."""
    interface = {
        "data": (pointer or 256, False),  # an empty array has no address; none is looked up
        "shape": tuple(shape),
        "strides": strides,
        "typestr": f"|V{dtype.itemsize}" if dtype.kind == "V" else dtype.str,
        "version": 3,
    }
    array = np.asarray(SimpleNamespace(__array_interface__=interface, owner=owner))
    return array if dtype.kind != "V" else array.view(dtype)


class Library:
    """What the hall needs of the library whose arrays came in."""

    name = "an array with __cuda_array_interface__"
    results = "Numba device array"

    def is_own(self, value: Any) -> bool:
        """Is it one of this library's arrays?"""
        return hasattr(value, "__cuda_array_interface__")

    def describe(self, name: str, value: Any, wanted: str = _tensors.NUMBERS) -> np.ndarray:
        """The description of an argument."""
        interface = value.__cuda_array_interface__
        if interface.get("mask") is not None:
            raise TypeError(f"{name} is a masked array, whose mask would be ignored: pass where=")
        try:
            dtype = getattr(value, "dtype", None)
            dtype = np.dtype(interface["typestr"] if dtype is None else dtype)
        except TypeError:
            dtype = np.dtype(interface["typestr"])
        if dtype.name == "bfloat16":
            dtype = BFLOAT16
        pointer, locked = interface["data"]
        strides = interface.get("strides")
        array = _description(pointer, interface["shape"], strides, dtype, value)
        if locked:
            array.flags.writeable = False
        return array

    def plain(self, value: Any) -> "Plain | None":
        """What a kernel needs to know of an array, if it is dense and writeable."""
        interface = value.__cuda_array_interface__
        pointer, locked = interface["data"]
        if interface.get("strides") is not None or interface.get("mask") is not None or locked:
            return None
        dtype = getattr(value, "dtype", None)
        if not isinstance(dtype, np.dtype):
            return None
        return pointer, interface["shape"], dtype, self.device(value)

    def like(self, value: Any, plain: "Plain", queue: "Queue") -> tuple[Any, int]:
        """A fresh array of the same shape and dtype, and its address."""
        return self.empty(plain[1], None, plain[2], queue)

    def queue(self, value: Any, device: int) -> "Queue":
        """Where kernels on an array are to run."""
        return _queue(self, device, self.stream(value, device))

    def ready(self, value: Any, queue: "Queue") -> bool:
        """Is what the array holds in order with the stream of a queue of this library?"""
        stream = value.__cuda_array_interface__.get("stream")
        return stream is None or int(stream) == queue.stream

    def device(self, value: Any) -> int:
        """The number of the device that an array lives on."""
        if _wing().launch.devices() == 1:
            return 0
        from cuda.bindings import driver
        from numba import cuda

        pointer = value.__cuda_array_interface__["data"][0]
        wanted = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        error, ordinal = driver.cuPointerGetAttribute(wanted, pointer)
        return int(ordinal) if error == 0 and pointer else cuda.get_current_device().id

    def stream(self, value: Any, device: int) -> int:
        """The stream in which the array's numbers will be ready."""
        stream = value.__cuda_array_interface__.get("stream")
        return int(stream) if stream is not None else 0

    def empty(self, shape: Any, strides: Any, dtype: np.dtype, queue: "Queue") -> tuple[Any, int]:
        """A fresh array and its address: dense, with these strides or in C order.

        It says of the stream where it is filled that its numbers will be ready there.
        """
        from numba import cuda

        steps = None if strides is None else tuple(strides)
        with cuda.gpus[queue.device]:
            stream = self._stream_of(queue)
            array = cuda.device_array(tuple(shape), dtype, strides=steps, stream=stream)
        return array, array.device_ctypes_pointer.value or 0

    def _stream_of(self, queue: "Queue") -> Any:
        from numba import cuda

        return cuda.external_stream(queue.stream) if queue.stream else 0

    def multiply(self, queue: Any, a: Any, b: Any, out: Any, *task: Any) -> None:
        """``out = A B`` of matrices that lie in memory as they are or turned (see `affine`)."""
        if importlib.util.find_spec("cupy") is None:
            raise ImportError(
                "the matrix products of maxout_affine on Numba device arrays are cuBLAS's, by "
                "CuPy: pip install 'numba-acts[cupy]', or cupy-cuda12x with a driver of CUDA 12"
            )
        CuPy(importlib.import_module("cupy")).multiply(queue, a, b, out, *task)

    def dtype(self, name: str, dtype: Any) -> np.dtype:
        """The dtype that an argument names."""
        return _arrays.Call().dtype(name, dtype)

    def written(self, value: Any) -> None:
        """Let the library know that an array of the caller's has changed."""


class Numba(Library):
    """Numba's device arrays; to ask them for their interface takes longer.

    A stream lives as long as somebody holds Numba's object for it: results hold that of the first
    array, as it does.
    """

    def plain(self, value: Any) -> "Plain | None":
        """What a kernel needs to know of an array, if it is dense."""
        if not value.is_c_contiguous():
            return None
        return value.device_ctypes_pointer.value or 0, value.shape, value.dtype, self.device(value)

    def stream(self, value: Any, device: int) -> int:
        """The stream in which the array's numbers will be ready."""
        return int(value.stream)

    def queue(self, value: Any, device: int) -> "Queue":
        """Where kernels on an array are to run; it keeps the stream."""
        return _queue(self, device, value.stream)

    def ready(self, value: Any, queue: "Queue") -> bool:
        """Is it an array of the same stream?"""
        return int(value.stream) == queue.stream

    def _stream_of(self, queue: "Queue") -> Any:
        return queue.source


class CuPy(Library):
    """CuPy's arrays."""

    name = results = "CuPy array"

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy

    def is_own(self, value: Any) -> bool:
        """Is it one of this library's arrays?"""
        return isinstance(value, self.cupy.ndarray)

    def plain(self, value: Any) -> "Plain | None":
        """What a kernel needs to know of an array, if it is dense."""
        if not value.flags.c_contiguous:
            return None
        return value.data.ptr, value.shape, value.dtype, value.device.id

    def ready(self, value: Any, queue: "Queue") -> bool:
        """All arrays are, in the library's current stream."""
        return True

    def device(self, value: Any) -> int:
        """The number of the device that an array lives on."""
        return int(value.device.id)

    def stream(self, value: Any, device: int) -> int:
        """The library's current stream."""
        return int(self.cupy.cuda.get_current_stream(device).ptr)

    def describe(self, name: str, value: Any, wanted: str = _tensors.NUMBERS) -> np.ndarray:
        """The description of an argument."""
        dtype = BFLOAT16 if value.dtype.name == "bfloat16" else value.dtype
        return _description(value.data.ptr, value.shape, value.strides, dtype, value)

    def empty(self, shape: Any, strides: Any, dtype: np.dtype, queue: "Queue") -> tuple[Any, int]:
        """A fresh array and its address: dense, with these strides or in C order."""
        kind = np.dtype("bfloat16") if dtype == BFLOAT16 else dtype
        dense = shape if strides is None else _dense_shape(shape, strides)
        with self.cupy.cuda.Device(queue.device):
            array = self.cupy.empty(dense, kind)
        return array if strides is None else array.transpose(_places(strides)), array.data.ptr

    def multiply(self, queue: Any, a: Any, b: Any, out: Any, *task: Any) -> None:
        """``out = A B``; sixteen-bit floats are widened first."""
        rows, depth, columns, a_turned, b_turned = task
        cupy = self.cupy
        stream = cupy.cuda.Stream.null
        if queue.stream:
            stream = cupy.cuda.ExternalStream(queue.stream, queue.device)
        with cupy.cuda.Device(queue.device), stream:
            left = self._matrix(a, out.dtype, (rows, depth), a_turned)
            right = self._matrix(b, out.dtype, (depth, columns), b_turned)
            cupy.matmul(left, right, out=self._matrix(out, out.dtype, (rows, columns), False))

    def _matrix(self, memory: Any, dtype: Any, shape: tuple[int, int], turned: bool) -> Any:
        if memory.dtype == BFLOAT16:
            bits = self._matrix(memory.as_dtype(np.uint16), np.uint16, shape, turned)
            return (bits.astype(np.uint32) << 16).view(np.float32)
        array = self.cupy.asarray(memory.interface(shape[::-1] if turned else shape))
        array = array.T if turned else array
        return array if array.dtype == dtype else array.astype(dtype)


class Torch(Library):
    """PyTorch's CUDA tensors."""

    name = results = "PyTorch CUDA tensor"

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.dtypes = _tensors.dtypes(torch)
        self.kinds = {dtype: kind for kind, dtype in self.dtypes.items()}

    def is_own(self, value: Any) -> bool:
        """Is it one of this library's arrays?"""
        return isinstance(value, self.torch.Tensor)

    def plain(self, value: Any) -> "Plain | None":
        """What a kernel needs to know of an array, if it is dense and no gradient is lost."""
        if not _tensors.is_plain(self.torch, value):
            return None
        if value.is_neg() or not value.is_contiguous():
            return None
        try:
            return value.data_ptr(), value.shape, self.dtypes[value.dtype], value.get_device()
        except RuntimeError:  # a stand-in without memory
            return None

    def like(self, value: Any, plain: "Plain", queue: "Queue") -> tuple[Any, int]:
        """A fresh array of the same shape and dtype, and its address."""
        tensor = self.torch.empty_like(value)
        return tensor, tensor.data_ptr()

    def ready(self, value: Any, queue: "Queue") -> bool:
        """All arrays are, in the library's current stream."""
        return True

    def device(self, value: Any) -> int:
        """The number of the device that an array lives on."""
        return int(value.get_device())

    def stream(self, value: Any, device: int) -> int:
        """The library's current stream."""
        return int(self.torch.cuda.current_stream(device).cuda_stream)

    def describe(self, name: str, value: Any, wanted: str = _tensors.NUMBERS) -> np.ndarray:
        """The description of an argument."""
        _tensors.check(self.torch, name, value, wanted)
        dtype = self.dtypes[value.dtype]
        if value.is_neg():
            value = value.resolve_neg()
        strides = tuple(step * dtype.itemsize for step in value.stride())
        try:
            pointer = value.data_ptr()
        except RuntimeError:
            raise _tensors.no_memory(name) from None
        return _description(pointer, value.shape, strides, dtype, value)

    def written(self, value: Any) -> None:
        """Let the library know that an array of the caller's has changed."""
        _tensors.written(value)

    def empty(self, shape: Any, strides: Any, dtype: np.dtype, queue: "Queue") -> tuple[Any, int]:
        """A fresh array and its address: dense, with these strides or in C order."""
        place, kind = self.torch.device("cuda", queue.device), self.kinds[dtype]
        if strides is None:
            tensor = self.torch.empty(tuple(shape), dtype=kind, device=place)
            return tensor, tensor.data_ptr()
        steps = [step // dtype.itemsize for step in strides]
        tensor = self.torch.empty_strided(tuple(shape), steps, dtype=kind, device=place)
        return tensor, tensor.data_ptr()

    def multiply(self, queue: Any, a: Any, b: Any, out: Any, *task: Any) -> None:
        """``out = A B``; products of sixteen-bit floats are summed in float32."""
        rows, depth, columns, a_turned, b_turned = task
        torch = self.torch
        left = self._matrix(a, (rows, depth), a_turned)
        right = self._matrix(b, (depth, columns), b_turned)
        result = self._matrix(out, (rows, columns), False)
        # The queue's stream is the current one.
        with torch.no_grad(), torch.cuda.device(queue.device):
            if left.dtype == result.dtype:
                torch.mm(left, right, out=result)
            else:
                torch.mm(left, right, out_dtype=result.dtype, out=result)

    def _matrix(self, memory: Any, shape: tuple[int, int], turned: bool) -> Any:
        half = memory.dtype == BFLOAT16
        interface = (memory.as_dtype(np.int16) if half else memory).interface(
            shape[::-1] if turned else shape
        )
        device = self.torch.device("cuda", memory.queue.device)
        tensor = self.torch.as_tensor(interface, device=device)
        tensor = tensor.view(self.torch.bfloat16) if half else tensor
        return tensor.T if turned else tensor

    def dtype(self, name: str, dtype: Any) -> np.dtype:
        """The dtype that an argument names."""
        return self.dtypes.get(dtype) or super().dtype(name, dtype)


def _places(strides: Any) -> list[int]:
    """The axes of dense memory, transposed by which it has these strides."""
    order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return [order.index(axis) for axis in range(len(strides))]


def _dense_shape(shape: Any, strides: Any) -> tuple[int, ...]:
    order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return tuple(shape[axis] for axis in order)


# address, shape, dtype and device of a dense array
Plain = tuple[int, tuple[int, ...], np.dtype, int]

_libraries: dict[type, Library] = {}


def _library(value: Any) -> Library:
    """The library of an array, recognised without importing it, once there is a wing to use it."""
    kind = type(value)
    library = _libraries.get(kind)
    if library is None:
        library = Numba() if kind.__name__ == "DeviceNDArray" else Library()
        for name, candidate in (("torch", Torch), ("cupy", CuPy)):
            module = sys.modules.get(name)
            if module is not None and candidate(module).is_own(value):
                library = candidate(module)
        _libraries[kind] = library
        if isinstance(library, CuPy) or kind.__module__.startswith("numba."):
            _arrays.ON_GPU.add(kind)  # arrays of other types may be, or not
    return library


@functools.lru_cache(1 << 6)
def _queue(library: Library, device: int, stream: Any) -> "Queue":
    """One queue for each library and stream, a handle or the library's object for it."""

    def allocate(size: int, dtype: np.dtype) -> tuple[int, Any]:
        owner, pointer = library.empty((size,), None, dtype, queue)
        return pointer, owner

    def multiply(*task: Any) -> None:
        library.multiply(queue, *task)

    queue = _wing().launch.Queue(device, int(stream), allocate, multiply, stream)
    return queue


class Call(_arrays.Call):
    """One call on arrays of a GPU: their library, their device, their stream."""

    def __init__(self, **arguments: Any) -> None:
        present = {name: value for name, value in arguments.items() if value is not None}
        first = next(iter(present.values()))
        self.wing = _wing()
        self.library = _library(first)
        self.number = self.library.device(first)
        others = {name: _library(value).device(value) for name, value in present.items()}
        if len(set(others.values())) > 1:
            places = ", ".join(f"{name} is on device {n}" for name, n in others.items())
            raise TypeError(f"arrays must all be on one device, but {places}")
        self.queue = self.library.queue(first, self.number)
        for value in present.values():
            self.wing.launch.wait(self.number, self.queue.stream, self.stream(value))

    def stream(self, value: Any) -> int:
        """The stream in which an array's numbers will be ready: the call's if it names none."""
        library = _library(value)
        own = library is self.library and library.ready(value, self.queue)
        return self.queue.stream if own else library.stream(value, self.number)

    def admit(self, name: str, value: Any, wanted: str = _tensors.NUMBERS) -> np.ndarray:
        """The description of an argument, of a dtype that the kernels know."""
        array = _library(value).describe(name, value, wanted)
        dtype = array.dtype
        known = dtype == BFLOAT16 or dtype.kind in "biuf" and dtype.itemsize <= 8
        if not (known and dtype.isnative):
            given = dtype.name if dtype.isnative else dtype.str
            raise TypeError(f"{name} must be {wanted}, got {given}")
        if array.size and any(n % dtype.itemsize for n in (array.ctypes.data, *array.strides)):
            raise ValueError(f"{name} must be aligned to its {dtype.itemsize} bytes an element")
        return array

    def dtype(self, name: str, dtype: Any) -> np.dtype:
        """The dtype that an argument names."""
        found = self.library.dtype(name, dtype)
        return BFLOAT16 if found.name == "bfloat16" else found

    def out(self, value: Any, shape: Any, dtype: np.dtype, name: str = "out") -> np.ndarray | None:
        """The description of ``out``, which must be what the result would be."""
        if value is None:
            return None
        if not self.library.is_own(value):
            raise TypeError(f"{name} must be a {self.library.name}, got {type(value).__name__}")
        if isinstance(self.library, Torch):
            _arrays._plain_tensor(name, value)
        return _arrays._as_result(name, self.admit(name, value), shape, dtype)

    def empty(self, shape: Any, dtype: np.dtype) -> np.ndarray:
        """The description of fresh memory."""
        owner, pointer = self.library.empty(tuple(shape), None, dtype, self.queue)
        return _description(pointer, shape, None, dtype, owner)

    def memory(self, array: np.ndarray) -> "Memory":
        """Contiguous memory as the wing sees it."""
        pointer = array.ctypes.data
        return self.wing.launch.Memory(pointer, array.dtype, array.size, self.queue, array)

    def none(self, dtype: Any = np.uint8) -> "Memory":
        """No memory."""
        return self.wing.launch.Memory(0, np.dtype(dtype), 0, self.queue)

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """Copy numbers between any strides, converting them."""
        if target.size:
            ends, starts, steps = [], [], []
            for array in (source, target):
                low, high = np.lib.array_utils.byte_bounds(array)
                size = array.itemsize
                count = (high - low) // size
                ends.append(self.wing.launch.Memory(low, array.dtype, count, self.queue, array))
                starts.append((array.ctypes.data - low) // size)
                steps.append([step // size for step in array.strides])
            self.wing.copies.copy(*ends, target.shape, *starts, *steps)

    def dense(
        self, array: np.ndarray, dtype: Any = None, apart: tuple[np.ndarray, ...] = ()
    ) -> np.ndarray:
        """The array, or a copy if it isn't contiguous, of another dtype, or written over."""
        dtype = array.dtype if dtype is None else dtype
        beside = not any(np.may_share_memory(array, other) for other in apart)
        if array.dtype == dtype and array.flags.c_contiguous and beside:
            return array
        fresh = self.empty(array.shape, dtype)
        self.copy(array, fresh)
        return fresh


def _strides(shape: Any, dtype: np.dtype, order: Any = None) -> tuple[int, ...]:
    """Strides of dense memory whose axes lie in this order."""
    strides, step = [0] * len(shape), dtype.itemsize
    for axis in reversed(range(len(shape)) if order is None else order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


class Result:
    """Memory, in an order of axes, for the wing to fill: that of ``out``, or a fresh array's."""

    def __init__(
        self, call: Call, out: Any, given: Any, shape: Any, dtype: np.dtype, order: list[int]
    ):
        self.call, self.array, self.given = call, out, out is not None
        if out is None:
            strides = _strides(shape, dtype, order)
            self.array, pointer = call.library.empty(shape, strides, dtype, call.queue)
            given = _description(pointer, shape, strides, dtype, self.array)
        self.target = given.transpose(order)
        dense = self.target.flags.c_contiguous
        self.filled = self.target if dense else call.empty(self.target.shape, dtype)

    @property
    def memory(self) -> "Memory":
        """What the wing fills."""
        return self.call.memory(self.filled)

    def give(self) -> Any:
        """The result, as the kind of array that came in."""
        if self.filled is not self.target:
            self.call.copy(self.filled, self.target)
        if self.given:
            call = self.call
            call.library.written(self.array)
            call.wing.launch.wait(call.number, call.stream(self.array), call.queue.stream)
        return self.array


def _overlaps(array: np.ndarray, target: np.ndarray) -> bool:
    """Do two arrays share memory other than number for number?"""
    return array is not target and _arrays._overlaps(array, target)


def _plainly(plain: Plain) -> bool:
    """Is it of a floating dtype, and aligned to it?"""
    pointer, _, dtype, _ = plain
    return (dtype in _arrays._FLOATS or dtype == BFLOAT16) and pointer % dtype.itemsize == 0


def _plain(*arrays: Any) -> Any:
    """The library of dense floating arrays of one shape, dtype and device, and their memory.

    None if they are anything else: then they are looked at with more care. This is the common case,
    in as few steps as Python allows. The last may be absent, and is then a fresh array.
    """
    library = _libraries.get(type(arrays[0]))
    if library is None:
        return None
    first = library.plain(arrays[0])
    if first is None or not _plainly(first):
        return None
    queue = library.queue(arrays[0], first[3])
    size = math.prod(first[1])
    memory = [_Memory()(first[0], first[2], size, queue)]
    for array in arrays[1:]:
        if array is None:
            array, pointer = library.like(arrays[0], first, queue)
        else:
            if type(array) is not type(arrays[0]):
                return None
            other = library.plain(array)
            if other is None or other[1:] != first[1:] or not _plainly(other):
                return None
            if not library.ready(array, queue):
                return None
            pointer = other[0]
        memory.append(_Memory()(pointer, first[2], size, queue))
    nbytes = size * first[2].itemsize
    if any(0 < abs(memory[-1].pointer - given.pointer) < nbytes for given in memory[:-1]):
        return None
    return array, first[1], memory


def _plain_slices(x: Any, axis: Any) -> Any:
    """As `_plain`, for results of other shapes: what the library says of x, lengths, memory."""
    library = _libraries.get(type(x))
    plain = library.plain(x) if library is not None and type(axis) is int else None
    lengths = _arrays._lengths(plain[1], axis) if plain is not None and _plainly(plain) else None
    if library is None or plain is None or lengths is None:
        return None
    pointer, shape, dtype, device = plain
    queue = library.queue(x, device)
    return library, shape, lengths, _Memory()(pointer, dtype, math.prod(lengths), queue)


def _plain_other(x: Any, other: Any, shape: Any, kinds: str, queue: "Queue") -> "Memory | None":
    """The memory of a dense mask or index beside x, of this shape; None if it is anything else."""
    library = _libraries.get(type(x))
    plain = library.plain(other) if library is not None and type(other) is type(x) else None
    if plain is None:
        return None
    pointer, given, dtype, device = plain
    known = dtype.kind in kinds and dtype.isnative and pointer % dtype.itemsize == 0
    if not known or given != shape or device != queue.device:
        return None
    if library is None or not library.ready(other, queue):
        return None
    return _Memory()(pointer, dtype, math.prod(shape), queue)


def _plain_result(library: Library, out: Any, shape: Any, dtype: Any, *given: "Memory") -> Any:
    """A fresh array, or `out` if it is dense and apart from what is given; and its memory."""
    queue = given[0].queue
    if out is None:
        out, pointer = library.empty(shape, None, dtype, queue)
        return out, _Memory()(pointer, dtype, math.prod(shape), queue)
    plain = library.plain(out) if _libraries.get(type(out)) is library else None
    if plain is None or plain[1:] != (shape, dtype, queue.device) or plain[0] % dtype.itemsize:
        return None
    if not library.ready(out, queue):
        return None
    memory = _Memory()(plain[0], dtype, math.prod(shape), queue)
    return None if any(_meet(memory, other) for other in given) else (out, memory)


def _written(*outs: Any) -> None:
    """Tell the library of what the caller gave to be written to."""
    for out in outs:
        if out is not None:
            _libraries[type(out)].written(out)


def _meet(a: "Memory", b: "Memory") -> bool:
    """Does some memory lie in both?"""
    return -a.size * a.dtype.itemsize < a.pointer - b.pointer < b.size * b.dtype.itemsize


@functools.cache
def _Memory() -> Any:
    return _wing().launch.Memory


@functools.cache
def _none() -> Any:
    """No memory, as a mask or an index."""
    return _Memory()(0, np.dtype(np.uint8), 0, None)


# ---- softmin and softmax2d --------------------------------------------------------------------


def softmax(x: Any, axis: _arrays.Axis, beta: float, where: Any, out: Any) -> Any:
    """exp(βx − max βx) / Σ exp(βx − max βx) over `axis`."""
    plain = _plain(x, out) if type(axis) is int else None
    if plain is not None:
        y, shape, memory = plain
        lengths, mask = _arrays._lengths(shape, axis), _none()
        if where is not None:
            mask = _plain_other(x, where, shape, "b", memory[0].queue)
            mask = None if mask is None or _meet(mask, memory[1]) else mask.as_dtype(np.uint8)
        if lengths is not None and mask is not None:
            _wing().softmax.softmax(memory[0], mask, memory[1], *lengths, beta)
            _written(out)
            return y
    call = Call(x=x, where=where, out=out)
    array = call.admit("x", x)
    axes = _arrays._axes(axis, array.ndim)
    dtype = _arrays._float_dtype(array.dtype)
    mask = None if where is None else _arrays._mask(call, where, array.shape)
    given = call.out(out, array.shape, dtype)
    layout = _arrays.Layout(array, axes)
    result = Result(call, out, given, array.shape, dtype, layout.order)
    if array.size:
        source = array.transpose(layout.order)
        over = (result.filled,) if _overlaps(source, result.filled) else ()
        source = call.dense(source, apart=over)
        bits = call.none()
        if mask is not None:
            covers = call.dense(mask.transpose(layout.order), apart=(result.filled,))
            bits = call.memory(covers.view(np.uint8))
        lengths = layout.lengths(source.shape)
        call.wing.softmax.softmax(call.memory(source), bits, result.memory, *lengths, beta)
    return result.give()


def softmax_product(name: str, g: Any, y: Any, axis: _arrays.Axis, beta: float, out: Any) -> Any:
    """β y (g − ⟨g, y⟩) over `axis`; `name` is what the front room calls g."""
    plain = _plain(g, y, out) if type(axis) is int else None
    if plain is not None:
        dx, shape, memory = plain
        lengths = _arrays._lengths(shape, axis)
        if lengths is not None:
            _wing().softmax.product(*memory, *lengths, beta)
            _written(out)
            return dx
    call = Call(**{name: g}, y=y, out=out)
    first, second = call.admit(name, g), call.admit("y", y)
    _arrays._same_shape(name, first, "y", second)
    axes = _arrays._axes(axis, second.ndim)
    dtype = _arrays._common(first.dtype, second.dtype)
    given = call.out(out, second.shape, dtype)
    layout = _arrays.Layout(second, axes)
    result = Result(call, out, given, second.shape, dtype, layout.order)
    if second.size:
        operands = []
        for array in (first, second):
            array = array.transpose(layout.order)
            over = (result.filled,) if _overlaps(array, result.filled) else ()
            operands.append(call.memory(call.dense(array, dtype, over)))
        lengths = layout.lengths(result.filled.shape)
        call.wing.softmax.product(*operands, result.memory, *lengths, beta)
    return result.give()


def _jacobian_plainly(y: Any, axis: Any, beta: float, out: Any) -> Any:
    """The Jacobian of a dense array in as few steps as Python allows; or None."""
    found = _plain_slices(y, axis)
    if found is None:
        return None
    library, shape, lengths, source = found
    axis %= len(shape)
    doubled = (*shape[: axis + 1], *shape[axis:])
    result = _plain_result(library, out, doubled, source.dtype, source)
    if result is None:
        return None
    _wing().softmax.jacobians(source, result[1], *lengths, beta)
    _written(out)
    return result[0]


def softmax_jacobian(y: Any, axis: int, beta: float, out: Any) -> Any:
    """β (y_i δ_ij − y_i y_j), axes i and j in the place of `axis`."""
    done = _jacobian_plainly(y, axis, beta, out)
    if done is not None:
        return done
    call = Call(y=y, out=out)
    array = call.admit("y", y)
    dtype = _arrays._common(array.dtype)
    place = _arrays._axis(axis, array.ndim)
    n = array.shape[place]
    shape = (*array.shape[:place], n, n, *array.shape[place + 1 :])
    given = call.out(out, shape, dtype)
    layout = _arrays.Layout(array, (place,))
    result = Result(call, out, given, shape, dtype, layout.doubled())
    if array.size:
        source = call.dense(array.transpose(layout.order), dtype, (result.filled,))
        lengths = layout.lengths(source.shape)
        call.wing.softmax.jacobians(call.memory(source), result.memory, *lengths, beta)
    return result.give()


def softmax_jacobian_diag(y: Any, beta: float, out: Any) -> Any:
    """β y (1 − y), number by number."""
    plain = _plain(y, out)
    if plain is not None and plain[2][0].size:
        result, _, memory = plain
        _wing().softmax.diagonals(*memory, beta)
        _written(out)
        return result
    call = Call(y=y, out=out)
    array = call.admit("y", y)
    dtype = _arrays._common(array.dtype)
    given = call.out(out, array.shape, dtype)
    layout = _arrays.Layout(array, ())
    result = Result(call, out, given, array.shape, dtype, layout.order)
    if array.size:
        source = array.transpose(layout.order)
        over = (result.filled,) if _overlaps(source, result.filled) else ()
        source = call.dense(source, dtype, over)
        call.wing.softmax.diagonals(call.memory(source), result.memory, beta)
    return result.give()


# ---- maxout -----------------------------------------------------------------------------------


def _maxout_plainly(x: Any, axis: Any, out: Any, index: Any = False) -> Any:
    """As `_jacobian_plainly`; an index that is not False is another result."""
    found = _plain_slices(x, axis)
    if found is None:
        return None
    library, shape, lengths, source = found
    axis %= len(shape)
    reduced = (*shape[:axis], *shape[axis + 1 :])
    best = _plain_result(library, out, reduced, source.dtype, source)
    winners = None, _none()
    if best is not None and index is not False:
        winners = _plain_result(library, index, reduced, _arrays._INT32, source, best[1])
    if best is None or winners is None:
        return None
    _wing().maxout.maxout(source, best[1], winners[1], *lengths)
    _written(out, None if index is False else index)
    return best[0] if index is False else (best[0], winners[0])


def maxout(x: Any, axis: int, out: Any) -> Any:
    """The maxima over `axis`."""
    done = _maxout_plainly(x, axis, out)
    if done is not None:
        return done
    call = Call(x=x, out=out)
    array, layout, shape = _arrays._pieces(call, x, axis)
    given = call.out(out, shape, array.dtype)
    result = Result(call, out, given, shape, array.dtype, layout.reduced())
    _maxout(call, array, layout, result)
    return result.give()


def maxout_with_index(x: Any, axis: int, index_dtype: Any, out: Any) -> Any:
    """The maxima over `axis` and the winning pieces; `out` is a pair."""
    first, second = _arrays._pair(out)
    done = _maxout_plainly(x, axis, first, second) if index_dtype is np.int32 else None
    if done is not None:
        return done if out is None else out
    call = Call(x=x, **{"out[0]": first, "out[1]": second})
    array, layout, shape = _arrays._pieces(call, x, axis)
    kind = _arrays._index_dtype(call, index_dtype, array.shape[layout.axes[0]])
    given = call.out(first, shape, array.dtype, "out[0]")
    given_index = call.out(second, shape, kind, "out[1]")
    _arrays._distinct(given, given_index)
    result = Result(call, first, given, shape, array.dtype, layout.reduced())
    index = Result(call, second, given_index, shape, kind, layout.reduced())
    _maxout(call, array, layout, result, index)
    pair = result.give(), index.give()
    return pair if out is None else out


def _maxout(call: Call, array: np.ndarray, layout: Any, *results: Result) -> None:
    if array.size:
        filled = tuple(result.filled for result in results)
        source = call.dense(array.transpose(layout.order), apart=filled)
        memory = [result.memory for result in results]
        index = memory[1] if len(memory) > 1 else call.none()
        lengths = layout.lengths(source.shape)
        call.wing.maxout.maxout(call.memory(source), memory[0], index, *lengths)


def maxout_vjp(g: Any, index: Any, pieces: int, axis: int, out: Any) -> Any:
    """g at the winning pieces, zeros elsewhere."""
    done = _selected_plainly(g, index, pieces, axis, out)
    if done is not None:
        return done
    call = Call(g=g, index=index, out=out)
    array = call.admit("g", g)
    chosen = _arrays._index(call, index)
    _arrays._same_shape("g", array, "index", chosen)
    return _selected(call, array, chosen, pieces, axis, array.dtype, out)


def _selected_plainly(g: Any, index: Any, pieces: Any, axis: Any, out: Any) -> Any:
    """As `_jacobian_plainly`."""
    found = _plain_slices(g, 0) if type(axis) is type(pieces) is int else None
    if found is None:
        return None
    library, shape, _, given = found
    ndim, winners = len(shape) + 1, _plain_other(g, index, shape, "i", given.queue)
    if winners is None or not -ndim <= axis < ndim or pieces < 1:
        return None
    axis %= ndim
    whole = (*shape[:axis], pieces, *shape[axis:])
    result = _plain_result(library, out, whole, given.dtype, given, winners)
    if result is None:
        return None
    lengths = math.prod(shape[:axis]), pieces, math.prod(shape[axis:])
    _wing().maxout.vjp(given, winners, result[1], *lengths)
    _written(out)
    return result[0]


def maxout_jacobian(index: Any, pieces: int, axis: int, dtype: Any, out: Any) -> Any:
    """Ones at the winning pieces, zeros elsewhere."""
    call = Call(index=index, out=out)
    chosen = _arrays._index(call, index)
    kind = call.dtype("dtype", dtype)
    return _selected(call, None, chosen, pieces, axis, kind, out)


def _selected(
    call: Call, g: Any, index: np.ndarray, pieces: int, axis: int, dtype: np.dtype, out: Any
) -> Any:
    """`g`, or ones if there is none, spread over a pieces axis put back at `axis`."""
    count = _arrays._piece_count(pieces)
    place = _arrays._axis(axis, index.ndim + 1)
    shape = (*index.shape[:place], count, *index.shape[place:])
    given = call.out(out, shape, dtype)
    result = Result(call, out, given, shape, dtype, list(range(len(shape))))
    if index.size:
        over = (result.filled,)
        chosen = call.memory(call.dense(index, apart=over))
        gradient = call.none(dtype) if g is None else call.memory(call.dense(g, apart=over))
        lengths = math.prod(shape[:place]), count, math.prod(shape[place + 1 :])
        call.wing.maxout.vjp(gradient, chosen, result.memory, *lengths)
    return result.give()


def _winning_plainly(t: Any, index: Any, axis: Any, out: Any) -> Any:
    """As `_jacobian_plainly`."""
    found = _plain_slices(t, axis)
    if found is None:
        return None
    library, shape, (_, pieces, inner), tangent = found
    axis %= len(shape)
    reduced = (*shape[:axis], *shape[axis + 1 :])
    winners = _plain_other(t, index, reduced, "i", tangent.queue)
    if winners is None:
        return None
    result = _plain_result(library, out, reduced, tangent.dtype, tangent, winners)
    if result is None:
        return None
    _wing().maxout.jvps(tangent, winners, result[1], pieces, inner)
    _written(out)
    return result[0]


def maxout_jvp(t: Any, index: Any, axis: int, out: Any) -> Any:
    """The tangents of the winning pieces."""
    done = _winning_plainly(t, index, axis, out)
    if done is not None:
        return done
    call = Call(t=t, index=index, out=out)
    tangent = call.admit("t", t)
    place = _arrays._axis(axis, tangent.ndim)
    pieces = tangent.shape[place]
    chosen = _arrays._index(call, index)
    shape = tangent.shape[:place] + tangent.shape[place + 1 :]
    if chosen.shape != shape:
        raise ValueError(
            f"index must have t's shape without axis {axis}, {shape}, got {chosen.shape}"
        )
    given = call.out(out, shape, tangent.dtype)
    result = Result(call, out, given, shape, tangent.dtype, list(range(len(shape))))
    if chosen.size:
        over = (result.filled,)
        operands = (call.memory(call.dense(a, apart=over)) for a in (tangent, chosen))
        inner = math.prod(tangent.shape[place + 1 :])
        call.wing.maxout.jvps(*operands, result.memory, pieces, inner)
    return result.give()


# ---- maxout of an affine map ------------------------------------------------------------------


def maxout_affine(x: Any, weight: Any, bias: Any, indexed: bool, index_dtype: Any, out: Any) -> Any:
    """max over i of weight[u, i]·x + bias[u, i]; if `indexed`, the winning pieces too."""
    first, second = _arrays._pair(out) if indexed else (out, None)
    call = Call(x=x, weight=weight, bias=bias, **{"out": first, "out[1]": second})
    weight, units = _arrays._weight(call, weight)
    pieces, depth = weight.shape[-2:]
    given = {"x": _arrays._inputs(call, x, depth), "weight": weight}
    if bias is not None:
        given["bias"] = _arrays._like(
            call, "bias", bias, weight.shape[:-1], "weight's shape without d,"
        )
    dtype = _arrays._numbers(*(array.dtype for array in given.values()))
    shape = given["x"].shape[:-1] + units
    order = list(range(len(shape)))
    kind = _arrays._index_dtype(call, index_dtype, pieces) if indexed else np.dtype(np.uint8)
    y_given = call.out(first, shape, dtype, "out[0]" if indexed else "out")
    index_given = call.out(second, shape, kind, "out[1]") if indexed else None
    _arrays._distinct(y_given, index_given)
    y = Result(call, first, y_given, shape, dtype, order)
    results = [y]
    if indexed:
        results.append(Result(call, second, index_given, shape, kind, order))
    if y.target.size:
        over = tuple(result.filled for result in results)
        flat = {name: call.memory(call.dense(a, dtype, over)) for name, a in given.items()}
        memory = [result.memory for result in results]
        call.wing.affine.affine(
            flat["x"],
            flat["weight"],
            flat.get("bias", call.none(dtype)),
            memory[0],
            memory[1] if indexed else call.none(),
            math.prod(units),
            pieces,
            depth,
        )
    gifts = tuple(result.give() for result in results)
    return (gifts if out is None else out) if indexed else gifts[0]


def _winners(call: Call, index: Any, units: tuple[int, ...]) -> np.ndarray:
    array = _arrays._index(call, index)
    if units and array.shape[-1:] != units:
        raise ValueError(
            f"index must have shape (..., units) with weight's {units[0]} units, got {array.shape}"
        )
    return array


_RESULT = "the result's shape (..., units)"


def maxout_affine_vjp(g: Any, x: Any, weight: Any, index: Any) -> tuple[Any, Any, Any]:
    """(dx, dweight, dbias)."""
    call = Call(g=g, x=x, weight=weight, index=index)
    weight, units = _arrays._weight(call, weight)
    pieces, depth = weight.shape[-2:]
    x = _arrays._inputs(call, x, depth)
    shape = x.shape[:-1] + units
    g = _arrays._like(call, "g", g, shape, _RESULT)
    _winners(call, index, units)
    index = _arrays._like(call, "index", index, shape, _RESULT)
    dtype = _arrays._numbers(g.dtype, x.dtype, weight.dtype)
    sums = call.wing.affine.product_dtype(dtype)
    filled = [call.empty(s, sums) for s in (x.shape, weight.shape, weight.shape[:-1])]
    if g.size:
        operands = [call.memory(call.dense(a, dtype)) for a in (g, x, weight)]
        operands += [call.memory(call.dense(index)), *map(call.memory, filled)]
        call.wing.affine.affine_vjp(*operands, math.prod(units), pieces, depth)
    else:
        for array in filled:
            call.wing.affine.zero(call.memory(array))
    results = [Result(call, None, None, a.shape, dtype, list(range(a.ndim))) for a in filled]
    for array, result in zip(filled, results, strict=True):
        call.copy(array, result.target)
    dx, dweight, dbias = (result.array for result in results)
    return dx, dweight, dbias


def maxout_affine_jvp(x: Any, weight: Any, index: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
    """weight[u, i*]·dx + dweight[u, i*]·x + dbias[u, i*]; a tangent left out is zero."""
    call = Call(x=x, weight=weight, index=index, dx=dx, dweight=dweight, dbias=dbias)
    weight, units = _arrays._weight(call, weight)
    pieces, depth = weight.shape[-2:]
    given = {"x": _arrays._inputs(call, x, depth), "weight": weight}
    shape = given["x"].shape[:-1] + units
    _winners(call, index, units)
    index = _arrays._like(call, "index", index, shape, _RESULT)
    if dx is not None:
        given["dx"] = _arrays._like(call, "dx", dx, given["x"].shape, "x's shape")
    if dweight is not None:
        given["dweight"] = _arrays._like(call, "dweight", dweight, weight.shape, "weight's shape")
    if dbias is not None:
        why = "weight's shape without d,"
        given["dbias"] = _arrays._like(call, "dbias", dbias, weight.shape[:-1], why)
    dtype = _arrays._numbers(*(array.dtype for array in given.values()))
    result = Result(call, None, None, shape, dtype, list(range(len(shape))))
    if result.target.size:
        flat = {name: call.memory(call.dense(a, dtype)) for name, a in given.items()}
        call.wing.affine.affine_jvp(
            flat.get("dx", call.none(dtype)),
            flat["x"],
            flat["weight"],
            flat.get("dweight", call.none(dtype)),
            flat.get("dbias", call.none(dtype)),
            call.memory(call.dense(index)),
            result.memory,
            math.prod(units),
            pieces,
            depth,
        )
    return result.give()


def maxout_affine_jacobian(weight: Any, index: Any) -> Any:
    """∂y/∂x = weight[u, index[..., u], :]."""
    call = Call(weight=weight, index=index)
    weight, units = _arrays._weight(call, weight)
    pieces, depth = weight.shape[-2:]
    index = _winners(call, index, units)
    shape = (*index.shape, depth)
    result = Result(call, None, None, shape, weight.dtype, list(range(len(shape))))
    if result.target.size:
        operands = call.memory(call.dense(weight)), call.memory(call.dense(index))
        call.wing.affine.affine_jacobian(*operands, result.memory, math.prod(units), pieces, depth)
    return result.give()
