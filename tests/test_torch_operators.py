"""The functions as operators of PyTorch: checked, compiled, exported; the guide's table of them."""

import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import rarely

torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")

import numba_acts  # noqa: E402
from numba_acts import torch as acts  # noqa: E402

OWN = "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
own_warnings = pytest.mark.filterwarnings(*OWN)  # PyTorch's, of its own compiler


def numbers(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def leaf(*shape):
    return numbers(*shape).requires_grad_()


# Operators -------------------------------------------------------------------------------------

OPERATORS = torch.ops.numba_acts
INDEX = torch.tensor([[0, 2, 1], [1, 0, 2]], dtype=torch.int32)
IMAGE = numbers(2, 6, 4, 5).to(memory_format=torch.channels_last)
X, WEIGHT, BIAS = numbers(2, 4), numbers(3, 3, 4), numbers(3, 3)

SAMPLES: dict[str, list[tuple]] = {
    "softmax": [
        (numbers(3, 4), [1], -1.0, None),
        (numbers(3, 4), [0, 1], 2.0, numbers(3, 4) > 0),
        (numbers(3, 4, 5).transpose(0, 2), [1], 1.0, None),
        (IMAGE, [1], 1.0, None),
        (numbers(3, 1).expand(3, 4), [1], 1.0, None),
        (numbers(3, 8)[:, ::2], [0], 1.0, None),
        (numbers(), [], 1.0, None),
        (numbers(0, 3), [1], 1.0, None),
    ],
    "softmax_product": [
        (numbers(3, 4), numbers(3, 4).sigmoid(), [1], -1.0),
        (numbers(4, 3).T, numbers(3, 4), [0, 1], 1.0),
    ],
    "maxout": [
        (numbers(3, 4, 5), 1),
        (numbers(3, 4, 5).transpose(0, 2), 0),
        (numbers(5), 0),
        (IMAGE, 1),
    ],
    "maxout_spread": [(numbers(2, 3), INDEX, 3, 1), (numbers(3, 2).T, INDEX, 3, 2)],
    "maxout_pick": [(numbers(2, 3, 3), INDEX, 2), (numbers(3, 2, 3), INDEX, 0)],
    "maxout_affine": [
        (X, WEIGHT, BIAS),
        (X, WEIGHT, None),
        (numbers(2, 3, 4), WEIGHT[0], BIAS[0]),
        (X[0], WEIGHT[0], None),
    ],
    "maxout_affine_gradients": [(numbers(2, 3), X, WEIGHT, INDEX)],
    "maxout_affine_tangent": [
        (X, WEIGHT, INDEX, X + 1, WEIGHT + 1, BIAS),
        (X, WEIGHT, INDEX, None, WEIGHT + 1, None),
    ],
}


def test_every_operator_has_samples():
    library = torch._C._dispatch_get_all_op_names()
    assert {name[12:] for name in library if name.startswith("numba_acts::")} == set(SAMPLES)


@own_warnings
@pytest.mark.parametrize(
    "dtype", [torch.float32, *rarely(torch.float64, torch.float16, torch.bfloat16)], ids=str
)
@pytest.mark.parametrize("name", SAMPLES)
def test_opcheck(name, dtype):
    for sample in SAMPLES[name]:
        given = [
            a.detach().to(dtype).requires_grad_()
            if isinstance(a, torch.Tensor) and a.is_floating_point()
            else a
            for a in sample
        ]
        results = torch.library.opcheck(getattr(OPERATORS, name).default, given)
        assert len(results) == 4 and set(results.values()) == {"SUCCESS"}


# torch.compile, torch.export -------------------------------------------------------------------

CALLS = {
    "softmin": lambda x: acts.softmin(x * 2, temperature=0.5) + 1,
    "of all": lambda x: acts.softmin(x, None),
    "masked": lambda x: acts.softmin(x, (0, 1), where=x > 0),
    "masked by a list": lambda x: acts.softmin(x, where=[True, False, True, True]),
    "softmax2d": lambda x: acts.softmax2d(x[:, :, None]),
    "maxout": lambda x: acts.maxout(x, 1) * acts.Maxout(2)(x).sum(),
    "affine": lambda x: acts.maxout_affine(x, WEIGHT, BIAS),
    "its weight": lambda x: acts.maxout_affine(X, torch.stack([x, x + 1])),
    "learned": lambda x: acts.softmin(x, temperature=x.abs().mean()),
    "vmap": lambda x: torch.func.vmap(torch.func.grad(lambda x: acts.softmin(x)[0]))(x),
    "forward": lambda x: torch.func.jvp(acts.softmin, (x,), (x,))[1],
    "hessian": lambda x: torch.func.hessian(lambda x: acts.softmin(x)[0])(x[0]),
}


def assert_compiled(function, backend, dynamic):
    """Whole in one graph; the numbers and gradients of the call as it is, for two shapes."""
    torch._dynamo.reset()
    compiled = torch.compile(function, backend=backend, fullgraph=True, dynamic=dynamic)
    for length in (3, 5):
        x = leaf(length, 4)
        got, want = compiled(x), function(x)
        torch.testing.assert_close(got, want)
        g = numbers(*want.shape)
        got, want = (torch.autograd.grad(y, x, g) for y in (got, want))
        torch.testing.assert_close(got, want)


@own_warnings
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("backend", "dynamic"),
    [("aot_eager", True), *rarely()]
    + [
        pytest.param(backend, dynamic, marks=pytest.mark.full)
        for backend, dynamic in (
            ("eager", None),
            ("aot_eager", False),
            ("inductor", None),
            ("inductor", True),
        )
    ],
)
def test_compiled_whole(name, backend, dynamic):
    assert_compiled(CALLS[name], backend, dynamic)


@own_warnings
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_compiled_by_inductor():
    """One function here, all in the full run: it calls a C++ compiler."""
    assert_compiled(CALLS["maxout"], "inductor", True)


@own_warnings
def test_a_temperature_that_changes_is_compiled():
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, t: acts.softmin(x, temperature=t), fullgraph=True, backend="aot_eager"
    )
    for temperature in (0.5, 0.7, 2):
        got = compiled(X, temperature)
        torch.testing.assert_close(got, acts.softmin(X, temperature=temperature))


def network():
    return torch.nn.Sequential(
        acts.MaxoutLinear(4, 12, pieces=3),
        acts.Maxout(pieces=2),
        acts.Softmin(temperature=torch.nn.Parameter(torch.tensor(2.0))),
    )


@own_warnings
def test_compiled_modules():
    torch._dynamo.reset()
    net = network()
    want = net(X)
    net.compile(fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(net(X), want)
    net(X)[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@own_warnings
@pytest.mark.parametrize("strict", [False, *rarely(True)])
def test_exported(strict):
    net = network()
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(net, (X,), dynamic_shapes=shapes, strict=strict)
    targets = {str(node.target) for node in program.graph.nodes}
    assert {f"numba_acts.{n}.default" for n in ("softmax", "maxout", "maxout_affine")} < targets
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    more = numbers(7, 4)
    for one in (program, program.run_decompositions(), torch.export.load(file)):
        torch.testing.assert_close(one.module()(more), net(more))


@own_warnings
def test_compiled_autograd():
    x = leaf(2, 4)
    want = torch.autograd.grad(acts.softmin(x)[0].prod(), x)
    torch._dynamo.reset()
    compiler = torch.compile(backend="aot_eager")
    with torch._dynamo.compiled_autograd._enable(compiler):
        loss = acts.softmin(x)[0].prod()
        loss.backward()
    torch.testing.assert_close((x.grad,), want)


# Autocast --------------------------------------------------------------------------------------

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_is_that_of_pytorch(dtype, lower):
    x, weight = X.to(dtype), WEIGHT.to(dtype)
    with torch.autocast("cpu", lower):
        assert acts.softmin(x).dtype == torch.nn.functional.softmin(x, -1).dtype
        assert acts.softmax2d(x[..., None]).dtype == torch.softmax(x, -1).dtype
        assert acts.maxout(x).dtype == torch.amax(x, -1).dtype
        y, want = acts.maxout_affine(x, weight[:, :1]), torch.nn.functional.linear(x, weight[:, 0])
        assert y.dtype == want.dtype
        torch.testing.assert_close(y, want, rtol=0.02, atol=0.02)
        with torch.autocast("cpu", enabled=False):
            assert acts.maxout_affine(x, weight).dtype == dtype


def test_autocast_trains_in_the_weights_own_dtype():
    layer = acts.MaxoutLinear(4, 3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        layer(X).sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_autocast_on_a_gpu(dtype, monkeypatch):
    """By PyTorch's lists: softmax in float32, linear in the lower dtype, amax in its own."""
    from torch._subclasses import FakeTensorMode

    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.bfloat16)
    with FakeTensorMode():
        x, weight = (torch.empty(shape, dtype=dtype, device="cuda") for shape in ((2, 4), (3, 4)))
        wide = torch.float32 if dtype.itemsize == 2 else dtype
        assert acts.softmin(x).dtype == acts.softmax2d(x.unsqueeze(-1)).dtype == wide
        assert acts.softmin(x, temperature=torch.empty((), device="cuda")).dtype == wide
        low = dtype if dtype == torch.float64 else torch.bfloat16
        assert acts.maxout_affine(x, weight).dtype == low
        assert acts.maxout(x).dtype == dtype


# The guide's table, row by row -----------------------------------------------------------------


def carriers():
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(X, X)
        yield lambda module: module.softmin(leaf(3))
        yield lambda module: module.softmin(dual)


def refused(call, match):
    with pytest.raises(TypeError, match=match):
        call()


def row_differentiated():
    for call in carriers():
        call(acts)
        refused(lambda call=call: call(numba_acts), r"numba_acts\.torch")


def row_func():
    third = torch.func.jacfwd(torch.func.jacfwd(torch.func.jacrev(acts.softmin)))
    assert third(X[0]).shape == (4,) * 4
    refused(lambda: torch.func.grad(lambda x: numba_acts.softmin(x)[0])(X[0]), r"numba_acts\.torch")


def row_vmap():
    got = torch.func.vmap(acts.softmin, in_dims=1, out_dims=1)(X)
    torch.testing.assert_close(got, acts.softmin(X, 0))
    stacked = torch.func.vmap(acts.maxout_affine, in_dims=(None, 0))(X, torch.stack([WEIGHT] * 2))
    assert torch.equal(stacked, acts.maxout_affine(X, WEIGHT).expand(2, -1, -1))
    refused(lambda: torch.func.vmap(numba_acts.softmin)(X), r"numba_acts\.torch")


def row_masked():
    """A derivative that is not finite at masked entries is nothing to the others' gradients."""
    mask, g = torch.tensor([True, False, True, True]), torch.tensor([1.0, torch.nan, 0.0, 0.0])
    x = leaf(4)
    y = acts.softmin(x, where=mask)
    (got,) = torch.autograd.grad(y, x, g)
    (want,) = torch.autograd.grad(torch.softmax(-x[mask], -1), x, g[mask])
    torch.testing.assert_close(got, want)
    assert numba_acts.softmin_vjp(g, y.detach()).isnan().all()


def row_batched():
    x = leaf(4)
    y = acts.softmin(x)
    got = torch.autograd.grad(y, x, torch.eye(4), is_grads_batched=True)[0]
    torch.testing.assert_close(got, torch.func.jacrev(acts.softmin)(x))


def row_compile():
    torch._dynamo.reset()
    got = torch.compile(acts.softmin, backend="eager", fullgraph=True)(X)
    assert torch.equal(got, acts.softmin(X))
    assert torch.equal(torch.compile(numba_acts.softmin, backend="eager")(X), got)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(numba_acts.softmin, backend="eager", fullgraph=True)(X)


def row_export():
    program = torch.export.export(acts.Softmin(), (X,))
    assert torch.equal(program.module()(X), acts.softmin(X))
    plain: Any = acts.Softmin()
    plain.forward = numba_acts.softmin

    refused(lambda: torch.export.export(plain, (X,), strict=False), r"numba_acts\.torch")


def row_shapes_alone():
    assert acts.softmin(X.to("meta"), where=None).shape == X.shape
    assert acts.maxout_affine(X.to("meta"), WEIGHT.to("meta")).shape == (2, 3)
    with pytest.raises(ValueError, match="weight's d = 4"):
        acts.maxout_affine(torch.ones(2, 3, device="meta"), WEIGHT.to("meta"))
    refused(lambda: numba_acts.softmin(X.to("meta")), "meta")


def row_temperature():
    t = leaf(2, 1).exp()
    torch.testing.assert_close(acts.softmin(X, temperature=t), torch.softmax(-X / t, -1))
    refused(lambda: numba_acts.softmin(X, temperature=t.detach()), "temperature must be a number")


def row_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert acts.maxout_affine(X, WEIGHT).dtype == torch.bfloat16
        assert numba_acts.maxout_affine(X, WEIGHT).dtype == torch.float32


def row_strided():
    own = type("Own", (torch.Tensor,), {})
    image = numbers(2, 3, 4, 5)
    views = {
        "transposed": image.transpose(1, 3),
        "part": image[:, 1:, ::2],
        "expanded": image[:, :1].expand(2, 3, 4, 5),
        "channels last": image.to(memory_format=torch.channels_last),
        "negative": torch._neg_view(image),
        "empty": image[:0],
        "parameter": torch.nn.Parameter(image),
        "own": image.as_subclass(own),
        "half": image.half(),
        "brain": image.bfloat16(),
    }
    for x in views.values():
        for function in (acts.softmax2d, numba_acts.softmax2d):
            if function is acts.softmax2d or not x.requires_grad:
                want = torch.softmax(x.detach().float(), -3)
                torch.testing.assert_close(function(x).float(), want, rtol=0.01, atol=0.005)
        piece = x.detach().requires_grad_()
        (got,) = torch.autograd.grad(acts.maxout(piece).sum(), piece)
        assert got.sum() == acts.maxout(x).numel()
    assert isinstance(acts.softmin(views["own"]), own)
    assert acts.softmin(torch.tensor(3.0)) == 1


def row_whole_numbers():
    for dtype in (torch.uint8, torch.int64, torch.bool):
        x = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
        for module in (acts, numba_acts):
            assert module.softmin(x).dtype == torch.float64 and module.maxout(x).dtype == dtype


def row_out():
    unknown: dict = {"out": X}
    refused(lambda: acts.softmin(X, **unknown), "out")
    out = torch.empty_like(X)
    assert numba_acts.softmin(X, out=out) is out and out._version


STRANGE = {
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "torch.sparse_coo": lambda: torch.eye(2).to_sparse(),
    "torch.sparse_csr": lambda: torch.eye(2).to_sparse_csr(),
    "float8_e4m3fn": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "qint8": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "complex64": lambda: torch.ones(2, dtype=torch.complex64, requires_grad=True),
}


def row_strange():
    for kind, make in STRANGE.items():
        for function in (acts.softmin, acts.maxout, lambda x: acts.maxout_affine(x, X)):
            refused(lambda function=function, make=make: function(make()), f"x must be .*{kind}")
        if kind != "complex64":
            refused(lambda make=make: numba_acts.softmin(make()), f"x must be .*{kind}")


def row_other_kinds():
    for given in ([1.0, 2.0], np.ones(2), None):
        refused(lambda given=given: acts.softmin(given), r"x must be a torch\.Tensor")
    assert np.array_equal(numba_acts.softmin([1.0, 1.0]), [0.5, 0.5])


ROWS = {
    "require grad": row_differentiated,
    "a mask": row_masked,
    "`hessian`": row_func,
    "`torch.func.vmap`": row_vmap,
    "`is_grads_batched": row_batched,
    "`torch.compile`": row_compile,
    "`torch.export`": row_export,
    "meta": row_shapes_alone,
    "`temperature`": row_temperature,
    "autocast": row_autocast,
    "views": row_strided,
    "integers": row_whole_numbers,
    "`out=`": row_out,
    "sparse": row_strange,
    "lists": row_other_kinds,
}


@own_warnings
@pytest.mark.parametrize("row", ROWS)
def test_row_of_the_table(row):
    ROWS[row]()


def test_the_table_has_these_rows():
    guide = Path(__file__).parent.parent / "docs" / "guides" / "frameworks.md"
    if not guide.exists():
        pytest.skip("the guide is not in this distribution")
    _, table = guide.read_text("utf-8").split("| what | `numba_acts.torch` | `numba_acts` |\n")
    first = re.findall(r"^\| (.*?) \|", table.split("\n\n")[0], re.M)
    assert len(first) == len(ROWS)
    for cell, row in zip(first, ROWS, strict=True):
        assert row in cell
