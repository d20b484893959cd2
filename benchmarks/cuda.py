"""``python -m benchmarks cuda``: the GPU's kernels beside a copy of the same bytes, and its peers.

Times are medians of events around single calls, over buffers that are rotated so that no cache
holds them (256 MB and more in all), of random numbers. A case's calls are measured in turn: ours,
the peers', and a device copy of as many bytes as must be moved, each input read once and each
output written once. ``share`` is the copy's time over ours. Small calls are timed as replays of a
graph, and, apart, as they cost from Python. Everything goes to ``<gpu>.json`` in the folder of
results, with the device, its driver and all versions: after each case, so that a run that is cut
short leaves what it has. At the end tables and figures are written beside it.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numba_acts as na
from benchmarks import tables
from benchmarks.tables import RESULTS

ROTATED_BYTES = 1 << 28  # at least, of all buffers that a case goes through
SECONDS = 0.4  # of measuring a case, 5 rounds at least
BURST = 4  # calls of each function in a round
COMPILED = 1001  # numbers in a row, at least, where PyTorch's compiler is a peer: it takes seconds
AHEAD = 4_000_000  # cycles, some 2 ms: the GPU waits so long while the host fills its queue
PACKAGES = "numba-acts numba numba-cuda cuda-core cuda-bindings numpy torch triton cupy-cuda13x"


class Case(NamedTuple):
    """A public function on one shape; the demand is a share of the copy's bandwidth.

    Of an affine map it is one of its bare product's speed.
    """

    function: str
    shape: tuple[int, ...]
    axis: int = -1
    dtype: str = "float32"
    demand: float = 0.9
    pieces: int = 0


HALVES = ("float16", "bfloat16")
CASES = [
    *(Case("softmin", ((1 << 25) // n, n)) for n in (4, 10, 19, 21, 32, 33, 100, 128, 256, 1001)),
    *(Case("softmin", ((1 << 25) // n, n)) for n in (1024, 4096, 4097)),
    *(Case("softmin", ((1 << 26) // n, n)) for n in (8192, 16_384, 32_768)),
    *(Case("softmin", ((1 << 26) // n, n), demand=0.85) for n in (65_536, 262_144)),
    *(Case("softmin", shape, demand=0.7) for shape in ((64, 1_000_000), (1, 100_000_000))),
    *(Case("softmin", (16_384, 4096), dtype=dtype) for dtype in HALVES),
    Case("softmin", (16_384, 2048), dtype="float64"),
    *(Case("softmin_vjp", ((1 << 25) // n, n)) for n in (128, 1024, 4096, 16_384)),
    Case("softmin_vjp", (512, 65_536), demand=0.85),
    Case("softmin_vjp", (64, 1_000_000), demand=0.7),
    *(Case("softmax2d", (8, c, 512, 512), -3) for c in (3, 19, 21, 32)),
    *(Case("softmax2d", shape, -3) for shape in ((4, 100, 512, 512), (2, 150, 512, 512))),
    *(Case("softmax2d", shape, -3) for shape in ((2, 256, 512, 512), (2, 1000, 128, 128))),
    *(Case("softmax2d", (1024, c, 7, 7), -3, demand=0.8) for c in (21, 512, 1000)),
    Case("softmax2d", (8, 21, 511, 511), -3),
    Case("softmax2d", (8, 512, 512, 21), -1),
    *(Case("softmax2d", (8, 21, 512, 512), -3, dtype) for dtype in HALVES),
    *(Case("softmax2d_vjp", (8, c, 512, 512), -3) for c in (3, 19, 21, 32)),
    *(Case("softmax2d_vjp", (2, c, 512, 512), -3) for c in (150, 256)),
    *(Case("softmax2d_vjp", (1024, c, 7, 7), -3, demand=0.8) for c in (512, 1000)),
    *(Case("maxout", ((1 << 26) // k, k)) for k in (2, 3, 4, 5, 8, 9, 12, 24)),
    *(Case("maxout_with_index", ((1 << 26) // k, k)) for k in (2, 4, 8)),
    Case("maxout_with_index", (64, 4, 1 << 18), 1),
    *(Case("maxout_vjp", ((1 << 26) // k, k), pieces=k) for k in (2, 3, 4, 5, 6, 7, 8, 12)),
    Case("maxout_jvp", (1 << 24, 4), pieces=4),
    *(Case("softmin_jacobian", shape) for shape in ((65_536, 32), (4096, 128))),
    Case("softmax2d_jacobian", (21, 256, 256), -3),
    Case("softmin_jacobian_diag", (1 << 25,)),
    Case("maxout_affine", (8192, 1024), demand=0.91, pieces=4),
    Case("expected_shift", (64, 1 << 20), 0, demand=0.8),  # of examples/expected_disparity.py
    Case("maxout_affine", (8192, 1024), dtype="bfloat16", demand=0.77, pieces=4),
]
LESS = {"NVIDIA H200": 0.05}  # is demanded where memory is faster beside the same processors
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
    if name == "expected_shift":
        out = torch.empty(case.shape[1:], device="cuda")
        return [x], out, x.nbytes + out.nbytes
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
    # maxout_jvp: a sector has the pieces of some units, and one of them is read
    return [x, index], best, x.nbytes + best.nbytes + index.nbytes


def _ours(torch: Any, case: Case) -> Callable[..., Any]:
    if case.function == "expected_shift":
        return _expected_shift(torch, case)
    function = getattr(na, case.function)
    keywords: dict[str, Any] = {}
    if case.function == "maxout_vjp":
        keywords = {"pieces": case.pieces}
    elif case.function.startswith("softmax2d"):
        keywords = {"channel_axis": case.axis}
    elif not case.function.endswith("diag") and case.function != "maxout_affine":
        keywords = {"axis": case.axis}
    return lambda out, *arguments: function(*arguments, out=out, **keywords)


def _expected_shift(torch: Any, case: Case) -> Callable[..., Any]:
    """A user's kernel, made of device functions: a softmin's mean, at the speed of one read."""
    from numba import cuda

    from benchmarks.cuda_static import example

    shown = example("expected_disparity")
    blocks, stream = -(-case.shape[1] // shown.THREADS), torch.cuda.current_stream().cuda_stream
    kernel = shown.expected_shift[blocks, shown.THREADS, cuda.external_stream(stream)]
    return lambda out, x: kernel(x, -1.0, out)


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

    def mean(out: Any, x: Any) -> Any:
        return torch.tensordot(steps, functional.softmin(x, 0), 1, out=out)

    steps = torch.arange(case.shape[0], device="cuda", dtype=torch.float32)

    def one_hot(out: Any, g: Any, index: Any) -> Any:
        return torch.zeros_like(out).scatter_(axis, index.long().unsqueeze(axis), g.unsqueeze(axis))

    table: dict[str, dict[str, Callable[..., Any]]] = {
        # PyTorch's softmin is two kernels, of which softmax is one.
        "softmin": {
            "torch": lambda out, x: functional.softmin(x, axis),
            "torch.softmax": lambda out, x: torch.softmax(x, axis, out=out),
        },
        "softmax2d": {"torch": lambda out, x: torch.softmax(x, axis, out=out)},
        "softmin_vjp": {
            "torch": lambda out, g, y: backward(g, y, axis, y.dtype, grad_input=out).neg_()
        },
        "softmax2d_vjp": {"torch": lambda out, g, y: backward(g, y, axis, y.dtype, grad_input=out)},
        "maxout": {"torch": lambda out, x: torch.amax(x, axis, out=out)},
        "maxout_with_index": {"torch": lambda out, x: torch.max(x, axis)},
        "maxout_vjp": {"torch": one_hot},
        "expected_shift": {"torch": mean},
        "maxout_affine": {"torch": affine, "cublas product": product},
    }
    peers = table.get(name, {})
    if name == "softmin" and case.shape[-1] <= 16_384 and case.dtype != "float64":
        triton = _triton_softmin()
        if triton is not None:
            peers["triton"] = triton
    if name == "softmin" and case.shape[-1] >= COMPILED and importlib.util.find_spec("triton"):
        compiled = torch.compile(lambda x: functional.softmin(x, axis), dynamic=False)
        peers["torch.compile"] = lambda out, x: compiled(x)
    return peers


def _triton_softmin() -> Callable[..., Any] | None:
    """The textbook's fused softmax, a row a program."""
    try:
        from benchmarks import triton_softmin
    except ImportError:
        return None
    return triton_softmin.softmin


# ---- measuring --------------------------------------------------------------------------------

Times = dict[str, dict[str, float]]


def interleaved(torch: Any, calls: dict[str, Callable[[int], Any]], buffers: int) -> Times:
    """Median and minimum seconds of calls by events, in turn, each on the next of the buffers."""
    for call in calls.values():
        for i in range(3):
            call(i % buffers)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    began, rounds, number = time.perf_counter(), 0, 0
    while rounds < 5 or time.perf_counter() - began < SECONDS:
        torch.cuda.synchronize()
        torch.cuda._sleep(AHEAD)
        events = []
        for name, call in calls.items():
            for _ in range(BURST):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                call(number % buffers)
                end.record()
                events.append((name, start, end))
                number += 1
        torch.cuda.synchronize()
        for name, start, end in events:
            taken[name].append(start.elapsed_time(end) / 1e3)
        rounds += 1
    return {name: _summary(times) for name, times in taken.items()}


def _summary(times: list[float]) -> dict[str, float]:
    return {"median": statistics.median(times), "minimum": min(times)}


def _named(case: Case) -> dict[str, Any]:
    """A case as results name it: the function, and what it does."""
    found = re.fullmatch("(.+?)_(vjp|jvp|jacobian|jacobian_diag)", case.function)
    function, work = found.groups() if found else (case.function, "forward")
    named = {"function": function, "work": work.replace("_", " "), "dtype": case.dtype}
    return named | {"shape": list(case.shape), "axis": case.axis}


def _functions(torch: Any, case: Case, arguments: Any, out: Any) -> dict[str, Callable[..., Any]]:
    """Ours and the peers', each called once; a peer that cannot run here is left out."""
    functions = {"numba_acts": _ours(torch, case), **_peers(torch, case)}
    for name, function in list(functions.items()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's compiler has advice
                function(out, *arguments)
            torch.cuda.synchronize()
        except Exception as error:
            if name == "numba_acts":
                raise
            print(f"{case.function} {case.shape}: without {name}: {error}"[:300], flush=True)
            del functions[name]
    return functions


def measured(torch: Any, case: Case) -> dict[str, Any]:
    """A case's entry in the results."""
    sets = [_operands(torch, case)]
    arguments, out, moved = sets[0]
    count = max(2, -(-ROTATED_BYTES // moved)) if moved else 2
    sets += [_operands(torch, case) for _ in range(count - 1)]
    calls: dict[str, Callable[[int], Any]] = {}
    for name, function in _functions(torch, case, arguments, out).items():

        def call(i: int, function: Callable[..., Any] = function) -> Any:
            arguments, out, _ = sets[i]
            return function(out, *arguments)

        calls[name] = call
    if moved:
        pairs = [[_bytes(torch, moved // 2) for _ in range(2)] for _ in range(count)]
        calls["copy"] = lambda i: pairs[i][0].copy_(pairs[i][1])
    times = interleaved(torch, calls, count)
    # Of an affine map there is more to do than to move bytes: it is held against its bare product.
    bare = times.pop("copy")["median"] if moved else times["cublas product"]["median"]
    ours = times["numba_acts"]["median"]
    return _named(case) | {
        "bytes": moved,
        "seconds": ours,
        "copy_seconds": bare,
        "share": bare / ours,
        "demand": case.demand - LESS.get(torch.cuda.get_device_name(), 0),
        "times": times,
    }


def _bytes(torch: Any, size: int) -> Any:
    return torch.randint(0, 255, (size,), dtype=torch.uint8, device="cuda")


def replayed(torch: Any, case: Case) -> dict[str, Any]:
    """A small call, as often as a graph replays it: the GPU's own time for it."""
    arguments, out, _ = _operands(torch, case)
    replays: dict[str, Callable[[int], Any]] = {}
    for name, function in _functions(torch, case, arguments, out).items():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(20):
                function(out, *arguments)

        def replay(i: int, graph: Any = graph) -> None:
            graph.replay()

        replays[name] = replay
    times = interleaved(torch, replays, 1)
    shares = {name: {k: t / 20 for k, t in taken.items()} for name, taken in times.items()}
    return _named(case) | {"times": shares}


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
    table: dict[tuple[str, str], Callable[[], Any]] = {}
    for kind, (given, out) in kinds.items():
        table["softmin(x, out=out)", kind] = partial(na.softmin, given, out=out)
        table["softmin(x)", kind] = partial(na.softmin, given)
        table["softmin_vjp(g, y, out=out)", kind] = partial(na.softmin_vjp, given, given, out=out)
    given, out = kinds["PyTorch tensor"]
    table["softmin(x, out=out)", "torch"] = lambda: torch.softmax(given, -1, out=out)
    table["softmin(x)", "torch"] = lambda: torch.softmax(given, -1)
    for name, call in _launch_alone(given, out).items():
        table[name, "numba_acts"] = call
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in table}
    for _ in range(15):
        for key, call in table.items():
            for _ in range(50):
                call()
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(500):
                call()
            taken[key].append((time.perf_counter() - start) / 500)
            torch.cuda.synchronize()
    rows: dict[str, Any] = {}
    for (name, kind), times in taken.items():
        rows.setdefault(name, {"call": name, "times": {}})["times"][kind] = _summary(times)
    return list(rows.values())


def _launch_alone(given: Any, out: Any) -> dict[str, Callable[[], Any]]:
    """Parts of a call: its kernels alone, and the launch of the driver through cuda.core."""
    from cuda.core import launch as start

    from numba_acts._cuda import forward, launch

    queue = launch.Queue(0, 0, None, None)
    dtype = np.dtype(np.float32)
    x, y = (launch.Memory(a.data_ptr(), dtype, a.numel(), queue) for a in (given, out))
    none = launch.Memory(0, np.dtype(np.uint8), 0, queue)
    seen: list[Any] = []
    run = forward.run
    recorder: Any = forward
    recorder.run = lambda kernel, blocks, *a: seen.append((kernel, blocks, a))
    forward.softmax(x, none, y, 32, 128, 1, -1.0)
    recorder.run = run
    kernel, blocks, arguments = seen[0]
    run(kernel, blocks, *arguments)
    handle = kernel.compiled(0, arguments)
    values = [a.pointer if isinstance(a, launch.Memory) else a for a in arguments]
    stream, configuration = (
        launch._stream(0),
        launch._configuration(blocks, kernel.threads, kernel.shared),
    )
    return {
        "of softmin(x, out=out), its kernels": partial(
            forward.softmax, x, none, y, 32, 128, 1, -1.0
        ),
        "of softmin(x, out=out), cuda.core's launch": partial(
            start, stream, configuration, handle, *values
        ),
    }


# ---- the report -------------------------------------------------------------------------------


def stamp(torch: Any) -> dict[str, Any]:
    """Where and with what this was measured."""
    versions = {}
    for package in PACKAGES.split():
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "cache_bytes": properties.L2_cache_size,
        "driver": _driver(),
        "date": datetime.date.today().isoformat(),
        "python": sys.version.split()[0],
        "versions": {"numba-acts": na.__version__} | versions,
    }


def _driver() -> str:
    """The driver's own version, where it tells, and that of CUDA."""
    from cuda.bindings import driver

    number = driver.cuDriverGetVersion()[1]
    version = f"CUDA {number // 1000}.{number % 1000 // 10}"
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        own = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return version
    return f"{own}, {version}"


def _line(entry: dict[str, Any]) -> str:
    times = entry["times"]
    if "demand" not in entry:  # a small call, or one from Python
        name = entry.get("call") or f"{tables.label(entry)} {entry['shape']} in a graph"
        medians = (f"{n} {t['median'] * 1e6:.2f} µs" for n, t in times.items())
        return f"{name}: {', '.join(medians)}"
    bandwidth = f"{entry['bytes'] / entry['seconds'] / 1e12:5.2f} TB/s" if entry["bytes"] else ""
    against = f"{times['torch']['median'] / entry['seconds']:6.2f}x" if "torch" in times else ""
    demand = f"{entry['demand']:.0%}"
    met = "" if entry["share"] >= entry["demand"] else "  short"
    shape = "x".join(map(str, entry["shape"]))
    return (
        f"{tables.label(entry):24} {entry['dtype']:9} {shape:16} {entry['seconds'] * 1e6:8.1f} µs "
        f"{bandwidth:10} {entry['share']:6.1%} of {demand:>4} {against:>7}{met}"
    )


def _summed_up(results: dict[str, Any]) -> str:
    """The results as a short table."""
    lines = ["", f"{results['stamp']['device']}, {results['stamp']['driver']}: share of a copy"]
    lines += map(_line, results["cases"])
    lines += map(_line, [*results["small"], *results["calls"]])
    short = [e for e in results["cases"] if e["share"] < e["demand"]]
    lines += [f"failed: {failure['case']}: {failure['error']}" for failure in results["failed"]]
    counts = len(results["cases"]), len(short), len(results["failed"])
    return "\n".join([*lines, "{} cases, {} short of their demand, {} failed".format(*counts)])


def main(arguments: list[str]) -> int:
    """Measure, write the results after each case, and print a short table last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cuda", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder of results")
    parser.add_argument("--only", default="", help="functions whose names contain this")
    parser.add_argument("--bare", action="store_true", help="the numbers without tables, figures")
    given = parser.parse_args(arguments)
    import torch

    if not torch.cuda.is_available():
        print("needs an NVIDIA GPU, and PyTorch built for it", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    results: dict[str, Any] = {"stamp": stamp(torch)}
    results |= {"cases": [], "small": [], "calls": [], "failed": []}
    name = re.sub(r"[^a-z0-9]+", "-", results["stamp"]["device"].lower()).strip("-")
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / f"{name}.json"
    jobs: list[tuple[str, Any, Callable[[], Any]]] = [
        (part, case, partial(measure, torch, case))
        for part, cases, measure in (("small", SMALL, replayed), ("cases", CASES, measured))
        for case in cases
        if given.only in case.function
    ]
    jobs.insert(0, ("calls", "calls", partial(calls, torch)))
    _warm_up(torch)
    for part, case, job in jobs:
        try:
            done = job()
            entries = done if isinstance(done, list) else [done]
            results[part] += entries
            print(*map(_line, entries), sep="\n", flush=True)
            torch.cuda.empty_cache()
            torch.compiler.reset()  # it would take a case's code for another's, or compile no more
        except Exception as error:  # one case must not cost the others their results
            failure = {"case": str(case), "error": f"{type(error).__name__}: {error}"[:500]}
            results["failed"].append(failure)
            print(f"{failure['case']} failed: {failure['error']}", flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {path}")
    if not given.bare:
        try:
            from benchmarks import report
        except ImportError as error:
            print(f"no tables and figures: {error}; later: python -m benchmarks report")
        else:
            report.write(path)
    print(_summed_up(results))
    return int(bool(results["failed"]))


def _warm_up(torch: Any) -> None:
    """A second of copies: an idle GPU's clocks are slow."""
    pair = [_bytes(torch, ROTATED_BYTES) for _ in range(2)]
    began = time.perf_counter()
    while time.perf_counter() - began < 1:
        for _ in range(20):
            pair[0].copy_(pair[1])
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
