"""No kernel touches memory outside its arrays, not even for a moment.

Numba's bounds checks don't see the kernels' own loads and stores, of whole vectors by address. So
each argument and `out` lies against a page that may not be touched, before it or behind it: whoever
reads or writes one byte too many ends the process. Which is one of its own, and says in what case.
"""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
from test_values import takes_out

import numba_acts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pages are protected on Unix")

PAGE = mmap.PAGESIZE
SIDES = ("before", "behind")


def guarded(array, side):
    """A copy that ends where a forbidden page begins, or begins where one ends."""
    room = max(PAGE, -(-array.nbytes // PAGE) * PAGE)
    memory = np.frombuffer(mmap.mmap(-1, room + 2 * PAGE), np.uint8)
    for page in (0, PAGE + room):
        address = ctypes.c_void_p(memory.ctypes.data + page)
        assert ctypes.CDLL(None).mprotect(address, ctypes.c_size_t(PAGE), 0) == 0
    start = PAGE if side == "before" else PAGE + room - array.nbytes
    view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def guard(value, side):
    return guarded(value, side) if isinstance(value, np.ndarray) and value.size else value


def chosen(extent):
    table = [case for case in cases.TABLE if case.layout == "C"]  # others are read from copies
    if extent == "all":
        return [case for case in table if case.size <= 100_000]
    return [case for case in table if case.size <= 2000 and case.dtype in ("float32", "int8")]


def compute(extent, side):
    """Every case on guarded memory, with the bits that it has on other memory."""
    for case in chosen(extent):
        print(case, flush=True)
        arguments, keywords = case.build()
        call = getattr(numba_acts, case.function)
        want = call(*arguments, **keywords)
        arguments = [guard(a, side) for a in arguments]
        keywords = {name: guard(a, side) for name, a in keywords.items()}
        if takes_out(case.function):
            several = want if isinstance(want, tuple) else (want,)
            outs = tuple(guard(np.full(np.shape(a), 77).astype(a.dtype), side) for a in several)
            keywords["out"] = outs if isinstance(want, tuple) else outs[0]
        got = call(*arguments, **keywords)
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        assert all(one.tobytes() == other.tobytes() for one, other in pairs), (
            f"{case} has other bits"
        )


def child(call, **environment):
    """A process of its own that makes a call of this file."""
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]; import test_guard_pages as t"
    )
    command = [sys.executable, "-c", f"{code}; t.{call}"]
    environment = os.environ | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    "extent, side",
    [("common", "before"), ("common", "behind"), pytest.param("all", "behind", marks=cases.FULL)],
)
def test_no_byte_outside_is_touched(extent, side):
    assert_computes(extent, child(f"compute({extent!r}, {side!r})"))


@cases.FULL
def test_numbas_bounds_checks_find_nothing(tmp_path):
    """They see what is read and written one by one, the kernels' own scratch memory included."""
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert_computes("common", child("compute('common', 'behind')", **checked))


def assert_computes(extent, done):
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"status {done.returncode} in {last}\n{done.stderr[-2000:]}"
    assert len(done.stdout.splitlines()) == len(chosen(extent)) > 100


def touch(side):
    """One byte too far."""
    array = guarded(np.zeros(3, np.uint8), side)
    ctypes.string_at(array.ctypes.data - 1 if side == "before" else array.ctypes.data + 3, 1)


@pytest.mark.parametrize("side", SIDES)
def test_who_touches_one_is_ended(side):
    assert child(f"touch({side!r})").returncode == -signal.SIGSEGV
