"""The same work by each library, at its best: results given where it takes them, no gradients kept.

Each function here gets a case and its arrays, and returns a call that leaves its result in what it
returns, or None where the library has nothing for the case.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import numba_acts as na
from benchmarks.cases import Case
from benchmarks.timing import Call

Arrays = Mapping[str, np.ndarray]
THREADS = 2


def calls(case: Case, arrays: Arrays) -> dict[str, Call]:
    """A call for each library that is installed and has one, ours first."""
    made = {}
    for name, make in LIBRARIES.items():
        try:
            call = make(case, arrays)
        except ImportError:
            continue
        if call is not None:
            made[name] = call
    return made


def values(result: Any, most: int = 10**9) -> np.ndarray:
    """A library's result in float64, flat; of a large one about `most` numbers, evenly apart."""
    if isinstance(result, list | tuple):
        return np.concatenate([values(part, most) for part in result])
    if hasattr(result, "detach"):
        result = result.detach()
        result = (result.float() if result.element_size() == 2 else result).numpy()
    flat = np.asarray(result).reshape(-1)
    return flat[:: max(1, flat.size // most)].astype(np.float64)


def _numba_acts(case: Case, arrays: Arrays) -> Call:
    a, axis = arrays, case.axis
    soft = (
        (na.softmin, na.softmin_vjp, na.softmin_jacobian, {"axis": axis})
        if case.function == "softmin"
        else (na.softmax2d, na.softmax2d_vjp, na.softmax2d_jacobian, {"channel_axis": axis})
    )
    forward, vjp, jacobian, where = soft
    out = a["out"]
    match case.function, case.work:
        case "softmin" | "softmax2d", "forward":
            return lambda: forward(a["x"], **where, where=a.get("mask"), out=out)
        case "softmin" | "softmax2d", "vjp":
            return lambda: vjp(a["g"], a["y"], **where, out=out)
        case "softmin" | "softmax2d", _:
            return lambda: jacobian(a["y"], **where, out=out)
        case "maxout", "forward":
            return lambda: na.maxout(a["x"], axis, out=out)
        case "maxout_with_index", _:
            pair = out, a["index_out"]
            return lambda: na.maxout_with_index(a["x"], axis, out=pair)
        case "maxout", _:
            pieces = case.shape[axis]
            return lambda: na.maxout_vjp(a["g"], a["index"], pieces, axis, out=out)
        case "maxout_affine", "forward":
            return lambda: na.maxout_affine(a["x"], a["weight"], a["bias"], out=out)
        case _:
            return lambda: na.maxout_affine_vjp(a["g"], a["x"], a["weight"], a["index"])


def _torch(case: Case, arrays: Arrays) -> Call | None:
    torch: Any = importlib.import_module("torch")

    def tensor(array: np.ndarray) -> Any:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    torch.set_num_threads(THREADS)
    a = {name: tensor(array) for name, array in arrays.items()}
    axis, out = case.axis, a["out"].clone()
    inference = torch.inference_mode()

    def quiet(call: Call) -> Call:
        def run() -> object:
            with inference:
                return call()

        return run

    match case.function, case.work:
        case "softmin" | "softmax2d", "forward":
            x = -a["x"] if case.function == "softmin" else a["x"]  # nothing to negate any more
            return quiet(lambda: torch.softmax(x, axis, out=out))
        case "softmin" | "softmax2d", "vjp":
            backward = torch.ops.aten._softmax_backward_data.out
            g = -a["g"] if case.function == "softmin" else a["g"]
            return quiet(lambda: backward(g, a["y"], axis, g.dtype, grad_input=out))
        case "softmin" | "softmax2d", _:

            def jacobian() -> object:
                y = a["y"].movedim(axis, -1)
                y = -y if case.function == "softmin" else y
                matrix = torch.mul(a["y"].movedim(axis, -1).unsqueeze(-1), -y.unsqueeze(-2))
                matrix.diagonal(dim1=-2, dim2=-1).add_(y)
                return matrix if axis == -1 else matrix.movedim((-2, -1), (0, 1))

            return quiet(jacobian)
        case "maxout", "forward":
            return quiet(lambda: torch.amax(a["x"], axis, out=out))
        case "maxout_with_index", _:
            index = torch.empty(out.shape, dtype=torch.int64)
            return quiet(lambda: torch.max(a["x"], axis, out=(out, index)))
        case "maxout", _:
            index, g = a["index"].long().unsqueeze(axis), a["g"].unsqueeze(axis)
            return quiet(lambda: out.zero_().scatter_(axis, index, g))
        case "maxout_affine", "forward":
            units, pieces, depth = a["weight"].shape
            weight, bias = a["weight"].view(-1, depth).t(), a["bias"].view(-1)
            products = torch.empty(a["x"].shape[0], units * pieces)

            def affine() -> object:
                torch.addmm(bias, a["x"], weight, out=products)
                return torch.amax(products.view(-1, units, pieces), -1, out=out)

            return quiet(affine)
        case _:
            leaves = [a[name].clone().requires_grad_() for name in ("x", "weight", "bias")]
            x, weight, bias = leaves
            units, pieces, depth = weight.shape
            products = torch.addmm(bias.view(-1), x, weight.view(-1, depth).t())
            y = products.view(-1, units, pieces).max(-1).values
            return lambda: torch.autograd.grad(y, leaves, a["g"], retain_graph=True)


def _onnxruntime(case: Case, arrays: Arrays) -> Call | None:
    if case.function not in ("softmin", "softmax2d", "maxout") or case.work != "forward":
        return None
    if case.dtype == "bfloat16":
        return None
    ort: Any = importlib.import_module("onnxruntime")
    onnx: Any = importlib.import_module("onnx")
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(arrays["x"].dtype)
    axis = case.axis % len(case.shape)
    inputs = [helper.make_tensor_value_info("x", kind, case.shape)]
    weights = []
    if case.function == "maxout":
        weights = [helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [axis])]
        node = helper.make_node("ReduceMax", ["x", "axes"], ["y"], keepdims=0)
    else:
        node = helper.make_node("Softmax", ["x"], ["y"], axis=axis)
    outputs = [helper.make_tensor_value_info("y", kind, arrays["out"].shape)]
    graph = helper.make_graph([node], "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):  # no kernel of this dtype
            return None
        raise
    x = -arrays["x"] if case.function == "softmin" else arrays["x"]
    given, result = (ort.OrtValue.ortvalue_from_numpy(v) for v in (x, arrays["out"].copy()))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", given)
    binding.bind_ortvalue_output("y", result)

    def run() -> object:
        session.run_with_iobinding(binding)
        return result

    run.values = lambda: result.numpy()  # type: ignore[attr-defined]
    return run


def _jax(case: Case, arrays: Arrays) -> Call | None:
    if case.function.startswith("maxout_affine"):
        return None
    if case.data == "sharp":
        return None  # it flushes subnormal results to zero
    if case.work == "vjp" and case.shape[case.axis] > 10**7:
        return None  # which takes minutes: 264 s for 10^8 numbers
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jnp, axis = jax.numpy, case.axis
    sign = -1 if case.function == "softmin" else 1
    a = {name: jnp.asarray(v) for name, v in arrays.items() if name in ("x", "g", "y", "index")}
    functions: dict[tuple[str, str], tuple[Callable[..., Any], tuple[str, ...]]] = {
        ("soft", "forward"): (lambda x: jax.nn.softmax(sign * x, axis), ("x",)),
        ("soft", "vjp"): (
            lambda g, y: sign * y * (g - jnp.sum(g * y, axis, keepdims=True)),
            ("g", "y"),
        ),
        ("maxo", "forward"): (lambda x: jnp.max(x, axis), ("x",)),
        ("maxo", "vjp"): (
            lambda g, index: jnp.where(
                jnp.expand_dims(index, axis)
                == jax.lax.broadcasted_iota(index.dtype, case.shape, axis % len(case.shape)),
                jnp.expand_dims(g, axis),
                0,
            ),
            ("g", "index"),
        ),
    }
    if case.function == "maxout_with_index":

        def function(x: Any) -> Any:
            return jnp.max(x, axis), jnp.argmax(x, axis).astype(jnp.int32)

        names: tuple[str, ...] = ("x",)
    elif (key := (case.function[:4], case.work)) in functions:
        function, names = functions[key]
    else:
        return None
    compiled, given = jax.jit(function), [a[name] for name in names]
    return lambda: jax.block_until_ready(compiled(*given))


def _scipy(case: Case, arrays: Arrays) -> Call | None:
    if not case.exponentials or case.dtype == "bfloat16":
        return None
    softmax = importlib.import_module("scipy.special").softmax
    x = -arrays["x"] if case.function == "softmin" else arrays["x"]
    return lambda: softmax(x, case.axis)


def _thinc(case: Case, arrays: Arrays) -> Call | None:
    if not case.function.startswith("maxout") or case.dtype != "float32":
        return None
    ops: Any = importlib.import_module("thinc.api").NumpyOps()
    a = arrays
    if case.function == "maxout_affine":
        units, pieces, depth = a["weight"].shape
        weight, bias = a["weight"].reshape(-1, depth), a["bias"].ravel()
        if case.work == "forward":

            def affine() -> object:
                products = ops.gemm(a["x"], weight, trans2=True)
                products += bias
                return ops.maxout(products.reshape(-1, units, pieces))[0]

            return affine

        def backward() -> object:
            products = ops.backprop_maxout(a["g"], a["index"], pieces).reshape(-1, units * pieces)
            dweight = ops.gemm(products, a["x"], trans1=True)
            return ops.gemm(products, weight), dweight, products.sum(0)

        return backward
    if len(case.shape) != 3:
        return None
    if case.work == "vjp":
        return lambda: ops.backprop_maxout(a["g"], a["index"], case.shape[-1])
    if case.function == "maxout":
        return lambda: ops.maxout(a["x"])[0]
    return lambda: ops.maxout(a["x"])


def _numpy(case: Case, arrays: Arrays) -> Call | None:
    if case.function != "maxout" or case.work != "forward" or case.dtype == "bfloat16":
        return None
    return lambda: np.max(arrays["x"], case.axis, out=arrays["out"])


LIBRARIES: dict[str, Callable[[Case, Arrays], Call | None]] = {
    "numba_acts": _numba_acts,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "jax": _jax,
    "scipy": _scipy,
    "thinc": _thinc,
    "numpy": _numpy,
}
