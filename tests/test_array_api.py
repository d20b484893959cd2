"""Arrays of other libraries with the array API and DLPack: the same kind comes out, uncopied."""

from typing import Any

import numpy as np
import oracle
import pytest
from test_processes import run

import numba_acts as na

LIBRARIES = ["jax.numpy", "array_api_strict"]


@pytest.fixture(params=LIBRARIES)
def xp(request):
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


@pytest.fixture
def jax():
    return pytest.importorskip("jax", reason="JAX is not installed")


def kind(xp):
    return type(xp.asarray([1.0]))


def numpy(value):
    return np.asarray(np.from_dlpack(value))


CALLS: dict[str, Any] = {
    "softmin": (((4, 6),), {"axis": 0}),
    "softmin_vjp": (((4, 6), (4, 6)), {}),
    "softmin_jvp": (((4, 6), (4, 6)), {"axis": None}),
    "softmin_jacobian": (((4, 6),), {}),
    "softmin_jacobian_diag": (((4, 6),), {}),
    "softmax2d": (((3, 4, 5),), {}),
    "softmax2d_vjp": (((3, 4, 5), (3, 4, 5)), {}),
    "maxout": (((4, 6),), {}),
    "maxout_with_index": (((4, 6),), {}),
    "maxout_vjp": (((4,), "index"), {"pieces": 3}),
    "maxout_jvp": (((4, 3), "index"), {}),
    "maxout_affine": (((4, 6), (5, 3, 6), (5, 3)), {}),
    "maxout_affine_with_index": (((4, 6), (5, 3, 6)), {}),
    "maxout_affine_vjp": (((4, 5), (4, 6), (5, 3, 6), "indices"), {}),
    "maxout_affine_jacobian": (((5, 3, 6), "indices"), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_kind_comes_out_with_numpys_bits(xp, name, rng):
    shapes, keywords = CALLS[name]
    indices = {"index": (4,), "indices": (4, 5)}
    given = [
        rng.integers(0, 3, indices[shape]).astype(np.int32)
        if isinstance(shape, str)
        else rng.normal(size=shape).astype(np.float32)
        for shape in shapes
    ]
    function = getattr(na, name)
    got, want = function(*map(xp.asarray, given), **keywords), function(*given, **keywords)
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    for one, other in pairs:
        assert isinstance(one, kind(xp))
        assert numpy(one).dtype == other.dtype
        np.testing.assert_array_equal(numpy(one), other)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint8", "int32", "bool"])
def test_dtypes(xp, dtype, rng):
    x = rng.integers(0, 2, (4, 6)).astype(dtype)
    if xp.__name__ == "array_api_strict" and dtype == "float16":
        pytest.skip("the array API has no float16")
    best = na.maxout(xp.asarray(x))
    assert isinstance(best, kind(xp)) and numpy(best).dtype == x.dtype
    np.testing.assert_array_equal(numpy(best), x.max(-1))
    y = numpy(na.softmin(xp.asarray(x)))
    np.testing.assert_allclose(y, oracle.softmin(x), rtol=2e-3 if dtype == "float16" else 1e-6)


def test_rank_0_and_empty(xp):
    assert na.softmin(xp.asarray(3.0)).shape == ()
    assert float(na.maxout(xp.asarray([1.0, 2.0]))) == 2
    assert na.softmin(xp.zeros((0, 3))).shape == (0, 3)


def test_beside_numpy_and_a_mask(xp, rng):
    x, mask = rng.normal(size=(4, 6)).astype(np.float32), rng.random((4, 6)) < 0.5
    y = na.softmin(xp.asarray(x), where=mask)
    assert isinstance(y, kind(xp))
    assert isinstance(na.softmin_vjp(x, y), kind(xp))
    np.testing.assert_array_equal(numpy(y), na.softmin(x, where=mask))
    alone = na.softmin(x, where=xp.asarray(mask))  # a mask does not decide
    assert type(alone) is np.ndarray
    np.testing.assert_array_equal(alone, numpy(y))


def test_views(xp, rng):
    x = rng.normal(size=(8, 6)).astype(np.float32)
    y = na.softmin(xp.asarray(x)[::2, ::-1])
    np.testing.assert_array_equal(numpy(y), na.softmin(x[::2, ::-1]))


def test_arrays_of_two_libraries_are_refused(rng):
    jnp, strict = (
        pytest.importorskip(name, reason=f"{name} is not installed") for name in LIBRARIES
    )
    x = rng.normal(size=4)
    with pytest.raises(TypeError, match="y is an array of array_api_strict, others are of jax"):
        na.softmin_vjp(jnp.asarray(x), strict.asarray(x))
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(TypeError, match="of jax.numpy, others are of torch"):
        na.softmin_vjp(torch.tensor(x), jnp.asarray(x))
    with pytest.raises(TypeError, match="of torch, others are of jax.numpy"):
        na.softmin_vjp(jnp.asarray(x), torch.tensor(x))


# ---- memory -----------------------------------------------------------------------------------


def test_out_that_can_be_written(rng):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    x = strict.asarray(rng.normal(size=(4, 6)))
    out = strict.zeros((4, 6))
    assert na.softmin(x, out=out) is out
    np.testing.assert_array_equal(numpy(out), na.softmin(numpy(x)))
    with pytest.raises(TypeError, match=r"out must be .*, got ndarray|out must be"):
        na.softmin(x, out=[1.0])


def test_out_that_can_not(jax):
    x = jax.numpy.ones((2, 3))
    with pytest.raises(ValueError, match="out must be writeable"):
        na.softmin(x, out=jax.numpy.zeros((2, 3)))


def test_no_copy_into_jax_and_out_of_it(jax, rng, monkeypatch):
    from numba_acts._halls import standard

    seen = []

    def taken(value, original=standard.taken):
        seen.append((value.unsafe_buffer_pointer(), original(value).ctypes.data))
        return original(value)

    def given(functions, result, device, original=standard.given):
        array = original(functions, result, device)
        seen.append((array.unsafe_buffer_pointer(), result.ctypes.data))
        return array

    monkeypatch.setattr(standard, "taken", taken)
    monkeypatch.setattr(standard, "given", given)
    x = jax.numpy.asarray(rng.normal(size=(50, 60)), dtype=np.float32)
    na.softmin(x, axis=0)
    na.maxout_with_index(x)
    assert len(seen) == 5
    assert all(one == other for one, other in seen)


# ---- JAX ----------------------------------------------------------------------------------------


def test_bfloat16(jax, rng):
    x = jax.numpy.asarray(rng.normal(size=(4, 6)), dtype=jax.numpy.bfloat16)
    y = na.softmin(x)
    assert y.dtype == jax.numpy.bfloat16
    np.testing.assert_array_equal(np.asarray(y), na.softmin(np.asarray(x)))


@pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
def test_a_tracer_is_told_what_to_do(jax, transform):
    x = jax.numpy.ones((2, 3))
    call = {
        "jit": lambda: jax.jit(na.softmin)(x),
        "vmap": lambda: jax.vmap(na.softmin)(x),
        "grad": lambda: jax.grad(lambda x: na.softmin(x)[0, 0])(x),
    }[transform]
    with pytest.raises(TypeError, match=r"x is a JAX tracer.*\n +like = .*\n +y = jax.pure_call"):
        call()


def test_what_the_error_shows_runs(jax, rng):
    x = jax.numpy.asarray(rng.normal(size=(4, 6)), dtype=np.float32)
    try:
        jax.jit(na.softmin)(x)
    except TypeError as error:
        lines = str(error).partition("\n")[2]
    code = "\n".join(line.strip() for line in lines.splitlines())

    def function(x):
        names = {"jax": jax, "numba_acts": na, "x": x}
        exec(code, names)
        return names["y"]

    np.testing.assert_array_equal(np.asarray(jax.jit(function)(x)), na.softmin(np.asarray(x)))
    rows = jax.vmap(function)(x)
    np.testing.assert_array_equal(np.asarray(rows), na.softmin(np.asarray(x)))


def test_the_result_is_on_the_arrays_device(jax):
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, numpy as np
import numba_acts as na
for dtype in (np.float32, jax.numpy.bfloat16):
    x = jax.device_put(jax.numpy.ones((4, 3), dtype), jax.devices()[1])
    y = na.softmin(x)
    print(y.devices() == x.devices(), y.dtype == x.dtype, (x + y).shape == x.shape)
"""
    assert run(code) == ["True"] * 6


def test_the_result_is_on_the_arrays_device_of_a_strict_library():
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    x = strict.ones((4, 3), device=strict.Device("device1"))
    assert na.softmin(x).device == x.device


def test_a_split_array_is_refused(jax):
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, numpy as np
import numba_acts as na
from jax.sharding import Mesh, NamedSharding, PartitionSpec
place = NamedSharding(Mesh(np.array(jax.devices()), ("d",)), PartitionSpec("d"))
x = jax.device_put(np.ones((4, 3), np.float32), place)
try:
    na.softmin(x)
except TypeError as error:
    print(str(error).split(":")[0].replace(" ", "_"))
"""
    assert run(code) == ["x_must_lie_in_host_memory,_in_one_piece"]


def test_nothing_is_imported_to_recognise_arrays():
    code = """
import sys
import numpy as np
import numba_acts as na
na.softmin([1.0, 2.0]); na.softmin(np.ones(3))
print("jax" in sys.modules, "torch" in sys.modules)
"""
    assert run(code) == ["False", "False"]
