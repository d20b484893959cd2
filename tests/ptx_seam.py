"""Where a tool that executes the GPU's compiled kernels on a CPU takes hold of the library."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def launch() -> Any:
    """The module with `signature`, `Device` and `devices`."""
    from numba_acts._cuda import launch

    return launch


def rooms() -> dict[str, Any]:
    """The modules whose `run` starts kernels, or whose `device` knows a device's sizes, by name."""
    from numba_acts._cuda import affine, copies, forward, jacobian, launch, maxout, product, slices

    found = affine, copies, forward, jacobian, launch, maxout, product, slices
    return {room.__name__.rpartition(".")[2]: room for room in found}


def connect(rooms: dict[str, Any]) -> None:
    """Have the hall of GPU arrays take this wing without a look at the driver."""
    from numba_acts._halls import gpu, libraries

    wing = SimpleNamespace(**rooms)
    for module in (gpu, libraries):
        vars(module)["wing"] = lambda: wing


def forget() -> None:
    """Drop remembered choices of kernels, which hang on a device's sizes."""
    from numba_acts._halls import libraries

    launch()._plans.clear()
    libraries._queue.cache_clear()


def sources() -> Iterator[Path]:
    """The files that kernels are made from."""
    return Path(launch().__file__).parent.glob("*.py")
