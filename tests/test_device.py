"""Arrays on a GPU where there is none: what is missing is named, and nothing else is slower."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import numba_acts
from numba_acts._halls import libraries


class OnDevice:
    """An array that says it lives on a GPU."""

    def __init__(self, shape):
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.float32), len(shape)
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<f4",
            "data": (256, False),
            "strides": None,
            "version": 3,
        }


FIVE, PAIR = OnDevice((5,)), OnDevice((5, 2))
CALLS = [
    lambda: numba_acts.softmin(FIVE),
    lambda: numba_acts.softmin_vjp(FIVE, FIVE),
    lambda: numba_acts.softmin_jacobian(FIVE),
    lambda: numba_acts.softmin_jacobian_diag(FIVE),
    lambda: numba_acts.softmax2d(OnDevice((3, 4, 5))),
    lambda: numba_acts.maxout(PAIR),
    lambda: numba_acts.maxout_with_index(PAIR),
    lambda: numba_acts.maxout_vjp(FIVE, FIVE, 2),
    lambda: numba_acts.maxout_jvp(PAIR, FIVE),
    lambda: numba_acts.maxout_jacobian(FIVE, 2),
    lambda: numba_acts.maxout_affine(PAIR, PAIR),
    lambda: numba_acts.maxout_affine_vjp(FIVE, PAIR, PAIR, FIVE),
    lambda: numba_acts.maxout_affine_jvp(PAIR, PAIR, FIVE),
    lambda: numba_acts.maxout_affine_jacobian(PAIR, FIVE),
]


@pytest.mark.parametrize("call", CALLS)
def test_the_missing_package_is_named(call, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "numba_cuda" else find(name)
    )
    with pytest.raises(ImportError, match=r"pip install 'numba-acts\[cuda\]'.*\[cu12\]"):
        call()


def without_a_driver():
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("needs numba-cuda, the extra cuda")
    from numba import cuda

    if cuda.is_available():
        pytest.skip("there is a GPU")
    return cuda


def test_the_missing_driver_is_named():
    without_a_driver()
    with pytest.raises(RuntimeError, match="need NVIDIA's driver.*install or update it, to 580"):
        numba_acts.softmin(FIVE)


def test_a_driver_too_old_is_told_so(monkeypatch):
    cuda = without_a_driver()
    from cuda.bindings import driver, nvrtc

    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(driver, "cuDriverGetVersion", lambda: (0, 12_040))
    monkeypatch.setattr(nvrtc, "nvrtcVersion", lambda: (0, 13, 0))
    message = r"driver is one of CUDA 12\.4.*CUDA 13\.0.*update the driver.*\[cu12\]"
    with pytest.raises(RuntimeError, match=message):
        numba_acts.softmin(FIVE)


def test_the_import_leaves_the_gpu_alone():
    code = """
import sys, numba_acts, numpy
numba_acts.softmin(numpy.ones(3))
loaded = [name for name in sys.modules if name.startswith(("numba.cuda", "numba_acts._cuda"))]
assert "numba_acts._halls.gpu" not in sys.modules
assert "numba_acts._cuda" not in loaded and "numba.cuda.cudadrv" not in loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_address_is_described_and_never_read():
    array = libraries.description(4096, (2, 3), (4, 8), np.dtype(np.float32), None)
    assert array.ctypes.data == 4096 and array.strides == (4, 8)
    assert array.flags.f_contiguous
