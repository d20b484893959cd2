"""The modules of numba_acts.torch: what they compute, save, show and refuse."""

import copy
import math
import pickle

import numpy as np
import pytest
from test_processes import run

torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")

from torch import nn  # noqa: E402

from numba_acts import torch as acts  # noqa: E402


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def network():
    """All modules in a row."""
    return nn.Sequential(
        acts.MaxoutLinear(6, 4, pieces=3),
        acts.Softmin(temperature=nn.Parameter(torch.tensor(2.0))),
        nn.Linear(4, 12),
        acts.Maxout(3),
        nn.Unflatten(1, (4, 1, 1)),
        acts.Softmax2d(temperature=torch.tensor(0.5)),
    )


def plain(net, x):
    """The same of PyTorch's own operations."""
    layer, softmin, linear, *_ = net
    x = (torch.einsum("bd,upd->bup", x, layer.weight) + layer.bias).amax(-1)
    x = linear(torch.softmax(-x / softmin.temperature, -1))
    return torch.softmax(x.unflatten(1, (4, 3)).amax(-1) / 0.5, 1)[..., None, None]


def test_a_network_and_its_gradients():
    net, x = network().double(), torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(net(x), plain(net, x))
    weights = list(net.parameters())
    got = torch.autograd.grad(net(x)[:, 0].sum(), weights)
    want = torch.autograd.grad(plain(net, x)[:, 0].sum(), weights)
    torch.testing.assert_close(got, want)
    assert len(weights) == 5 and all(g.any() for g in got)


@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),
        lambda net: (other := network(), other.load_state_dict(net.state_dict()))[0],
    ],
    ids=["deepcopy", "pickle", "state dict"],
)
def test_saved_and_restored(again):
    net, x = network(), torch.randn(5, 6)
    other = again(net)
    assert other is not net and torch.equal(other(x), net(x))
    assert {"0.weight", "0.bias", "1.temperature", "5.temperature"} < set(net.state_dict())


def test_functional_call():
    net, x = network(), torch.randn(5, 6)
    zeros = {name: torch.zeros_like(p) + 1 for name, p in net.named_parameters()}
    got = torch.func.functional_call(net, zeros, x)
    assert torch.equal(got, torch.full((5, 4, 1, 1), 0.25))


def test_gradients_of_each_sample():
    layer, x = acts.MaxoutLinear(6, 4, 3), torch.randn(5, 6)

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, x).square().sum()

    parameters = dict(layer.named_parameters())
    got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for i, row in enumerate(x):
        want = torch.func.grad(loss)(parameters, row)
        assert all(torch.equal(got[name][i], want[name]) for name in want)


@pytest.mark.parametrize("axis", [1, -3])
def test_maxout_takes_neighbours(axis):
    x = torch.arange(2 * 6 * 2 * 2.0).reshape(2, 6, 2, 2)
    y = acts.Maxout(2, axis)(x)
    assert torch.equal(y, torch.maximum(x[:, ::2], x[:, 1::2]))
    last = acts.Maxout(2, axis)(x.to(memory_format=torch.channels_last))
    assert torch.equal(last, y) and last.is_contiguous(memory_format=torch.channels_last)


def test_maxout_refuses_what_does_not_divide():
    with pytest.raises(
        ValueError, match=r"a multiple of 4 features on axis -1, got shape \(2, 6\)"
    ):
        acts.Maxout(4)(torch.ones(2, 6))
    modules: list = [acts.Maxout, lambda pieces: acts.MaxoutLinear(2, 3, pieces)]
    for module in modules:
        with pytest.raises(ValueError, match="pieces must be at least 1, got 0"):
            module(0)
        with pytest.raises(TypeError, match="pieces must be an int"):
            module(1.5)
    for softmax in (acts.Softmin, acts.Softmax2d):
        with pytest.raises(ValueError, match="temperature must be finite and above 0"):
            softmax(temperature=0.0)


def test_masks():
    x, mask = torch.randn(2, 3), torch.tensor([True, False, True])
    assert torch.equal(acts.Softmin()(x, mask), acts.softmin(x, where=mask))
    image = x[:, :, None, None]
    mask = mask[:, None, None]
    assert torch.equal(acts.Softmax2d()(image, mask), acts.softmax2d(image, where=mask))


@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 50])
def test_initial_weights_keep_the_mean_square(pieces):
    layer = acts.MaxoutLinear(400, 2000, pieces)
    x = torch.randn(50, 400)
    weight, bias = layer.parameters()
    assert weight.shape == (2000, pieces, 400) and bias.shape == (2000, pieces)
    assert not bias.any()
    assert layer(x).square().mean().item() == pytest.approx(1, rel=0.03)


def test_initial_weights_in_closed_form():
    """Of three normal numbers the largest has the mean square 1 + √3/(2π)."""
    scale = acts.MaxoutLinear(1, 400_000, 3).weight.square().mean().item()
    assert scale == pytest.approx(1 / (1 + math.sqrt(3) / (2 * math.pi)), rel=0.01)


def test_parameters():
    layer = acts.MaxoutLinear(6, 4, 3, bias=False, dtype=torch.float64)
    assert layer.bias is None and layer.weight.dtype == torch.float64
    assert layer(torch.ones(6, dtype=torch.float64)).shape == (4,)
    before = layer.weight.clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.weight)
    meta = acts.MaxoutLinear(6, 4, 3, device="meta")
    assert meta(torch.ones(2, 6, device="meta")).shape == (2, 4)
    there = meta.to_empty(device="cpu")
    there.reset_parameters()
    assert there(torch.ones(2, 6)).isfinite().all()
    assert acts.MaxoutLinear(0, 4, 3)(torch.ones(2, 0)).tolist() == [[0.0] * 4] * 2


def test_shown():
    shown = [repr(module) for module in network()]
    assert shown[0] == "MaxoutLinear(in_features=6, out_features=4, pieces=3, bias=True)"
    assert shown[1] == "Softmin(axis=-1, temperature=tensor())"
    assert shown[3] == "Maxout(pieces=3, axis=-1)"
    assert repr(acts.Softmax2d()) == "Softmax2d(channel_axis=-3, temperature=1.0)"


# ---- what is refused, and what must not be lost -------------------------------------------------


def test_tensors_on_two_devices_are_refused():
    x, meta = torch.ones(2, 4), torch.ones(2, 4, device="meta")
    with pytest.raises(TypeError, match="one device, got x on cpu, weight on meta"):
        acts.MaxoutLinear(4, 3, 2, device="meta")(x)
    for where in (meta > 0, meta[0] > 0):
        with pytest.raises(TypeError, match="one device, got x on cpu, where on meta"):
            acts.softmin(x, where=where)
    with pytest.raises(TypeError, match="one device, got x on meta, where on cpu"):
        acts.softmin(meta, where=x > 0)


@pytest.mark.parametrize("masked", [float("nan"), float("inf"), 1e38])
def test_masked_numbers_are_nothing_to_a_temperatures_gradient(masked):
    where = torch.tensor([True, True, False])

    def gradients(value):
        x = torch.tensor([1.0, 2.0, value], requires_grad=True)
        t = torch.tensor(0.1, requires_grad=True)
        acts.softmin(x, temperature=t, where=where)[0].backward()
        return x.grad, t.grad

    for one, other in zip(gradients(masked), gradients(0.0), strict=True):
        assert torch.equal(one, other)


def test_masks_of_other_kinds():
    x = torch.tensor([1.0, 2.0, 3.0])
    want = acts.softmin(x, where=torch.tensor([False, True, True]))
    turned = np.array([True, True, False])[::-1]
    assert torch.equal(acts.softmin(x, where=turned), want)
    assert torch.equal(acts.softmin(x, where=[False, True, True]), want)
    for wrong, message in (
        (np.ma.array([True] * 3, mask=[False, True, False]), "where is a masked array"),
        (np.array(["a", "b", "c"]), "where must be a boolean mask"),
        (torch.tensor([True] * 3).to_sparse(), "where must be a dense tensor"),
    ):
        with pytest.raises(TypeError, match=message):
            acts.softmin(x, where=wrong)
    with pytest.raises(ValueError, match=r"where must broadcast to x's shape \(3,\)"):
        acts.softmin(x, where=torch.ones(2, dtype=torch.bool))


def test_second_derivatives_of_sixteen_bit_floats_are_summed_in_float32():
    """Terms that cancel, of which each is too large for a sum of float16."""

    def second(dtype):
        x = torch.zeros(1000, dtype=dtype, requires_grad=True)
        v = torch.full((1000,), 200.0, dtype=dtype)
        v[::2] = -200
        (first,) = torch.autograd.grad(acts.softmin(x), x, v, create_graph=True)
        return torch.autograd.grad(first, x, v)[0]

    assert second(torch.float16).abs().max() < 1e-1
    assert second(torch.float64).abs().max() < 1e-12


def test_a_layer_of_no_inputs_has_second_derivatives():
    x, w = torch.ones(2, 0), torch.ones(3, 3, 0)
    gradient = torch.func.grad(lambda x: acts.maxout_affine(x, w).sum())
    assert torch.func.jvp(gradient, (x,), (x,))[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda: acts.Softmin(axis="a"), TypeError, "axis must be an int"),  # type: ignore[arg-type]
        (lambda: acts.Softmax2d(channel_axis=0), ValueError, "channel_axis must be"),
        (
            lambda: acts.Softmin(temperature=torch.ones((), requires_grad=True).exp()),
            ValueError,
            "out of date after a step",
        ),
        (lambda: acts.Maxout(3)([1, 2, 3]), TypeError, r"x must be a torch.Tensor, got list"),
    ],
)
def test_modules_refuse_at_once(made, error, message):
    with pytest.raises(error, match=message):
        made()


def test_imported_anew():
    code = """
import sys
from numba_acts import torch as acts
for name in [name for name in sys.modules if name.startswith("numba_acts")]:
    del sys.modules[name]
import torch
from numba_acts import torch as again
print(again is not acts, *again.softmin(torch.zeros(2)).tolist())
"""
    assert run(code) == ["True", "0.5", "0.5"]
