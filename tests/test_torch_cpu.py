"""PyTorch CPU tensors: in without a copy, out as tensors, and the numbers of PyTorch."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from cases import FULL, as_dtype, rarely

import numba_acts

torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")

MEGABYTE = 2**20
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8]
# Twice the error allowed: PyTorch rounds too, to 11, 8, 24 and 53 bits.
TOLERANCE = {
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
    torch.float32: 2**-18,
    torch.float64: 2**-47,
}


@pytest.fixture
def normal():
    generator = torch.Generator().manual_seed(1729)

    def draw(*shape, dtype=torch.float64):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw


def assert_close(got, want):
    """A CPU tensor of the same shape, and its numbers within the tolerance of its dtype."""
    assert type(got) is torch.Tensor
    assert got.device.type == "cpu" and not got.requires_grad
    tolerance = TOLERANCE[got.dtype]
    torch.testing.assert_close(
        got.double(), want.double(), rtol=tolerance, atol=tolerance / 8, equal_nan=True
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "dim"), [((7,), 0), ((5, 9), 0), ((5, 9), 1), ((3, 4, 5), 1), ((900, 1300), 0)]
)
def test_softmin_is_that_of_torch(shape, dim, dtype, normal):
    x = normal(*shape, dtype=dtype)
    y = numba_acts.softmin(x, dim, temperature=0.5)
    assert y.dtype == dtype and y.shape == x.shape
    assert_close(y, torch.nn.functional.softmin(x.double() / 0.5, dim))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (2, 21, 160, 170)])
def test_softmax2d_is_that_of_torch(shape, dtype, normal):
    x = normal(*shape, dtype=dtype)
    y = numba_acts.softmax2d(x)
    assert y.dtype == dtype and y.shape == x.shape
    assert_close(y, torch.nn.Softmax2d()(x.double()))


def test_softmax2d_of_channels_last_in_memory(normal):
    x = normal(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert not x.is_contiguous()
    assert_close(numba_acts.softmax2d(x), torch.nn.Softmax2d()(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_products_of_softmin_in_every_dtype(dim, dtype, normal):
    x, g = normal(3, 4, 5, dtype=dtype), normal(3, 4, 5, dtype=dtype)
    y = numba_acts.softmin(x, dim)
    cotangent, saved = g.double(), y.double()
    want = saved * ((cotangent * saved).sum(dim, keepdim=True) - cotangent)
    assert_close(numba_acts.softmin_vjp(g, y, dim), want)
    assert_close(numba_acts.softmin_jvp(g, y, dim), want)


def test_derivatives_are_those_of_autograd(normal):
    x, g = normal(3, 4, 5), normal(3, 4, 5)

    def softmin(x):
        return torch.nn.functional.softmin(x, 1)

    y = numba_acts.softmin(x, 1)
    _, want = torch.autograd.functional.vjp(softmin, x, g)
    assert_close(numba_acts.softmin_vjp(g, y, 1), want)
    jacobian = torch.autograd.functional.jacobian(softmin, x)
    want = torch.einsum("aibajb->aijb", jacobian)
    assert_close(numba_acts.softmin_jacobian(y, 1), want)
    want = torch.einsum("aibaib->aib", jacobian)
    assert_close(numba_acts.softmin_jacobian_diag(y), want)

    y = numba_acts.softmax2d(x)
    _, want = torch.autograd.functional.vjp(torch.nn.Softmax2d(), x, g)
    assert_close(numba_acts.softmax2d_vjp(g, y), want)
    assert_close(numba_acts.softmax2d_jvp(g, y), want)
    jacobian = torch.autograd.functional.jacobian(torch.nn.Softmax2d(), x)
    want = torch.einsum("chwdhw->cdhw", jacobian)
    assert_close(numba_acts.softmax2d_jacobian(y), want)
    want = torch.einsum("chwchw->chw", jacobian)
    assert_close(numba_acts.softmax2d_jacobian_diag(y), want)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, torch.bool])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_maxout_is_the_maximum_of_torch(dim, dtype, normal):
    x = (3 * normal(3, 4, 5)).abs().to(dtype)
    y, index = numba_acts.maxout_with_index(x, dim)
    want, _ = torch.max(x.double(), dim)
    assert y.dtype == dtype and index.dtype == torch.int32
    assert torch.equal(y.double(), want)
    assert torch.equal(numba_acts.maxout(x, dim), y)
    chosen = torch.take_along_dim(x, index.long().unsqueeze(dim), dim).squeeze(dim)
    assert torch.equal(chosen, y)


@pytest.mark.parametrize("dtype", FLOATS)
def test_maxout_derivatives(dtype, normal):
    x, t = normal(3, 4, 5, dtype=dtype), normal(3, 4, 5, dtype=dtype)
    y, index = numba_acts.maxout_with_index(x, 1)
    dx = numba_acts.maxout_vjp(y, index, 4, 1)
    long = index.long().unsqueeze(1)
    want = torch.zeros_like(x).scatter(1, long, y.unsqueeze(1))
    assert dx.dtype == dtype and torch.equal(dx, want)
    dy = numba_acts.maxout_jvp(t, index, 1)
    assert dy.dtype == dtype and torch.equal(dy, torch.take_along_dim(t, long, 1).squeeze(1))
    jacobian = numba_acts.maxout_jacobian(index, 4, 1)
    assert torch.equal(jacobian, (want != 0).double())


def test_maxout_affine_and_its_gradients_are_those_of_autograd(normal):
    x, weight, bias, g = normal(6, 5), normal(3, 4, 5), normal(3, 4), normal(6, 3)

    def layer(x, weight, bias):
        return (torch.einsum("bd,upd->bup", x, weight) + bias).amax(-1)

    y, index = numba_acts.maxout_affine_with_index(x, weight, bias)
    assert_close(y, layer(x, weight, bias))
    assert_close(numba_acts.maxout_affine(x, weight, bias), y)
    _, wanted = torch.autograd.functional.vjp(layer, (x, weight, bias), g)
    gradients = numba_acts.maxout_affine_vjp(g, x, weight, index)
    for got, want in zip(gradients, wanted, strict=True):
        assert_close(got, want)
    dy = numba_acts.maxout_affine_jvp(x, weight, index, dx=x, dweight=weight, dbias=bias)
    _, want = torch.autograd.functional.jvp(layer, (x, weight, bias), (x, weight, bias))
    assert_close(dy, want)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, weight, bias), x)
    want = torch.einsum("bubd->bud", jacobian)
    assert_close(numba_acts.maxout_affine_jacobian(weight, index), want)


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool])
def test_integers_give_float64(dtype):
    x = torch.tensor([[0, 1, 100], [1, 0, 7]]).to(dtype)
    y = numba_acts.softmin(x)
    assert y.dtype == torch.float64
    assert_close(y, torch.nn.functional.softmin(x.double(), -1))


def test_mask_is_a_tensor(normal):
    x = normal(4, 5)
    where = torch.tensor([True, False, True, True, False])
    y = numba_acts.softmin(x, where=where)
    assert_close(y, torch.nn.functional.softmin(x.masked_fill(~where, torch.inf), -1))


def test_rank_zero():
    y = numba_acts.softmin(torch.tensor(3.0))
    assert torch.equal(torch.as_tensor(y), torch.tensor(1.0))


def test_nan_and_infinities():
    x = torch.tensor([[torch.nan, 1, 2], [torch.inf, 1, 2], [-torch.inf, 1, 2]])
    assert_close(numba_acts.softmin(x), torch.nn.functional.softmin(x, -1))


# Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_out_is_written_in_place(dtype, normal):
    x = normal(6, 7, dtype=dtype)
    out = torch.full_like(x, 7)
    address = out.data_ptr()
    assert numba_acts.softmin(x, out=out) is out
    assert out.data_ptr() == address
    assert torch.equal(out, numba_acts.softmin(x))
    y, index = torch.empty(6, dtype=dtype), torch.empty(6, dtype=torch.int32)
    got = numba_acts.maxout_with_index(x, out=(y, index))
    assert got[0] is y and got[1] is index
    assert torch.equal(y.double(), x.double().amax(-1))
    want = numba_acts.softmin(x)
    assert numba_acts.softmin(x, out=x) is x
    assert torch.equal(x, want)


@pytest.mark.parametrize("dtype", FLOATS)
def test_input_and_out_are_not_copied(dtype, peak_memory):
    x = torch.ones(64 * MEGABYTE // dtype.itemsize, dtype=dtype).reshape(-1, 512)
    out = torch.empty_like(x)
    assert peak_memory(lambda: numba_acts.softmin(x, out=out)) < MEGABYTE
    assert peak_memory(lambda: numba_acts.softmin_vjp(x, x, out=out)) < MEGABYTE
    assert peak_memory(lambda: numba_acts.softmin(x)) < 65 * MEGABYTE


@pytest.mark.parametrize("dtype", FLOATS)
def test_tensors_that_are_not_contiguous(dtype, normal):
    x = normal(6, 7, 8, dtype=dtype)
    for view in (x.transpose(0, 2), x[::2, 1:, ::3], x[:, :1].expand(6, 5, 8)):
        before = view.clone()
        for dim in range(3):
            assert_close(
                numba_acts.softmin(view, dim), torch.nn.functional.softmin(view.double(), dim)
            )
        assert torch.equal(view, before)
    out = torch.full((7, 6, 8), 7, dtype=dtype).transpose(0, 1)
    assert numba_acts.softmin(x, out=out) is out
    assert torch.equal(out, numba_acts.softmin(x))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (torch._neg_view(torch.zeros(3, 4)), TypeError, "out must be a plain tensor"),
        (torch.zeros(1, 4).expand(3, 4), ValueError, r"out must be writeable.*broadcast"),
    ],
)
def test_out_that_would_not_hold_the_result(out, error, message):
    with pytest.raises(error, match=message):
        numba_acts.softmin(torch.ones(3, 4), out=out)
    assert not out.any()
    row = torch.zeros(4).as_strided((1, 4), (0, 1))  # one row stands alone
    assert numba_acts.softmin(torch.ones(1, 4), out=row).sum() == 1


def test_input_is_not_changed(normal):
    x, g = normal(6, 7), normal(6, 7)
    saved = x.clone(), g.clone()
    y = numba_acts.softmin(x)
    numba_acts.softmin_vjp(g, y)
    assert torch.equal(x, saved[0]) and torch.equal(g, saved[1])


def test_detached_tensor_is_welcome(normal):
    x = normal(6, 7).requires_grad_()
    assert_close(numba_acts.softmin(x.detach()), torch.nn.functional.softmin(x, -1).detach())


def test_bfloat16_of_an_array_is_that_of_a_tensor(normal):
    bfloat16 = as_dtype("bfloat16")
    x, weight = normal(6, 7, dtype=torch.bfloat16), normal(2, 3, 7, dtype=torch.bfloat16)
    y, units = numba_acts.softmin(x), numba_acts.maxout_affine(x, weight)
    product, array = numba_acts.softmin_vjp(x, y), x.float().numpy().astype(bfloat16)
    given = numba_acts.softmin_vjp(array, y), numba_acts.maxout_affine(array, weight)
    for got, want in zip(given, (product, units), strict=True):
        assert got.dtype is torch.bfloat16 and torch.equal(got, want)
    out = np.empty(array.shape, bfloat16)
    assert numba_acts.softmin_vjp(array, y, out=out) is out
    assert torch.equal(torch.from_numpy(out.astype(np.float32)), product.float())
    with pytest.raises(ValueError, match="out must have dtype bfloat16, got float32"):
        numba_acts.softmin_vjp(array, y, out=out.astype(np.float32))


@FULL
def test_bfloat16_needs_no_ml_dtypes():
    program = """
import sys
sys.modules["ml_dtypes"] = None
import numba_acts
import torch
x = torch.tensor([[1, 2, 3], [6, 5, 4]], dtype=torch.bfloat16)
y = numba_acts.softmin(x)
assert y.dtype == torch.bfloat16
torch.testing.assert_close(y, torch.nn.functional.softmin(x, -1))
winner = numba_acts.maxout(x)
assert winner.dtype == torch.bfloat16 and winner.tolist() == [3, 6]
gradient = numba_acts.softmin_vjp(x, y)
assert gradient.dtype == torch.bfloat16
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_torch_is_not_imported_to_recognise_its_tensors():
    program = """
import sys
import numpy
import numba_acts
numba_acts.softmin(numpy.ones(3))
assert not {"torch", "cupy", "dask", "ml_dtypes", "numba.cuda"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_numpy_is_the_same_to_the_last_bit(normal):
    x = normal(6, 700, dtype=torch.float32)
    np.testing.assert_array_equal(numba_acts.softmin(x).numpy(), numba_acts.softmin(x.numpy()))


# What is more than its numbers -----------------------------------------------------------------


def dual(numbers):
    """A tensor that carries a tangent."""
    return torch.autograd.forward_ad.make_dual(numbers, torch.ones_like(numbers))


CARRIERS = {
    "x": lambda t: numba_acts.softmin(t),
    "image": lambda t: numba_acts.softmax2d(t.reshape(3, 1, 1)),
    "g": lambda t: numba_acts.softmin_vjp(t, torch.ones(3)),
    "t": lambda t: numba_acts.softmin_jvp(t, torch.ones(3)),
    "y": lambda t: numba_acts.softmin_vjp(torch.ones(3), t),
    "jacobian": lambda t: numba_acts.softmin_jacobian(t),
    "diagonal": lambda t: numba_acts.softmin_jacobian_diag(t),
    "maxout": lambda t: numba_acts.maxout(t),
    "with index": lambda t: numba_acts.maxout_with_index(t),
    "maxout_vjp": lambda t: numba_acts.maxout_vjp(t, torch.zeros(3, dtype=torch.int32), 2),
    "maxout_jvp": lambda t: numba_acts.maxout_jvp(t, torch.tensor(0)),
    "affine x": lambda t: numba_acts.maxout_affine(t, torch.ones(2, 3)),
    "affine weight": lambda t: numba_acts.maxout_affine(torch.ones(3), t.reshape(1, 3)),
    "affine bias": lambda t: numba_acts.maxout_affine(torch.ones(2), torch.ones(3, 2), t),
    "affine vjp": lambda t: numba_acts.maxout_affine_vjp(
        t, torch.ones(3, 2), torch.ones(4, 2), torch.zeros(3, dtype=torch.int32)
    ),
    "affine jvp": lambda t: numba_acts.maxout_affine_jvp(
        torch.ones(3), torch.ones(2, 3), torch.tensor(0), dx=t
    ),
    "out": lambda t: numba_acts.softmin(torch.ones(3), out=t),
    "temperature": lambda t: numba_acts.softmin(torch.ones(3), temperature=t[0]),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_tangents_are_not_lost_without_a_word(name):
    with torch.autograd.forward_ad.dual_level():
        with pytest.raises(TypeError, match=r"carries a tangent.*numba_acts\.torch"):
            CARRIERS[name](dual(torch.ones(3)))
    CARRIERS[name](torch.ones(3))


@pytest.mark.parametrize("name", CARRIERS)
def test_stand_ins_of_vmap_are_refused(name):
    message = "tensor with memory|number" if name != "temperature" else "temperature must be"
    with pytest.raises(TypeError, match=message):
        torch.func.vmap(CARRIERS[name])(torch.ones(2, 3))
    with pytest.raises(TypeError, match=r"numba_acts\.torch|number"):
        torch.func.jvp(CARRIERS[name], (torch.ones(3),), (torch.ones(3),))


STRANGE = {
    "a nested one": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "layout torch.sparse_coo": lambda: torch.eye(2).to_sparse(),
    "float8_e4m3fn": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "qint8": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "complex64": lambda: torch.ones(2, dtype=torch.complex64),
    "one on meta": lambda: torch.ones(2, device="meta"),
}


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")  # these kinds' own warnings
@pytest.mark.filterwarnings("ignore:.*quantized tensor:UserWarning")
@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_that_are_no_plain_arrays(kind):
    tensor = STRANGE[kind]()
    for call in (numba_acts.softmin, numba_acts.maxout, numba_acts.softmin_jacobian_diag):
        with pytest.raises(TypeError, match=f"^[xy] must be .*{kind}"):
            call(tensor)


@pytest.mark.parametrize("dtype", FLOATS)
def test_views_that_negate(dtype, normal):
    x = normal(3, 4, dtype=dtype)
    negative = torch._neg_view(x)
    assert negative.is_neg()
    assert torch.equal(numba_acts.softmin(negative), numba_acts.softmin(-x))


def test_index_dtype_under_another_default_device():
    with torch.device("meta"):
        y, index = numba_acts.maxout_with_index(CPU, index_dtype=torch.int64)
    assert index.dtype == torch.int64 and y.device.type == "cpu"


CPU = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 5.0]])

WRITERS = {
    "softmin": lambda out: numba_acts.softmin(CPU, out=out),
    "softmin in place": lambda out: numba_acts.softmin(out, out=out),
    "masked": lambda out: numba_acts.softmin(CPU, where=CPU > 0, out=out),
    "softmin_vjp": lambda out: numba_acts.softmin_vjp(CPU, CPU, out=out),
    "softmin_jvp": lambda out: numba_acts.softmin_jvp(CPU, CPU, 0, out=out),
    "softmin_jacobian_diag": lambda out: numba_acts.softmin_jacobian_diag(CPU, out=out),
    "softmin_jacobian": lambda out: numba_acts.softmin_jacobian(
        CPU[0], out=out.resize_(9).view(3, 3)
    ),
    "softmax2d": lambda out: numba_acts.softmax2d(CPU[None], out=out[None]),
    "maxout": lambda out: numba_acts.maxout(CPU[..., None], out=out),
    "maxout_with_index": lambda out: numba_acts.maxout_with_index(
        CPU[..., None], out=(out, torch.empty(2, 3, dtype=torch.int32))
    ),
    "maxout_vjp": lambda out: numba_acts.maxout_vjp(
        CPU[:, 0], torch.zeros(2, dtype=torch.int32), 3, out=out
    ),
    "maxout_jvp": lambda out: numba_acts.maxout_jvp(
        CPU[..., None], torch.zeros(2, 3, dtype=torch.int32), out=out
    ),
    "maxout_affine": lambda out: numba_acts.maxout_affine(CPU, torch.ones(3, 1, 3), out=out),
    "a view": lambda out: numba_acts.softmin(CPU[0], out=out[0]),
    "a detached alias": lambda out: numba_acts.softmin(CPU, out=out.detach()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_autograd_knows_what_was_written_to(name):
    """A tensor that was saved for a gradient must not be another one then without a word."""
    x, saved = torch.ones(2, 3, requires_grad=True), torch.full((2, 3), 5.0)
    loss = (x * saved).sum()
    WRITERS[name](saved)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_index_that_was_written_to_is_known_too():
    index = torch.zeros(2, dtype=torch.int32)
    before = index._version
    numba_acts.maxout_with_index(CPU, out=(torch.empty(2), index))
    assert index._version > before


def test_a_refused_call_leaves_the_version_alone():
    out = torch.zeros(2, 3)
    with pytest.raises(np.exceptions.AxisError):
        numba_acts.softmin(CPU, 2, out=out)
    with pytest.raises(ValueError, match="out must have shape"):
        numba_acts.softmin(CPU[0], out=out)
    assert out._version == 0


def test_results_of_tensors_may_go_to_numpy_arrays():
    out = np.empty((2, 3), np.float32)
    assert numba_acts.softmin(CPU, out=out) is out
    assert np.array_equal(out, numba_acts.softmin(CPU))


def test_tensors_of_inference_mode_are_written_to():
    with torch.inference_mode():
        out = torch.zeros(2, 3)
        numba_acts.softmin(CPU, out=out)
    assert torch.equal(out, numba_acts.softmin(CPU))


# torch.compile, which is to call these functions and not to read them ---------------------------

COMPILED = {
    "softmin": lambda x: numba_acts.softmin(x),
    "between": lambda x: numba_acts.softmin(x * 2) + 1,
    "masked": lambda x: numba_acts.softmin(x, where=[True, False, True]),
    "product": lambda x: numba_acts.softmin_vjp(x, numba_acts.softmin(x)),
    "jacobian": lambda x: numba_acts.softmin_jacobian(x),
    "diagonal": lambda x: numba_acts.softmin_jacobian_diag(x),
    "image": lambda x: numba_acts.softmax2d(x[:, :, None]),
    "maxout": lambda x: numba_acts.maxout(x, 0),
    "index": lambda x: numba_acts.maxout_with_index(x)[1],
    "spread": lambda x: numba_acts.maxout_vjp(x, numba_acts.maxout_with_index(x[..., None])[1], 2),
    "affine": lambda x: numba_acts.maxout_affine(x, x[None]),
}
KINDS = {
    "float32 tensor": lambda: CPU,
    "bfloat16 tensor": lambda: CPU.bfloat16(),
    "integer tensor": lambda: CPU.int(),
    "strided tensor": lambda: torch.cat([CPU, CPU], 1)[:, ::2],
    "float64 array": lambda: CPU.double().numpy(),
    "integer array": lambda: CPU.int().numpy(),
    "strided array": lambda: np.asfortranarray(CPU.numpy()),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "kind", ["float32 tensor", *rarely(*(kind for kind in KINDS if kind != "float32 tensor"))]
)
def test_under_torch_compile(kind):
    every = kind in ("bfloat16 tensor", "integer array")  # compilation takes a second for each
    for function in list(COMPILED.values())[: None if every else 3]:
        x = KINDS[kind]()
        want = function(x)
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="eager")
        for _ in range(2):
            got = compiled(x)
            assert type(got) is type(want) and got.dtype == want.dtype
            assert (got == want).all()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_gradients_under_torch_compile():
    from numba_acts import torch as acts

    @torch.compile(backend="eager")
    def loss(x):
        return acts.maxout(acts.softmin(x) * x).sum()

    x = CPU.clone().requires_grad_()
    (got,) = torch.autograd.grad(loss(x), x)
    (want,) = torch.autograd.grad((torch.softmax(-x, -1) * x).amax(-1).sum(), x)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_gradient_would_be_lost_without_grad_mode_too(mode):
    needs, x = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    kept = needs.detach().clone()
    with mode():
        for call in (
            lambda: numba_acts.softmin(needs),
            lambda: numba_acts.softmin(x, out=needs),
            lambda: numba_acts.maxout(needs),
            lambda: numba_acts.softmin_vjp(x, needs),
        ):
            with pytest.raises(TypeError, match="requires grad"):
                call()
    assert torch.equal(needs.detach(), kept)


def test_nothing_is_no_array_beside_pytorch_either():
    nothing: Any = None
    for call in (
        lambda: numba_acts.softmin(nothing),
        lambda: numba_acts.maxout(nothing),
        lambda: numba_acts.maxout_with_index(nothing),
        lambda: numba_acts.softmin_vjp(nothing, nothing),
        lambda: numba_acts.softmin_vjp(torch.ones(3), nothing),
        lambda: numba_acts.maxout_vjp(nothing, nothing, 3),
    ):
        with pytest.raises(TypeError, match="must be"):
            call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_calls_on_tensors_are_calls_on_their_arrays(dtype):
    x, g = torch.randn(2, 5, 8, dtype=torch.float64).to(dtype)
    mask = torch.rand(5, 8) < 0.5
    mask[:, 0] = True  # or PyTorch has no number for a row
    for _ in range(2):  # the second time as the first
        y = numba_acts.softmin(x, where=mask)
        wide = torch.where(mask, -x.double(), -torch.inf).softmax(-1)
        torch.testing.assert_close(y.double(), wide, rtol=1e-2, atol=1e-2)
        out, before = torch.empty_like(x), x._version
        assert numba_acts.softmin_vjp(g, y, out=out) is out and out._version == 1
        assert torch.equal(out, numba_acts.softmin_vjp(g, y)) and x._version == before
        best, index = numba_acts.maxout_with_index(x)
        assert best.dtype is dtype and torch.equal(best, x.amax(-1))
        assert torch.equal(index.long(), x.argmax(-1))
        alone = numba_acts.maxout(x[0])
        assert torch.equal(alone, x[0].amax()) and alone.ndim == 0
        spread = numba_acts.maxout_vjp(best, index, 8)
        assert torch.equal(spread.sum(-1), best) and spread.dtype is dtype
        replaced = x.clone()
        assert numba_acts.softmin(replaced, where=mask, out=replaced) is replaced
        assert torch.equal(replaced, y) and replaced._version == 1
