"""``python -m benchmarks busy``: calls while other work takes the cores.

Softmin along rows of 1000 numbers, forward and vjp, each library in a process of its own, one after
the other in turn: on a quiet machine, with all cores but one taken by other processes, and with all
of them taken. Quiet, numba_acts is also measured in turns with ONNX Runtime in one process, whose
threads wait busily after its call, and with more threads than there are cores.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks import tables, timing
from benchmarks.cases import Case
from numba_acts._cpu.threads import usable

ROWS = 10, 100, 1000, 10_000
LENGTH = 1000
OURS, ALONE = "numba_acts", "numba_acts, 1 thread"
TURNS = "numba_acts, in turns with ONNX Runtime"
MORE = {f"numba_acts, {count} threads": count for count in (8, 32)}
LIBRARIES = [OURS, ALONE, "torch", "onnxruntime", "jax"]
QUIET = "quiet"
WARM, SAMPLED = 0.05, 0.25  # seconds that a call runs untimed and timed in each round

Request = tuple[str, int]  # the work, the rows


def serve(library: str, connection: Connection) -> None:
    """In a process of its own: time the calls that are asked for, until there are no more."""
    from benchmarks import cpu, peers

    if library == ALONE:
        import numba

        numba.set_num_threads(1)
    made: dict[Request, Any] = {}
    while request := connection.recv():
        if request not in made:
            work, rows = request
            case = Case("softmin", work, (rows, LENGTH))
            arrays = cpu.arrays_for(case)
            who = library if library in peers.LIBRARIES else "numba_acts"
            forward = Case("softmin", "forward", (rows, LENGTH))
            beside = peers.LIBRARIES["onnxruntime"](forward, arrays) if library == TURNS else None
            made[request] = peers.LIBRARIES[who](case, arrays), beside
        call, beside = made[request]
        connection.send(sampled(call, beside) if call else None)


def sampled(call: timing.Call, beside: timing.Call | None) -> list[float]:
    """Seconds of each call."""
    samples: list[float] = []
    start = time.perf_counter()
    while (began := time.perf_counter()) < start + WARM + SAMPLED or len(samples) < 2:
        if beside:
            beside()
            began = time.perf_counter()
        call()
        if began > start + WARM:
            samples.append(time.perf_counter() - began)
    return samples


@contextmanager
def taken(cores: int) -> Iterator[None]:
    """So many processes that always compute."""
    code = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(code) for _ in range(cores)]
    try:
        time.sleep(0.5 if processes else 0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def servers(libraries: list[str]) -> Iterator[dict[str, Connection]]:
    """A process for each library, and the line to it."""
    context, lines, processes = multiprocessing.get_context("spawn"), {}, []
    before = dict(os.environ)
    for library in libraries:
        if library in MORE:
            os.environ["NUMBA_NUM_THREADS"] = str(MORE[library])
        lines[library], there = context.Pipe()
        processes.append(context.Process(target=serve, args=(library, there)))
        processes[-1].start()
        os.environ.clear()
        os.environ.update(before)
    try:
        yield lines
    finally:
        for line in lines.values():
            line.send(None)
        for process in processes:
            process.join()


def measure(lines: dict[str, Connection], request: Request, rounds: int) -> timing.Times:
    """The median and the percentiles of each library that has such a call."""
    samples: dict[str, list[float]] = {}
    for _ in range(rounds):
        timing.WATCH.look()
        for library, line in lines.items():
            line.send(request)
            if (seconds := line.recv()) is not None:
                samples.setdefault(library, []).extend(seconds)
    return {
        library: {
            "median": statistics.median(seconds),
            "p90": float(np.percentile(seconds, 90)),
            "p99": float(np.percentile(seconds, 99)),
        }
        for library, seconds in samples.items()
    }


def main(arguments: list[str]) -> int:
    """Measure all calls under each load, print them, and write them to the processor's file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks busy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="samples of each call (default: 5)")
    rounds = parser.parse_args(arguments).rounds
    cores = usable()
    loads = {QUIET: 0, "one core left": cores - 1, "no core left": cores}
    calls = list(itertools.product(("forward", "vjp"), ROWS))
    found: list[dict[str, Any]] = []
    with servers([*LIBRARIES, TURNS, *MORE]) as lines:
        for call in calls:  # which makes the arrays and compiles
            measure(lines, call, 1)
        for load, others in loads.items():
            few = lines if load == QUIET else {name: lines[name] for name in LIBRARIES}
            with taken(others):
                for work, rows in calls:
                    times = measure(few, (work, rows), rounds)
                    row = {"load": load, "function": "softmin", "work": work}
                    found.append(row | {"elements": rows * LENGTH, "times": times})
                    for library, time_ in times.items():
                        shown = " ".join(f"{1e6 * t:10.1f}" for t in time_.values())
                        text = f"{load:14}{work:8}{rows * LENGTH:9}  {library:40}{shown} µs"
                        print(text, flush=True)
    print(tables.busy(found))
    print(f"written to {timing.save('busy', found)}")
    return 0
