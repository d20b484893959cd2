"""Results of benchmarks as Markdown: what the site shows and ``python -m benchmarks`` prints.

A results file is a JSON object: a stamp (device, versions, date) and parts, each a list of
measurements, any of which may be missing. Times are in seconds.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NAMES = {
    "cublas product": "cuBLAS, the product alone",
    "cupy": "CuPy",
    "jax": "JAX",
    "numba": "Numba",
    "numba_acts": "numba_acts",
    "numpy": "NumPy",
    "onnx": "ONNX",
    "onnxruntime": "ONNX Runtime",
    "paddle": "Paddle",
    "scipy": "SciPy",
    "tensorflow": "TensorFlow",
    "thinc": "thinc",
    "torch": "PyTorch",
    "torch.compile": "PyTorch, compiled",
    "torch.softmax": "PyTorch's softmax",
    "triton": "Triton",
}
SPACE = "\N{NO-BREAK SPACE}"
Results = dict[str, Any]
Row = dict[str, Any]


def load(folder: Path = RESULTS) -> dict[str, Results]:
    """Return all results files by name, those of CPUs first."""
    files = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
    return dict(sorted(files.items(), key=lambda file: (on_gpu(file[1]), file[0])))


def on_gpu(results: Results) -> bool:
    """Whether a file was measured on a GPU, which its stamp then names."""
    return "device" in results.get("stamp", {})


def name(library: str) -> str:
    """Return how a library writes itself."""
    return NAMES.get(library, library)


def floor(case: Row) -> float | None:
    """Return the time that a case cannot go below: that of moving its bytes, or of its products."""
    return case.get("floor", case.get("copy_seconds", case.get("copy")))


def medians(row: Row) -> dict[str, float]:
    """Return each library's median time, ours first."""
    times = {library: time["median"] for library, time in row.get("times", {}).items() if time}
    if "seconds" in row:
        times["numba_acts"] = row["seconds"]
    return {library: times[library] for library in libraries([{"times": times}])}


def libraries(rows: Iterable[Row]) -> list[str]:
    """Return the libraries that rows hold times of, ours first."""
    found = {library for row in rows for library in row.get("times", {})}
    found |= {"numba_acts" for row in rows if "seconds" in row}
    return sorted(found, key=lambda library: (library != "numba_acts", name(library).lower()))


def shown(shape: Sequence[int]) -> str:
    """Return a shape as people write it."""
    return f"{SPACE}×{SPACE}".join(f"{n:,}" for n in shape)


def duration(seconds: float | None) -> str:
    """Return a time with three digits in a unit that fits."""
    if seconds is None:
        return ""
    units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    unit = next((unit for unit, size in units.items() if seconds >= 0.9995 * size), "ns")
    size = units[unit]
    value = seconds / size
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}{SPACE}{unit}"


def memory(size: float) -> str:
    """Return a number of bytes in a unit that fits."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g}{SPACE}{unit}"
    return f"{size:g}{SPACE}bytes"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """Return a table whose first `text` columns are words and the others numbers."""
    ruler = [":--" if i < text else "--:" for i in range(len(head))]
    lines = [head, ruler, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(results: Results) -> str:
    """Return the name of what a file was measured on."""
    given = results.get("stamp", {})
    return given.get("device") or given.get("processor") or "a machine that is not named"


def stamp(results: Results) -> str:
    """Return in a sentence what a file was measured on."""
    given = results.get("stamp", {})
    parts = [f"**{machine(results)}**"]
    if "cores" in given:
        parts.append(f"{given['cores']} core{'s' if given['cores'] != 1 else ''}")
    parts += [given["system"]] if "system" in given else []
    parts += [f"Python {given['python']}"] if "python" in given else []
    versions = given.get("versions", {})
    parts += [f"{name(library)} {version}" for library, version in versions.items()]
    date = f", measured on {given['date']}" if "date" in given else ""
    return ", ".join(parts) + date + "."


def cases(rows: Sequence[Row]) -> str:
    """Return the times of cases beside their floor, and ours as a multiple of it."""
    peers = libraries(rows)
    head = ["function", "dtype", "shape", "axis", "floor", *map(name, peers)]
    ratio_at = len(head) - len(peers) + 1 if "numba_acts" in peers else len(head)
    head.insert(ratio_at, "ours / floor")

    def line(row: Row) -> list[str]:
        times, least = medians(row), floor(row)
        best = min(times.values(), default=None)
        cells = [label(row), row["dtype"], shown(row["shape"]), str(row.get("axis", ""))]
        cells.append(duration(least))
        for peer in peers:
            time = duration(times.get(peer))
            cells.append(f"**{time}**" if time and times[peer] == best else time)
        ratio = f"{times['numba_acts'] / least:.2f}" if least and "numba_acts" in times else ""
        cells.insert(ratio_at, ratio)
        return cells

    return table(head, map(line, rows), text=4)


def summary(rows: Sequence[Row]) -> str:
    """Return our time, the fastest other library's and the floor, for a few cases."""

    def line(row: Row) -> list[str]:
        times = medians(row)
        ours = times.pop("numba_acts")
        peer = min(times, key=lambda library: times[library])
        numbers = (ours, times[peer], floor(row) or 0.0)
        milliseconds, theirs, least = (f"{1e3 * number:.3g}" for number in numbers)
        return [label(row), shown(row["shape"]), milliseconds, f"{theirs} ({name(peer)})", least]

    head = ["float32", "shape", "numba_acts, ms", "fastest other library, ms", "floor, ms"]
    return table(head, map(line, rows), text=2)


LARGE = 32 << 20  # bytes


def spread(rows: Sequence[Row]) -> tuple[float, float, float] | None:
    """Return what large cases take as multiples of their floor: least, median and most."""
    found = [
        medians(row)["numba_acts"] / least
        for row in rows
        if row.get("bytes", 0) >= LARGE and (least := floor(row))
    ]
    return (min(found), statistics.median(found), max(found)) if found else None


def slower(rows: Sequence[Row]) -> str:
    """Return in how many cases we are the fastest, and a table of the others."""
    times = [(row, medians(row)) for row in rows]
    shared = [(row, time) for row, time in times if len(time) > 1 and "numba_acts" in time]
    if not shared:
        return ""
    best = [(row, time, min(time, key=lambda library: time[library])) for row, time in shared]
    others = [
        [label(row), row["dtype"], shown(row["shape"]), name(peer)]
        + [f"{time['numba_acts'] / time[peer]:.2f}"]
        for row, time, peer in best
        if peer != "numba_acts"
    ]
    head = ["function", "dtype", "shape", "fastest", "ours / fastest"]
    wins = f"Of {len(shared)} cases that another library has too, this one is the fastest"
    if not others:
        return f"{wins} in all."
    others.sort(key=lambda line: -float(line[-1]))
    return f"{wins} in {len(shared) - len(others)}. The others:\n\n{table(head, others, text=4)}"


def short(rows: Sequence[Row]) -> str:
    """Return in how many cases the demanded share of the floor is reached, and the others."""
    asked = [row for row in rows if row.get("demand")]
    if not asked:
        return ""
    others = [
        [
            label(row),
            row["dtype"],
            shown(row["shape"]),
            f"{row['share']:.0%}",
            f"{row['demand']:.0%}",
        ]
        for row in sorted(asked, key=lambda row: row["share"] / row["demand"])
        if row["share"] < row["demand"]
    ]
    met = f"Of {len(asked)} cases that a share of the floor's speed is demanded of"
    if not others:
        return f"{met}, all reach it."
    head = ["function", "dtype", "shape", "reached", "demanded"]
    return (
        f"{met}, {len(asked) - len(others)} reach it. The others:\n\n{table(head, others, text=3)}"
    )


def label(row: Row) -> str:
    """Return a case's function and what it does: forward, vjp, Jacobian."""
    work = row.get("work", "forward")
    return (
        row["function"]
        if work in ("forward", "") or work in row["function"]
        else (f"{row['function']}, {work}")
    )


def scaling(rows: Sequence[Row]) -> str:
    """Return the times over size, with each number of threads."""
    peers = libraries(rows)
    return table(
        ["function", "slices of", "numbers", "threads", "copy", *map(name, peers)],
        (
            [row["function"], f"{row['length']:,}", f"{row['elements']:,}", str(row["threads"])]
            + [duration(row.get("copy")), *(duration(medians(row).get(p)) for p in peers)]
            for row in rows
        ),
    )


def busy(rows: Sequence[Row]) -> str:
    """Return the median and the 99th percentile of calls while other work takes the cores."""
    peers = libraries(rows)

    def both(time: dict[str, float] | None) -> str:
        return f"{duration(time['median'])}, {duration(time['p99'])}" if time else ""

    return table(
        ["cores", "work", "numbers", *map(name, peers)],
        (
            [row["load"], row["work"], f"{row['elements']:,}"]
            + [both(row["times"].get(peer)) for peer in peers]
            for row in rows
        ),
        text=2,
    )


def calls(rows: Sequence[Row]) -> str:
    """Return the cost of small calls, each call once for each library that has it."""
    peers = libraries(rows)
    return table(
        ["call", *map(name, peers)],
        ([row["call"], *(duration(medians(row).get(p)) for p in peers)] for row in rows),
    )


def startup(part: Row) -> str:
    """Return what imports and first calls take."""
    lines = []
    if "import_numba" in part:
        lines.append(["`import numba`", duration(part["import_numba"]), ""])
    if "import_adds" in part:
        lines.append(["`import numba_acts` adds", duration(part["import_adds"]), ""])
    lines += [
        [f"first `{row['call']}`", duration(row["cold"]), duration(row["warm"])]
        for row in part.get("first_calls", [])
    ]
    return table(["what", "nothing cached", "kernels cached"], lines)


def uses(rows: Sequence[Row]) -> str:
    """Return what calls take whose results stay in the caches or go around them."""
    columns = list(dict.fromkeys(way for row in rows for way in row["times"]))
    return table(
        ["function", "result", "the library's way", *columns],
        (
            [label(row), memory(row["bytes"]), "around" if row["far"] else "in the caches"]
            + [duration(row["times"][way]["median"]) for way in columns]
            for row in rows
        ),
        text=3,
    )


def memory_use(rows: Sequence[Row]) -> str:
    """Return the memory that calls take beyond their result."""
    return table(
        ["function", "dtype", "shape", "beyond the result"],
        ([label(r), r["dtype"], shown(r["shape"]), memory(r["beyond_result"])] for r in rows),
        text=3,
    )


def accuracy(rows: Sequence[Row]) -> str:
    """Return the worst error of each library over all lengths and scales, as share of the bound."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        errors = worst.setdefault((row["function"], row["dtype"]), {})
        errors[row["library"]] = max(errors.get(row["library"], 0.0), row["worst"])
    peers = libraries([{"times": errors} for errors in worst.values()])
    return table(
        ["function", "dtype", *map(name, peers)],
        (
            [function, dtype, *(_share(errors[p]) if p in errors else "" for p in peers)]
            for (function, dtype), errors in worst.items()
        ),
        text=2,
    )


def soak(rows: Sequence[Row]) -> str:
    """Return how many calls were made to see whether any fails, and how memory grew meanwhile."""
    head = ["what", "calls", "failed", "seconds", "memory grew by"]
    return table(
        head,
        (
            [row["what"], f"{row['count']:,}", str(len(row["failed"])), f"{row['seconds']:.0f}"]
            + [memory(row["growth"]) if "growth" in row else ""]
            for row in rows
        ),
    )


def agreement(rows: Sequence[Row]) -> str:
    """Return how many of other projects' own cases agree, and why the others are meant not to."""
    lines = [
        [name(row["project"]), row["version"]]
        + [str(n) for n in (row["cases"], row["agree"], len(row["exceptions"]), len(row["failed"]))]
        for row in rows
    ]
    head = ["project", "version", "cases", "agree", "exceptions", "fail"]
    reasons = {reason: row for row in rows for reason in row["exceptions"].values()}
    told = [f"- {name(row['project'])}: {reason}." for reason, row in reasons.items()]
    return "\n\n".join(filter(None, [table(head, lines, text=2), "\n".join(told)]))


def _share(error: float) -> str:
    return f"{error:,.0f}" if error >= 100 else f"{error:.3g}"


def was_busy(results: Results, part: str) -> str:
    """Return a sentence if the machine had other work while a part was measured, or nothing."""
    if part == "busy":  # on purpose
        return ""
    return str(results.get("busy_meanwhile", {}).get(part, ""))


# The parts of a results file: title and table.
PARTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "cases": ("Cases", cases),
    "scaling": ("Time over size", scaling),
    "small": ("Small cases on a GPU, as a graph replays them", cases),
    "busy": ("On a busy machine: median and 99th percentile", busy),
    "calls": ("Small calls", calls),
    "startup": ("Imports and first calls", startup),
    "uses": ("Large results, read next or left alone", uses),
    "memory": ("Memory beyond the result", memory_use),
    "accuracy": ("Accuracy: the worst error as a share of the bound", accuracy),
    "soak": ("Endurance", soak),
    "agreement": ("Other projects' own cases", agreement),
}


def report(results: Results) -> str:
    """Return a whole results file: what it was measured on, and a table for each of its parts."""
    parts = [
        "\n\n".join(filter(None, [f"## {title}", was_busy(results, part), show(results[part])]))
        for part, (title, show) in PARTS.items()
        if results.get(part)
    ]
    return "\n\n".join([stamp(results), *parts])
