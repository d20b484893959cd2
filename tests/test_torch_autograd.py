"""numba_acts.torch against finite differences, by PyTorch's own check."""

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


@pytest.mark.parametrize("biased", [True, False])
def test_maxout_affine(biased):
    x, weight, bias = numbers(3, 4), numbers(2, 3, 4), numbers(2, 3)
    given = (x, weight, bias) if biased else (x, weight)
    assert torch.autograd.gradcheck(acts.maxout_affine, given)


def test_the_refusal_of_a_tensor_that_requires_grad_points_to_functions_that_exist():
    with pytest.raises(TypeError, match=r"numba_acts\.torch"):
        numba_acts.softmin(numbers(3))
