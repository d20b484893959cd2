"""Where a machine or a user says stop: no memory, an interrupt, huge arrays, many axes."""

import signal
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
from test_processes import run

import numba_acts as na
from numba_acts import _compiler

UNIX = pytest.mark.skipif(sys.platform == "win32", reason="limits and signals are those of Unix")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory in use is told by Linux")

# Memory ----------------------------------------------------------------------------------------

REFUSED = """
import os, resource
import numpy as np
import numba_acts as na

n = 1 << 24
memory = np.arange(n + 1, dtype=np.float32) % 5
x, units = memory[1:].reshape(-1, 16), memory[1:].reshape(-1, 4)
g, index = np.ones(n // 16, np.float32), np.zeros(n // 16, np.int32)
calls = {
    "softmin": lambda: na.softmin(x),
    "softmin_vjp": lambda: na.softmin_vjp(x, x),
    "softmin_jacobian": lambda: na.softmin_jacobian(x),
    "softmax2d": lambda: na.softmax2d(x.reshape(4, -1, 64)),
    "maxout_with_index": lambda: na.maxout_with_index(units[:, :1]),
    "maxout_vjp": lambda: na.maxout_vjp(g, index, 16),
    "maxout_affine": lambda: na.maxout_affine(x, x[:48].reshape(16, 3, 16)),
    "softmin, out over x": lambda: na.softmin(memory[1:], out=memory[:-1]),
}
few = na.softmin([1.0, 2.0, 3.0])
before = memory.tobytes()
for name, call in calls.items():
    if "out" not in name:
        call()
limits = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
for name, call in calls.items():
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 22), limits[1]))
    try:
        call()
    except MemoryError:
        pass
    else:
        raise AssertionError(name)
    assert (na.softmin([1.0, 2.0, 3.0]) == few).all()
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert memory.tobytes() == before, f"{name} has written"
    if "out" not in name:
        call()
"""


@LINUX
def test_memory_that_is_refused():
    """A MemoryError, nothing written, and calls after it are right."""
    assert run(REFUSED) == []


# Interrupts ------------------------------------------------------------------------------------

INTERRUPTED = """
import signal, threading
import numpy as np
import numba_acts as na

signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
x = np.random.default_rng(0).normal(size=(500, 300)).astype(np.float32)
large = np.tile(x, (10, 1))
calls = [
    lambda: na.softmin(x), lambda: na.softmin(large), lambda: na.softmin_vjp(x, x),
    lambda: na.maxout_with_index(large),
]
interrupted = 0
for call in calls:
    for delay in 0.001, 0.01, 0.05, 0.1, 0.2, 0.4:
        signal.setitimer(signal.ITIMER_REAL, delay)
        try:
            call()
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    results = []
    other = threading.Thread(target=lambda: results.append(call()))
    other.start()
    other.join(100)
    assert not other.is_alive(), "a lock was kept"
    np.testing.assert_array_equal(results[0], call())
want = np.exp(x.min(1, keepdims=True) - x.astype(float))
np.testing.assert_allclose(na.softmin(x), want / want.sum(1, keepdims=True), rtol=1e-5)
np.testing.assert_array_equal(na.softmin(large), np.tile(na.softmin(x), (10, 1)))
np.testing.assert_array_equal(na.maxout_with_index(large)[1], large.argmax(1))
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
print(interrupted)
"""


@UNIX
@cases.FULL
def test_interrupted_while_compiling(tmp_path):
    """A KeyboardInterrupt; the next call compiles what is missing and is right."""
    (interrupted,) = run(INTERRUPTED, NUMBA_CACHE_DIR=str(tmp_path))
    assert int(interrupted) >= 4


def test_control_c_waits_for_the_compiler():
    """It would leave Numba without the intrinsics that were being taken up, for good."""
    compiled, handler = False, signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        with _compiler.switched_on():
            signal.raise_signal(signal.SIGINT)
            compiled = True
    assert compiled and signal.getsignal(signal.SIGINT) is handler


# More than 2**31 numbers -----------------------------------------------------------------------

MANY = 2**31


def require(gigabytes):
    """Skip where the machine has less memory to give."""
    told = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
    if int(told) < gigabytes * 10**6:
        pytest.skip(f"{int(told) / 1e6:.0f} GB of memory are free, {gigabytes} are needed")


def bits(x):
    """Of sixteen-bit floats, which NumPy is slow with."""
    return x.view(np.uint16)


@LINUX
@cases.FULL
def test_more_than_2_to_the_31_numbers_in_slices():
    require(7)
    x = np.zeros((MANY // 1024 + 3, 1024), np.float16)  # takes memory when it is written to
    assert na.softmin(x, out=x) is x
    assert (bits(x) == bits(np.full(1, 2.0**-10, np.float16))).all()
    g = np.zeros_like(x)
    g[-1, -1] = 1
    want = na.softmin_vjp(g[-1], x[-1])
    na.softmin_vjp(g, x, out=x)
    assert not (bits(x[:-1]) & 0x7FFF).any()
    np.testing.assert_array_equal(x[-1], want)
    assert want[-1] < 0 < want[0]


@LINUX
@cases.FULL
@pytest.mark.parametrize("axis", [0, 1])
def test_more_than_2_to_the_31_numbers_in_a_slice(axis):
    require(7)
    x, last = np.zeros((1, MANY + 10) if axis else (MANY + 10, 1), np.float16), MANY + 5
    x.flat[last] = -60
    na.softmin(x, axis, out=x)
    assert x.flat[last] == 1
    assert np.count_nonzero(bits(x)) == 1


@LINUX
@cases.FULL
def test_more_than_2_to_the_31_pieces_and_their_gradient():
    require(5)
    x = np.zeros((3, MANY // 3 + 5), np.int8)
    x[2, -1] = 5
    y, index = na.maxout_with_index(x, 0, index_dtype=np.int8)
    assert (y[-1], index[-1], np.count_nonzero(y), np.count_nonzero(index)) == (5, 2, 1, 1)
    dx = na.maxout_vjp(y, index, 3, 0)
    assert dx[2, -1] == 5 and np.count_nonzero(dx) == 1


# Axes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [33, 63, 64])
@pytest.mark.parametrize("order", "CF")
def test_as_many_axes_as_numpy_has(ndim, order, rng):
    shape = (*(1,) * (ndim - 4), 3, 4, 1, 5)
    x = np.asarray(rng.normal(size=shape), order=order)
    flat = x.reshape(3, 4, 5)
    for axis, place in ((-1, 2), (-3, 1), (-4, 0)):
        y, (most, index) = na.softmin(x, axis), na.maxout_with_index(x, axis)
        np.testing.assert_array_equal(y.reshape(3, 4, 5), na.softmin(flat, place))
        np.testing.assert_array_equal(most.ravel(), flat.max(place).ravel())
        np.testing.assert_array_equal(index.ravel(), flat.argmax(place).ravel())
        dx = na.softmin_vjp(x, y, axis)
        want = na.softmin_vjp(flat, y.reshape(3, 4, 5), place)
        np.testing.assert_array_equal(dx.reshape(3, 4, 5), want)
        np.testing.assert_array_equal(na.maxout_jvp(x, index, axis), most)
        np.testing.assert_array_equal(
            na.maxout_vjp(most, index, shape[axis], axis).max(axis), most * (most > 0)
        )
    np.testing.assert_allclose(na.softmin(x, None).reshape(3, 4, 5), na.softmin(flat, None))
    if ndim < 64:
        assert na.softmin_jacobian(x).shape == (*shape, 5)
    else:
        with pytest.raises(ValueError, match="64"):  # NumPy has no array of one axis more
            na.softmin_jacobian(x)
