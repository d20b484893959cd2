"""``python -m benchmarks soak``: millions of calls, for hours if wanted: memory, threads, fuzzing.

Small calls and large ones at constant memory; eight threads over the table of all functions, dtypes
and layouts, whose results are compared with the oracle's once and bit for bit from then on; random
calls by `tests/fuzz.py`, each from a seed that makes it again: ``soak --only cases --seed SEED
--cases 1``. Ends with 1 if anything failed.
"""

import argparse
import functools
import itertools
import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import numba_acts as na
from benchmarks import tables, timing
from numba_acts._cpu.threads import usable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

THREADS = 8
GROWTH = 8 << 20  # bytes that the process may grow by between a tenth of the calls and the last
SAMPLES = 100  # of the process's memory
CHUNK = 500  # random calls that a process makes at a time
SMALL = 20_000  # numbers in a case that many threads compute at once
WHAT = {
    "calls": "small calls",
    "large": "large calls, of all functions in turn",
    "seconds": f"{THREADS} threads over the table of all dtypes and layouts",
    "cases": "random calls against the oracle",
}
FULL = {"calls": 10_000_000, "large": 1000, "seconds": 300.0, "cases": 1_000_000}
QUICK = {"calls": 300_000, "large": 10, "seconds": 10.0, "cases": 5000}

Row = dict[str, Any]
Advance = Callable[[float], object]  # by so many calls or seconds


def resident() -> int:
    """Bytes of memory that are the process's own: pages of files come and go with the system."""
    told = Path("/proc/self/statm").read_text().split()
    return (int(told[1]) - int(told[2])) * os.sysconf("SC_PAGE_SIZE")


def small_calls() -> list[timing.Call]:
    """Calls on few numbers: fresh results, `out`, products, masks, strides, other dtypes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 8)).astype(np.float32)
    y, out, mask, half = na.softmin(x), np.empty_like(x), x > 0, x.astype(np.float16)
    image, (most, index) = x.reshape(2, 4, 4), na.maxout_with_index(x)
    weight, bias = rng.normal(size=(3, 2, 8)).astype(np.float32), np.ones((3, 2), np.float32)
    units, winners = na.maxout_affine_with_index(x, weight, bias)
    return [
        lambda: na.softmin(x),
        lambda: na.softmin(x, out=out),
        lambda: na.softmin(x, 0, temperature=0.5),
        lambda: na.softmin(x, where=mask, out=out),
        lambda: na.softmin(x.T, None),
        lambda: na.softmin(half),
        lambda: na.softmin_vjp(x, y, out=out),
        lambda: na.softmin_jvp(x, y),
        lambda: na.softmin_jacobian(y),
        lambda: na.softmin_jacobian_diag(y),
        lambda: na.softmax2d(image),
        lambda: na.softmax2d_vjp(image, image, channel_axis=-1),
        lambda: na.maxout(x, out=most),
        lambda: na.maxout_with_index(x),
        lambda: na.maxout_vjp(most, index, 8, out=out),
        lambda: na.maxout_jvp(x, index),
        lambda: na.maxout_affine(x, weight, bias),
        lambda: na.maxout_affine_vjp(units, x, weight, winners),
        lambda: na.maxout_affine_jvp(x, weight, winners, dx=x),
    ]


def large_calls() -> list[timing.Call]:
    """Every function on a million numbers or so, as many threads take them."""
    from cases import MAKERS, Case, generator

    def shape(name: str) -> tuple:
        if name.startswith("maxout_affine"):
            return (4096, 64), (48, 4, 64)
        if name.startswith("softmax2d"):
            return (21, 32, 32) if name.endswith("jacobian") else (4, 21, 100, 100)
        return (2000, 20) if name.endswith("jacobian") else (4000, 250)

    def call(name: str) -> timing.Call:
        arguments, keywords = MAKERS[name](generator(), Case(name, shape(name)))
        return lambda: getattr(na, name)(*arguments, **keywords)

    return list(map(call, na.__all__))


def at_constant_memory(calls: list[timing.Call], count: int, advance: Advance) -> Row:
    """Some calls in turn, so many together; how memory grew from a tenth of them to the last."""
    for call in calls:  # which compiles
        call()
    sizes, start = [], time.perf_counter()
    turns = itertools.cycle(calls)
    for some in np.diff(np.linspace(0, count, SAMPLES + 1).astype(int)):
        for call in itertools.islice(turns, int(some)):
            call()
        sizes.append(resident())
        advance(int(some))
    growth = sizes[-1] - max(sizes[: SAMPLES // 10])
    failed = [f"memory grew by {tables.memory(growth)}"] if growth > GROWTH else []
    return counted(count, start, failed) | {"growth": growth, "resident": sizes[-1]}


def counted(count: int, start: float, failed: list[str]) -> Row:
    """What is told of calls that were made since `start`."""
    return {"count": count, "seconds": time.perf_counter() - start, "failed": failed}


def many_threads(seconds: float, advance: Advance) -> Row:
    """Eight threads that take cases of the table in orders of their own, until time is over."""
    import cases

    table = [case for case in cases.TABLE if case.size <= SMALL]
    results: dict[Any, bytes] = {}  # of the first call, which agreed with the oracle
    counts, failed = [0] * THREADS, list[str]()
    end = (start := time.perf_counter()) + seconds

    def check(case: Any) -> None:
        arguments, keywords = case.build()
        got = getattr(na, case.function)(*arguments, **keywords)
        parts = got if isinstance(got, tuple) else (got,)
        bits = b"".join(part.tobytes() for part in parts)
        if id(case) not in results:
            cases.assert_agrees(got, case.function, arguments, keywords)
        if results.setdefault(id(case), bits) != bits:
            raise AssertionError("other bits than in the first call")

    def work(place: int) -> None:
        order = random.Random(place).sample(table, len(table))
        for case in itertools.cycle(order):
            if time.perf_counter() > end:
                return
            try:
                check(case)
            except Exception as error:  # is counted, and the others go on
                failed.append(f"{case}: {type(error).__name__}: {error}")
            counts[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    while (now := time.perf_counter()) < end:
        time.sleep(min(1.0, end - now))
        advance(time.perf_counter() - now)
    for thread in threads:
        thread.join()
    return counted(sum(counts), start, failed) | {"different": len(results)}


def fuzzed(seeds: range) -> list[str]:
    """What failed of the random calls of some seeds."""
    import fuzz

    failed = []
    for seed in seeds:
        try:
            fuzz.run(seed)
        except AssertionError as error:
            failed.append(str(error))
    return failed


def random_calls(first: int, count: int, advance: Advance) -> Row:
    """The random calls of some seeds, in as many processes as there are processors."""
    seeds, failed, start = range(first, first + count), list[str](), time.perf_counter()
    parts = [seeds[i : i + CHUNK] for i in range(0, count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(usable()) as pool:
        for part, wrong in zip(parts, pool.imap(fuzzed, parts), strict=True):
            failed += wrong
            advance(len(part))
    return counted(count, start, failed)


def main(arguments: list[str]) -> int:
    """Make all calls, print the counts, and write them to the processor's file."""
    default = QUICK if "--quick" in arguments else FULL
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute of it, no file")
    parser.add_argument("--only", choices=WHAT, help="one of them, no file")
    for name, what in WHAT.items():
        kind = type(default[name])
        parser.add_argument(f"--{name}", type=kind, default=default[name], help=what)
    parser.add_argument("--seed", type=int, default=0, help="of the first random call")
    given = parser.parse_args(arguments)
    from rich.progress import Progress

    makers: dict[str, Callable[[Advance], Row]] = {
        "calls": lambda more: at_constant_memory(small_calls(), given.calls, more),
        "large": lambda more: at_constant_memory(large_calls(), given.large, more),
        "seconds": lambda more: many_threads(given.seconds, more),
        "cases": lambda more: random_calls(given.seed, given.cases, more),
    }
    rows: list[Row] = []
    with Progress(transient=True) as progress:
        for name in [given.only] if given.only else WHAT:
            task = progress.add_task(WHAT[name], total=getattr(given, name))
            row = {"what": WHAT[name]} | makers[name](functools.partial(progress.advance, task))
            rows.append(row)
            for wrong in row["failed"]:
                progress.console.print(wrong, highlight=False)
    print(tables.soak(rows))
    if not given.quick and not given.only:
        print(f"written to {timing.save('soak', rows)}")
    return int(any(row["failed"] for row in rows))
