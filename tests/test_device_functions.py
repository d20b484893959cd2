"""`numba_acts.cuda` in kernels: in Numba's simulator, in a process of their own, or on a GPU.

``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/test_device_functions.py``
"""

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-acts[cuda]'")

import device_kernels
import standin
from numba import cuda

from numba_acts import cuda as acts

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if not cuda.is_available():
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 or a GPU", allow_module_level=True)

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning")]
if SIMULATED:
    standin.share_memory()
else:
    pytestmark.append(pytest.mark.gpu)

HALF: Any = 0.5
GROUPS = {group.label: group for group in device_kernels.groups()}
SLOW = {label for label, group in GROUPS.items() if label.startswith("block") and group.size > 64}


def launch(kernel, blocks, threads, *given):
    """Start it on copies that the device has, and copy back what it has written."""
    there = [cuda.to_device(a) if isinstance(a, np.ndarray) else a for a in given]
    kernel[blocks, threads](*there)
    for array, other in zip(given, there, strict=True):
        if isinstance(array, np.ndarray):
            array[...] = other.copy_to_host()


CASES = [(label, beta) for label in GROUPS for beta in device_kernels.BETAS]
if SIMULATED:  # slowly: some of the threads, one beta
    CASES = [(label, -1.0) for label in GROUPS if label not in SLOW]


@pytest.mark.parametrize(("label", "beta"), CASES)
def test_all_functions_of_a_scope(label, beta, rng):
    device_kernels.check(GROUPS[label], beta, launch, rng)


def test_the_check_finds_a_wrong_result(rng):
    def wrong(kernel, blocks, threads, *given):
        launch(kernel, blocks, threads, *given)
        given[3][0, 0] += 1e-3

    with pytest.raises(AssertionError, match="y: "):
        device_kernels.check(GROUPS["thread 4 float32"], 1.0, wrong, rng)


@pytest.mark.parametrize("beta", [1, -2, np.float32(0.3), np.float64(-0.1)])
def test_any_number_is_a_beta(beta, rng):
    device_kernels.check(GROUPS["thread 4 float32"], beta, launch, rng)


def test_what_changes_nothing_in_a_merge():
    @cuda.jit
    def kernel(out):
        pair = np.float32(1.5), np.float32(2.0)
        nothing = np.float32(-np.inf), np.float32(0.0)
        out[0], out[1] = acts.merge(pair, nothing, 1.0)
        out[2], out[3] = acts.merge(nothing, pair, 1.0)
        out[4], out[5] = acts.merge(nothing, nothing, 1.0)

    out = np.zeros(6, np.float32)
    launch(kernel, 1, 1, out)
    assert out.tolist() == [1.5, 2, 1.5, 2, -np.inf, 0]


# ---- bad use ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda: acts.Warp(np.float16, 4), TypeError, "float32, float64.* got float16"),
        (lambda: acts.Warp("nothing", 4), TypeError, "got nothing"),
        (lambda: acts.Warp(np.float32, 4, lanes=12), ValueError, "lanes must be 1, 2, .* got 12"),
        (lambda: acts.Warp(np.float32, 0), ValueError, "items_per_thread must be 1 to 255, got 0"),
        (lambda: acts.Warp(np.float32, HALF), TypeError, "float"),
        (lambda: acts.Block(np.float32, 100, 4), ValueError, "threads must be a multiple of 32"),
        (lambda: acts.Block(np.float32, 2048, 4), ValueError, "up to 1024, got 2048"),
        (lambda: acts.Block(np.float32, 64, 4, arrangement="odd"), ValueError, "arrangement"),
    ],
)
def test_constants_that_serve_nobody(made, error, message):
    with pytest.raises(error, match=message):
        made()


@pytest.mark.parametrize(
    "group", [acts.Warp(np.float32, 4, 8, arrangement="striped"), acts.Block(np.float64, 64, 2)]
)
def test_a_group_is_copied_and_pickled(group):
    for again in (copy.deepcopy(group), pickle.loads(pickle.dumps(group))):
        assert type(again) is type(group)
        assert tuple(again) == tuple(group)


def test_betas_that_are_no_numbers_and_past_the_range():
    @cuda.jit
    def kernel(beta, y, dx):
        mine = cuda.local.array(3, np.float32)
        other = cuda.local.array(3, np.float32)
        for i in range(3):
            mine[i] = i
            other[i] = i
        acts.thread_softmax(mine, mine, beta)
        acts.thread_softmax_vjp(other, mine, other, beta)
        for i in range(3):
            y[i], dx[i] = mine[i], other[i]

    y, dx = np.zeros((2, 3), np.float32)
    launch(kernel, 1, 1, np.nan, y, dx)
    assert np.isnan(y).all() and np.isnan(dx).all()
    launch(kernel, 1, 1, -1e300, y, dx)
    assert (y.tolist(), dx.tolist()) == ([1, 0, 0], [0, 0, 0])


def test_functions_are_made_once():
    assert acts.Warp(np.float32, 4).softmax is acts.Warp("float32", 4, 32).softmax
    assert acts.Block(np.float32, 64, 2).temp_storage == 4


def misuses():
    """Kernels that hand over something wrong."""
    warp, block = acts.Warp(np.float32, 4), acts.Block(np.float32, 64, 4)

    @cuda.jit
    def too_short(out):
        mine = cuda.local.array(3, np.float32)
        for i in range(3):
            mine[i] = 1
        warp.softmax(mine, mine, 1.0)
        out[0] = mine[0]

    @cuda.jit
    def short_result(out):
        mine = cuda.local.array(4, np.float32)
        less = cuda.local.array(3, np.float32)
        for i in range(4):
            mine[i] = 1
        acts.thread_softmax(mine, less, 1.0)
        out[0] = less[0]

    @cuda.jit
    def short_storage(out):
        temp = cuda.shared.array(3, np.float32)
        mine = cuda.local.array(4, np.float32)
        for i in range(4):
            mine[i] = 1
        block.softmax(mine, mine, 1.0, temp)
        out[0] = mine[0]

    @cuda.jit
    def few_threads(out):
        temp = cuda.shared.array(4, np.float32)
        mine = cuda.local.array(4, np.float32)
        for i in range(4):
            mine[i] = 1
        block.softmax(mine, mine, 1.0, temp)
        out[0] = mine[0]

    @cuda.jit
    def other_dtype(out):
        mine = cuda.local.array(4, np.float64)
        for i in range(4):
            mine[i] = 1
        warp.softmax(mine, mine, 1.0)
        out[0] = mine[0]

    @cuda.jit
    def of_bools(out):
        mine = cuda.local.array(4, np.bool_)
        for i in range(4):
            mine[i] = True
        best, _ = acts.thread_maxout(mine)
        out[0] = best

    kernels = too_short, short_result, short_storage, few_threads, other_dtype, of_bools
    return {kernel.__name__: kernel for kernel in kernels}


@pytest.mark.skipif(not SIMULATED, reason="an error on a GPU ends all that follows on it")
@pytest.mark.parametrize(
    ("scope", "threads", "error", "message"),
    [
        ("too_short", 32, ValueError, "an array of 3 numbers is too short: 4 are needed"),
        ("short_result", 1, ValueError, "an array of 3 numbers is too short: 4 are needed"),
        ("short_storage", 64, ValueError, "an array of 3 numbers is too short: 4 are needed"),
        ("few_threads", 32, ValueError, "a block of 32 threads called functions for 64"),
        ("other_dtype", 32, TypeError, "an array of float32 with one axis is needed"),
        ("of_bools", 1, TypeError, "maxout's numbers must be floats or integers, got bool"),
    ],
)
def test_bad_use_in_the_simulator(scope, threads, error, message):
    with pytest.raises(error, match=message):
        misuses()[scope][1, threads](np.zeros(1, np.float32))
