"""``python -m benchmarks cuda-static``: every GPU kernel, compiled for compute capability 9.0.

It needs the extra ``cuda-static`` and neither a GPU nor a driver. A table shows what the compiler
made of each kernel; the exit status is not 0 if a kernel uses a stack or local memory, passes its
register ceiling, lacks the 128-bit accesses it is meant to have, cannot be cached, or is written in
a version of PTX that a driver of CUDA 13.0 would refuse.
"""

import argparse
import glob
import importlib.util
import itertools
import math
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CAPABILITY = (9, 0)
EXAMPLES = Path(__file__).parents[1] / "examples"
SIZES = 132, 227 << 10, 50 << 20, 8  # multiprocessors, shared memory of a block, L2, clusters
RESERVED = 1 << 10  # of shared memory in a block, which the system has for itself
NEWEST_PTX = 9.0
REGISTERS = 65_536  # of a multiprocessor
WIDTHS = (19, 9, 7, 4, 5, 5, 6, 7, 7, 6, 6, 9, 4)
COLUMNS = "kernel dtype threads regs stack local shared wide-ld wide-st ex2 ffma cacheable ptx"


class Work(NamedTuple):
    """A call of GPU kernels, and what they are meant to be like."""

    function: str
    shape: tuple[int, int, int]
    dtype: str = "float32"
    ceiling: int = 64
    wide: bool = True  # every kernel of the call has the 128-bit accesses that it is meant to have
    more: dict[str, Any] = {}
    stack: int = 0  # bytes of it that are borne where a block is meant to have more threads


BF16 = "bfloat16"
MANY = 1 << 20  # rows that a multiprocessor takes several at a time
ROWS = [
    *((outer, n, 1) for outer in (32, MANY) for n in (4, 128, 256, 1024)),
    *((1000, n, 1) for n in (4096, 8192, 65_536, 262_144, 1_000_000)),
]
IMAGES = [(4, c, 512 * 512) for c in (3, 8)]
WORK = [
    *(Work("softmax", shape) for shape in ROWS),
    Work("softmax", (1000, 16_384, 1), ceiling=80),
    *(Work("softmax", (MANY, n, 1), wide=False, ceiling=80) for n in (1, 7, 10, 1001)),
    *(Work("softmax", (1000, n, 1), wide=False, ceiling=48) for n in (4097, 6001, 8191)),
    *(Work("softmax", (1000, n, 1), wide=False, stack=64) for n in (8193, 12_289, 16_383)),
    *(Work("softmax", (1000, n, 1), dtype) for n in (4096, 65_536) for dtype in ("float16", BF16)),
    Work("softmax", (1000, 65_535, 1), wide=False, ceiling=80),
    Work("softmax", (1000, 65_536, 1), "float64", ceiling=128),
    Work("softmax", (1000, 65_536, 1), ceiling=80, more={"masked": True}, stack=8),
    Work("softmax", (1000, 4096, 1), "float64", ceiling=96),
    Work("softmax", (1000, 4096, 1), more={"masked": True}, ceiling=80),
    *(Work("softmax", shape) for shape in IMAGES),
    *(Work("softmax", (4, c, 512 * 512), wide=False, ceiling=96) for c in (19, 21, 32, 150)),
    *(Work("softmax", (1024, c, 64), wide=False, ceiling=128) for c in (256, 1000)),
    Work("softmax", (1024, 4096, 64), wide=False, stack=32),
    *(Work("softmax", (1, c, 49), wide=False, ceiling=128) for c in (21, 1000)),
    *(Work("softmax", (1024, c, 49), ceiling=128) for c in (256, 512, 1000)),
    *(Work("softmax", (outer, 21, 49), wide=False, ceiling=80) for outer in (1024, 16_384)),
    Work("softmax", (1024, 512, 49), BF16, 128),
    Work("softmax", (1024, 512, 49), ceiling=128, more={"masked": True}),
    *(Work("softmax", (outer, 7, 7), ceiling=80, wide=False) for outer in (32_767, 32_768)),
    Work("softmax", (1024, 10_000, 49), wide=False, ceiling=112),
    *(Work("softmax", (4, 21, 512 * 512), d, 80, False) for d in ("float16", "float64")),
    Work("softmax", (4, 21, 512 * 512), BF16, 128, False),
    Work("softmax", (MANY, 128, 1), "int8", wide=False, ceiling=64),
    *(Work("product", (MANY, n, 1)) for n in (4, 128, 1024)),
    *(Work("product", (1000, n, 1)) for n in (65_536, 1_000_000)),
    Work("product", (1000, 4095, 1), wide=False),
    *(Work("product", (1000, n, 1), wide=False, stack=56) for n in (4097, 6001)),
    *(Work("product", (1000, n, 1), ceiling=80) for n in (4096, 8192)),
    *(Work("product", (1000, 65_536, 1), d, 128) for d in ("float64", BF16)),
    Work("product", (1000, 65_535, 1), wide=False, ceiling=128),
    *(Work("product", (MANY, n, 1), wide=False, ceiling=96) for n in (1, 10, 1001)),
    *(Work("product", (1000, 4096, 1), dtype, 96) for dtype in ("float16", BF16, "float64")),
    *(Work("product", shape, ceiling=96) for shape in IMAGES),
    *(Work("product", (4, c, 512 * 512), wide=False, ceiling=128) for c in (19, 21, 150)),
    Work("product", (4, 32, 512 * 512), wide=False, ceiling=168),
    *(Work("product", (4, c, 511 * 511), wide=False, ceiling=128) for c in (21, 32)),
    *(Work("product", (1024, c, 64), wide=False, ceiling=128) for c in (256, 1000, 4096)),
    Work("product", (1024, 10_000, 49), wide=False, ceiling=128),
    *(Work("product", (1024, c, 49), ceiling=96) for c in (21, 256, 512)),
    Work("product", (1024, 512, 49), BF16, ceiling=96),
    *(Work("jacobians", shape) for shape in [(1000, 128, 1), (1, 21, 4096)]),
    *(Work("jacobians", shape, wide=False) for shape in [(1000, 21, 1), (1, 21, 4097)]),
    *(Work("jacobians", (1000, 128, 1), dtype) for dtype in ("float16", "float64")),
    *(Work("diagonals", (1, 4096, 1), dtype) for dtype in ("float32", "float16")),
    *(Work("maxout", (1 << 20, k, 1)) for k in (2, 3, 4, 5, 8)),
    *(Work("maxout", (1 << 20, k, 1), more={"indexed": True}) for k in (2, 3, 4, 5, 8)),
    *(Work("maxout", (1 << 20, 4, 1), dtype) for dtype in ("float16", BF16, "float64")),
    Work("maxout", (1 << 20, 4, 1), "int8", ceiling=80),
    *(Work("maxout", (1 << 20, k, 1), ceiling=96) for k in (9, 12, 19, 24, 32)),
    *(Work("maxout", (1 << 20, k, 1), wide=False, ceiling=96) for k in (25, 31, 1000)),
    *(Work("maxout", (1 << 20, k, 1), "float16", wide=False, ceiling=128) for k in (9, 17, 31)),
    *(Work("maxout", (1 << 20, k, 1), "int8", wide=False, ceiling=128) for k in (5, 7, 9, 31)),
    *(Work("maxout", (1 << 20, k, 1), "float64", wide=False, ceiling=128) for k in (19, 31)),
    *(Work("maxout", (64, k, 4096), more={"indexed": True}) for k in (2, 3, 4, 5, 8)),
    Work("maxout", (64, 12, 4096), more={"indexed": True}, ceiling=72),
    Work("maxout", (64, 4, 4097), wide=False),
    Work("biased", (1 << 20, 4, 1024), more={"indexed": True}),
    *(Work("biased", (1 << 20, k, 1024), wide=False, ceiling=128) for k in (19, 32, 40)),
    *(Work("vjp", (1 << 20, k, 1)) for k in (1, 2, 3, 4, 5, 7, 8, 9, 12, 100, 101)),
    *(Work("vjp", (1 << 20, k, 1), "int8") for k in (1, 3, 5, 100)),
    Work("vjp", (1 << 20, 1 << 24, 1)),
    Work("vjp", (4, 2, 1 << 28)),
    *(Work("vjp", (64, k, 4096)) for k in (2, 4)),
    *(Work("vjp", (1 << 20, 4, 1), dtype) for dtype in ("float16", BF16, "float64")),
    *(Work("jvps", shape, wide=False) for shape in [(1 << 20, 4, 1), (64, 4, 4096)]),
    Work("affine", (8192, 4, 1024)),
    Work("affine_vjp", (32_768, 4, 1024), wide=False),  # in batches of rows
    Work("affine", (8192, 4, 1024), "int32", wide=False),
    *(Work(name, (8192, 4, 1024), wide=False) for name in ("affine_vjp", "affine_jvp")),
    Work("affine_jacobian", (8192, 4, 1024)),
    Work("copy", (64, 4, 4096), wide=False),
]


def _called(work: Work, wing: Any, memory: Callable[..., Any]) -> None:
    """Call kernels on arrays whose contents do not matter."""
    outer, n, inner = lengths = work.shape
    size, dtype = outer * n * inner, work.dtype
    floating = "float64" if np.dtype(dtype if dtype != BF16 else "f2").kind in "iu" else dtype
    none, index = memory(0, "uint8"), memory(outer * inner, "int32")
    x, short = memory(size, dtype), memory(outer * inner, dtype)
    if work.function == "softmax":
        mask = memory(size, "uint8") if work.more.get("masked") else none
        wing.forward.softmax(x, mask, memory(size, floating), *lengths, -1.0)
    elif work.function == "product":
        wing.product.product(x, x, x, *lengths, -1.0)
    elif work.function == "jacobians":
        wing.jacobian.jacobians(x, memory(size * n, dtype), *lengths, -1.0)
    elif work.function == "diagonals":
        wing.jacobian.diagonals(x, x, *lengths, -1.0)
    elif work.function == "maxout":
        wing.maxout.maxout(x, short, index if work.more.get("indexed") else none, *lengths)
    elif work.function == "biased":
        bias = memory(n * inner, dtype)
        wing.maxout.biased_maxout(memory(outer * n, dtype), bias, short, index, outer, n, inner)
    elif work.function == "vjp":
        wing.maxout.vjp(short, index, x, *lengths)
    elif work.function == "jvps":
        wing.maxout.jvps(x, index, short, *lengths)
    elif work.function == "copy":
        wing.copies.copy(x, x, lengths, 0, 0, (1, outer, outer * n), (n * inner, inner, 1))
    else:  # rows, pieces, units; d is 1024
        units, depth = inner, 1024
        inputs, weight = memory(outer * depth, dtype), memory(units * n * depth, dtype)
        bias, y = memory(units * n, dtype), memory(outer * units, dtype)
        index = memory(outer * units, "int32")
        sizes = units, n, depth
        if work.function == "affine":
            wing.affine.affine(inputs, weight, bias, y, index, *sizes)
        elif work.function == "affine_vjp":
            gradients = inputs, weight, bias
            wing.affine.affine_vjp(y, inputs, weight, index, *gradients, *sizes)
        elif work.function == "affine_jvp":
            wing.affine.affine_jvp(inputs, inputs, weight, weight, bias, index, y, *sizes)
        else:
            out = memory(outer * units * depth, dtype)
            wing.affine.affine_jacobian(weight, index, out, *sizes)


def _rooms() -> dict[str, Any]:
    """The modules of GPU kernels."""
    from numba_acts._cuda import affine, copies, forward, jacobian, maxout, product

    found = affine, copies, forward, jacobian, maxout, product
    return {room.__name__.rpartition(".")[2]: room for room in found}


def launches() -> Iterator[tuple[Work, Any, int, tuple[Any, ...]]]:
    """Every kernel that the work starts: the work, the kernel, its blocks and its arguments."""
    from types import SimpleNamespace

    from numba_acts._cuda import launch, slices
    from numba_acts._dtypes import BFLOAT16

    rooms = _rooms()
    wing = SimpleNamespace(**rooms)
    queue = launch.Queue(0, 0, lambda size, dtype: (1 << 20, None), lambda *task: None)
    for room in (slices,):
        vars(room)["device"] = lambda number: launch.Device(*SIZES)

    def memory(size: int, dtype: str) -> Any:
        kind = BFLOAT16 if dtype == BF16 else np.dtype(dtype)
        return launch.Memory(1 << 20, kind, size, queue)

    started: list[Any] = []
    run = launch.run
    for work in WORK:
        for room in rooms.values():
            room.run = lambda *launched: started.append(launched)
        try:
            _called(work, wing, memory)
        finally:
            for room in rooms.values():
                room.run = run
        for kernel, blocks, *arguments in started:
            yield work, kernel, blocks, tuple(arguments)
        started.clear()


def _stand_in() -> None:
    """Let Numba compile for the capability although there is no device."""
    from types import SimpleNamespace

    from numba.cuda import codegen, dispatcher

    device = SimpleNamespace(compute_capability=CAPABILITY, id=0)
    dispatcher.get_current_device = lambda: device
    codegen.devices = SimpleNamespace(get_context=lambda *_: SimpleNamespace(device=device))


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pattern = str(Path(np.__file__).parents[1] / "nvidia" / "**" / "bin" / name)
        found = next(iter(glob.glob(pattern, recursive=True)), None)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: pip install nvidia-cuda-{name}")
    return found


@dataclass
class Compiled:
    """What the compiler made of a kernel."""

    registers: int
    stack: int
    shared: int
    local: int
    instructions: Counter[str]
    ptx: float
    cacheable: bool

    def count(self, pattern: str) -> int:
        """How many instructions match."""
        return sum(n for name, n in self.instructions.items() if re.fullmatch(pattern, name))


def compiled(function: Callable[..., None], types: tuple[Any, ...], bounds: Any) -> Compiled:
    """Compile as at run time, and read the result."""
    from numba.cuda import serialize
    from numba.cuda.dispatcher import _Kernel

    made = _Kernel(function, types, launch_bounds=bounds, lto=True)
    library = made._codelibrary
    version = re.search(r"\.version (\d+\.\d+)", library.get_asm_str(cc=CAPABILITY))
    try:
        serialize.dumps(made._reduce_states())
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        cacheable = len(pickle.dumps(cells)) > 0
    except (RuntimeError, TypeError, pickle.PicklingError):
        cacheable = False
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(library.get_cubin(cc=CAPABILITY).code)
        file.flush()
        usage, code = (
            subprocess.run([_tool(tool), option, file.name], capture_output=True, text=True)
            for tool, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage.stdout)
    if found is None or version is None or code.returncode:
        raise RuntimeError(f"{usage.stdout}{usage.stderr}{code.stderr}")
    operation = r"^\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)"
    names = Counter(re.findall(operation, code.stdout, re.MULTILINE))
    registers, stack, shared, local = map(int, found.groups())
    return Compiled(registers, stack, shared, local, names, float(version.group(1)), cacheable)


def _wide(kernel: Any) -> tuple[bool, bool]:
    """Whether a kernel is meant to load, and to store, 128 bits at once."""
    if kernel.name in {"join", "finish_columns", "fill", "accumulate"}:
        return False, False
    partial = kernel.name == "rows" and kernel.constants[-2]
    return not kernel.name.startswith("vjp"), not (partial or kernel.name == "few")


def too_much(seen: Compiled, threads: int, stack: int, ceiling: int) -> list[str]:
    """What a kernel takes that it is not meant to."""
    bad = []
    spills = seen.count(r"(LDL|STL)(\..*)?")
    if seen.stack > stack or seen.local or spills > stack:
        bad.append(f"stack {seen.stack}, local {seen.local}, {spills} accesses to them")
    if seen.registers > ceiling:
        bad.append(f"{seen.registers} registers, more than {ceiling}")
    if seen.registers * threads > REGISTERS:
        bad.append(f"{seen.registers} registers: a block of {threads} threads has no room")
    if seen.ptx > NEWEST_PTX:
        bad.append(f"PTX {seen.ptx}, newer than {NEWEST_PTX}")
    return bad


def complaints(work: Work, kernel: Any, seen: Compiled) -> list[str]:
    """What is not as it is meant to be."""
    bad = too_much(seen, kernel.threads, work.stack, work.ceiling)
    if seen.shared + kernel.shared > SIZES[1] + RESERVED:
        bad.append(f"{seen.shared + kernel.shared} bytes of shared memory")
    for access, meant in zip(("LDG", "STG"), _wide(kernel), strict=True):
        if work.wide and meant and not seen.count(access + r"(STS)?\.E.*\.128.*"):
            bad.append(f"no 128-bit {access}")
    if not seen.cacheable:
        bad.append("not cacheable")
    return bad


def _chosen(wanted: str) -> list[tuple[Work, Any, int, tuple[Any, ...]]]:
    """The kernels of the work that is wanted, each once."""
    known: dict[Any, Any] = {}
    for work, kernel, blocks, given in launches():
        kinds = tuple(getattr(a, "dtype", type(a)) for a in given)
        key = kernel.function.__module__, kernel.name, kernel.constants, kinds
        if wanted in work.function:
            known.setdefault(key, (work, kernel, blocks, given))
    return list(known.values())


def _missing() -> set[str]:
    """GPU kernels that no work starts."""
    made = {
        m.factory
        for room in _rooms().values()
        for m in vars(room).values()
        if hasattr(m, "factory")
    }
    seen = {(kernel.name, kernel.function.__module__) for _, kernel, *_ in launches()}
    return {f.__name__ for f in made if (f.__name__, f.__module__) not in seen}


def _lines(number: int, wanted: str) -> tuple[str, list[str]]:
    """A kernel's line of the table, and what is wrong with it."""
    from numba_acts._cuda import launch

    _stand_in()
    work, kernel, blocks, given = _chosen(wanted)[number]
    seen = compiled(kernel.function, launch.signature(given).args, kernel.bounds)
    elements = max(
        1, round(np.prod(work.shape) / (np.prod(blocks) * kernel.threads))
    )  # of a thread
    if kernel.name.endswith("images"):  # of its loop's turn
        elements = math.prod(map(len, kernel.constants[2:5]))
    row = (
        kernel.name,
        work.dtype,
        kernel.threads,
        seen.registers,
        seen.stack,
        seen.local,
        seen.shared + kernel.shared,
        seen.count(r"LDG\.E\.128.*"),
        seen.count(r"STG\.E.*\.128.*"),
        round(seen.count(r"MUFU\.EX2") / elements, 1),
        round(seen.count(r"FFMA.*") / elements, 1),
        "yes" if seen.cacheable else "no",
        seen.ptx,
    )
    cells = [str(cell).rjust(width) for cell, width in zip(row, WIDTHS, strict=True)]
    label = f"{work.function} {work.shape} {' '.join(work.more)}".ljust(34)
    return " ".join([label, *cells]), complaints(work, kernel, seen)


# ---- kernels that call `numba_acts.cuda` ---------------------------------------------------------


def example(name: str) -> Any:
    """A program of the examples, as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _users() -> Iterator[tuple[str, Any, int]]:
    """Kernels of rows with the device functions of each scope, and the example's."""
    from numba import cuda

    from numba_acts import cuda as acts

    block, warp = acts.Block(np.float32, 256, 8), acts.Warp(np.float32, 8)

    def of_thread(x: Any, beta: float, out: Any) -> None:
        mine = cuda.local.array(32, np.float32)
        for i in range(32):
            mine[i] = x[i, cuda.grid(1)]
        acts.thread_softmax(mine, mine, beta)
        best, index = acts.thread_maxout(mine)
        out[cuda.grid(1)] = mine[0] + best + np.float32(index)

    def of_warp(x: Any, beta: float, out: Any) -> None:
        mine = cuda.local.array(8, np.float32)
        for i in range(8):
            mine[i] = x[i, cuda.grid(1)]
        best, index = warp.maxout(mine)
        warp.softmax(mine, mine, beta)
        warp.softmax_vjp(mine, mine, mine, beta)
        out[cuda.grid(1)] = mine[0] + best + np.float32(index)

    def of_block(x: Any, beta: float, out: Any) -> None:
        temp = cuda.shared.array(block.temp_storage, np.float32)
        mine = cuda.local.array(8, np.float32)
        for i in range(8):
            mine[i] = x[i, cuda.grid(1)]
        best, index = block.maxout(mine, temp)
        cuda.syncthreads()
        block.softmax(mine, mine, beta, temp)
        cuda.syncthreads()
        block.softmax_vjp(mine, mine, mine, beta, temp)
        out[cuda.grid(1)] = mine[0] + best + np.float32(index)

    shown = example("expected_disparity")
    yield "thread, 32", of_thread, 256
    yield "warp, 8", of_warp, 256
    yield "block, 8", of_block, 256
    yield "expected_disparity", shown.expected_shift.py_func, shown.THREADS


def _of_users() -> Iterator[tuple[str, list[str]]]:
    """Their lines of the table, and what is wrong with them."""
    from numba.cuda import types

    _stand_in()
    given = types.float32[:, ::1], types.float64, types.float32[::1]
    for label, function, threads in _users():
        seen = compiled(function, given, threads)
        bad = too_much(seen, threads, 0, 64)
        sizes = threads, seen.registers, seen.stack, seen.local, seen.shared
        cells = [str(cell).rjust(width) for cell, width in zip(sizes, WIDTHS[2:], strict=False)]
        line = " ".join([f"numba_acts.cuda: {label}".ljust(34 + 2 + sum(WIDTHS[:2])), *cells])
        yield line, bad


def main(arguments: list[str]) -> int:
    """Print the table; the exit status says whether all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cuda-static", description=__doc__)
    parser.add_argument("--only", default="", help="work whose name contains this")
    wanted = parser.parse_args(arguments).only
    titles = [name.rjust(width) for name, width in zip(COLUMNS.split(), WIDTHS, strict=True)]
    print(" ".join(["work".ljust(34), *titles]))
    count, failures = len(_chosen(wanted)), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for line, bad in pool.map(_lines, range(count), itertools.repeat(wanted)):
            print(line, *(f"    {complaint}" for complaint in bad), sep="\n", flush=True)
            failures += len(bad)
    for line, bad in _of_users() if not wanted else ():
        print(line, *(f"    {complaint}" for complaint in bad), sep="\n", flush=True)
        count, failures = count + 1, failures + len(bad)
    missing = _missing() if not wanted else set()
    for name in sorted(missing):
        print(f"no work for {name}")
    failures += len(missing)
    print(f"{count} kernels, {failures} complaints")
    return int(count == 0 or failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
