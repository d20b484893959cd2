"""Arrays in host memory: what may be passed as one, as a NumPy array, and what is given back."""

from typing import Any

import numpy as np

from numba_acts._dtypes import BFLOAT16
from numba_acts._halls import rules, standard, tensors

_FLOATS = {*map(np.dtype, "efd"), BFLOAT16}  # the last as tensors of it are held


def is_float(dtype: np.dtype) -> bool:
    """Is it one of floats that kernels know, in the machine's byte order?"""
    return dtype in _FLOATS or dtype.isnative and dtype.name == "bfloat16"


def _check_alone(name: str, own: Any, *others: Any) -> None:
    """Refuse arrays of two libraries: of which kind would the result be?"""
    for other in others:
        if other is not None and other is not own:
            one, two = (getattr(library, "__name__", library) for library in (own, other))
            raise TypeError(
                f"{name} is an array of {one}, others are of {two}: pass arrays of one "
                "library, beside NumPy's"
            )


class Call:
    """One call: the kind of its arrays, which is the kind of its results."""

    torch: Any = None  # the module, if the arrays are its CPU tensors
    functions: Any = None  # the array API's for them, if they are another library's
    device: Any = None  # of the first of these

    def admit(self, name: str, value: Any, wanted: str = tensors.NUMBERS) -> np.ndarray:
        """The NumPy array behind an argument, in the machine's byte order."""
        if type(value) is not np.ndarray:
            value = self._array(name, value, wanted)
        dtype = value.dtype
        if is_float(dtype):
            return value
        if not dtype.isnative and dtype.names is None:
            value = value.astype(dtype.newbyteorder("="))
            dtype = value.dtype
        numbers = dtype.kind in "biuf" and dtype.itemsize <= 8
        if not (is_float(dtype) or numbers and dtype.type.__module__ == "numpy"):
            raise TypeError(f"{name} must be {wanted}, got {dtype.name}")
        return value

    def _array(self, name: str, value: Any, wanted: str) -> np.ndarray:
        torch = tensors.module(value)
        if torch is not None:
            return self._tensor(torch, name, value, wanted)
        functions = standard.namespace(name, value)
        if functions is not None:
            return self._foreign(functions, name, value, wanted)
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array, whose mask would be ignored: pass its data, and "
                "where=~mask to say which entries count"
            )
        if hasattr(type(value), "__dask_graph__") and value.__dask_graph__() is not None:
            raise TypeError(
                f"{name} must be a Dask array or one in memory, got {type(value).__name__}, which "
                "would be computed whole: pass the Dask array in it (data), or its compute()"
            )
        try:
            array = np.asarray(value)
        except ValueError as error:
            kind = type(value).__name__
            raise ValueError(f"{name} must be an array, got {kind}: {error}") from None
        if array.dtype == object and not isinstance(value, np.ndarray):
            kind = type(value).__name__ + (" of objects" if array.ndim else "")
            raise TypeError(f"{name} must be {wanted}, got {kind}")
        return array

    def _tensor(self, torch: Any, name: str, value: Any, wanted: str) -> np.ndarray:
        tensors.check(torch, name, value, wanted)
        if not value.is_cpu:
            raise TypeError(f"{name} must be a tensor in host memory, got one on {value.device}")
        if wanted is not tensors.BOOLS:  # a mask does not say of what kind the result is
            _check_alone(name, torch, self.functions)
            self.torch = torch
        value = value.resolve_neg()  # of no known dtype are there conjugates
        try:
            return tensors.memory(torch, value)
        except RuntimeError:
            raise tensors.no_memory(name) from None

    def _foreign(self, functions: Any, name: str, value: Any, wanted: str) -> np.ndarray:
        if wanted is not tensors.BOOLS:
            _check_alone(name, functions, self.functions, self.torch)
            if self.functions is None:
                self.functions, self.device = functions, getattr(value, "device", None)
        return standard.taken(value)

    def fresh(self, shape: Any, dtype: np.dtype) -> np.ndarray:
        """Memory for a result."""
        return np.empty(shape, dtype) if self.functions is None else standard.fresh(shape, dtype)

    def dtype(self, name: str, dtype: Any) -> np.dtype:
        """The dtype behind an argument that names one."""
        if self.torch is not None and isinstance(dtype, self.torch.dtype):
            return tensors.dtype(self.torch, name, dtype)
        try:
            empty = np.empty(0, dtype)
        except TypeError:
            raise TypeError(f"{name} must be a dtype, got {rules.shown(dtype)}") from None
        return self.admit(name, empty).dtype

    def out(self, name: str, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The array behind an `out`, which must be what the result would be."""
        if self.torch is not None and isinstance(out, self.torch.Tensor):
            tensors.check_out(name, out)
            array = self.admit(name, out)
        elif isinstance(out, np.ndarray) and not isinstance(out, np.ma.MaskedArray):
            array = out
        elif self.functions is not None and standard.namespace(name, out) is self.functions:
            array = standard.taken(out)
        else:
            wanted = "a NumPy array" if self.torch is None else "a PyTorch CPU tensor"
            raise TypeError(f"{name} must be {wanted}, got {type(out).__name__}")
        rules.check_result(name, array, shape, dtype)
        return array

    def give(self, result: np.ndarray) -> Any:
        """A fresh result as the caller's kind."""
        if self.functions is not None:
            return standard.given(self.functions, result, self.device)
        if self.torch is None:
            return result if result.ndim else result[()]
        return tensors.given(result)
