"""On a real GPU: the whole case table, all kinds of arrays, streams, views; `pytest --full -m gpu`.

Several processes are faster, as kernels are compiled on the host: ``-n 8`` with pytest-xdist.
"""

import math
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cases
import numpy as np
import pytest

import numba_acts

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-acts[cuda]'")

from numba import cuda

if not cuda.is_available():
    pytest.skip("needs an NVIDIA GPU and its driver", allow_module_level=True)

pytestmark = pytest.mark.gpu

MEGABYTE = 2**20
CUPY = "CuPy, an extra, is not installed"


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")


# The kinds of arrays ---------------------------------------------------------------------------


def buffer(array):
    """The bytes that an array lies in, and where in them it begins."""
    low, high = np.lib.array_utils.byte_bounds(array)
    interface = {"data": (low, True), "shape": (high - low,), "typestr": "|u1", "version": 3}
    raw = np.asarray(SimpleNamespace(__array_interface__=interface, owner=array)).copy()
    return raw, array.ctypes.data - low


class Numba:
    """Numba's device arrays."""

    def to_device(self, array):
        return cuda.to_device(np.asarray(array, order="C"))

    def to_host(self, array):
        assert type(array).__name__ == "DeviceNDArray"
        return array.copy_to_host()


class Torch:
    """PyTorch's tensors; they have no negative strides."""

    def __init__(self):
        self.torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")

    def to_device(self, array):
        torch = self.torch
        if array.size == 0 or min(array.strides, default=0) < 0:
            array = array.copy()
        half = array.dtype.name == "bfloat16"
        kind = torch.bfloat16 if half else getattr(torch, array.dtype.name)
        if array.size == 0:
            return torch.empty(array.shape, dtype=kind, device="cuda")
        raw, start = buffer(array)
        size = array.itemsize
        whole = np.zeros(-(-len(raw) // size) * size, np.uint8)
        whole[: len(raw)] = raw
        flat = torch.from_numpy(whole.view(np.uint8)).cuda().view(kind)
        steps = [step // size for step in array.strides]
        return flat.as_strided(array.shape, steps, start // size)

    def to_host(self, array):
        assert type(array) is self.torch.Tensor and array.is_cuda
        if array.dtype == self.torch.bfloat16:
            bits = array.cpu().contiguous().view(self.torch.int16).numpy()
            return bits.view(cases.as_dtype("bfloat16"))
        return array.cpu().numpy()


class CuPy:
    """CuPy's arrays, with any strides."""

    def __init__(self):
        self.cupy = pytest.importorskip("cupy", reason=CUPY)

    def to_device(self, array):
        cupy = self.cupy
        if array.size == 0:
            return cupy.empty(array.shape, array.dtype)
        raw, start = buffer(array)
        memory = cupy.asarray(raw).data + start
        return cupy.ndarray(array.shape, array.dtype, memory, array.strides)

    def to_host(self, array):
        assert type(array) is self.cupy.ndarray
        return self.cupy.asnumpy(array)


class Interface(Numba):
    """Arrays of nobody's, that have the interface alone; results are Numba's."""

    def to_device(self, array):
        raw, start = buffer(array) if array.size else (np.zeros(1, np.uint8), 0)
        memory = cuda.to_device(raw)
        pointer = memory.__cuda_array_interface__["data"][0] + start
        described = {
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
            "data": (pointer, False),
            "stream": None,
            "version": 3,
        }
        return SimpleNamespace(__cuda_array_interface__=described, owner=memory)


KINDS = {"numba": Numba, "torch": Torch, "cupy": CuPy, "interface": Interface}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]()


def call(kind, name, *arguments, **keywords):
    """The function on the GPU, its result as NumPy would give it."""

    def there(value):
        return kind.to_device(value) if isinstance(value, np.ndarray) else value

    def here(value):
        array = kind.to_host(value)
        return array if array.ndim else array[()]

    moved = {key: there(value) for key, value in keywords.items()}
    result = getattr(numba_acts, name)(*map(there, arguments), **moved)
    return tuple(map(here, result)) if isinstance(result, tuple) else here(result)


# Values ----------------------------------------------------------------------------------------


def possible(case):
    """Does a GPU know such arrays?"""
    return case.layout not in ("byte-swapped", "misaligned")


def kinds_of(number, case):
    """Each case is tried with one kind, in turn; bfloat16 is PyTorch's."""
    if case.dtype == "bfloat16":
        return "torch"
    unsigned = case.dtype in ("uint16", "uint32", "uint64")
    return list(KINDS)[number % 4] if not unsigned else ("numba", "cupy")[number % 2]


TABLE = [
    pytest.param(case, kinds_of(number, case), id=f"{kinds_of(number, case)}-{case}")
    for number, case in enumerate(cases.TABLE)
    if possible(case)
]


@pytest.mark.parametrize(("case", "name"), TABLE)
def test_values(case, name):
    arguments, keywords = case.build()
    arguments = tuple(np.asarray(a) if isinstance(a, np.generic) else a for a in arguments)
    kind = KINDS[name]()
    if case.function == "maxout_jacobian" and case.dtype == "bfloat16":
        keywords["dtype"] = Torch().torch.bfloat16
    got = call(kind, case.function, *arguments, **keywords)
    if case.function == "maxout_jacobian":
        keywords["dtype"] = cases.as_dtype(case.dtype)
    if case.function in cases.SLICES + cases.JACOBIANS[:1]:
        keywords = {"axis": case.axis, **keywords}
    cases.assert_agrees(got, case.function, arguments, keywords)


LENGTHS = [1, 3, 10, 33, 256, 1000, 1001, 4096, 5000, 32_768, 40_000, 1_000_000]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_a_column_has_the_bits_of_a_row(n, dtype, rng):
    columns = 3 if n > 50_000 else 37
    x, g = (3 * rng.normal(size=(2, n, columns))).astype(cases.as_dtype(dtype))
    torch = Torch()
    y, dx = call(torch, "softmin", x, 0), call(torch, "softmin_vjp", g, x, 0)
    rows = [np.ascontiguousarray(a.T) for a in (x, g)]
    np.testing.assert_array_equal(call(torch, "softmin", rows[0]).T, y)
    np.testing.assert_array_equal(call(torch, "softmin_vjp", rows[1], rows[0]).T, dx)
    alone = np.ascontiguousarray(x[:, 1])
    np.testing.assert_array_equal(call(torch, "softmin", alone), y[:, 1])


@pytest.mark.parametrize("n", [3, 10, 33, 250, 512, 1000])
@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_a_column_of_a_small_image_has_the_bits_of_a_row(n, dtype, rng):
    x, g = rng.normal(size=(2, 1024, n, 7, 7)).astype(cases.as_dtype(dtype))
    torch = Torch()
    y, dx = call(torch, "softmax2d", x), call(torch, "softmax2d_vjp", g, x)
    rows = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, g)]
    want = call(torch, "softmax2d", rows[0], channel_axis=-1)
    np.testing.assert_array_equal(np.moveaxis(want, -1, 1), y)
    want = call(torch, "softmax2d_vjp", *rows[::-1], channel_axis=-1)
    np.testing.assert_array_equal(np.moveaxis(want, -1, 1), dx)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("n", [8192, 32_768, 65_535, 100_000, 262_148, 524_288])
def test_a_row_that_blocks_share_has_the_bits_of_two_readings(n, dtype, monkeypatch, torch):
    from numba_acts._cuda import forward, launch, product, slices
    from numba_acts._halls import gpu

    device, run, started = slices.device, launch.run, []
    if device(0).clusters == 1:
        pytest.skip("a GPU without clusters of blocks")

    def recorded(kernel, blocks, *arguments):
        started.append((kernel.name, isinstance(blocks, launch.Clusters)))
        run(kernel, blocks, *arguments)

    for room in (forward, product):
        monkeypatch.setattr(room, "run", recorded)
    monkeypatch.setattr(gpu, "repeat", lambda *given: None)
    x = torch.randn(5, n, device="cuda", dtype=torch.float64).mul(3).to(getattr(torch, dtype))
    mask = torch.rand(5, n, device="cuda") < 0.5
    results = []
    for clusters in (8, 1):
        found = device(0)._replace(clusters=clusters)
        if clusters == 1:
            found = found._replace(shared=0)
        monkeypatch.setattr(slices, "device", lambda number, found=found: found)
        launch._plans.clear()
        y = numba_acts.softmin(x)
        results.append((y, numba_acts.softmin(x, where=mask), numba_acts.softmin_vjp(x, y)))
    launch._plans.clear()
    in_clusters = started.count(("spread", True))  # of forward, with a mask, and product
    if 8192 < n <= 262_144 and dtype != "float64":
        assert in_clusters == 3
    if n > 65_536:
        assert started.count(("finish_rows", False)) >= 3
    for shared, twice in zip(*results, strict=True):
        assert torch.equal(shared, twice)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [1.0, 1.4352865])
@pytest.mark.parametrize("distance", [0.1, 10.0, 13.0])
def test_many_equal_entries(distance, temperature, dtype, kind):
    """Errors of the exponential that all go one way must not add up."""
    for n in 1000, 1_000_000:
        x = np.zeros(n, dtype)
        x[0] = -distance
        got = call(kind, "softmin", x, temperature=temperature)
        keywords = {"axis": 0, "temperature": temperature}
        cases.assert_agrees(got, "softmin", (x,), keywords)


@pytest.mark.parametrize("dtype", cases.FAINT)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(5000, 3, 1), (100, 1000, 1), (20, 20_000, 1), (3, 50_000, 1), (2, 100_000, 1)]
    + [(4, 21, 1000), (2, 1000, 100), (1024, 10, 49), (1024, 250, 49), (2, 40_000, 3)],
)
def test_subnormal_weights_are_rounded_once(shape, masked, dtype, kind, rng):
    x = cases.faint(rng, shape, dtype, 1)
    keywords = {"where": rng.random(shape) < 0.7} if masked else {}
    cases.assert_rounded_once(call(kind, "softmin", x, 1, **keywords), x, 1, **keywords)


@pytest.mark.parametrize("dtype", cases.FAINT)
@pytest.mark.parametrize("columns", [1, 2, 49])
def test_a_subnormal_weight(columns, dtype, kind):
    distances, units = cases.FAINT[dtype]
    x = np.broadcast_to(np.array(distances, dtype)[:, None], (1024, 3, columns)).copy()
    y = call(kind, "softmin", x, 1)
    np.testing.assert_array_equal(y[:, 2], units * cases.SMALLEST[dtype])


@pytest.mark.parametrize("shape", [(100, 1000), (3, 50_000), (2, 150, 31, 33), (5000, 8)])
def test_repeated_calls_are_equal_bit_for_bit(shape, kind, rng):
    x = rng.normal(size=shape).astype(np.float32)
    first = [call(kind, "softmin", x, 1), *call(kind, "maxout_with_index", x, 1)]
    for _ in range(10):
        again = [call(kind, "softmin", x, 1), *call(kind, "maxout_with_index", x, 1)]
        for got, want in zip(again, first, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("offset", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [4, 128, 1024, 4096, 70_000])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_views_that_break_alignment(offset, n, dtype, rng):
    """The same bits, and nothing beside the result is touched."""
    torch = Torch().torch
    kind = getattr(torch, dtype)
    x = torch.from_numpy(rng.normal(size=(5, n))).to(kind).cuda()
    y, (best, index) = numba_acts.softmin(x), numba_acts.maxout_with_index(x)
    flat, into = (torch.full((5 * n + 64,), 77, dtype=kind, device="cuda") for _ in range(2))
    view, out = (a[offset : offset + 5 * n].view(5, n) for a in (flat, into))
    view.copy_(x)
    assert torch.equal(numba_acts.softmin(view, out=out), y)
    edges = torch.cat([into[:offset], into[offset + 5 * n :]])
    assert torch.equal(edges, torch.full_like(edges, 77))
    shifted = numba_acts.maxout_with_index(view)
    assert torch.equal(shifted[0], best) and torch.equal(shifted[1], index)
    assert torch.equal(numba_acts.softmin_vjp(view, y), numba_acts.softmin_vjp(x, y))


@pytest.mark.parametrize("pieces", [3, 12])
@pytest.mark.parametrize("bad", [-1, 12, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_selects_nothing(bad, pieces, kind):
    index = np.array([0, bad, 1, 2], np.int32)
    dx = call(kind, "maxout_vjp", np.ones(4, np.float32), index, pieces)
    assert dx.sum() == 3 and dx[1].sum() == 0
    dy = call(kind, "maxout_jvp", np.ones((4, pieces), np.float32), index)
    np.testing.assert_array_equal(dy, [1, 0, 1, 1])


def test_more_elements_than_an_int32_counts(torch):
    if torch.cuda.mem_get_info()[0] < 24 * 1024 * MEGABYTE:
        pytest.skip("needs 24 GB of GPU memory")
    x = torch.zeros((2**31 // 1024 + 8, 1024), dtype=torch.float16, device="cuda")
    x[-1, 7] = -20.0
    y = numba_acts.softmin(x, out=x)
    assert math.isclose(float(y[0, 0]), 1 / 1024) and float(y[-1, 7]) == 1.0


# Streams ---------------------------------------------------------------------------------------


def test_a_result_follows_its_producer_on_torch_streams(torch, rng):
    data = torch.from_numpy(rng.normal(size=(1000, 1000)).astype(np.float32)).cuda()
    want = numba_acts.softmin(data)
    x, out = torch.zeros_like(data), torch.zeros_like(data)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    with torch.cuda.stream(stream):
        start.record()
        torch.cuda._sleep(200_000_000)
        x.copy_(data)
        numba_acts.softmin(x, out=out)
        end.record()
        assert not end.query(), "the host must not have waited"
    stream.synchronize()
    assert torch.equal(out, want)


def test_a_result_follows_its_producer_on_cupy_streams(rng):
    cupy = pytest.importorskip("cupy", reason=CUPY)
    data = cupy.asarray(rng.normal(size=(1000, 1000)).astype(np.float32))
    want = numba_acts.softmin(data)
    heavy = cupy.ones((4096, 4096), cupy.float64)
    x, out = cupy.zeros_like(data), cupy.zeros_like(data)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        for _ in range(4):
            heavy = heavy @ heavy
        x[...] = data
        numba_acts.softmin(x, out=out)
    stream.synchronize()
    assert bool((out == want).all())


def test_a_result_follows_its_producer_on_numba_streams(rng):
    data = rng.normal(size=(1000, 1000)).astype(np.float32)
    stream = cuda.stream()
    x = cuda.to_device(data, stream=stream)
    y = numba_acts.softmin(x)
    stream.synchronize()
    np.testing.assert_array_equal(y.copy_to_host(), call(Numba(), "softmin", data))
    assert int(y.stream) == int(stream), "what comes next must follow it there"


def test_the_stream_of_numba_arrays_lives_as_long_as_results():
    def made():
        x = cuda.to_device(np.zeros((4, 8), np.float32), stream=cuda.stream())
        return numba_acts.softmin(x), numba_acts.softmin(x, -1, out=x)

    results = made()
    cuda.current_context().deallocations.clear()
    for y in results:
        np.testing.assert_array_equal(y.copy_to_host(), np.full((4, 8), 0.125))


def test_numba_streams_wait_for_each_other(rng):
    streams = [cuda.stream() for _ in range(3)]
    data = rng.normal(size=(2, 2000, 2000)).astype(np.float32)
    want = call(Numba(), "softmin_vjp", *data)
    pinned = [cuda.pinned_array(data[0].shape, np.float32) for _ in data]
    for memory, numbers in zip(pinned, data, strict=True):
        memory[...] = numbers
    given = [cuda.to_device(a, stream=s) for a, s in zip(pinned, streams, strict=False)]
    out = cuda.device_array(data[0].shape, np.float32, stream=streams[2])
    assert numba_acts.softmin_vjp(*given, out=out) is out
    got = out.copy_to_host(stream=streams[2])
    streams[2].synchronize()
    np.testing.assert_array_equal(got, want)


def test_a_call_made_again_in_a_thread_that_is_new(kind, rng):
    x = kind.to_device(rng.normal(size=(8, 33)).astype(np.float32))
    want = kind.to_host(numba_acts.softmin(x))
    numba_acts.softmin(x)
    cuda.synchronize()
    results: list = []
    thread = threading.Thread(target=lambda: results.append(numba_acts.softmin(x)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(kind.to_host(results[0]), want)


def test_a_call_made_again_is_checked_again(torch):
    memory = torch.randn(3000, device="cuda")
    x, apart, shifted = (memory[i : i + 1024].view(32, 32) for i in (0, 1536, 512))
    want = torch.nn.functional.softmin(x, -1)
    for _ in range(3):
        torch.testing.assert_close(numba_acts.softmin(x, out=apart), want)
    torch.testing.assert_close(numba_acts.softmin(x, out=shifted), want)  # over a part of x
    memory.normal_()
    for _ in range(3):
        want = torch.nn.functional.softmin(x, -1)
        torch.testing.assert_close(numba_acts.softmin(x, out=x), want)
    for _ in range(2):
        with pytest.raises(TypeError, match="requires grad"):
            numba_acts.softmin(x.detach().requires_grad_(), out=apart)
        with pytest.raises(ValueError, match="out must"):
            numba_acts.softmin(x, out=memory[:1000])


# What PyTorch's tensors promise ----------------------------------------------------------------


def test_tensors_that_require_grad_are_refused(torch):
    x = torch.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(TypeError, match=r"x is a tensor that requires grad.*numba_acts\.torch"):
        numba_acts.softmin(x)


def test_tensors_that_carry_a_tangent_are_refused(torch):
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        x = forward.make_dual(torch.ones(3, device="cuda"), torch.ones(3, device="cuda"))
        for call in (numba_acts.softmin, numba_acts.maxout, numba_acts.softmin_jacobian):
            with pytest.raises(TypeError, match=r"carries a tangent.*numba_acts\.torch"):
                call(x)
    with pytest.raises(TypeError, match=r"numba_acts\.torch"):
        torch.func.vmap(numba_acts.softmin)(torch.ones(2, 3, device="cuda"))


@pytest.mark.parametrize("strided", [False, True])
def test_autograd_knows_what_was_written_to(strided, torch):
    x = torch.ones(4, 3, device="cuda")
    for write in (
        lambda out: numba_acts.softmin(x, out=out),
        lambda out: numba_acts.softmin_vjp(x, x, out=out),
        lambda out: numba_acts.softmin_jacobian_diag(x, out=out),
        lambda out: numba_acts.maxout(x[..., None], out=out),
    ):
        wide = torch.full((4, 6), 5.0, device="cuda")
        saved = wide[:, ::2] if strided else wide[:, :3].contiguous()
        weights = torch.ones(4, 3, device="cuda", requires_grad=True)
        loss = (weights * saved).sum()
        write(saved)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.filterwarnings("ignore:Sparse CSR")  # PyTorch says of its own that it is in beta
def test_sparse_tensors_are_refused(torch):
    numba_acts.softmin(torch.eye(3, device="cuda"))
    for sparse in (torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr()):
        with pytest.raises(TypeError, match=r"x must be a dense tensor, got one of layout"):
            numba_acts.softmin(sparse.cuda())


def test_out_that_would_not_hold_the_result(torch):
    x = torch.zeros(3, 4, device="cuda")
    numba_acts.softmin(x)
    with pytest.raises(TypeError, match="out must be a plain tensor"):
        numba_acts.softmin(x, out=torch._neg_view(x.clone()))
    with pytest.raises(ValueError, match=r"out must be writeable.*broadcast"):
        numba_acts.softmin(x, out=x[:1].clone().expand(3, 4))


def test_the_differentiable_functions_run_on_the_gpu(torch):
    from numba_acts import torch as acts

    x = torch.randn(3, 4, 5, device="cuda", dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: acts.softmin(x, 1, temperature=0.7), x)
    assert torch.autograd.gradcheck(acts.softmax2d, x)
    assert torch.autograd.gradcheck(lambda x: acts.maxout(x, 1), x)
    layer = [torch.randn(*s, device="cuda", dtype=torch.float64) for s in [(6, 5), (3, 2, 5)]]
    layer = [a.requires_grad_() for a in layer]
    assert torch.autograd.gradcheck(acts.maxout_affine, layer)


def test_operators_of_pytorch_on_the_gpu(torch):
    from numba_acts import torch as acts

    layer = acts.MaxoutLinear(16, 8, pieces=3, device="cuda")
    x = torch.randn(4, 16, device="cuda", requires_grad=True)
    weight, bias, operators = layer.weight, layer.bias, torch.ops.numba_acts
    y, index = operators.maxout_affine(x, weight, bias)
    for name, *given in (
        ("softmax", x, [1], -1.0, x.detach() > 0),
        ("softmax_product", x, x.sigmoid(), [0], 1.0),
        ("maxout", weight, 1),
        ("maxout_spread", y, index, 3, 2),
        ("maxout_affine", x, weight, bias),
        ("maxout_affine_gradients", y, x, weight, index),
        ("maxout_affine_tangent", x, weight, index, x, None, bias),
    ):
        given = [
            a.detach().requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a
            for a in given
        ]
        results = torch.library.opcheck(getattr(operators, name).default, given)
        assert set(results.values()) == {"SUCCESS"}
    for order in ("FFF", "FRF", "RRR"):
        got, want = acts.softmin, lambda x: torch.softmax(-x, -1)
        for letter in order:
            transform = {"F": torch.func.jacfwd, "R": torch.func.jacrev}[letter]
            got, want = transform(got), transform(want)
        row = torch.randn(3, device="cuda", dtype=torch.float64)
        torch.testing.assert_close(got(row), want(row))
    with torch.autocast("cuda", torch.bfloat16):
        low, linear = layer(x), torch.nn.functional.linear(x, weight[:, 0])
        assert low.dtype == linear.dtype and acts.maxout(weight, 1).dtype == torch.float32
    torch.testing.assert_close(low.float(), y, rtol=0.05, atol=0.05)
    low.sum().backward()
    assert weight.grad.dtype == torch.float32


def test_host_and_device_do_not_mix(kind):
    x = kind.to_device(np.ones(3, np.float32))
    with pytest.raises(TypeError, match="x is on a GPU, out is in host memory"):
        numba_acts.softmin(x, out=np.ones(3, np.float32))


@pytest.mark.parametrize("page", ["README.md", "docs/guides/gpu.md"])
def test_the_example_of_a_page(torch, page):
    text = (Path(__file__).parents[1] / page).read_text("utf-8")
    (code,) = re.findall(r"^```python\n(import torch.+?)^```", text, re.M | re.S)
    shown: dict = {}
    exec(code, shown)
    x = shown["x"].requires_grad_()
    y = torch.softmax(x, 1)
    y.backward(x.detach())
    torch.testing.assert_close(shown["y"], y)
    torch.testing.assert_close(shown["dx"], x.grad)


def test_an_expanded_gradient(torch):
    x = torch.randn(6, 5, device="cuda")
    y, (best, index) = numba_acts.softmin(x), numba_acts.maxout_with_index(x)
    g, of_best = torch.ones((), device="cuda").expand(6, 5), torch.ones_like(best[:1]).expand(6)
    assert torch.equal(numba_acts.softmin_vjp(g, y), numba_acts.softmin_vjp(g.contiguous(), y))
    dx = numba_acts.maxout_vjp(of_best, index, 5)
    assert torch.equal(dx, numba_acts.maxout_vjp(of_best.contiguous(), index, 5))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_autocast_gives_the_dtype_of_pytorch(dtype, torch):
    from numba_acts import torch as acts

    x = torch.randn(4, 3, 2, 5, device="cuda").to(getattr(torch, dtype)).requires_grad_()
    with torch.autocast("cuda", torch.float16):
        y, want = acts.softmin(x, 1), torch.nn.functional.softmin(x, 1)
        z = acts.softmax2d(x)
    assert y.dtype == z.dtype == want.dtype
    torch.testing.assert_close(y, want)
    ours, theirs = (torch.autograd.grad(a[:, 0].sum(), x)[0] for a in (y, want))
    assert ours.dtype == x.dtype
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_products_are_as_exact_as_pytorch_was_told(torch):
    x, weight = torch.randn(256, 512, device="cuda"), torch.randn(64, 4, 512, device="cuda")
    exact = torch.einsum("nd,upd->nup", x.double(), weight.double()).amax(-1)
    before = torch.get_float32_matmul_precision()
    try:
        errors = {}
        for chosen in ("highest", "high"):
            torch.set_float32_matmul_precision(chosen)
            error = numba_acts.maxout_affine(x, weight).double() - exact
            errors[chosen] = float(error.abs().max())
    finally:
        torch.set_float32_matmul_precision(before)
    assert errors["highest"] < 1e-3 < errors["high"] < 0.5


def test_bfloat16_of_cupy(rng):
    cupy, dtype = pytest.importorskip("cupy", reason=CUPY), cases.as_dtype("bfloat16")
    x = rng.normal(size=(6, 40)).astype(dtype)
    try:
        there = cupy.asarray(x)
    except (TypeError, ValueError):
        pytest.skip("this CuPy has no bfloat16")
    for _ in range(3):
        y = numba_acts.softmin(there)
        assert type(y) is cupy.ndarray and y.dtype == dtype
        cases.assert_agrees(cupy.asnumpy(y), "softmin", (x,), {"axis": -1})
    assert numba_acts.maxout(there, out=cupy.empty(6, dtype)).dtype == dtype


def test_calls_in_compiled_code(torch, rng):
    pytest.importorskip("triton", reason="PyTorch compiles for GPUs with Triton")
    x = torch.from_numpy(rng.normal(size=(8, 100)).astype(np.float32)).cuda()

    def layer(x):
        return numba_acts.softmin(2 * x, temperature=0.5) + 1

    compiled = torch.compile(layer)
    for _ in range(2):
        torch.testing.assert_close(compiled(x), layer(x))


def test_calls_in_a_graph(torch, rng):
    first, second = rng.normal(size=(2, 64, 33)).astype(np.float32)
    stream = torch.cuda.Stream()
    numba = cuda.external_stream(stream.cuda_stream)
    x = cuda.to_device(first, stream=numba)
    layer = [torch.randn(*shape, device="cuda") for shape in [(64, 33), (8, 3, 33)]]
    with torch.cuda.stream(stream):
        stream.wait_stream(torch.cuda.default_stream())
        numba_acts.softmin(x)
        want = numba_acts.maxout_affine(*layer)
        numba_acts.softmin(layer[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        y = numba_acts.softmin(x)  # a fresh result of each kind
        z = numba_acts.maxout_affine(*layer)
        weights = numba_acts.softmin(layer[0])
    x.copy_to_device(second, stream=numba)
    numba.synchronize()
    graph.replay()
    torch.cuda.synchronize()
    np.testing.assert_allclose(y.copy_to_host(), numba_acts.softmin(second), rtol=2e-6)
    torch.testing.assert_close(z, want)
    torch.testing.assert_close(weights, torch.nn.functional.softmin(layer[0], -1))


def test_both_numbers_of_the_default_stream(torch):
    """Nothing waits where an array names the stream by its other number."""
    data = torch.randn(8, 5, device="cuda")
    described = [dict(data.__cuda_array_interface__, stream=number) for number in (1, None)]
    g, y = (SimpleNamespace(__cuda_array_interface__=d, owner=data) for d in described)
    y = numba_acts.softmin_vjp(g, y)
    torch.testing.assert_close(torch.as_tensor(y), numba_acts.softmin_vjp(data, data))


def test_the_warm_up(tmp_path):
    code = (
        "from numba_acts import __main__ as m; m.ROWS = m.CHANNELS = m.PIECES = 3, 10;"
        "raise SystemExit(m.main(['warmup', '--gpu', '--dtype', 'float32']))"
    )
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0 and str(tmp_path) in done.stdout, done.stdout + done.stderr[-3000:]
    assert any(tmp_path.rglob("*.nbc"))


# The sanitizer ---------------------------------------------------------------------------------

SMALL_RUN = """
import numpy as np, numba_acts
from numba import cuda
rng = np.random.default_rng(0)
rows = [(9, 6), (3, 130), (2, 4096), (2, 9000), (1, 40_000)]
columns = [(2, 3, 5), (2, 40, 33), (1, 700, 3), (1, 5000, 3)]
images = [(160, 40, 3), (1600, 6, 7)]
for shape in rows + columns + images:
    axis = 1
    x = cuda.to_device(rng.normal(size=shape).astype(np.float32))
    y = numba_acts.softmin(x, axis)
    numba_acts.softmin_vjp(x, y, axis)
    best, index = numba_acts.maxout_with_index(x, axis)
    numba_acts.maxout_vjp(best, index, shape[axis], axis)
    numba_acts.maxout_jvp(x, index, axis)
    if x.size < 5000:
        numba_acts.softmin_jacobian(y, axis)
cuda.synchronize()
"""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_sanitizer_has_nothing_to_say(tool):
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("needs compute-sanitizer")
    # A call of the driver that fails and is made again otherwise is none of its concern.
    options = ["--tool", tool, "--error-exitcode", "9", "--report-api-errors", "no"]
    command = ["compute-sanitizer", *options, sys.executable, "-c", SMALL_RUN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    if "Device not supported" in done.stdout:
        pytest.skip("compute-sanitizer can't be used with this device")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
