"""The threads that a call may use: which of Numba's layers runs them, and how many there may be."""

import contextlib
import ctypes
import functools
import math
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numba
from numba.core import config
from numba.np.ufunc import parallel as layer

ROOT = Path("/")


# ---- TBB, whose loops are finished by whoever is there ----------------------------------------


def find_tbb() -> None:
    """Load the environment's TBB, so that Numba, which prefers it, finds it by its name.

    pip puts it where the loader of libraries does not look (numba#6108). A user's choice of another
    layer, and one that runs already, are kept; where there is no TBB, nothing is done.
    """
    names = {"linux": ("lib", "libtbb.so.12"), "win32": ("Library", "bin", "tbb12.dll")}
    if layer._is_initialized or sys.platform not in names:
        return
    if str(config.THREADING_LAYER).lower() in ("omp", "workqueue"):
        return
    schemes = [sysconfig.get_default_scheme()]
    if site.ENABLE_USER_SITE:
        schemes.append(sysconfig.get_preferred_scheme("user"))
    for scheme in schemes:
        path = Path(sysconfig.get_path("data", scheme), *names[sys.platform])
        if path.exists():
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(path))
                return


# ---- a child that is forked --------------------------------------------------------------------

forked = False  # after a layer was started, which no layer survives


def _in_child() -> None:
    global forked
    starting = not layer._backend_init_thread_lock.acquire(blocking=False)
    forked = layer._is_initialized or starting  # and never done: by a thread that is not here
    if not starting:
        layer._backend_init_thread_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


# ---- how many the process may use -------------------------------------------------------------


def quota(root: Path = ROOT) -> float:
    """How many processors' time the process's control groups allow it, of version 1 and 2.

    Lines that are not as Linux writes them are passed over.
    """
    paths, limits = {}, [math.inf]
    for _, controllers, path in _lines(root / "proc/self/cgroup", ":", 3):
        if not controllers or "cpu" in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = path
    for before, after in _lines(root / "proc/self/mountinfo", " - ", 2):
        mount, words = before.split(" "), after.split(" ")
        kind, options = words[0], words[-1].split(",")
        if len(mount) > 4 and kind in paths and (kind == "cgroup2" or "cpu" in options):
            path = paths[kind].removeprefix(mount[3].rstrip("/"))
            limits.extend(_limits(root / mount[4].lstrip("/"), path))
    return min(limits)


def _lines(file: Path, separator: str, parts: int) -> Iterator[list[str]]:
    """The lines of a file that have so many parts; paths may hold any byte but a line's end."""
    with contextlib.suppress(OSError):
        for line in file.read_bytes().decode(errors="surrogateescape").split("\n"):
            if len(found := line.split(separator, parts - 1)) == parts:
                yield found


def _limits(folder: Path, path: str) -> Iterator[float]:
    """The limits of a group and of those above it, up to a folder where they are mounted."""
    group = Path(path.strip("/"))
    for inside in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            at = folder / inside
            if (at / "cpu.max").exists():
                share, period = (at / "cpu.max").read_text().split()
            else:
                share = (at / "cpu.cfs_quota_us").read_text()
                period = (at / "cpu.cfs_period_us").read_text()
            if float(share) > 0:  # neither "max" nor -1
                yield float(share) / float(period)


def usable(root: Path = ROOT) -> int:
    """The processors that the process may run on, or its quota's worth of them, rounded down."""
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(os.getpid()))  # a thread may have another
    else:
        processors = os.cpu_count() or 1
    return max(1, math.floor(min(processors, quota(root))))


@functools.cache
def cores() -> int:
    """What was usable at first: more threads that look for work would take it from each other."""
    return usable()


@functools.cache
def _allowed() -> int:
    """What is usable, unless the user has said how many threads there are to be."""
    chosen = config.NUMBA_NUM_THREADS != config.NUMBA_DEFAULT_NUM_THREADS
    if chosen or "NUMBA_NUM_THREADS" in os.environ:
        return int(config.NUMBA_NUM_THREADS)
    return cores()


def most() -> int:
    """How many threads a call may use: `numba.get_num_threads()`, without its locks, at most.

    Numba's own layer, workqueue, ends the process where two threads start a loop at once. Nobody
    else can, while one thread alone runs Python.
    """
    if not layer._is_initialized:
        numba.get_num_threads()
    if layer._threading_layer == "workqueue" and len(sys._current_frames()) > 1:
        return 1
    return min(layer._get_num_threads(), _allowed())


def at_once() -> bool:
    """Can the layer have loops of two threads at once? Numba's own ends the process there."""
    numba.get_num_threads()
    return bool(layer._threading_layer != "workqueue")
