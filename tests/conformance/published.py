"""Other projects' own cases, as their installed packages carry them, asked of this library.

Where a test of theirs calls their function by name, ours stands in its place; where they publish
inputs alone, their function gives what is expected. A project's cases change what they import, so
that each is run in a process of its own: ``python -m conformance.published scipy``.
"""

import functools
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

import numba_acts as na

Case = tuple[str, Callable[[], object]]  # a name, and a check that raises

# What is meant to differ: project, pattern of the cases' names, reason.
EXCEPTIONS = [
    (
        "onnx",
        r"reduce_max_empty_set",
        "maxout over zero pieces is refused: no piece is the largest",
    ),
    ("torch", r"softmin.*uint8", "PyTorch negates before it converts: -[1, 2] is [255, 254]"),
]


def softmax(x: Any, axis: Any = None) -> Any:
    """SciPy's signature: over all axes by default."""
    return na.softmin(-np.asarray(x), axis)


def scipy() -> Iterator[Case]:
    """The tests of `scipy.special.softmax`."""
    from scipy.special.tests import test_logsumexp as module

    module.softmax = softmax
    tests = module.TestSoftmax
    for name in filter(re.compile("test_softmax").match, vars(tests)):
        with_namespace = "xp" in getattr(tests, name).__code__.co_varnames
        arguments = (np,) if with_namespace else ()
        yield name, functools.partial(getattr(tests(), name), *arguments)


def onnx() -> Iterator[Case]:
    """The node cases of Softmax and, over axes that stand for pieces, of ReduceMax."""
    import onnx.helper
    from onnx.backend.test.case.node import reducemax, softmax

    found: list[Any] = []

    def expect(node: Any, inputs: Any, outputs: Any, name: str, **_: Any) -> None:
        options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        found.append((node.op_type, options, inputs, outputs[0], name))

    for module, cases in ((softmax, softmax.Softmax), (reducemax, reducemax.ReduceMax)):
        module.expect = expect
        for export in filter(re.compile("export").match, vars(cases)):
            getattr(cases, export)()

    def check(kind: str, options: dict, inputs: Any, want: np.ndarray) -> None:
        if kind == "Softmax":
            got = na.softmin(-inputs[0], options.get("axis", -1))
            np.testing.assert_allclose(got, want, rtol=1e-6)
            return
        x, axes = inputs[0], tuple(inputs[1]) if len(inputs) > 1 else tuple(range(inputs[0].ndim))
        got = na.maxout(np.moveaxis(x, axes, range(-len(axes), 0)).reshape(*_without(x, axes), -1))
        got = np.expand_dims(got, axes) if options.get("keepdims", 1) else got
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype

    for *case, name in found:
        yield name, functools.partial(check, *case)


def _without(x: Any, axes: tuple[int, ...]) -> list[int]:
    gone = {axis % x.ndim for axis in axes} if x.ndim else set()
    return [n for axis, n in enumerate(x.shape) if axis not in gone]


def torch() -> Iterator[Case]:
    """The samples of `softmin`, `softmax`, `amax` and `max`: values, and gradients by autograd."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    import numba_acts.torch as nat

    def soft(sign: int) -> Callable[..., Any]:
        def call(x: Any, axis: int, dtype: Any = None) -> Any:
            x = x if dtype is None else x.to(dtype)
            return nat.softmin(x if sign < 0 else -x, axis)

        return call

    def amax(x: Any, dim: Any = (), keepdim: bool = False) -> Any:
        dims = (dim,) if isinstance(dim, int) else dim or tuple(range(x.ndim))
        dims = tuple(d % x.ndim for d in dims) if x.ndim else ()
        last = x.movedim(dims, tuple(range(-len(dims), 0))) if dims else x
        y = nat.maxout(last.reshape(*_without(x, dims), -1))
        for d in sorted(dims) if keepdim else ():
            y = y.unsqueeze(d)
        return y

    def largest(x: Any, dim: int, keepdim: bool = False) -> Any:
        pieces = x if x.ndim else x.reshape(1)
        index = na.maxout_with_index(pieces.detach(), dim, index_dtype=torch.int64)[1]
        index = index.unsqueeze(dim) if keepdim and x.ndim else index
        return amax(x, dim, keepdim), index

    ours = {"nn.functional.softmin": soft(-1), "softmax": soft(1), "amax": amax, "max": largest}

    def check(op: Any, sample: Any) -> None:
        x = sample.input
        want = op(x, *sample.args, **sample.kwargs)
        got = ours[op.name](x, *sample.args, **sample.kwargs)
        torch.testing.assert_close(got, tuple(want) if isinstance(want, tuple) else want)
        if x.requires_grad:
            want, got = (a[0] if isinstance(a, tuple) else a for a in (want, got))
            g = torch.linspace(-1, 2, want.numel(), dtype=want.dtype).reshape(want.shape)
            gradients = [torch.autograd.grad(y, x, g)[0] for y in (got, want)]
            # g up to 2 times what y was rounded by is the error of terms that cancel
            unit = torch.finfo(x.dtype).eps
            torch.testing.assert_close(*gradients, rtol=8 * unit, atol=4 * unit)

    for op in op_db:
        if op.name not in ours or op.variant_test_name in ("binary", "reduction_no_dim"):
            continue
        for dtype in sorted(op.dtypes, key=str):
            if dtype.is_complex:
                continue
            samples = op.sample_inputs("cpu", dtype, requires_grad=dtype.is_floating_point)
            for place, sample in enumerate(samples):
                shape, options = tuple(sample.input.shape), (*sample.args, *sample.kwargs.items())
                name = f"{op.name} {op.variant_test_name} {dtype} {place} {shape} {options}"
                yield name, functools.partial(check, op, sample)


def thinc() -> Iterator[Case]:
    """The tests of `Ops.maxout`, `Ops.softmax` and their backward passes, on ops of ours."""
    from thinc.backends import NumpyOps
    from thinc.tests.backends import test_ops as module

    class Ops(NumpyOps):
        def maxout(self, X: Any) -> Any:
            return na.maxout_with_index(X)

        def backprop_maxout(self, dY: Any, which: Any, P: int) -> Any:
            return na.maxout_vjp(dY, which, P)

        def softmax(
            self, x: Any, *, inplace: bool = False, axis: int = -1, temperature: float = 1.0
        ) -> Any:
            return na.softmin(-x, axis, temperature=temperature, out=x if inplace else None)

        def backprop_softmax(
            self, Y: Any, dY: Any, *, axis: int = -1, temperature: float = 1.0
        ) -> Any:
            return -na.softmin_vjp(dY, Y, axis, temperature=temperature)

    ops = Ops()
    options: dict[str, list[dict]] = {
        "test_maxout": [{"dtype": dtype} for dtype in module.FLOAT_TYPES],
        "test_backprop_maxout": [{"dtype": dtype} for dtype in module.FLOAT_TYPES],
        "test_softmax_sums_to_one": [{}],
        "test_softmax_works_inplace": [{}],
        "test_softmax_temperature": [{"temperature": t} for t in (0.5, 1.0, 2.0)],
    }
    for name, more in options.items():
        for one in more:
            shown = " ".join([name, *map(str, one.values())])
            yield shown, functools.partial(getattr(module, name), ops=ops, **one)


PROJECTS = {"scipy": scipy, "onnx": onnx, "torch": torch, "thinc": thinc}


def ask(project: str) -> dict[str, Any]:
    """What comes of a project's cases: how many agree, which fail, and which are meant to."""
    count, failed = 0, {}
    for name, check in PROJECTS[project]():
        count += 1
        try:
            check()
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error).strip()[:300]}"
    meant = [(pattern, reason) for who, pattern, reason in EXCEPTIONS if who == project]
    exceptions = {
        name: reason
        for name, (pattern, reason) in itertools.product(failed, meant)
        if re.search(pattern, name)
    }
    return {
        "project": project,
        "version": version(project),
        "cases": count,
        "agree": count - len(failed),
        "exceptions": exceptions,
        "failed": {name: text for name, text in failed.items() if name not in exceptions},
    }


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1])))
