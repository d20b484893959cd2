"""Arrays on a GPU where there is none: what is missing is named, and nothing else is slower."""

import contextlib
import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import numba_acts
from numba_acts import __main__
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


def test_the_warm_up_names_the_missing_driver(capsys):
    without_a_driver()
    assert __main__.main(["warmup", "--gpu", "--dtype", "float32"]) == 1
    assert "need NVIDIA's driver" in capsys.readouterr().err


def test_the_warm_up_of_a_gpu_covers_every_function():
    """Its calls are right in host memory too; the shapes that compile most there are left out."""
    calls = __main__.calls_on(__main__.gpu_inputs(np.dtype(np.float32), lambda array: array))
    assert set(__main__.public_functions()) <= set(calls)
    for name, some in calls.items():
        assert some, name
        some[0]()
        some[-1]()


def test_a_driver_too_old_is_told_so(monkeypatch):
    cuda = without_a_driver()
    from cuda.bindings import driver, nvrtc

    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(driver, "cuDriverGetVersion", lambda: (0, 12_040))
    monkeypatch.setattr(nvrtc, "nvrtcVersion", lambda: (0, 13, 0))
    message = r"driver is one of CUDA 12\.4.*CUDA 13\.0.*update the driver.*\[cu12\]"
    with pytest.raises(RuntimeError, match=message):
        numba_acts.softmin(FIVE)


def test_a_gpu_too_old_is_told_so(monkeypatch):
    launch = wing_launch()
    old = SimpleNamespace(compute_capability=(7, 5), name=b"Tesla T4")
    monkeypatch.setattr(launch.cuda, "gpus", {0: old})
    kernel = launch.Kernel(None, "none", (32, 0, 0), ())
    with pytest.raises(RuntimeError, match=r"device 0, Tesla T4, has .* 7\.5; .* needs 8\.0"):
        kernel.compiled(0, ())


def wing_launch():
    pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra cuda")
    from numba_acts._cuda import launch

    return launch


def test_a_start_without_a_context_is_tried_with_one(monkeypatch):
    launch, inside, started = wing_launch(), [], []

    @contextlib.contextmanager
    def context():
        inside.append(True)
        yield
        inside.clear()

    def start(*values):
        if not inside:
            raise RuntimeError("CUDA_ERROR_INVALID_CONTEXT")
        started.append(values)

    monkeypatch.setattr(launch, "is_current", lambda device: bool(inside))
    for devices in (1, 2):
        monkeypatch.setattr(launch, "devices", lambda devices=devices: devices)
        monkeypatch.setattr(launch.cuda, "gpus", {0: context()})
        launch.again(0, start, (256, 0), (1.5,))
    assert started == [(256, 0, 1.5)] * 2
    monkeypatch.setattr(launch, "devices", lambda: 1)
    monkeypatch.setattr(launch, "is_current", lambda device: True)
    with pytest.raises(RuntimeError, match="INVALID"):
        launch.again(0, start, (256, 0), ())


@pytest.mark.parametrize("shown", [True, False])
def test_kernels_of_cuda_core_old_and_new(shown, monkeypatch):
    """cuda-core 0.5 has no `Kernel.handle`."""
    launch, asked = wing_launch(), []
    names = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)

    def ask(*given):
        asked.append(given)
        return (0,)

    driver = SimpleNamespace(CUfunction_attribute=names, cuKernelSetAttribute=ask)
    monkeypatch.setattr(launch, "_driver", lambda: driver)
    launch._allow(SimpleNamespace(**{"handle" if shown else "_handle": 5}), 60_000, 0)
    assert asked == [(8, 60_000, 5, 0)]


def test_the_default_stream_has_two_numbers(monkeypatch):
    assert [libraries.handle(stream) for stream in (0, 1, 2, 256)] == [0, 0, 2, 256]
    launch = wing_launch()
    monkeypatch.setattr(libraries, "wing", lambda: SimpleNamespace(launch=launch))
    interface = dict(FIVE.__cuda_array_interface__, stream=1)
    value, library = SimpleNamespace(__cuda_array_interface__=interface), libraries.Library()
    queue = library.queue(value, 0)
    assert queue.stream == library.stream(value, 0) == 0 and library.ready(value, queue)
    launch.wait(0, queue.stream, library.stream(value, 0))  # asks no driver


@pytest.mark.parametrize("old", [False, True])
def test_products_of_halves_in_any_pytorch(old, monkeypatch):
    """PyTorch before 2.8 has no product of sixteen-bit floats that is left in float32."""
    torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")

    def mm(a, b, *, out, **more):
        if old and more:
            raise TypeError("mm() got an unexpected keyword argument 'out_dtype'")
        assert old or more == {"out_dtype": torch.float32}
        return out.copy_(a.float() @ b.float())

    library = libraries.Torch(torch)
    a, b, out = torch.ones(2, 3).half(), torch.ones(3, 4).half(), torch.zeros(2, 4)
    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(torch.cuda, "device", lambda number: contextlib.nullcontext())
    monkeypatch.setattr(library, "_matrix", lambda memory, *more: memory)
    library.multiply(SimpleNamespace(device=0), a, b, out, 2, 3, 4, False, False)
    assert (out == 3).all()


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
