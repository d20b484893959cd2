"""The libraries whose arrays live on a GPU: what is asked of each, and whether it can run here.

An array is described by a NumPy array whose address, shape and strides are true and whose numbers
nobody may read.
"""

import functools
import importlib
import importlib.util
import math
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from numba_acts._dtypes import BFLOAT16
from numba_acts._halls import arrays, tensors

if TYPE_CHECKING:
    from numba_acts._cuda.launch import Queue


# ---- whether there is a GPU to run on ---------------------------------------------------------


@functools.cache
def wing() -> SimpleNamespace:
    """The modules of GPU kernels, once it is certain that they can run here."""
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
    from numba_acts._cuda import affine, copies, forward, jacobian, launch, maxout, product

    rooms = affine, copies, forward, jacobian, launch, maxout, product
    return SimpleNamespace(**{room.__name__.rpartition(".")[2]: room for room in rooms})


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


# ---- libraries --------------------------------------------------------------------------------


def description(pointer: int, shape: Any, strides: Any, dtype: np.dtype, owner: Any) -> np.ndarray:
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

    def describe(self, name: str, value: Any, wanted: str = tensors.NUMBERS) -> np.ndarray:
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
        array = description(pointer, interface["shape"], strides, dtype, value)
        if locked:
            array.flags.writeable = False
        return array

    def plain(self, value: Any) -> "Dense | None":
        """What a kernel needs to know of an array, if it is dense, writeable and on a GPU."""
        interface = getattr(value, "__cuda_array_interface__", None)
        if interface is None:
            return None
        pointer, locked = interface["data"]
        if interface.get("strides") is not None or interface.get("mask") is not None or locked:
            return None
        dtype = getattr(value, "dtype", None)
        if not isinstance(dtype, np.dtype):
            return None
        return pointer, tuple(interface["shape"]), dtype, self.device(value)

    def like(self, value: Any, plain: "Dense", queue: "Queue") -> tuple[Any, int]:
        """A fresh array of the same shape and dtype, and its address."""
        return self.empty(plain[1], None, plain[2], queue)

    def queue(self, value: Any, device: int) -> "Queue":
        """Where kernels on an array are to run."""
        return _queue(self, device, self.stream(value, device))

    def ready(self, value: Any, queue: "Queue") -> bool:
        """Is what the array holds in order with the stream of a queue of this library?"""
        stream = value.__cuda_array_interface__.get("stream")
        return stream is None or handle(stream) == queue.stream

    def device(self, value: Any) -> int:
        """The number of the device that an array lives on."""
        if _is_alone():
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
        return 0 if stream is None else handle(stream)

    def empty(self, shape: Any, strides: Any, dtype: np.dtype, queue: "Queue") -> tuple[Any, int]:
        """A fresh array and its address: dense, with these strides or in C order.

        It says of the stream where it is filled that its numbers will be ready there.
        """
        array = _device_array(tuple(shape), strides, dtype, queue.device, self._stream_of(queue))
        return array, array.device_ctypes_pointer.value or 0

    def _stream_of(self, queue: "Queue") -> Any:
        return _external(queue.device, queue.stream) if queue.stream else 0

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
        return arrays.Call().dtype(name, dtype)

    def written(self, value: Any) -> None:
        """Let the library know that an array of the caller's has changed."""


class Numba(Library):
    """Numba's device arrays; to ask them for their interface takes longer.

    A stream lives as long as somebody holds Numba's object for it: results hold that of the first
    array, as it does.
    """

    def plain(self, value: Any) -> "Dense | None":
        """What a kernel needs to know of an array, if it is dense."""
        if not value.is_c_contiguous():
            return None
        pointer = value.device_ctypes_pointer.value or 0
        return pointer, value.shape, value.dtype, 0 if _is_alone() else self.device(value)

    def stream(self, value: Any, device: int) -> int:
        """The stream in which the array's numbers will be ready."""
        return handle(value.stream)

    def queue(self, value: Any, device: int) -> "Queue":
        """Where kernels on an array are to run; it keeps the stream."""
        return _queue(self, device, value.stream)

    def ready(self, value: Any, queue: "Queue") -> bool:
        """Is it an array of the same stream?"""
        stream = value.stream
        return stream is queue.source or handle(stream) == queue.stream

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

    def plain(self, value: Any) -> "Dense | None":
        """What a kernel needs to know of an array, if it is dense."""
        if not value.flags.c_contiguous:
            return None
        dtype = value.dtype
        if dtype.kind == "V" and dtype.name == "bfloat16":
            dtype = BFLOAT16
        return value.data.ptr, value.shape, dtype, value.device.id

    def ready(self, value: Any, queue: "Queue") -> bool:
        """All arrays are, in the library's current stream."""
        return True

    def device(self, value: Any) -> int:
        """The number of the device that an array lives on."""
        return int(value.device.id)

    def stream(self, value: Any, device: int) -> int:
        """The library's current stream."""
        return handle(self.cupy.cuda.get_current_stream(device).ptr)

    def describe(self, name: str, value: Any, wanted: str = tensors.NUMBERS) -> np.ndarray:
        """The description of an argument."""
        dtype = BFLOAT16 if value.dtype.name == "bfloat16" else value.dtype
        return description(value.data.ptr, value.shape, value.strides, dtype, value)

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
        # What `torch.cuda.current_stream` asks, before it makes an object of the answer.
        self._stream = getattr(torch._C, "_cuda_getCurrentRawStream", None) or (
            lambda device: torch.cuda.current_stream(device).cuda_stream
        )
        self.dtypes = tensors.dtypes(torch)
        self.kinds = {dtype: kind for kind, dtype in self.dtypes.items()}

    def is_own(self, value: Any) -> bool:
        """Is it one of this library's arrays?"""
        return isinstance(value, self.torch.Tensor)

    def plain(self, value: Any) -> "Dense | None":
        """What a kernel needs to know of an array, if it is dense and no gradient is lost."""
        if not value.is_cuda or not tensors.is_plain(self.torch, value):
            return None
        if value.is_neg() or not value.is_contiguous():
            return None
        try:
            return value.data_ptr(), value.shape, self.dtypes[value.dtype], value.get_device()
        except RuntimeError:  # a stand-in without memory
            return None

    def like(self, value: Any, plain: "Dense", queue: "Queue") -> tuple[Any, int]:
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
        return handle(self._stream(device))

    def describe(self, name: str, value: Any, wanted: str = tensors.NUMBERS) -> np.ndarray:
        """The description of an argument."""
        tensors.check(self.torch, name, value, wanted)
        dtype = self.dtypes[value.dtype]
        if value.is_neg():
            value = value.resolve_neg()
        strides = tuple(step * dtype.itemsize for step in value.stride())
        try:
            pointer = value.data_ptr()
        except RuntimeError:
            raise tensors.no_memory(name) from None
        return description(pointer, value.shape, strides, dtype, value)

    def written(self, value: Any) -> None:
        """Let the library know that an array of the caller's has changed."""
        self.torch.autograd.graph.increment_version(value)

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
            if left.dtype != result.dtype:
                try:
                    torch.mm(left, right, out_dtype=result.dtype, out=result)
                    return
                except TypeError:  # PyTorch before 2.8 does not know `out_dtype`
                    left, right = left.to(result.dtype), right.to(result.dtype)
            torch.mm(left, right, out=result)

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


def handle(stream: Any) -> int:
    """A stream's number; the default stream has two."""
    number = int(stream)
    return 0 if number == 1 else number


@functools.cache
def _is_alone() -> bool:
    """Is there one device only?"""
    return bool(wing().launch.devices() == 1)


@functools.lru_cache(1 << 6)
def _external(device: int, stream: int) -> Any:
    from numba import cuda

    with cuda.gpus[device]:
        return cuda.external_stream(stream)


def _device_array(shape: Any, strides: Any, dtype: np.dtype, device: int, stream: Any) -> Any:
    """Numba's `cuda.device_array`, which asks four times which context is current.

    It works while a stream is captured too, whose graph is to write to the array.
    """
    gpus, array = _numba()
    launch = wing().launch
    strides = _dense_strides(shape, dtype.itemsize) if strides is None else tuple(strides)
    size = math.prod(shape) * dtype.itemsize
    with launch.on(device):
        memory = None
        if size:
            context = gpus[device].get_primary_context()
            context.prepare_for_use()
            with launch.Relaxed():
                memory = context.memalloc(size)
        return array(shape, strides, dtype, stream, memory)


@functools.cache
def _numba() -> tuple[Any, Any]:
    from numba import cuda
    from numba.cuda.cudadrv.devicearray import DeviceNDArray

    return cuda.gpus, DeviceNDArray


@functools.lru_cache(1 << 10)
def _dense_strides(shape: tuple[int, ...], step: int) -> tuple[int, ...]:
    strides = []
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


# address, shape, dtype and device of a dense array
Dense = tuple[int, tuple[int, ...], np.dtype, int]

known: dict[type, Library] = {}


def library_of(value: Any) -> Library:
    """The library of an array, recognised without importing it, once there is a wing to use it."""
    kind = type(value)
    library = known.get(kind)
    if library is None:
        library = Numba() if kind.__name__ == "DeviceNDArray" else Library()
        for name, candidate in (("torch", Torch), ("cupy", CuPy)):
            module = sys.modules.get(name)
            if module is not None and candidate(module).is_own(value):
                library = candidate(module)
        known[kind] = library
    return library


@functools.lru_cache(1 << 6)
def _queue(library: Library, device: int, stream: Any) -> "Queue":
    """One queue for each library and stream, a handle or the library's object for it."""

    def allocate(size: int, dtype: np.dtype) -> tuple[int, Any]:
        owner, pointer = library.empty((size,), None, dtype, queue)
        return pointer, owner

    def multiply(*task: Any) -> None:
        library.multiply(queue, *task)

    queue = wing().launch.Queue(device, handle(stream), allocate, multiply, stream)
    return queue
