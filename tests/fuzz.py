"""Random calls: a seed makes one call of a public function, with arguments as users may pass them.

`run(seed)` makes it and checks what must hold: values of the oracle within the contract's bounds,
dtype, shape, arguments unchanged; the same bits for a slice alone, and with an `out` of any kind;
and for the same call with one thing wrong, the right error before anything is written.
"""

import inspect
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import cases
import numpy as np

import numba_acts

LENGTHS = (1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 13, 16, 31, 32, 33, 100, 255, 256, 257, 1000)
ROOM, LARGE = 2000, 150_000  # numbers in an array: mostly, and now and then
WRONG = (np.complex64, np.longdouble, object, "U3", "M8[s]")  # dtypes
WHOLE = ("float16", "float32", "float64", "int32", "int64")  # that hold sums of whole numbers
OUTS = {
    name: "out" in inspect.signature(getattr(numba_acts, name)).parameters
    for name in numba_acts.__all__
}


def run(seed: int) -> None:
    """Make the call of a seed, and check it; an error shows the call and the seed."""
    call = Call(seed)
    try:
        call.check()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {call}\n{type(error).__name__}: {error}") from error


class Call:
    """A call, and the choices that a seed makes for it, one after the other."""

    def __init__(self, seed: int) -> None:
        self.draw, self.rng = random.Random(seed), np.random.Generator(np.random.PCG64(seed))
        self.function = self.draw.choice(numba_acts.__all__)
        self.call: Callable[..., Any] = getattr(numba_acts, self.function)
        self.arguments: list[Any] = []
        self.keywords: dict[str, Any] = {}
        self.extreme = False
        if self.function in cases.LAYERS:
            self.layer()
        elif self.function in cases.PIECES:
            self.pieces()
        else:
            self.softmax()

    def __str__(self) -> str:
        given = [*map(_shown, self.arguments)]
        given += [f"{name}={_shown(value)}" for name, value in self.keywords.items()]
        return f"{self.function}({', '.join(given)})"

    # Parts of arguments

    def one_in(self, n: int) -> bool:
        return self.draw.randrange(n) == 0

    def shape(self, least: int, most: int, room: int = ROOM) -> tuple[int, ...]:
        lengths = [self.draw.choice(LENGTHS) for _ in range(self.draw.randint(least, most))]
        if lengths and room == ROOM and self.one_in(500):
            lengths[self.draw.randrange(len(lengths))] = LARGE // 2 + 1
            room = LARGE
        while math.prod(lengths) > room:
            longest = max(n for n in lengths if room < LARGE or n < LARGE // 2)
            lengths[lengths.index(longest)] = longest // self.draw.randint(2, 9)
            lengths = [n or 1 for n in lengths]
        if lengths and self.one_in(30):
            lengths[self.draw.randrange(len(lengths))] = 0
        return tuple(lengths)

    def dtype(self, others: tuple[str, ...] = ()) -> str:
        some = others if others and self.one_in(5) else cases.FLOATS
        return "float32" if some is cases.FLOATS and self.one_in(3) else self.draw.choice(some)

    def numbers(self, shape: tuple[int, ...], name: str, summed: bool = False) -> np.ndarray:
        """Numbers of some kind; those that are `summed` have products within the normal numbers."""
        dtype = cases.as_dtype(name)
        if name in cases.INTEGERS or name == "bool":
            return np.asarray(cases.numbers(self.rng, shape, name))
        kind = self.draw.choice(("plain", "plain", "scaled", "ties", "equal", "special", "bits"))
        if kind == "ties":
            return np.asarray(cases.with_ties(self.rng, shape, name))
        if kind == "bits" and not summed:
            self.extreme = True
            bits = self.rng.bytes(math.prod(shape) * dtype.itemsize)
            return np.frombuffer(bytearray(bits), dtype).reshape(shape)
        x = np.asarray(self.rng.standard_normal(shape))
        if kind == "scaled":
            x = x * 10.0 ** self.draw.uniform(-4, 3)
        elif kind == "equal":
            x = np.where(self.rng.random(shape) < 0.2, x, 12 * self.draw.random())
        elif kind == "special":
            self.extreme = True
            small, large = cases.SMALLEST[name], 0.99 * cases.LARGEST[name]
            small, large = (small**0.25, 1.0) if summed else (small, large)
            special = [np.nan, np.inf, -np.inf, -0.0, 0.0, small, -small, large, -large]
            some = self.draw.sample(special, self.draw.randint(1, 3))
            here = self.rng.random(shape) < self.draw.choice((0.02, 0.3, 1))
            x = np.where(here, self.rng.choice(some, shape), x)
        with np.errstate(over="ignore"):
            return x.astype(dtype)

    def lay(self, array: np.ndarray) -> np.ndarray:
        """The same numbers that lie otherwise: permuted, backwards, apart, off their alignment."""
        order = self.draw.sample(range(array.ndim), array.ndim)
        steps = [self.draw.choice((1, 1, 1, -1, 2, -3)) for _ in order]
        more = [self.draw.choice((0, 0, 3)) for _ in order]
        lengths = [array.shape[axis] for axis in order]
        apart = [n * abs(s) + m for n, s, m in zip(lengths, steps, more, strict=True)]
        offset = self.draw.choice((0, 0, 1, 4))
        memory = np.full(math.prod(apart) * array.itemsize + offset, 77, np.uint8)[offset:]
        view = _cut(memory.view(array.dtype).reshape(apart), [slice(None, None, s) for s in steps])
        view = _cut(view, list(map(slice, lengths))).transpose(np.argsort(order))
        view[...] = array
        return view

    def given(self, array: np.ndarray) -> Any:
        """The array as somebody may pass it."""
        kind = self.draw.choice(
            ("plain", "plain", "laid", "laid", "locked", "repeated", "swapped", "plainest")
        )
        if kind == "plainest" and array.size < 300:  # a list, a number
            exact = array.dtype in (np.float64, np.int64) or array.dtype == np.bool_
            if array.size and exact:
                return array.tolist()
            return array if array.ndim else array[()]
        if kind == "swapped" and array.dtype.name != "bfloat16":  # ml_dtypes has native order alone
            return array.astype(array.dtype.newbyteorder())
        if kind == "repeated" and array.size:
            some = tuple(slice(1) if self.one_in(2) else slice(None) for _ in array.shape)
            return np.broadcast_to(array[some], array.shape)
        if kind in ("laid", "locked"):
            array = self.lay(array)
        if kind == "locked":
            array.flags.writeable = False
        return array

    def temperature(self) -> Any:
        """Any that the dtypes and the numbers allow."""
        if self.extreme or not self.one_in(4):
            some = 10 ** self.draw.uniform(-2, 2)
            return self.draw.choice((1.0, 2, 0.5, np.float32(0.7), np.array(3.0), some))
        return 10.0 ** self.draw.uniform(-25, 25)

    def axis(self, ndim: int, several: bool = False) -> Any:
        if several and self.one_in(6):
            return None
        if several and self.one_in(5):
            some = self.draw.sample(range(ndim), self.draw.randint(0, ndim))
            return tuple(axis - ndim * self.one_in(2) for axis in some)
        return self.draw.randrange(-ndim, ndim) if ndim else -1

    def mask(self, shape: tuple[int, ...]) -> Any:
        kind = self.draw.choice(("full", "broadcast", "none", "all"))
        if kind in ("none", "all"):
            return self.draw.choice((kind == "all", np.full(shape, kind == "all")))
        if kind == "broadcast":
            shape = tuple(1 if self.one_in(2) else n for n in shape)[self.draw.randint(0, 2) :]
        return self.given(np.asarray(self.rng.random(shape) < self.draw.random()))

    def index(self, shape: tuple[int, ...], pieces: int) -> Any:
        names = [name for name in cases.INTEGERS if pieces - 1 <= np.iinfo(name).max]
        index = np.asarray(self.rng.integers(0, pieces, shape))
        common = [name for name in ("int32", "int64") if not self.one_in(6)]
        return self.given(index.astype(self.draw.choice(common or names)))

    # Arguments of a family of functions

    def softmax(self) -> None:
        name, draw = self.function, self.draw
        image, jacobian = name.startswith("softmax2d"), name.endswith("jacobian")
        least, most = (3, 4) if image else (int(jacobian), 6)
        shape = self.shape(least, most, 300 if jacobian else ROOM)
        if image and not name.endswith("diag"):
            self.keywords["channel_axis"] = draw.choice((-3, -1))
        elif not name.endswith("diag"):
            self.keywords["axis"] = self.axis(len(shape), several=not jacobian)
        if name in ("softmin", "softmax2d"):
            dtype = self.dtype((*cases.INTEGERS, "bool"))
            self.arguments = [self.given(self.numbers(shape, dtype))]
            if self.one_in(3):
                self.keywords["where"] = self.mask(shape)
        else:
            dtype = self.dtype()
            y = self.numbers(shape, dtype, summed=True)
            if y.size and self.one_in(2):
                axis = self.slices()
                y = np.asarray(cases.distribution(self.rng, shape, dtype, axis))
            y = np.where(np.isinf(y), y.dtype.type(1), y)
            self.arguments = [self.given(y)]
            if not name.endswith(("jacobian", "diag")):
                other = self.dtype() if self.one_in(6) else dtype
                self.arguments.insert(0, self.given(self.numbers(shape, other, summed=True)))
        if self.one_in(2):
            self.keywords["temperature"] = self.temperature()

    def slices(self) -> Any:
        """The axes of the slices."""
        return self.keywords.get("axis", self.keywords.get("channel_axis", -1))

    def pieces(self) -> None:
        name = self.function
        shape = self.shape(1, 6)
        axis = self.keywords["axis"] = self.axis(len(shape))
        place = axis % len(shape)
        n = max(1, shape[place])
        shape = (*shape[:place], n, *shape[place + 1 :])
        units = shape[:place] + shape[place + 1 :]
        dtype = self.dtype((*cases.INTEGERS, "bool"))
        if name in ("maxout", "maxout_with_index"):
            self.arguments = [self.given(self.numbers(shape, dtype))]
        elif name == "maxout_vjp":
            g = self.numbers(units, dtype)
            self.arguments = [self.given(g), self.index(units, n), n + self.draw.choice((0, 0, 3))]
        elif name == "maxout_jvp":
            self.arguments = [self.given(self.numbers(shape, dtype)), self.index(units, n)]
        else:
            self.arguments = [self.index(units, n), n]
            self.keywords["dtype"] = cases.as_dtype(dtype)
        if name == "maxout_with_index":
            fits = [one for one in cases.INTEGERS if n - 1 <= np.iinfo(one).max]
            self.keywords["index_dtype"] = np.dtype(self.draw.choice(fits)).type

    def layer(self) -> None:
        """Whole numbers, whose sums are exact, wherever a winner is chosen by them."""
        name, dtype = self.function, self.draw.choice((*WHOLE, "bfloat16"))
        units = (self.draw.choice((0, 1, 2, 3, 5, 9, 16, 17, 33)),) if not self.one_in(4) else ()
        like = (*units, self.draw.choice((1, 2, 3, 4, 5, 8, 9)))
        d = self.draw.choice((0, 1, 2, 3, 7, 8, 9, 16, 17, 31, 33))
        batch = self.shape(0, 3, 60)

        def some(*shape: int) -> Any:
            if name == "maxout_affine" and dtype in cases.FLOATS and self.one_in(2):
                return self.given(self.numbers(shape, dtype, summed=True))
            return self.given(cases.whole_numbers(self.rng, shape, dtype))

        x, weight = some(*batch, d), some(*like, d)
        index = self.index((*batch, *units), like[-1])
        if name == "maxout_affine_vjp":
            self.arguments = [some(*batch, *units), x, weight, index]
        elif name == "maxout_affine_jvp":
            self.arguments = [x, weight, index]
            shapes = {"dx": (*batch, d), "dweight": (*like, d), "dbias": like}
            self.keywords = {k: some(*s) for k, s in shapes.items() if not self.one_in(3)}
        elif name == "maxout_affine_jacobian":
            self.arguments = [weight, index]
        else:
            self.arguments = [x, weight] + ([] if self.one_in(3) else [some(*like)])

    # What must hold

    def check(self) -> None:
        arrays = [a for a in (*self.arguments, *self.keywords.values()) if _is_array(a)]
        before = [a.tobytes() for a in arrays]
        plain = list(map(_plain, self.arguments))
        named = {name: _plain(value) for name, value in self.keywords.items()}
        got = self.call(*self.arguments, **self.keywords)
        assert before == [a.tobytes() for a in arrays], "an argument was written to"
        with np.errstate(all="ignore"):  # while the oracle computes
            cases.assert_agrees(got, self.function, plain, named)
        results = got if isinstance(got, tuple) else (got,)
        self.check_alone(results, plain, named)
        if OUTS[self.function]:
            self.check_out(results)
        if self.one_in(4):
            self.check_error(results)

    def check_alone(self, results: tuple, arguments: list[Any], keywords: dict[str, Any]) -> None:
        """A slice alone has the bits that it has among others."""
        axis, given = self.slices(), self.bound(arguments, keywords)
        if not isinstance(axis, int) or not all(np.size(one) for one in results):
            return
        units = np.ndim(given.get("weight", 0)) == 3
        if self.function in cases.LAYERS:
            own = {"g", "x", "index", "dx"}  # what is a sample's own; of a gradient dx is
            results = results[:1] if self.function.endswith("vjp") else results
            batch = np.shape(results[0])[: results[0].ndim - self.function.endswith("jacobian")]
            batch = np.shape(given["x"])[:-1] if "x" in given else batch[: len(batch) - units]
        else:
            full = results[0] if "pieces" in given else arguments[0]
            own, batch = {"x", "g", "t", "y", "index", "where"}, np.shape(full)
            if not batch:
                return
            axis %= len(batch)
            if "where" in given:
                given["where"] = np.broadcast_to(given["where"], batch)
            batch = batch[:axis] + batch[axis + 1 :]
        at = tuple(map(self.draw.randrange, batch))

        def cut(array: Any) -> np.ndarray:
            array = np.asarray(array)
            if self.function in cases.LAYERS:
                return array[at].copy()
            axes = range(axis, axis + array.ndim - len(at))
            array = np.moveaxis(array, axes, range(-len(axes), 0))[at].copy()
            return array.reshape(-1, 1, 1) if image else array

        image = self.function.startswith("softmax2d")
        for name in own & set(given):
            given[name] = cut(given[name])
        given |= {"axis": 0} if "axis" in given else {}
        given |= {"channel_axis": -3} if "channel_axis" in given else {}
        alone = self.call(**given)
        alone = alone if isinstance(alone, tuple) else (alone,)
        for one, among in zip(alone, results, strict=False):
            assert _same(one, cut(among)), (
                f"the slice at {at} has other bits alone: {one}, among others {cut(among)}"
            )

    def check_out(self, results: tuple) -> None:
        """An `out` that lies anyhow is filled and returned; one over an argument too."""
        arguments = list(self.arguments)
        outs = [np.full(np.shape(one), 77).astype(one.dtype) for one in results]
        kind = self.draw.choice(("fresh", "laid", "in place", "shifted", "backwards"))
        places = [i for i, a in enumerate(arguments) if _is_array(a) and a.dtype == outs[0].dtype]
        if kind == "laid":
            outs = list(map(self.lay, outs))
        elif kind != "fresh" and places and isinstance(self.slices(), int):
            place, size = self.draw.choice(places), outs[0].size
            start = self.draw.randint(0, size) if kind == "shifted" else 0
            like = arguments[place]
            memory = np.zeros(size + like.size, like.dtype)
            arguments[place] = memory[start : start + like.size].reshape(like.shape)
            arguments[place][...] = like
            outs[0] = memory[:size].reshape(outs[0].shape)
            if kind == "backwards":
                outs[0] = _cut(outs[0], [slice(None, None, -1)] * outs[0].ndim)
        apart = [a for a in arguments if _is_array(a) and not np.may_share_memory(a, outs[0])]
        before = [a.tobytes() for a in apart]
        out: Any = tuple(outs) if len(outs) > 1 else outs[0]
        got = self.call(*arguments, **self.keywords, out=out)
        assert got is out or all(a is b for a, b in zip(got, out, strict=True)), "out of its own"
        assert before == [a.tobytes() for a in apart], f"out {kind}: an argument was written to"
        for one, want in zip(outs, results, strict=True):
            assert _same(one, want), f"out {kind}: {one}, without it {want}"

    def check_error(self, results: tuple) -> None:
        """With one thing wrong there is an error of the right type, and nothing is written."""
        given = self.bound(self.arguments, self.keywords)
        outs = tuple(np.full(np.shape(one), 77).astype(one.dtype) for one in results)
        if OUTS[self.function]:
            given["out"] = outs if len(outs) > 1 else outs[0]
        before = [one.tobytes() for one in outs]
        changes, error = self.draw.choice(list(self.faults(given, outs)))
        try:
            self.call(**given | changes)
        except Exception as raised:
            assert type(raised) is error, f"{type(raised).__name__} for {changes}: {raised}"
        else:
            raise AssertionError(f"no error for {changes}")
        assert before == [one.tobytes() for one in outs], f"written to in spite of {changes}"

    def faults(self, given: dict[str, Any], outs: tuple) -> Iterator[tuple[dict[str, Any], type]]:
        """Changes of arguments, each with the error that it is."""
        first, *_ = given
        array, draw = np.asarray(given[first]), self.draw
        parameters = inspect.signature(self.call).parameters
        yield {first: np.zeros(array.shape, draw.choice(WRONG))}, TypeError
        yield {first: np.ma.masked_array(array)}, TypeError
        if "axis" in parameters:
            yield {"axis": draw.choice((99, -99))}, np.exceptions.AxisError
            yield {"axis": draw.choice((0.0, "0", [0]))}, TypeError
        if "channel_axis" in parameters:
            yield {"channel_axis": draw.choice((0, 1, 2, -2))}, ValueError
        if "temperature" in parameters:
            yield {"temperature": draw.choice((0, -1.0, math.nan, math.inf))}, ValueError
            yield {"temperature": draw.choice(("1", None, 1j))}, TypeError
        if "where" in parameters:
            yield {"where": np.ones(array.shape, np.int8)}, TypeError
            yield {"where": np.ones((*array.shape, 2), bool)}, ValueError
        if "pieces" in parameters:
            yield {"pieces": draw.choice((0, -1))}, ValueError
            yield {"pieces": 1.5}, TypeError
        if "index" in parameters:
            index = np.array(given["index"], np.int64)
            yield {"index": index.astype(float)}, TypeError
            if index.size:
                index.flat[draw.randrange(index.size)] = draw.choice((-1, 99_999))
                yield {"index": index}, IndexError
        if "y" in parameters and first != "y" or "g" in parameters:
            yield {first: array[..., None]}, ValueError
        if OUTS[self.function]:
            whole, *rest = outs
            wrong = [np.zeros((*whole.shape, 1), whole.dtype), np.zeros(whole.shape, complex)]
            wrong.append(np.zeros_like(whole))
            wrong[-1].flags.writeable = False
            out = draw.choice(wrong)
            yield {"out": (out, *rest) if rest else out}, ValueError

    def bound(self, arguments: list[Any], keywords: dict[str, Any]) -> dict[str, Any]:
        """All arguments by their names."""
        return dict(inspect.signature(self.call).bind(*arguments, **keywords).arguments)


def _cut(array: np.ndarray, slices: list[slice]) -> np.ndarray:
    """A view of an array, of rank 0 too."""
    place: Any = (..., *slices)
    return array[place]


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _same(one: Any, other: Any) -> bool:
    """Equal to the last bit; no sign of NaN is promised."""
    one, other = (np.ascontiguousarray(a) for a in (one, other))
    if one.tobytes() == other.tobytes():
        return True
    nan, others = np.isnan(one), np.isnan(other)
    return np.array_equal(nan, others) and one[~nan].tobytes() == other[~nan].tobytes()


def _plain(value: Any) -> Any:
    """A copy as NumPy makes arrays, in the machine's byte order."""
    return np.array(value, value.dtype.newbyteorder("=")) if _is_array(value) else value


def _shown(value: Any) -> str:
    if not _is_array(value):
        return repr(value)
    if value.size <= 6 and value.flags.carray:
        return f"np.array({value.tolist()}, {value.dtype.name!r})"
    state = "" if value.flags.aligned else ", misaligned"
    return f"<{value.dtype.str} {value.shape}, strides {value.strides}{state}>"
