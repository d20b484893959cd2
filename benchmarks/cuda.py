"""``python -m benchmarks cuda``: the GPU's kernels beside a copy of the same bytes, and its peers.

Times are medians of events around single calls, over buffers that are rotated so that no cache
holds them (256 MB and more in all), of random numbers. ``share`` is the bandwidth of a device copy
that moves as many bytes, measured in the same run, that a call reaches; bytes are those that must
be moved: each input read once, each output written once. Small calls are timed as replays of a
graph, and, apart, as they cost from Python. Everything goes to ``<gpu>.json`` in the folder of
results, with the device, its driver and all versions.
"""

import argparse
import datetime
import importlib.metadata
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numba_acts as na

ROTATED_BYTES = 1 << 28  # at least, of all buffers that a case goes through
SECONDS = 0.15  # of measuring, for each function of a case
PACKAGES = ["numba", "numba-cuda", "numpy", "torch", "triton", "cupy-cuda13x", "nvidia-nvvm"]


class Case(NamedTuple):
    """A function on one shape; the demand is a share of the copy's bandwidth, or none."""

    function: str
    shape: tuple[int, ...]
    axis: int = -1
    dtype: str = "float32"
    demand: float | None = None
    pieces: int = 0


HALVES = ("float16", "bfloat16")
CASES = [
    Case("softmin", (32_768, 1024), demand=0.93),
    *(Case("softmin", ((1 << 25) // n, n), demand=0.9) for n in (256, 4096)),
    *(Case("softmin", ((1 << 26) // n, n), demand=0.9) for n in (8192, 16_384, 32_768)),
    *(Case("softmin", ((1 << 25) // n, n), demand=0.8) for n in (4, 10, 32, 100, 128, 1001, 4097)),
    Case("softmin", (1024, 65_536), demand=0.8),
    Case("softmin", (64, 1_000_000), demand=0.6),
    Case("softmin", (1, 100_000_000), demand=0.6),
    *(Case("softmin", (16_384, 4096), dtype=dtype, demand=0.85) for dtype in HALVES),
    Case("softmin", (16_384, 2048), dtype="float64"),
    *(Case("softmin_vjp", ((1 << 25) // n, n), demand=0.9) for n in (128, 1024, 4096, 16_384)),
    Case("softmin_vjp", (64, 1_000_000)),
    *(Case("softmax2d", (8, c, 512, 512), -3, demand=0.9) for c in (3, 19, 21, 32)),
    Case("softmax2d", (2, 150, 512, 512), -3, demand=0.85),
    Case("softmax2d", (1024, 1000, 7, 7), -3, demand=0.75),
    Case("softmax2d", (8, 21, 511, 511), -3, demand=0.75),
    Case("softmax2d", (8, 512, 512, 21), -1, demand=0.8),
    *(Case("softmax2d", (8, 21, 512, 512), -3, dtype, 0.85) for dtype in HALVES),
    *(Case("softmax2d_vjp", (8, c, 512, 512), -3, demand=0.9) for c in (3, 19, 21, 32)),
    Case("softmax2d_vjp", (2, 150, 512, 512), -3, demand=0.9),
    *(Case("maxout", ((1 << 26) // k, k), demand=0.9) for k in (2, 4, 8)),
    *(Case("maxout", ((1 << 26) // k, k), demand=0.8) for k in (3, 5, 12)),
    *(Case("maxout_with_index", ((1 << 26) // k, k), demand=0.9) for k in (2, 4, 8)),
    Case("maxout_with_index", (64, 4, 1 << 18), 1, demand=0.9),
    *(Case("maxout_vjp", ((1 << 26) // k, k), demand=0.9, pieces=k) for k in (2, 4, 8)),
    *(Case("maxout_vjp", ((1 << 26) // k, k), demand=0.8, pieces=k) for k in (3, 5)),
    Case("maxout_jvp", (1 << 24, 4), pieces=4),
    Case("softmin_jacobian", (65_536, 32), demand=0.85),
    Case("softmin_jacobian", (4096, 128), demand=0.85),
    Case("softmax2d_jacobian", (21, 256, 256), -3, demand=0.85),
    Case("softmin_jacobian_diag", (1 << 25,), demand=0.9),
    *(Case("maxout_affine", (8192, 1024), dtype=d, pieces=4) for d in ("float32", "bfloat16")),
]
UNITS = 1024  # of the affine layers
SMALL = [Case("softmin", (32, 128)), Case("softmax2d", (21, 32, 32), -3), Case("maxout", (256, 4))]


# ---- the calls of a case ----------------------------------------------------------------------


def _random(torch: Any, shape: tuple[int, ...], dtype: str) -> Any:
    return torch.randn(shape, device="cuda").to(getattr(torch, dtype))


def _operands(torch: Any, case: Case) -> tuple[list[Any], Any, int]:
    """The arguments of a call, where its result goes, and the bytes that must be moved."""
    x = _random(torch, case.shape, case.dtype)
    name, axis = case.function, case.axis
    if name in ("softmin", "softmax2d", "softmin_jacobian_diag"):
        return [x], torch.empty_like(x), 2 * x.nbytes
    if name in ("softmin_vjp", "softmax2d_vjp"):
        return [x, torch.softmax(x, axis)], torch.empty_like(x), 3 * x.nbytes
    if name.endswith("jacobian"):
        place = axis % x.ndim
        n = x.shape[place]
        shape = (*x.shape[:place], n, n, *x.shape[place + 1 :])
        out = torch.empty(shape, dtype=x.dtype, device="cuda")
        return [torch.softmax(x, axis)], out, x.nbytes + out.nbytes
    if name == "maxout_affine":
        weight = _random(torch, (UNITS, case.pieces, case.shape[-1]), case.dtype)
        bias = _random(torch, (UNITS, case.pieces), case.dtype)
        out = torch.empty((case.shape[0], UNITS), dtype=x.dtype, device="cuda")
        return [x, weight, bias], out, 0
    best, index = x.max(axis)
    index = index.int()
    if name == "maxout":
        return [x], best, x.nbytes + best.nbytes
    if name == "maxout_with_index":
        return [x], (best, index), x.nbytes + best.nbytes + index.nbytes
    if name == "maxout_vjp":
        return [best, index], x, x.nbytes + best.nbytes + index.nbytes
    return [x, index], best, 2 * best.nbytes + index.nbytes  # maxout_jvp


def _ours(case: Case) -> Callable[..., Any]:
    function = getattr(na, case.function)
    keywords: dict[str, Any] = {}
    if case.function == "maxout_vjp":
        keywords = {"pieces": case.pieces}
    elif case.function.startswith("softmax2d"):
        keywords = {"channel_axis": case.axis}
    elif not case.function.endswith("diag") and case.function != "maxout_affine":
        keywords = {"axis": case.axis}
    return lambda out, *arguments: function(*arguments, out=out, **keywords)


def _peers(torch: Any, case: Case) -> dict[str, Callable[..., Any]]:
    """The same in PyTorch, as its users would write it, and in Triton where there is a kernel."""
    axis, name = case.axis, case.function
    functional = torch.nn.functional
    backward = torch.ops.aten._softmax_backward_data.out

    def affine(out: Any, x: Any, weight: Any, bias: Any) -> Any:
        z = functional.linear(x, weight.flatten(0, 1), bias.flatten())
        return torch.amax(z.view(-1, UNITS, case.pieces), -1, out=out)

    def product(out: Any, x: Any, weight: Any, bias: Any) -> Any:
        return functional.linear(x, weight.flatten(0, 1))

    def one_hot(out: Any, g: Any, index: Any) -> Any:
        return torch.zeros_like(out).scatter_(axis, index.long().unsqueeze(axis), g.unsqueeze(axis))

    table: dict[str, dict[str, Callable[..., Any]]] = {
        "softmin": {"torch": lambda out, x: functional.softmin(x, axis)},
        "softmax2d": {"torch": lambda out, x: torch.softmax(x, axis, out=out)},
        "softmin_vjp": {
            "torch": lambda out, g, y: backward(g, y, axis, y.dtype, grad_input=out).neg_()
        },
        "softmax2d_vjp": {"torch": lambda out, g, y: backward(g, y, axis, y.dtype, grad_input=out)},
        "maxout": {"torch": lambda out, x: torch.amax(x, axis, out=out)},
        "maxout_with_index": {"torch": lambda out, x: torch.max(x, axis)},
        "maxout_vjp": {"torch": one_hot},
        "maxout_affine": {"torch": affine, "cublas product": product},
    }
    peers = table.get(name, {})
    if name == "softmin" and case.shape[-1] <= 16_384 and case.dtype != "float64":
        triton = _triton_softmin()
        if triton is not None:
            peers["triton"] = triton
    return peers


def _triton_softmin() -> Callable[..., Any] | None:
    """The textbook's fused softmax, a row a program."""
    try:
        from benchmarks import triton_softmin
    except ImportError:
        return None
    return triton_softmin.softmin


# ---- measuring --------------------------------------------------------------------------------


def _times(torch: Any, call: Callable[[int], Any], buffers: int) -> list[float]:
    """Seconds of single calls, each on the next of the buffers, by events."""
    for i in range(3):
        call(i % buffers)
    torch.cuda.synchronize()
    taken: list[float] = []
    began = time.perf_counter()
    i = 0
    while len(taken) < 10 or time.perf_counter() - began < SECONDS and len(taken) < 500:
        events = []
        for _ in range(10):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call(i % buffers)
            end.record()
            events.append((start, end))
            i += 1
        torch.cuda.synchronize()
        taken += [start.elapsed_time(end) / 1e3 for start, end in events]
    return taken


def _summary(times: list[float]) -> dict[str, float]:
    return {"median": statistics.median(times), "minimum": min(times)}


def measured(torch: Any, case: Case) -> dict[str, Any]:
    """A case's entry in the results."""
    sets = [_operands(torch, case)]
    moved = sets[0][2]
    count = max(2, -(-ROTATED_BYTES // moved)) if moved else 2
    sets += [_operands(torch, case) for _ in range(min(count, 64) - 1)]
    times = {}
    for name, function in {"numba_acts": _ours(case), **_peers(torch, case)}.items():

        def call(i: int, function: Callable[..., Any] = function) -> Any:
            arguments, out, _ = sets[i]
            return function(out, *arguments)

        times[name] = _summary(_times(torch, call, len(sets)))
    entry = {
        "function": case.function,
        "work": f"{case.pieces} pieces" if case.pieces else "",
        "dtype": case.dtype,
        "shape": list(case.shape),
        "axis": case.axis,
        "bytes": moved,
        "seconds": times["numba_acts"]["median"],
        "times": times,
        "demand": case.demand,
    }
    sets.clear()
    torch.cuda.empty_cache()
    # Of an affine map there is more to do than to move bytes: it is held against its bare product.
    bare = copy_seconds(torch, moved) if moved else times["cublas product"]["median"]
    return entry | {"copy_seconds": bare, "share": bare / times["numba_acts"]["median"]}


_copies: dict[int, float] = {}


def copy_seconds(torch: Any, moved: int) -> float:
    """How long a device copy takes that moves so many bytes, half read and half written."""
    if moved not in _copies:
        half = moved // 2
        count = max(2, -(-ROTATED_BYTES // moved))
        pairs = [
            [torch.randint(0, 255, (half,), dtype=torch.uint8, device="cuda") for _ in range(2)]
            for _ in range(min(count, 64))
        ]
        times = _times(torch, lambda i: pairs[i][0].copy_(pairs[i][1]), len(pairs))
        _copies[moved] = statistics.median(times)
    return _copies[moved]


def replayed(torch: Any, case: Case) -> dict[str, Any]:
    """A small call, as often as a graph replays it: the GPU's own time for it."""
    arguments, out, _ = _operands(torch, case)
    entry: dict[str, Any] = {"function": case.function, "shape": list(case.shape), "times": {}}
    for name, function in {"numba_acts": _ours(case), **_peers(torch, case)}.items():
        for _ in range(3):
            function(out, *arguments)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(20):
                function(out, *arguments)

        def replay(i: int, graph: Any = graph) -> None:
            graph.replay()

        times = _times(torch, replay, 1)
        entry["times"][name] = _summary([t / 20 for t in times])
    return entry


def calls(torch: Any) -> list[dict[str, Any]]:
    """What a call costs from Python, for each kind of array, and what of it is the bare launch."""
    from numba import cuda

    x = np.random.default_rng(0).normal(size=(32, 128)).astype(np.float32)
    kinds: dict[str, tuple[Any, Any]] = {
        "Numba device array": (cuda.to_device(x), cuda.to_device(x)),
        "PyTorch tensor": (torch.from_numpy(x).cuda(), torch.from_numpy(x).cuda()),
    }
    try:
        import cupy
    except ImportError:
        pass
    else:
        kinds["CuPy array"] = cupy.asarray(x), cupy.asarray(x)
    measured: dict[str, Callable[[], Any]] = {}
    for kind, (given, out) in kinds.items():
        measured[f"softmin(x, out=out), {kind}"] = partial(na.softmin, given, out=out)
        measured[f"softmin(x), {kind}"] = partial(na.softmin, given)
        measured[f"softmin_vjp(g, y, out=out), {kind}"] = partial(
            na.softmin_vjp, given, given, out=out
        )
    given, out = kinds["PyTorch tensor"]
    measured["torch.softmax(x, -1, out=out)"] = lambda: torch.softmax(given, -1, out=out)
    measured |= _launch_alone(given, out)
    results = []
    for name, call in measured.items():
        times = []
        for _ in range(15):
            for _ in range(50):
                call()
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(500):
                call()
            times.append((time.perf_counter() - start) / 500)
            torch.cuda.synchronize()
        results.append({"call": name, **_summary(times)})
    return results


def _launch_alone(given: Any, out: Any) -> dict[str, Callable[[], Any]]:
    """Parts of a call: the wing without the hall, and the driver's launch through cuda.core."""
    from cuda.core import launch as start

    from numba_acts.cuda import launch, softmax

    queue = launch.Queue(0, 0, None, None)
    dtype = np.dtype(np.float32)
    x, y = (launch.Memory(a.data_ptr(), dtype, a.numel(), queue) for a in (given, out))
    none = launch.Memory(0, np.dtype(np.uint8), 0, queue)
    seen: list[Any] = []
    run = softmax.run
    recorder: Any = softmax
    recorder.run = lambda kernel, blocks, *a: seen.append((kernel, blocks, a))
    softmax.softmax(x, none, y, 32, 128, 1, -1.0)
    recorder.run = run
    kernel, blocks, arguments = seen[0]
    run(kernel, blocks, *arguments)
    handle = kernel.compiled(0, arguments)
    values = [a.pointer if isinstance(a, launch.Memory) else a for a in arguments]
    stream, configuration = launch._stream(0), launch._configuration(blocks, kernel.threads)
    return {
        "of it: the wing": partial(softmax.softmax, x, none, y, 32, 128, 1, -1.0),
        "of it: cuda.core's launch": partial(start, stream, configuration, handle, *values),
    }


# ---- the report -------------------------------------------------------------------------------


def stamp(torch: Any) -> dict[str, Any]:
    """Where and with what this was measured."""
    from cuda.bindings import driver

    versions = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    properties = torch.cuda.get_device_properties(0)
    number = driver.cuDriverGetVersion()[1]
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "cache_bytes": properties.L2_cache_size,
        "driver": f"CUDA {number // 1000}.{number % 1000 // 10}",
        "date": datetime.date.today().isoformat(),
        "versions": versions,
    }


def _line(entry: dict[str, Any]) -> str:
    times = entry["times"]
    peer = min((t["median"] for name, t in times.items() if name == "torch"), default=None)
    against = f"{peer / entry['seconds']:6.2f}x" if peer else "      -"
    demand = f"{entry['demand']:.0%}" if entry["demand"] else "-"
    met = "" if not entry["demand"] or entry["share"] >= entry["demand"] else "  short"
    shape = "x".join(map(str, entry["shape"]))
    return (
        f"{entry['function']:22} {entry['dtype']:9} {shape:18} {entry['seconds'] * 1e6:9.1f} µs "
        f"{entry['share']:7.1%} of {demand:>4} {against}{met}"
    )


def main(arguments: list[str]) -> int:
    """Measure, write the results, and print a short table last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cuda", description=__doc__)
    folder = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=folder, help="the folder of results")
    parser.add_argument("--only", default="", help="functions whose names contain this")
    given = parser.parse_args(arguments)
    import torch

    if not torch.cuda.is_available():
        print("needs an NVIDIA GPU, and PyTorch built for it", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    results: dict[str, Any] = {"stamp": stamp(torch), "cases": [], "small": [], "failed": []}
    for case in CASES:
        if given.only not in case.function:
            continue
        try:
            results["cases"].append(measured(torch, case))
            print(_line(results["cases"][-1]), flush=True)
        except Exception as error:  # one case must not cost the others their results
            results["failed"].append({"case": list(case), "error": f"{type(error)}: {error}"[:500]})
            print(f"{case.function} {case.shape} {case.dtype} failed: {error}", flush=True)
        torch.cuda.empty_cache()
    results["small"] = [replayed(torch, case) for case in SMALL]
    results["calls"] = calls(torch)
    name = re.sub(r"[^a-z0-9]+", "-", results["stamp"]["device"].lower()).strip("-")
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{results['stamp']['device']}, share of a copy's bandwidth (short: below the demand)")
    for entry in results["cases"]:
        print(_line(entry))
    for entry in results["small"]:
        times = ", ".join(f"{n} {t['median'] * 1e6:.2f} µs" for n, t in entry["times"].items())
        print(f"{entry['function']} {entry['shape']} in a graph: {times}")
    for entry in results["calls"]:
        print(f"{entry['call']:42} {entry['median'] * 1e6:7.2f} µs")
    print(f"{len(results['cases'])} cases, {len(results['failed'])} failed")
    return int(bool(results["failed"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
