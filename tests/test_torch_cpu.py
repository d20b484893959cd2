"""PyTorch CPU tensors: in without a copy, out as tensors, and the numbers of PyTorch."""

import subprocess
import sys

import numpy as np
import pytest

import numba_acts

torch = pytest.importorskip("torch")

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
