"""numba_acts.torch against finite differences, by PyTorch's own check."""

import itertools

import numpy as np
import pytest
from cases import rarely

torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")

import numba_acts  # noqa: E402
from numba_acts import torch as acts  # noqa: E402


def numbers(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
def test_softmin(axis):
    x = numbers(3, 4, 2)

    def function(x):
        return acts.softmin(x, axis, temperature=0.7)

    assert torch.equal(function(x), numba_acts.softmin(x.detach(), axis, temperature=0.7))
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


TEMPERATURES = [(), (4, 1), (3, 1, 1), (2,), (3, 4, 2)]


@pytest.mark.parametrize("shape", TEMPERATURES, ids=str)
def test_temperature_that_is_learned(shape):
    x, log_t = numbers(3, 4, 2), numbers(*shape)

    def function(x, log_t):
        return acts.softmin(x, temperature=log_t.exp())

    torch.testing.assert_close(function(x, log_t), torch.softmax(-x / log_t.exp(), -1))
    assert torch.autograd.gradcheck(function, (x, log_t), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (x, log_t), check_fwd_over_rev=True)
    got = torch.func.hessian(lambda t: acts.softmax2d(x, temperature=t.exp())[0].sum())(log_t)
    want = torch.func.hessian(lambda t: torch.softmax(x / t.exp(), -3)[0].sum())(log_t)
    torch.testing.assert_close(got, want)


def test_temperature_as_a_tensor():
    x = numbers(3, 4).detach()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.int32):
        y = acts.softmin(x.to(dtype), temperature=torch.tensor(0.7, dtype=torch.float64))
        assert y.dtype == (dtype if dtype.is_floating_point else torch.float64)
        torch.testing.assert_close(y, acts.softmin(x.to(dtype), temperature=0.7))
    for shape in ((3,), (2, 3, 4), (3, 4, 1), (0,)):
        with pytest.raises(ValueError, match=r"temperature must broadcast to x's shape \(3, 4\)"):
            acts.softmin(x, temperature=torch.ones(shape))
    with pytest.raises(TypeError, match="temperature must be .*complex64"):
        acts.softmin(x, temperature=torch.tensor(1j))
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be finite and above 0"):
            acts.softmax2d(x[None], temperature=temperature)


def test_masked_entries_get_no_gradient():
    x = numbers(2, 3)
    where = torch.tensor([[True, False, True], [False, False, False]])
    assert torch.autograd.gradcheck(lambda x: acts.softmin(x, where=where), x)
    (gradient,) = torch.autograd.grad(acts.softmin(x, where=where)[:, 0].sum(), x)
    assert (gradient[~where] == 0).all() and (gradient[0, where[0]] != 0).all()


def test_what_a_loss_says_of_masked_entries_does_not_matter():
    rows = [[0, 0, 0, 0, 0], [1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 1, 1]]  # none, or several
    x, where = numbers(4, 5), torch.tensor(rows, dtype=torch.bool)
    wanted = torch.where(where, numbers(4, 5).detach().sigmoid(), 0)

    def loss(x):  # the cross-entropy, whose derivative −wanted/y is 0/0 where y is masked
        y = acts.softmin(x, where=where)
        return -torch.where(where, wanted * y.log(), 0).sum()

    def kept(x):  # the same, by what is not masked alone
        logits = torch.where(where, -x, -torch.inf)
        rows = torch.log_softmax(logits, -1)[1:]
        return -torch.where(where[1:], wanted[1:] * rows, 0).sum()

    (got,), (want,) = (torch.autograd.grad(f(x), x) for f in (loss, kept))
    assert torch.isfinite(got).all() and torch.allclose(got, torch.where(where, want, 0))

    def second(f):  # through a square root, whose derivative at the zeros of masked entries is not
        (dx,) = torch.autograd.grad(f(x), x, create_graph=True)
        return torch.autograd.grad(dx[where].abs().sqrt().sum() + 0 * dx.sum(), x)[0]

    assert torch.isfinite(second(loss)).all()
    (dx,) = torch.autograd.grad(acts.softmin(x, where=where)[1].max(), x, create_graph=True)
    dx.abs().sqrt().sum().backward()
    assert torch.isfinite(x.grad[1]).all()
    _, tangent = torch.func.jvp(
        lambda x: acts.softmin(x, where=where),
        (x.detach(),),
        (torch.where(where, 1, torch.nan).to(x.dtype),),
    )
    assert torch.isfinite(tangent).all()


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


def plain_affine(x, weight, bias=None):
    pieces = torch.einsum("...d,upd->...up", x, weight)
    return (pieces if bias is None else pieces + bias).amax(-1)


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
        lambda x: plain_affine(x, WEIGHT, BIAS),
        (2, 3),
    ),
    "its weight": (
        lambda weight: acts.maxout_affine(X, weight),
        lambda weight: plain_affine(X, weight),
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


@pytest.mark.parametrize(
    "order",
    [
        *("".join(modes) for modes in itertools.product("FR", repeat=3)),
        *rarely(*("".join(modes) for modes in itertools.product("FR", repeat=4))),
    ],
)
def test_nested_derivatives(order):
    """Third and fourth derivatives: F forward, R backward, the outermost first."""
    x = numbers(3).detach()
    pairs = [
        (lambda x: acts.softmin(x, temperature=0.7), lambda x: torch.softmax(-x / 0.7, -1)),
        (lambda x: acts.maxout(x[:, None] * x) ** 4, lambda x: (x[:, None] * x).amax(-1) ** 4),
        (
            lambda x: acts.maxout_affine(x, x[:, None] * x + WEIGHT, BIAS) ** 2,
            lambda x: plain_affine(x, x[:, None] * x + WEIGHT, BIAS) ** 2,
        ),
    ]
    for function, plain in pairs[: 3 if len(order) == 3 else 1]:
        for letter in reversed(order):
            transform = {"F": torch.func.jacfwd, "R": torch.func.jacrev}[letter]
            function, plain = transform(function), transform(plain)
        torch.testing.assert_close(function(x), plain(x))


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (1, 2), (-1, 1)], ids=str)
@pytest.mark.parametrize("out_dims", [0, 1, -1])
def test_vmap_of_a_layer(in_dims, out_dims):
    shapes = [3, 4], [5, 2, 4]
    for shape, dim in zip(shapes, in_dims, strict=True):
        if dim is not None:
            shape.insert(dim % (len(shape) + 1), 6)
    given = [numbers(*shape).detach() for shape in shapes]
    batch = dict(in_dims=in_dims, out_dims=out_dims)
    for more in (lambda f: f, lambda f: torch.func.grad(lambda *a: f(*a).square().sum(), (0, 1))):
        got, want = (
            torch.func.vmap(more(f), **batch)(*given) for f in (acts.maxout_affine, plain_affine)
        )
        torch.testing.assert_close(got, want)


def test_vmap_over_no_weights():
    with pytest.raises(ValueError, match="at least 1"):
        torch.func.vmap(acts.maxout_affine)(torch.ones(0, 2, 3), torch.ones(0, 4, 2, 3))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batched_gradients(name):
    function, _, shape = FUNCTIONS[name]
    x = numbers(*shape)
    both = {"check_batched_grad": True, "check_forward_ad": True}
    assert torch.autograd.gradcheck(function, x, check_batched_forward_grad=True, **both)
    assert torch.autograd.gradgradcheck(function, x, check_batched_grad=True)
    y = function(x)
    g = torch.randn(5, *y.shape, dtype=y.dtype)
    got = torch.autograd.grad(y, x, g, is_grads_batched=True, retain_graph=True)[0]
    want = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in g]
    assert torch.equal(got, torch.stack(want))
    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(function, x, vectorize=True), jacobian(function, x))


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
        plain_affine,
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
