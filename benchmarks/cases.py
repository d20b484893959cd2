"""What is measured: a function, its work, a dtype, a shape and an axis."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

SIZES = {"int8": 1, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Case:
    """One line of the benchmark. `pieces` and `units` are those of the affine form.

    Its `data` may be "masked", where half of the entries take no part and the peers are given
    infinities in their place, or "sharp", 25 times as far apart: many a result is subnormal. (JAX,
    which has zeros instead, is no peer there.)
    """

    function: str
    work: str
    shape: tuple[int, ...]
    axis: int = -1
    dtype: str = "float32"
    units: int = 0
    pieces: int = 0
    data: str = ""

    @property
    def bytes(self) -> int:
        """What must move: each operand read once, each result written once."""
        size, x = SIZES[self.dtype], prod(self.shape)
        if self.function.startswith("maxout_affine"):
            rows, depth = self.shape
            weight, y = self.units * self.pieces * (depth + 1), rows * self.units
            if self.work == "vjp":
                return size * (2 * x + 2 * weight + y) + 4 * y
            return size * (x + weight + y)
        if self.function.startswith("maxout"):
            y = x // self.shape[self.axis]
            index = 4 * y if self.function == "maxout_with_index" or self.work == "vjp" else 0
            return size * (x + y) + index
        if self.work == "jacobian":
            return size * x * (1 + self.shape[self.axis])
        return size * x * (3 if self.work == "vjp" else 2) + x * (self.data == "masked")

    @property
    def exponentials(self) -> int:
        """How many exponentials it needs."""
        soft = self.function.startswith("soft") and self.work == "forward"
        return prod(self.shape) if soft else 0

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape))
        tail = f" → {self.units}×{self.pieces}" if self.units else f" axis {self.axis}"
        return f"{self.function} {self.data or self.work} {self.dtype} {shape}{tail}"


def cases(quick: bool = False) -> Iterator[Case]:
    """All cases; quick: half of them, of other floats than float32 a few small ones."""
    for work in ("forward", "vjp"):
        for shape in (4096, 1024), (32768, 128), (128, 1000), (64, 10), (10**6, 10), (10**6, 3):
            yield Case("softmin", work, shape)
        if not quick:
            yield Case("softmin", work, (16, 10**6))
            yield Case("softmin", work, (1, 10**8))
        yield Case("softmin", work, (1000, 10000), 0)
        if work == "forward" and not quick:
            for rows, data in product(((4096, 1024), (128, 1000)), ("masked", "sharp")):
                yield Case("softmin", work, rows, data=data)
        for image in (21, 512, 512), (1000, 7, 7):
            yield Case("softmax2d", work, image, -3)
        if not quick:
            yield Case("softmax2d", work, (150, 128, 128), -3)
            yield Case("softmax2d", work, (2, 1024, 1024), -3)
            yield Case("softmax2d", work, (19, 1024, 2048), -3)
            yield Case("softmax2d", work, (8, 21, 256, 256), -3)
            yield Case("softmax2d", work, (8, 256, 256, 21), -1)
    few = () if quick else ((1024, 4096, 2), (1024, 4096, 5))
    for units in (128, 512, 3), (1024, 4096, 4), (256, 256, 64), *few:
        yield Case("maxout", "forward", units)
        yield Case("maxout_with_index", "forward", units)
        yield Case("maxout", "vjp", units)
    for function, work in (("maxout", "forward"), ("maxout_with_index", "forward")):
        yield Case(function, work, (32, 64, 4, 56, 56), 2)
    yield Case("maxout", "vjp", (32, 64, 4, 56, 56), 2)
    for dtype in "float32", "int8":
        from_memory = ((1, 4 * 10**6), -1), ((64, 30_000), -1), ((2000, 1000), 0)
        from_a_cache = () if quick else (((64, 3000), -1), ((16, 5000), 0))
        for pieces, axis in (*from_memory, *from_a_cache):
            for function in "maxout", "maxout_with_index":
                yield Case(function, "forward", pieces, axis, dtype)
    for batch in (256,) if quick else (256, 8192):
        for work in ("forward", "vjp"):
            yield Case("maxout_affine", work, (batch, 784), units=240, pieces=5)
    yield Case("softmin", "jacobian", (1000, 100))
    yield Case("softmax2d", "jacobian", (21, 64, 64), -3)
    for dtype in ("float16",) if quick else ("float64", "float16", "bfloat16"):
        for work in ("forward", "vjp"):
            for rows in ((4096, 1024), (64, 10))[quick:]:
                yield Case("softmin", work, rows, dtype=dtype)
            for image in ((21, 512, 512), (21, 32, 32))[quick:]:
                yield Case("softmax2d", work, image, -3, dtype)
            for units in ((1024, 4096, 4), (64, 32, 4))[quick:]:
                yield Case("maxout", work, units, dtype=dtype)
