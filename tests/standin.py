"""A stand-in for CuPy in host memory: what the hall asks of it, for kernels in the simulator."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class Array:
    """An array that says it lives on a GPU; its memory is the host's, where the simulator works."""

    def __init__(self, array):
        self.array = array
        self.shape, self.strides, self.ndim = array.shape, array.strides, array.ndim
        self.dtype, self.size = array.dtype, array.size
        self.data = SimpleNamespace(ptr=array.ctypes.data if array.size else 0)
        self.device = SimpleNamespace(id=0)
        self.flags = array.flags

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.data.ptr, False),
            "strides": self.strides,
            "version": 3,
        }

    @property
    def T(self):
        return Array(self.array.T)

    def transpose(self, axes):
        return Array(self.array.transpose(axes))

    def astype(self, dtype):
        return Array(self.array.astype(dtype))

    def view(self, dtype):
        return Array(self.array.view(dtype))

    def __lshift__(self, bits):
        return Array(self.array << bits)


def empty(shape, dtype):
    """Memory full of a number that would be noticed."""
    array = np.empty(shape, dtype)
    array.fill(77)
    return Array(array)


def empty_like(array):
    return empty(array.shape, array.dtype)


def asarray(described):
    interface = described.__cuda_array_interface__
    return Array(np.asarray(SimpleNamespace(__array_interface__=interface, owner=described)))


def matmul(a, b, out):
    np.matmul(a.array, b.array, out=out.array)


def to_device(value):
    """An argument as it lives on the GPU; what is no array stays."""
    return Array(value) if isinstance(value, np.ndarray) else value


def to_host(value):
    """A result, as NumPy would give it."""
    if isinstance(value, tuple):
        return tuple(map(to_host, value))
    assert type(value) is Array, f"got {type(value)}"
    return value.array[()] if value.ndim == 0 else value.array


def install():
    """Put the stand-in where CuPy would be."""
    cupy: Any = ModuleType("cupy")
    stream = SimpleNamespace(ptr=0)
    members = {
        "ndarray": Array,
        "empty": empty,
        "empty_like": empty_like,
        "asarray": asarray,
        "matmul": matmul,
    }
    cupy.__dict__.update(members)
    cupy.cuda = SimpleNamespace(
        Device=lambda number: contextlib.nullcontext(),
        Stream=SimpleNamespace(null=contextlib.nullcontext()),
        get_current_stream=lambda number: stream,
    )
    sys.modules["cupy"] = cupy


def share_memory():
    """Have threads of the simulator that ask for the same shared array get the same."""
    from numba.cuda.simulator import kernelapi

    kernelapi.FakeCUDAShared.array = _shared_array
    sys.setswitchinterval(1e-5)


def _shared_array(self, shape, dtype, alignment=1):
    """The array of the line that asks for it, aligned; without a shape, as large as was asked for.

    The simulator looks for it and, if there is none, makes one: two threads that look at the same
    time get one each, and do not share it. This makes it and keeps it in one step.
    """
    frame = sys._getframe(1)
    size = (shape or self._dynshared_size // np.dtype(dtype).itemsize) * np.dtype(dtype).itemsize
    memory = np.empty(size + alignment, np.uint8)
    start = -memory.ctypes.data % alignment
    array = memory[start : start + size].view(dtype)
    return self._allocations.setdefault((frame.f_code, frame.f_lineno), array)
