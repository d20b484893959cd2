"""Dtypes under which arrays are held whose elements NumPy or Numba has no type for."""

import functools

import numpy as np

FLOAT16 = np.dtype([("float16", np.uint16)])
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
BOOL = np.dtype([("bool", np.uint8)])


@functools.cache
def held(dtype: np.dtype) -> np.dtype:
    """The dtype under which a kernel is compiled for an array's memory."""
    if dtype == np.float16:
        return FLOAT16
    if dtype.name == "bfloat16":
        return BFLOAT16
    return BOOL if dtype == np.bool_ else dtype
