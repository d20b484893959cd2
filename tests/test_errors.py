"""Bad calls: the exception, what its message says, and that nothing was written."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import numba_acts as na

AxisError = np.exceptions.AxisError


def says(*words):
    """A pattern for messages that hold all of these, in any order and any case."""
    return "(?is)" + "".join(f"(?=.*(?:{word}))" for word in words)


@dataclass(frozen=True)
class BadCall:
    """A call that must fail; `call` is given `out`, an array of sevens of shape `shape`."""

    label: str
    call: Callable
    error: Any
    message: str
    shape: tuple = (2, 3)
    dtype: Any = np.float64


class OnDevice:
    """An array that says it lives on a GPU."""

    def __init__(self, shape=(2, 3), dtype=np.float64):
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": self.dtype.str,
            "data": (0, False),
            "version": 3,
            "strides": None,
        }


def masked_array():
    return np.ma.masked_array([[1.0, 2.0, 3.0]] * 2, [[False, True, False]] * 2)


def locked(shape, dtype=np.float64):
    out = np.full(shape, 7, dtype)
    out.flags.writeable = False
    return out


X = np.arange(6.0).reshape(2, 3)
IMAGE = np.arange(12.0).reshape(3, 2, 2)
INDEX = np.array([0, 2])
G = np.array([1.0, 2.0])
WEIGHT = np.arange(24.0).reshape(4, 2, 3)
BIAS = np.zeros((4, 2))
WINNERS = np.zeros((2, 4), int)

# One good call of every function, by which a bad argument stands out: name -> (arguments, shape
# of the result).
GOOD: dict[str, tuple[dict[str, Any], Any]] = {
    "softmin": ({"x": X}, (2, 3)),
    "softmin_vjp": ({"g": X, "y": X}, (2, 3)),
    "softmin_jvp": ({"t": X, "y": X}, (2, 3)),
    "softmin_jacobian": ({"y": X}, (2, 3, 3)),
    "softmin_jacobian_diag": ({"y": X}, (2, 3)),
    "softmax2d": ({"x": IMAGE}, (3, 2, 2)),
    "softmax2d_vjp": ({"g": IMAGE, "y": IMAGE}, (3, 2, 2)),
    "softmax2d_jvp": ({"t": IMAGE, "y": IMAGE}, (3, 2, 2)),
    "softmax2d_jacobian": ({"y": IMAGE}, (3, 3, 2, 2)),
    "softmax2d_jacobian_diag": ({"y": IMAGE}, (3, 2, 2)),
    "maxout": ({"x": X}, (2,)),
    "maxout_with_index": ({"x": X}, (2,)),
    "maxout_vjp": ({"g": G, "index": INDEX, "pieces": 3}, (2, 3)),
    "maxout_jvp": ({"t": X, "index": INDEX}, (2,)),
    "maxout_jacobian": ({"index": INDEX, "pieces": 3}, (2, 3)),
    "maxout_affine": ({"x": X, "weight": WEIGHT, "bias": BIAS}, (2, 4)),
    "maxout_affine_with_index": ({"x": X, "weight": WEIGHT, "bias": BIAS}, (2, 4)),
    "maxout_affine_vjp": ({"g": np.ones((2, 4)), "x": X, "weight": WEIGHT, "index": WINNERS}, None),
    "maxout_affine_jvp": ({"x": X, "weight": WEIGHT, "index": WINNERS, "dx": X}, None),
    "maxout_affine_jacobian": ({"weight": WEIGHT, "index": WINNERS}, None),
}
PAIRS = ("maxout_with_index", "maxout_affine_with_index")
WITH_OUT = [name for name, (_, shape) in GOOD.items() if shape is not None]
WITH_TEMPERATURE = [name for name in GOOD if name.startswith("soft")]
WITH_INDEX = [name for name, (arguments, _) in GOOD.items() if "index" in arguments]

TABLE: list[BadCall] = []

# Names that go through wrong values of many kinds below.
temperature: Any
axis: Any
where: Any
pieces: Any
index: Any
dtype: Any
index_dtype: Any
out: Any
given: Any
wrong: Any


def bad(name, error, message, label=None, **changes):
    """The good call of that name with some arguments changed."""
    arguments, shape = GOOD[name]
    function = getattr(na, name)

    def call(out):
        given = {**arguments, **changes}
        if name in PAIRS:
            given.setdefault("out", (out, np.full(shape, 7, np.int32)))
        elif shape is not None:
            given.setdefault("out", out)
        return function(**given)

    label = label or ", ".join(f"{key}={_brief(value)}" for key, value in changes.items())
    TABLE.append(BadCall(f"{name}: {label}", call, error, message, shape or ()))


def _brief(value):
    if hasattr(value, "dtype"):
        return f"{value.dtype}{getattr(value, 'shape', '')}"
    return re.sub(r" at 0x\w+", "", repr(value))  # which differs from run to run


# Temperature, axis -----------------------------------------------------------------------------

for name in WITH_TEMPERATURE:
    for temperature in (0, 0.0, -1.5, np.nan, np.inf, -np.inf):
        message = says("temperature", "finite|positive|> 0", re.escape(str(temperature)))
        bad(name, ValueError, message, temperature=temperature)
    for temperature in ("warm", None, 1j, [1.0], np.ones(2)):
        message = says("temperature", "number", type(temperature).__name__)
        bad(name, TypeError, message, temperature=temperature)

for name in ("softmin", "softmin_vjp", "softmin_jvp", "softmin_jacobian", "maxout", "maxout_jvp"):
    for axis in (2, -3, 100):
        bad(name, AxisError, says("axis", str(axis), "2"), axis=axis)
    for axis in (1.0, "last", [0]):
        bad(name, TypeError, says("axis", "int", type(axis).__name__), axis=axis)
for name in ("maxout_with_index", "maxout_vjp", "maxout_jacobian"):
    for axis in (2, -3):
        bad(name, AxisError, says("axis", str(axis), "2"), axis=axis)
for name in ("softmin", "softmin_vjp", "softmin_jvp"):
    bad(name, AxisError, says("axis", "2"), axis=(0, 2))
    for axis in ((0, 0), (1, -1), (0, 1, 0)):
        bad(name, ValueError, says("axis", "duplicate|repeat|twice|once|distinct"), axis=axis)
    bad(name, TypeError, says("axis", "int"), axis=(0, 1.0))
for name in ("softmin_jacobian", "maxout", "maxout_with_index", "maxout_vjp", "maxout_jvp"):
    for axis in ((0, 1), (0,), None):
        bad(name, TypeError, says("axis", "int", type(axis).__name__), axis=axis)

for axis in (1, 5, -2):
    TABLE.append(
        BadCall(
            f"softmin of rank 0: {axis=}",
            lambda out, axis=axis: na.softmin(3.0, axis, out=out),
            AxisError,
            says("axis", str(axis), "0"),
            (),
        )
    )

# Kinds and dtypes ------------------------------------------------------------------------------

WRONG_DTYPES = ["complex64", "complex128", "longdouble", "object", "U3", "S3", "M8[s]", "m8[s]"]
FIRST = {name: next(iter(arguments)) for name, (arguments, _) in GOOD.items()}
FLOATING = [
    (name, argument)
    for name, (arguments, _) in GOOD.items()
    for argument in arguments
    if argument not in ("index", "pieces")
]

for name, argument in FLOATING:
    shape = GOOD[name][0][argument].shape
    for dtype in WRONG_DTYPES if argument == FIRST[name] else ("complex64", "object"):
        wrong = np.zeros(shape, dtype)
        named = re.escape(np.dtype(dtype).name)
        bad(name, TypeError, says(rf"\b{argument}\b", named), **{argument: wrong})
    bad(name, TypeError, says(rf"\b{argument}\b"), "text", **{argument: "text"})
    if argument not in ("bias", "dx"):
        bad(name, TypeError, says(rf"\b{argument}\b"), "None", **{argument: None})

for name in ("softmin", "softmax2d"):
    masked = np.ma.masked_array(GOOD[name][0]["x"], False)
    bad(name, TypeError, says(r"\bx\b", "where="), "np.ma", x=masked)
for name, argument in FLOATING:
    if name not in ("softmin", "softmax2d"):
        masked = np.ma.masked_array(GOOD[name][0][argument], False)
        bad(name, TypeError, says(rf"\b{argument}\b", "mask"), "np.ma", **{argument: masked})

# What NumPy makes objects of, or nothing ---------------------------------------------------------

for given in (None, (i for i in range(3)), {1.0, 2.0}, object(), {"a": 1}):
    kind = type(given).__name__
    bad("softmin", TypeError, says(rf"^x must be .*got {kind}$"), kind, x=given)
    bad("maxout", TypeError, says(rf"^x must be .*got {kind}$"), kind, x=given)
    bad("maxout_affine", TypeError, says(rf"^weight must be .*got {kind}$"), kind, weight=given)
    if given is not None:
        bad("softmin", TypeError, says(rf"^where must be a boolean mask, got {kind}$"), where=given)
    message = says(rf"^index must be of an integer dtype, got {kind}$")
    bad("maxout_vjp", TypeError, message, kind, index=given)
objects = np.array([[True, None, True]] * 2)
bad("softmin", TypeError, says("^where must be a boolean mask, got object$"), where=objects)
bad("softmin", TypeError, says("^where must be a boolean mask, got list of objects$"), where=[None])
bad("softmin", TypeError, says("^x must be .*got list of objects$"), x=[[1.0, None]])
bad("softmin", ValueError, says("^x must be an array, got list: "), x=[[1.0], [1.0, 2.0]])
for axis in (np.array([0, 1]), 1.0, np.float64(-1.0)):
    label = f"rank 0, axis {axis!r}"
    named = says("^axis must be an int, got " + type(axis).__name__)
    bad("softmin", TypeError, named, label, x=3.0, axis=axis, out=None)

# Shapes ----------------------------------------------------------------------------------------

for shape in [(), (3,), (3, 4), (1, 2, 3, 4, 5)]:
    for name in ("softmax2d", "softmax2d_jacobian"):
        argument = FIRST[name]
        message = says(rf"\b{argument}\b", r"\(C, H, W\)", str(len(shape)))
        bad(name, ValueError, message, **{argument: np.zeros(shape)})
    for name in ("softmax2d_vjp", "softmax2d_jvp"):
        both = {argument: np.zeros(shape) for argument in GOOD[name][0]}
        bad(name, ValueError, says(r"\(C, H, W\)", str(len(shape))), **both)
for name in ("softmax2d", "softmax2d_vjp", "softmax2d_jvp", "softmax2d_jacobian"):
    for axis in (0, 1, 2, -2, -4, 7):
        message = says("channel_axis", "-3", "-1", str(axis))
        bad(name, ValueError, message, channel_axis=axis)
    for axis in (None, "C", -3.0, (-3,)):
        message = says("channel_axis", "-3", "-1", type(axis).__name__)
        bad(name, TypeError, message, channel_axis=axis)

for name in ("softmin_vjp", "softmin_jvp", "softmax2d_vjp", "softmax2d_jvp"):
    cotangent = FIRST[name]
    y = GOOD[name][0]["y"]
    for wrong in (y[:1], y[..., :1], y[None], y[0], y.sum()):
        given, expected = re.escape(str(wrong.shape)), re.escape(str(y.shape))
        message = says(rf"\b{cotangent}\b", r"\by\b", given, expected)
        bad(name, ValueError, message, **{cotangent: wrong})

for where in (np.ones((3, 3), bool), np.ones(2, bool), np.ones((1, 2, 3), bool), [True] * 4):
    given = re.escape(str(np.shape(where)))
    bad("softmin", ValueError, says("where", "broadcast", given, r"\(2, 3\)"), where=where)
for where in (np.ones((2, 3), int), np.ones((2, 3)), 1, 0.0, np.ones((2, 3), np.uint8), "yes"):
    named = np.asarray(where).dtype.name if not isinstance(where, str) else "str"
    bad("softmin", TypeError, says("where", "bool", named), where=where)
for where in (np.ones((2, 3), bool), np.ones((3, 1, 3), bool), np.ones((2, 3, 2, 2), bool)):
    given = re.escape(str(where.shape))
    bad("softmax2d", ValueError, says("where", "broadcast", given), where=where)
bad("softmax2d", TypeError, says("where", "bool", "float64"), where=np.ones((3, 2, 2)))

for name in ("maxout", "maxout_with_index"):
    for shape, axis in [((2, 0), 1), ((0, 2), 0), ((0,), 0), ((0, 0), 1)]:
        x = np.zeros(shape)
        bad(name, ValueError, says(r"\bx\b|pieces", "axis", "0"), f"{shape} {axis}", x=x, axis=axis)
    bad(name, ValueError, says("axis|rank|dimension"), x=np.float64(3))
for name in ("maxout_vjp", "maxout_jacobian"):
    for pieces in (0, -1, -3):
        message = says("pieces", "1|positive", str(pieces))
        bad(name, ValueError, message, pieces=pieces)
    for pieces in (2**63, 10**30):
        bad(name, ValueError, says("pieces", "length of an axis", str(pieces)), pieces=pieces)
    for pieces in (2.0, "3", None, [3]):
        message = says("pieces", "int", type(pieces).__name__)
        bad(name, TypeError, message, pieces=pieces)

bad("maxout_vjp", ValueError, says(r"\bg\b", "index", r"\(3,\)", r"\(2,\)"), g=np.ones(3))
bad("maxout_vjp", ValueError, says(r"\bg\b", "index", r"\(\)", r"\(2,\)"), g=1.0)
bad("maxout_vjp", ValueError, says(r"\bg\b", "index", r"\(1,\)", r"\(2,\)"), index=[0])
for shape in [(3, 3), (3,), (2, 3, 1), (1, 3)]:
    bad("maxout_jvp", ValueError, says(r"\bt\b", "index", r"\(2,\)"), t=np.ones(shape))

for name in ("maxout_affine", "maxout_affine_with_index"):
    for shape in [(3,), (), (1, 4, 2, 3)]:
        given = re.escape(str(shape))
        bad(name, ValueError, says("weight", "units, pieces, d", given), weight=np.ones(shape))
    for shape in [(4, 2, 2), (4, 2, 4), (2, 2)]:
        message = says("weight", r"\bx\b", r"\bd\b", str(shape[-1]), r"\(2, 3\)")
        bad(name, ValueError, message, weight=np.ones(shape))
    for shape in [(2,), (4,), (2, 4), (4, 1), (1, 2), (4, 2, 1), ()]:
        given = re.escape(str(shape))
        bad(name, ValueError, says("bias", given, r"\(4, 2\)"), bias=np.ones(shape))
    bad(name, ValueError, says(r"\bx\b", r"\(2, 4\)", "3"), x=np.ones((2, 4)))
    bad(name, ValueError, says(r"\bx\b", r"\(\)"), x=1.0)
    empty = {"weight": np.ones((4, 0, 3)), "bias": np.ones((4, 0))}
    bad(name, ValueError, says("weight|pieces", "0"), "no pieces", **empty)
for name in ("maxout_affine_vjp", "maxout_affine_jvp"):
    bad(name, ValueError, says(r"\bx\b", r"\(2, 4\)"), x=np.ones((2, 4)))
    bad(name, ValueError, says("weight", r"\bx\b", r"\(2, 3\)"), weight=np.ones((4, 2, 2)))
    for shape in [(2, 3), (4,), (3, 4), (2, 4, 1)]:
        given = re.escape(str(shape))
        message = says("index", given, "units")
        bad(name, ValueError, message, index=np.zeros(shape, int))
for shape in [(2, 3), (4,), (2, 1), ()]:
    message = says(r"\bg\b", re.escape(str(shape)), r"\(2, 4\)")
    bad("maxout_affine_vjp", ValueError, message, g=np.ones(shape))
for argument, right in (("dx", (2, 3)), ("dweight", (4, 2, 3)), ("dbias", (4, 2))):
    for shape in [(1, *right), right[:-1], (*right[:-1], right[-1] + 1)]:
        message = says(argument, re.escape(str(shape)), re.escape(str(right)))
        bad("maxout_affine_jvp", ValueError, message, **{argument: np.ones(shape)})
bad("maxout_affine_jacobian", ValueError, says("index", r"\(2, 3\)", "4"), index=WINNERS[:, :3])
bad("maxout_affine_jacobian", ValueError, says("weight", r"\(3,\)"), weight=np.ones(3))

# Indices ---------------------------------------------------------------------------------------

for name in WITH_INDEX:
    pieces = 2 if "affine" in name else 3
    good = GOOD[name][0]["index"]
    for wrong in (pieces, -1, -pieces, 1000, np.iinfo(np.int64).min):
        index = good.copy()
        index.reshape(-1)[-1] = wrong
        message = says("index", str(wrong), f"{pieces - 1}|{pieces}")
        bad(name, IndexError, message, f"index {wrong}", index=index)
    for dtype in (np.float64, bool, object):
        index = np.zeros(good.shape, dtype)
        message = says("index", "integer", index.dtype.name)
        bad(name, TypeError, message, index=index)
    unsigned = np.full(good.shape, 2**64 - 1, np.uint64)
    bad(name, IndexError, says("index", str(2**64 - 1)), "index 2**64 - 1", index=unsigned)
for name in PAIRS:
    for index_dtype in (np.float32, bool, object):
        message = says("index_dtype", "integer", np.dtype(index_dtype).name)
        bad(name, TypeError, message, index_dtype=index_dtype)
    bad(name, TypeError, says("index_dtype", "nonsense"), index_dtype="nonsense")
for index_dtype, pieces in (("int8", 129), ("uint8", 257), ("int16", 32_769)):
    message = says("index_dtype", index_dtype, str(pieces - 1))
    x = np.zeros((2, pieces))
    bad("maxout_with_index", ValueError, message, f"{index_dtype}", x=x, index_dtype=index_dtype)
for dtype in (np.complex64, object, "U3"):
    message = says("dtype", re.escape(np.dtype(dtype).name))
    bad("maxout_jacobian", TypeError, message, dtype=dtype)
bad("maxout_jacobian", TypeError, says("dtype", "nonsense"), dtype="nonsense")


def large_bad_index(out):
    index = np.zeros(1_100_000, np.int32)
    index[777_777] = 2
    na.maxout_vjp(np.ones(1_100_000, np.float32), index, 2, out=out)


TABLE.append(
    BadCall(
        "maxout_vjp: one bad index among many",
        large_bad_index,
        IndexError,
        says("index", "2"),
        (1_100_000, 2),
        np.float32,
    )
)

# out -------------------------------------------------------------------------------------------

for name in WITH_OUT:
    right = GOOD[name][1]
    for shape in [(*right, 1), (1, *right), right[:-1], (*right[:-1], right[-1] + 1)]:
        out = np.full(shape, 7.0)
        message = says(r"\bout\b", re.escape(str(shape)), re.escape(str(right)))
        given = (out, np.zeros(right, np.int32)) if name in PAIRS else out
        bad(name, ValueError, message, f"out of shape {shape}", out=given)
    for dtype in (np.float32, np.int64, np.dtype(np.float64).newbyteorder(), object):
        out = np.full(right, 7, dtype)
        message = says(r"\bout\b", "float64", re.escape(out.dtype.name))
        given = (out, np.zeros(right, np.int32)) if name in PAIRS else out
        bad(name, ValueError, message, f"out of dtype {np.dtype(dtype).str}", out=given)
    out = locked(right)
    given = (out, np.zeros(right, np.int32)) if name in PAIRS else out
    bad(name, ValueError, says(r"\bout\b", "read-only|writ[e]?able"), "out read-only", out=given)
    for out in ([[7.0, 7.0, 7.0]] * 2, 7.0, "out"):
        given = (out, np.zeros(right, np.int32)) if name in PAIRS else out
        message = says(r"\bout\b", "array", type(out).__name__)
        bad(name, TypeError, message, f"out is a {type(out).__name__}", out=given)
for name in PAIRS:
    right = GOOD[name][1]
    y, index = np.full(right, 7.0), np.full(right, 7, np.int32)
    wrong_pairs = {
        "one array": y,
        "one": (y,),
        "three": (y, index, index),
        "y alone": (y, None),
        "the index alone": (None, index),
        "none of two": (None, None),
    }
    for label, given in wrong_pairs.items():
        message = says(r"\bout\b", "pair|two|2")
        bad(name, (TypeError, ValueError), message, f"out is {label}", out=given)
    for dtype in (np.int64, np.float64):
        wrong = index.astype(dtype)
        message = says(r"\bout\b", "int32", wrong.dtype.name)
        bad(name, ValueError, message, f"out of dtype {wrong.dtype}", out=(y, wrong))
    message = says(r"\bout\b", re.escape(str((*right, 1))), re.escape(str(right)))
    bad(name, ValueError, message, "index out of wrong shape", out=(y, index[..., None]))
    message = says(r"\bout\b", "read-only|writ[e]?able")
    wrong = locked(right, np.int32)
    bad(name, ValueError, message, "index out read-only", out=(y, wrong))

# Devices ---------------------------------------------------------------------------------------

for name, argument in FLOATING:
    arguments = GOOD[name][0]
    if len(arguments) > 1:
        device = OnDevice(arguments[argument].shape)
        message = says(rf"\b{argument}\b", "GPU|device|CUDA", "NumPy|host|CPU")
        bad(name, TypeError, message, f"{argument} on the device", **{argument: device})
for name in WITH_OUT:
    if name not in PAIRS:
        device = OnDevice(GOOD[name][1])
        message = says(r"\bout\b", "GPU|device|CUDA", "NumPy|host|CPU")
        bad(name, TypeError, message, "out on the device", out=device)
message = says("where", "GPU|device|CUDA", "NumPy|host|CPU")
bad("softmin", TypeError, message, "where on the device", where=OnDevice((2, 3), bool))
message = says("index", "GPU|device|CUDA", "NumPy|host|CPU")
bad("maxout_jvp", TypeError, message, "index on the device", index=OnDevice((2,), np.int32))


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.label.replace(" ", "-"))
def test_bad_call(case):
    out = np.full(case.shape, 7, case.dtype)
    with pytest.raises(case.error) as raised:
        case.call(out)
    assert re.search(case.message, str(raised.value)), str(raised.value)
    assert (out == 7).all()


@pytest.mark.parametrize("name", GOOD)
def test_good_call(name):
    """The table above changes one argument of a call that works."""
    arguments, shape = GOOD[name]
    y = getattr(na, name)(**arguments)
    if shape is not None:
        assert (y[0] if name in PAIRS else y).shape == shape


@pytest.mark.parametrize(("name", "argument"), FLOATING)
def test_tensor_that_requires_grad(name, argument):
    torch = pytest.importorskip("torch")
    arguments = {
        key: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for key, value in GOOD[name][0].items()
    }
    arguments[argument].requires_grad_()
    message = says(rf"\b{argument}\b", "grad", r"numba_acts\.torch")
    with pytest.raises(TypeError) as raised:
        getattr(na, name)(**arguments)
    assert re.search(message, str(raised.value)), str(raised.value)


def test_too_few_and_unknown_arguments():
    softmin: Any = na.softmin
    softmin_vjp: Any = na.softmin_vjp
    softmax2d: Any = na.softmax2d
    for call in (
        lambda: softmin(),
        lambda: softmin_vjp(X),
        lambda: softmin(X, -1, 2.0),
        lambda: softmax2d(IMAGE, -3),
        lambda: softmin(X, dim=1),
    ):
        with pytest.raises(TypeError, match="argument"):
            call()
