"""The processor's caches, which tuned numbers follow; no result depends on them."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

ROOT = Path("/")
# Bytes of a core's first and second cache and of the last one, where the system does not tell them.
USUAL = (1 << 15, 1 << 19, 1 << 25)
SHARE = 1 << 25  # of the last cache for each core, at most: a virtual machine is told all of it
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def linux(root: Path = ROOT) -> dict[int, int]:
    """The size of each level's cache for data, as Linux tells it of the first processor."""
    found: dict[int, int] = {}
    for index in sorted(root.glob("sys/devices/system/cpu/cpu0/cache/index*")):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            if (index / "type").read_text().strip() in ("Data", "Unified"):
                size = (index / "size").read_text().strip()
                level = int((index / "level").read_text())
                found[level] = int(size[:-1]) * UNITS[size[-1]]
    return found


def macos() -> dict[int, int]:
    """The same on macOS."""
    found: dict[int, int] = {}
    for level, name in ((1, b"hw.l1dcachesize"), (2, b"hw.l2cachesize"), (3, b"hw.l3cachesize")):
        size, length = ctypes.c_int64(0), ctypes.c_size_t(8)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).sysctlbyname(name, ctypes.byref(size), ctypes.byref(length), None, 0)
            if size.value > 0:
                found[level] = size.value
    return found


def sizes(found: dict[int, int], cores: int) -> tuple[int, int, int]:
    """A first, a second and what may be used of a last cache, each at least as large as before."""
    first = found.get(1) or USUAL[0]
    second = max(first, found.get(2) or USUAL[1])
    last = (found[max(found)] if found and max(found) > 1 else 0) or USUAL[2]
    return first, second, max(second, min(last, cores * SHARE))


CORES = os.cpu_count() or 1
FIRST, SECOND, LAST = sizes(macos() if sys.platform == "darwin" else linux(), CORES)

# A result of half the last cache or more goes around the caches, as beside what is read for it, it
# would drive out of them whatever comes next. (Products, which read two arrays, and maxima, which
# read their pieces, have their own.)
FAR_FROM = LAST // 2
