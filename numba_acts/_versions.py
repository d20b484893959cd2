"""What the library runs on, as a report of a bug needs to say it."""

import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import llvmlite.binding

from numba_acts import _compiler
from numba_acts._version import __version__

PACKAGES = {  # by what they are to the library
    "required": ["numba", "llvmlite", "numpy", "tbb"],
    "arrays": ["ml-dtypes", "torch", "jax", "dask", "cupy-cuda12x", "cupy-cuda13x"],
    "compilers for a GPU": [
        "numba-cuda",
        "cuda-core",
        "cuda-bindings",
        "nvidia-nvvm",
        "nvidia-cuda-nvrtc",
        "nvidia-nvjitlink",
    ],
}
TELLING = ["sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "neon", "sve"]


def show_versions(*, as_json: bool = False) -> None:
    """Print what a report of a bug needs to say: versions, processor, threads, cache and GPU.

    ``python -m numba_acts versions`` does the same. Only packages that are installed are named, and
    none is imported for it. Nothing is sent anywhere.

    Parameters
    ----------
    as_json : bool, default False
        Print a JSON object instead of lines.

    Examples
    --------
    >>> import numba_acts
    >>> numba_acts.show_versions()  # doctest: +ELLIPSIS
    numba_acts: 0...
    """
    found = versions()
    print(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))


def versions() -> dict[str, Any]:
    """Return what `show_versions` prints."""
    import numba

    from numba_acts._cpu import forward, threads  # which opens the kernels' cache

    most = threads.most()  # which starts the threads, and so chooses their layer
    folder = _compiler.folder(forward.rows)
    return {
        __package__: __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "global interpreter lock": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "system": platform.platform(),
        "packages": {kind: installed(names) for kind, names in PACKAGES.items()},
        "processor": {
            "name": processor(),
            "compiled for": target(),
            "vector instructions": simd(),
            "cores": os.cpu_count(),
        },
        "threads": {
            "a call may use": most,
            "usable": threads.usable(),
            "quota": None if threads.quota() == float("inf") else threads.quota(),
            "layer": numba.threading_layer(),
        },
        "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith("NUMBA_")},
        "cache": {"folder": folder, "can be written": folder is not None},
        "GPU": gpus(),
    }


def _lines(found: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [
                f"{indent}{name}:" + ("" if value else " none"),
                *_lines(value, indent + "  "),
            ]
        else:
            shown = " ".join(value) if isinstance(value, list) else value
            lines.append(f"{indent}{name}: {'none' if shown in (None, '') else shown}")
    return lines


def installed(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    import importlib.metadata

    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def target() -> str:
    """Return the processor that kernels are compiled for."""
    return os.environ.get("NUMBA_CPU_NAME") or llvmlite.binding.get_host_cpu_name()


def simd() -> list[str]:
    """Return the vector instructions of this machine."""
    features = llvmlite.binding.get_host_cpu_features()
    return [name for name in TELLING if features.get(name)]


def gpus() -> dict[str, Any]:
    """Name the GPUs that the CUDA driver shows, asking the driver and not a library above it."""
    import ctypes.util

    library = ctypes.util.find_library("nvcuda" if os.name == "nt" else "cuda")
    if library is None:
        return {"driver": "no CUDA driver", "devices": []}
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return {"driver": f"{library} does not load", "devices": []}
    count, version, major, minor = (ctypes.c_int() for _ in range(4))
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return {"driver": f"{library} shows no device", "devices": []}
    driver.cuDriverGetVersion(ctypes.byref(version))
    devices = []
    for device in range(count.value):
        name = ctypes.create_string_buffer(128)
        driver.cuDeviceGetName(name, len(name), device)
        for attribute, number in ((75, major), (76, minor)):  # the compute capability
            driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        devices.append(f"{name.value.decode()}, {major.value}.{minor.value}")
    known = version.value
    return {"driver": f"CUDA {known // 1000}.{known % 1000 // 10}", "devices": devices}
