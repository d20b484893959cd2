"""``python -m benchmarks cpu``: every case, ours and the peers', against a copy and a floor.

The floor of a case is the larger of two times measured beside it, on the library's own threads: a
copy of as many bytes as must move (around the caches, if that is faster), and as many exponentials
on data in cache. That of the affine form is its bare matrix products by NumPy.
"""

import argparse
import statistics
from typing import Any

import numba
import numpy as np

import numba_acts as na
from benchmarks import peers, timing
from benchmarks.cases import Case, cases
from benchmarks.timing import Call
from numba_acts._cpu.exponential import exponent_law, raised_exp
from numba_acts._cpu.lanes import LANES, rolled
from numba_acts._cpu.launch import kernel, run
from numba_acts._cpu.memory import (
    elements,
    load,
    load_wide,
    release,
    results,
    scratch,
    settle,
    splat_wide,
    store,
    wide_lanes,
)
from numba_acts._cpu.product import FAR_FROM

SPAN = 1 << 10  # numbers of a copy that are one unit of work
TOLERANCE = {"int8": 1e-9, "float16": 2e-2, "bfloat16": 2e-1, "float32": 2e-4, "float64": 1e-9}


@kernel
def copied(source, target, far, start, stop):
    """Copy an array, `SPAN` numbers a unit; around the caches, if it has at least `far` bytes."""
    x, out = elements(source), results(target, SPAN, target.size, far)
    for i in range(start * SPAN, min(stop * SPAN, x.size), LANES):
        store(out, i, load(x, i))
    settle(out)


def copies(size: int) -> dict[str, Call]:
    """Copies of `size` bytes, one of which is the fastest."""
    held = np.ones((2, -(-size // 64) * 8 + 8))
    # From a line of the caches on: around them, parts of lines take longer.
    source, target = (one[-one.ctypes.data % 64 // 8 :][: one.size - 8] for one in held)
    units, work = -(-source.size // SPAN), source.nbytes // 4
    made: dict[str, Call] = {
        "copy": lambda: run(copied, units, work, (source, target), target.nbytes + 1)
    }
    if target.nbytes >= FAR_FROM // 2:  # that of products of columns, the soonest
        made["far copy"] = lambda: run(copied, units, work, (source, target), 0)
    return made


def fastest_copy(times: timing.Times) -> float:
    """Take the copies out of the times, and the fastest's median."""
    return min(times.pop(name)["median"] for name in ("copy", "far copy") if name in times)


@kernel
def exponentials(cached, start, stop):
    """Exponentials on a row that stays in the first cache, as many as it has in each unit."""
    law, z = exponent_law(cached, 1.0), scratch(cached, cached.size)
    x, zero = elements(cached), splat_wide(z, 0.0)
    for _ in range(start, stop):
        for i in range(0, x.size, wide_lanes(x)):
            rolled()
            store(z, i, raised_exp(load_wide(x, i) - zero, law))
    release(z)


def arrays_for(case: Case) -> dict[str, np.ndarray]:
    """Operands and results of a case, in its dtype."""
    if case.dtype == "bfloat16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(case.dtype)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        spread = 30 if dtype.kind == "i" else 1
        return (spread * rng.standard_normal(shape, np.float32)).astype(dtype)

    x = normal(*case.shape)
    if case.function == "maxout_affine":
        weight, bias = normal(case.units, case.pieces, x.shape[1]), normal(case.units, case.pieces)
        y, index = na.maxout_affine_with_index(x, weight, bias)
        given = {"x": x, "weight": weight, "bias": bias, "index": index}
        return given | {"g": normal(*y.shape), "out": np.empty_like(y)}
    if case.function.startswith("maxout"):
        y, index = na.maxout_with_index(x, case.axis)
        out = np.empty_like(x if case.work == "vjp" else y)
        pair = {"index": index, "index_out": np.empty_like(index)}
        return {"x": x, "g": normal(*y.shape), "out": out} | pair
    sign = -1 if case.function == "softmin" else 1
    if case.data == "sharp":
        x *= 25
    mask = {"mask": rng.random(case.shape) < 0.5} if case.data == "masked" else {}
    for chosen in mask.values():
        x[~chosen] = -sign * np.inf
    y = na.softmin(sign * -x, case.axis) if case.work != "forward" else x
    axis = case.axis % x.ndim
    shape = x.shape if case.work != "jacobian" else x.shape[:axis] + 2 * (x.shape[axis],)
    if case.work == "jacobian":
        shape += x.shape[axis + 1 :]
    g = normal(*case.shape) if case.work == "vjp" else x
    return {"x": x, "g": g, "y": y, "out": np.empty(shape, dtype)} | mask


def floors(case: Case, arrays: dict[str, np.ndarray]) -> dict[str, Call]:
    """What bounds a case, as calls."""
    made = copies(max(1, case.bytes // 2))
    if case.exponentials:
        number = np.float64 if case.dtype == "float64" else np.float32
        cached = np.full(1024, -1, number)
        units = -(-case.exponentials // cached.size)
        made["exp"] = lambda: run(exponentials, units, 2 * case.exponentials, (cached,))
    if case.function == "maxout_affine":
        x, weight = arrays["x"], arrays["weight"].reshape(-1, case.shape[1])
        products = x @ weight.T
        if case.work == "forward":
            made["product"] = lambda: np.matmul(x, weight.T, out=products)
        else:
            dx, dweight = np.empty_like(x), np.empty_like(weight)

            def both() -> None:
                np.matmul(products, weight, out=dx)
                np.matmul(products.T, x, out=dweight)

            made["product"] = both
    return made


def agree(case: Case, calls: dict[str, Call]) -> None:
    """Do all libraries give what ours gives?"""
    wanted: np.ndarray | None = None
    for name, call in calls.items():
        result = call()
        result = getattr(call, "values", lambda result=result: result)()
        got = peers.values(result, most=10**6)
        if wanted is None:
            wanted = got
        error = got - wanted
        if case.function == "maxout_affine" and case.work == "vjp":
            # Two pieces that differ by rounding may win by turns, and then whole rows move.
            off = float(np.linalg.norm(error) / np.linalg.norm(wanted)) / 100
        else:
            off = float(np.abs(error).max()) / max(1.0, float(np.abs(wanted).max()))
        if not off < TOLERANCE[case.dtype]:
            raise SystemExit(f"{name} disagrees on {case}: by {off:.3g}")


def measure(case: Case, rounds: int, budget: float) -> dict[str, Any]:
    """One case's line."""
    arrays = arrays_for(case)
    calls = peers.calls(case, arrays)
    agree(case, calls)
    bounds = floors(case, arrays)
    times = timing.interleaved(calls | bounds, rounds, budget)
    floor = {"copy": fastest_copy(times)}
    floor |= {name: times.pop(name)["median"] for name in bounds if name in times}
    line: dict[str, Any] = {
        "function": case.function,
        "work": case.data or case.work,
        "dtype": case.dtype,
        "shape": list(case.shape),
        "axis": case.axis,
        "bytes": case.bytes,
        "exponentials": case.exponentials,
    }
    if case.units:
        line |= {"units": case.units, "pieces": case.pieces}
    return line | floor | {"floor": floor.get("product", max(floor.values())), "times": times}


def shown(line: dict[str, Any]) -> str:
    """A line as text: our time, its ratio to the floor, and the fastest peer's to ours."""
    times = {name: t["median"] for name, t in line["times"].items()}
    ours = times.pop("numba_acts")
    shape = "×".join(map(str, line["shape"]))
    text = f"{line['function']:18}{line['work']:9}{line['dtype']:9}{shape:16}{line['axis']:3}"
    text += f"{ours * 1e6:11.1f} µs{ours / line['floor']:7.2f} floor{ours / line['copy']:7.2f} copy"
    if times:
        peer = min(times, key=times.__getitem__)
        text += f"   {peer} {times[peer] / ours:.2f}"
    return text


def summary(lines: list[dict[str, Any]]) -> str:
    """How often each function is ahead, and the mean ratio to PyTorch."""
    text = []
    for function in dict.fromkeys(line["function"] for line in lines):
        mine = [line["times"] for line in lines if line["function"] == function]
        ratios = [t["torch"]["median"] / t["numba_acts"]["median"] for t in mine if "torch" in t]
        behind = sum(min(v["median"] for v in t.values()) < t["numba_acts"]["median"] for t in mine)
        mean = f", {statistics.geometric_mean(ratios):.2f} × PyTorch" if ratios else ""
        text.append(f"{function:18} ahead in {len(mine) - behind} of {len(mine)}{mean}")
    return "\n".join(text)


def main(arguments: list[str]) -> int:
    """Measure all cases, print them, and write them to the processor's file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases and samples, no file")
    parser.add_argument("--only", default="", help="cases whose text holds this; no file")
    given = parser.parse_args(arguments)
    from rich.console import Console
    from rich.progress import Progress

    chosen = [case for case in cases(given.quick) if given.only in str(case)]
    rounds, budget = (5, 0.3) if given.quick else (21, 3.0)
    numba.set_num_threads(min(peers.THREADS, numba.config.NUMBA_NUM_THREADS))
    lines = []
    with Progress(console=Console(width=160), transient=True) as progress:
        for case in progress.track(chosen, description="cpu"):
            lines.append(measure(case, rounds, budget))
            progress.console.print(shown(lines[-1]), highlight=False)
    print(summary(lines))
    if not given.quick and not given.only:
        print(f"written to {timing.save('cases', lines)}")
    return 0
