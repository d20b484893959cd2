"""numba_acts.torch against finite differences, by PyTorch's own check."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import numba_acts  # noqa: E402
from numba_acts import torch as acts  # noqa: E402


def numbers(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
def test_softmin(axis):
    x = numbers(3, 4, 2)

    def function(x):
        return acts.softmin(x, axis, temperature=0.7)

    assert torch.equal(function(x), numba_acts.softmin(x.detach(), axis, temperature=0.7))
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_autocast_gives_the_dtype_of_pytorch(dtype, monkeypatch):
    x = torch.randn(3, 4, 5).to(getattr(torch, dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert acts.softmin(x).dtype == torch.nn.functional.softmin(x, -1).dtype
        assert acts.softmax2d(x).dtype == torch.softmax(x, -3).dtype
    # On a GPU PyTorch has its own work in float32.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    there = SimpleNamespace(is_cuda=True, dtype=x.dtype, float=lambda: "float32")
    assert acts._as_autocast(there) == ("float32" if dtype in ("bfloat16", "float16") else there)


def test_masked_entries_get_no_gradient():
    x = numbers(2, 3)
    where = torch.tensor([[True, False, True], [False, False, False]])
    assert torch.autograd.gradcheck(lambda x: acts.softmin(x, where=where), x)
    (gradient,) = torch.autograd.grad(acts.softmin(x, where=where)[:, 0].sum(), x)
    assert (gradient[~where] == 0).all() and (gradient[0, where[0]] != 0).all()


@pytest.mark.parametrize(("shape", "axis"), [((3, 2, 2), -3), ((2, 2, 2, 3), -1)])
def test_softmax2d(shape, axis):
    x = numbers(*shape)

    def function(x):
        return acts.softmax2d(x, channel_axis=axis, temperature=1.5)

    torch.testing.assert_close(function(x), torch.softmax(x / 1.5, axis))
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_maxout():
    x = numbers(3, 4, 5)
    assert torch.equal(acts.maxout(x, 1), x.amax(1))
    assert torch.autograd.gradcheck(lambda x: acts.maxout(x, 1), x)
    assert torch.autograd.gradgradcheck(lambda x: acts.maxout(x, 1), x)


@pytest.mark.parametrize("biased", [True, False])
def test_maxout_affine(biased):
    x, weight, bias = numbers(3, 4), numbers(2, 3, 4), numbers(2, 3)
    given = (x, weight, bias) if biased else (x, weight)
    assert torch.autograd.gradcheck(acts.maxout_affine, given)
    assert torch.autograd.gradgradcheck(acts.maxout_affine, given)


X, WEIGHT, BIAS = (numbers(*shape).detach() for shape in ((2, 3), (2, 3, 3), (2, 3)))

# Each function, a tensor it takes, and the same of PyTorch's own operations.
FUNCTIONS = {
    "softmin": (
        lambda x: acts.softmin(x, 1, temperature=0.7),
        lambda x: torch.softmax(-x / 0.7, 1),
        (2, 3, 4),
    ),
    "softmin of all": (
        lambda x: acts.softmin(x, None),
        lambda x: torch.softmax(-x.reshape(-1), 0).reshape(x.shape),
        (2, 3, 4),
    ),
    "softmax2d": (
        lambda x: acts.softmax2d(x, channel_axis=-1, temperature=1.5),
        lambda x: torch.softmax(x / 1.5, -1),
        (2, 3, 4),
    ),
    "maxout": (lambda x: acts.maxout(x, -2), lambda x: x.amax(-2), (2, 3, 4)),
    "maxout_affine": (
        lambda x: acts.maxout_affine(x, WEIGHT, BIAS),
        lambda x: (torch.einsum("...d,upd->...up", x, WEIGHT) + BIAS).amax(-1),
        (2, 3),
    ),
    "its weight": (
        lambda weight: acts.maxout_affine(X, weight),
        lambda weight: torch.einsum("bd,upd->bup", X, weight).amax(-1),
        (2, 3, 3),
    ),
    "one unit's weight": (
        lambda weight: acts.maxout_affine(X, weight, BIAS[0]),
        lambda weight: (torch.einsum("bd,pd->bp", X, weight) + BIAS[0]).amax(-1),
        (3, 3),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_forward(name):
    function, _, shape = FUNCTIONS[name]
    x = numbers(*shape)
    assert torch.autograd.gradcheck(function, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, x, check_fwd_over_rev=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transformations_of_torch_func(name):
    function, plain, shape = FUNCTIONS[name]
    x, t = numbers(*shape).detach(), numbers(*shape[::-1]).detach().reshape(shape)
    func = torch.func
    for transform in (func.jacrev, func.jacfwd, func.hessian):
        torch.testing.assert_close(transform(function)(x), transform(plain)(x))
    for got, want in zip(func.jvp(function, (x,), (t,)), func.jvp(plain, (x,), (t,)), strict=True):
        torch.testing.assert_close(got, want)
    batch = numbers(3, *shape).detach()
    for dim in range(batch.ndim):
        moved = batch.movedim(0, dim)
        got = func.vmap(function, in_dims=dim)(moved)
        torch.testing.assert_close(got, func.vmap(plain, in_dims=dim)(moved))
        loss = func.grad(lambda x: function(x).square().sum())
        want = func.grad(lambda x: plain(x).square().sum())
        got = func.vmap(loss, in_dims=dim)(moved)
        torch.testing.assert_close(got, func.vmap(want, in_dims=dim)(moved))
    twice = numbers(2, 3, *shape).detach()
    got, want = (func.vmap(func.vmap(f))(twice) for f in (function, plain))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("order", ["FRF", "FRR", "RFF", "RFR", "RRF", "RRR", "FFR", "FFF"])
def test_third_derivatives(order):
    """F forward, R backward, the outermost first; forward twice PyTorch loses tangents."""
    x = numbers(3).detach()
    cubes = lambda x: acts.maxout_affine(x, WEIGHT) ** 3  # noqa: E731
    pairs = [
        (acts.softmin, lambda x: torch.softmax(-x, -1)),
        (cubes, lambda x: torch.einsum("d,upd->up", x, WEIGHT).amax(-1) ** 3),
    ]
    for function, plain in pairs:
        for letter in reversed(order):
            transform = {"F": torch.func.jacfwd, "R": torch.func.jacrev}[letter]
            function, plain = transform(function), transform(plain)
        try:
            got = function(x)
        except NotImplementedError as error:
            assert order.startswith("FF") and "jacrev" in str(error)
        else:
            torch.testing.assert_close(got, plain(x))


def test_vmap_over_masks():
    x, where = numbers(2, 5).detach(), torch.rand(3, 5) < 0.6
    got = torch.func.vmap(lambda m: acts.softmin(x, where=m))(where)
    assert torch.equal(got, torch.stack([acts.softmin(x, where=m) for m in where]))
    both = torch.func.vmap(lambda x, m: acts.softmin(x, where=m), in_dims=(1, 1))
    got = both(x, where[:, :2].T.reshape(2, 3).repeat(1, 2)[:, :5])
    assert got.shape == (5, 2)


def test_gradient_penalty():
    """The norm of a gradient in the loss, as critics of Wasserstein GANs have it."""
    x, weight = numbers(8, 4), numbers(5, 3, 4)
    gradients = []
    for layer in (
        acts.maxout_affine,
        lambda x, w: acts.maxout(torch.einsum("bd,upd->bup", x, w)),
        lambda x, w: torch.einsum("bd,upd->bup", x, w).amax(-1),
    ):
        score = torch.tanh(layer(x, weight)).sum()
        (g,) = torch.autograd.grad(score, x, create_graph=True)
        penalty = ((g.norm(dim=1) - 1) ** 2).mean()
        gradients.append(torch.autograd.grad(penalty, weight)[0])
    torch.testing.assert_close(gradients[0], gradients[2])
    torch.testing.assert_close(gradients[1], gradients[2])


@pytest.mark.parametrize("given", [[1.0, 2.0], 1.0, None, np.ones(2)], ids=str)
def test_what_is_no_tensor_is_refused(given):
    for name, call in {
        "x": lambda: acts.softmin(given),
        "x ": lambda: acts.softmax2d(given),
        "x  ": lambda: acts.maxout(given),
        "weight": lambda: acts.maxout_affine(X, given),
    }.items():
        message = rf"{name.strip()} must be a torch\.Tensor, got {type(given).__name__}"
        with pytest.raises(TypeError, match=message):
            call()


def test_the_refusal_of_a_tensor_that_requires_grad_points_to_functions_that_exist():
    with pytest.raises(TypeError, match=r"numba_acts\.torch"):
        numba_acts.softmin(numbers(3))
