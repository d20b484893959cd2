"""Times of several calls in turn, in one process, and what they were measured on."""

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numba_acts import _versions
from numba_acts._busy import Watch

RESULTS = Path(__file__).parent / "results"
PACKAGES = "numba_acts numba numpy torch onnxruntime jax scipy thinc".split()
# Threads that look for work after a call are waited for: OpenMP's do for 10 ms, ONNX Runtime's 25.
PAUSE, QUIET, PAUSES = 0.005, 0.1, 12  # seconds at a time, the share spent from which it is quiet
WARM = 0.005  # seconds that a call runs untimed before each sample
SHORTEST = 0.001  # seconds that a sample takes at least: quicker calls are repeated within it

WATCH = Watch()

Call = Callable[[], object]
Times = dict[str, dict[str, float]]


def interleaved(calls: Mapping[str, Call], rounds: int, budget: float) -> Times:
    """Median and minimum seconds of each call, from `rounds` samples taken in turn.

    A call that would take more than its share of `budget` seconds gets fewer samples, at least 3.
    Before each sample the call runs untimed for a moment, so that it finds its own code and data at
    hand, and its threads awake: some systems wake a thread on the caller's own core, and move it to
    another one only milliseconds later.
    """
    WATCH.look()
    repeats, most = {}, {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        repeats[name] = max(1, int(SHORTEST / max(seconds, 1e-9)))
        share = budget / len(calls)
        most[name] = max(3, min(rounds, int(share / (2 * seconds + PAUSE + WARM))))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds):
        for name, call in calls.items():
            if round_ >= most[name]:
                continue
            settle()
            awake = time.perf_counter() + WARM
            call()
            while time.perf_counter() < awake:
                call()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            samples[name].append((time.perf_counter() - start) / repeats[name])
    return {
        name: {"median": statistics.median(taken), "minimum": min(taken)}
        for name, taken in samples.items()
    }


def settle() -> None:
    """Sleep until this process's threads sleep as well, or have not done so for a while."""
    for _ in range(PAUSES):
        before = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - before < QUIET * PAUSE:
            return


def stamp() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions.installed(PACKAGES),
    }


def processor() -> str:
    """The processor's name and, where the system tells, the family that compilers know it by."""
    import llvmlite.binding

    return f"{_versions.processor()} ({llvmlite.binding.get_host_cpu_name()})"


def save(part: str, measured: Any, folder: Path = RESULTS) -> Path:
    """Put one part's figures into the processor's file, the other parts' stay; then report."""
    now = stamp()
    name = "".join(c if c.isalnum() else "-" for c in now["processor"].lower())
    path = folder / f"{'-'.join(filter(None, name.split('-')))}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results["stamp"] = now
    results[part] = measured
    results.setdefault("busy_meanwhile", {})[part] = WATCH.told()  # nothing, on a quiet machine
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    try:
        from benchmarks import report
    except ImportError as error:
        print(f"no tables and figures: {error}; later: python -m benchmarks report")
    else:
        report.write(path)
    return path
