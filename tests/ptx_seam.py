"""Where a tool that executes the GPU's compiled kernels on a CPU takes hold of the library."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


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
    """Have the hall of GPU arrays take these kernels without a look at the driver."""
    from numba_acts._halls import gpu, libraries

    wing = SimpleNamespace(**rooms)
    for module in (gpu, libraries):
        vars(module)["wing"] = lambda: wing


def forget() -> None:
    """Drop remembered choices of kernels, which hang on a device's sizes.

    Batches of an affine map hang on none; a small cache makes them small all the same, so that
    there are several. Few rows are taken together as many are.
    """
    from numba_acts._cuda import affine, slices
    from numba_acts._halls import libraries

    vars(slices)["FROM_BLOCKS"] = 0

    vars(affine)["PIECES"] = min(1 << 28, launch().device(0).cache)
    launch()._plans.clear()
    libraries._queue.cache_clear()


def sources() -> Iterator[Path]:
    """The files that kernels are made from."""
    return Path(launch().__file__).parent.glob("*.py")


# ---- an instruction that the tool does not know ------------------------------------------------


def _fetches(launch: Any, ins: Any) -> Any:
    """cp.async: loaded when it is issued, and there for others only once it was waited for."""
    if ins.modifiers == ["async", "wait_all"]:

        def wait(who: Any) -> None:
            threads, pending = launch.thread[who], vars(launch).pop("pending", [])
            launch.pending = []
            for block, other, mine, there, values, raw in pending:
                ours = np.isin(mine, threads)
                if block == launch.first_block and not ours.all():
                    rest = ~ours
                    launch.pending.append(
                        (block, other, mine[rest], there[rest], values[rest], raw)
                    )
                if block == launch.first_block and ours.any():
                    count = values.shape[1]
                    given = mine[ours], "shared", there[ours], count, raw, values[ours]
                    launch._transfer(other, *given)

        return wait

    if ins.modifiers not in (["async", how, "shared", "global"] for how in ("ca", "cg")):
        raise NotImplementedError(ins.text)
    target, source, size = ins.operands
    to, at = launch._address(target), launch._address(source)
    count, raw = int(size) // 4, np.dtype("u4")

    def fetch(who: Any) -> None:
        there, place = to(who), at(who)
        if (there % int(size)).any():
            launch._fault(ins, who, f"misaligned: {size} bytes in shared memory")
        values = launch._transfer(ins, who, "global", place, count, raw, None)
        pending = vars(launch).setdefault("pending", [])
        pending.append((launch.first_block, ins, launch.thread[who].copy(), there, values, raw))

    return fetch


if "interpreter" in sys.modules:
    tool: Any = sys.modules["interpreter"]
    if not hasattr(tool.Launch, "_cp"):
        tool.NO_RESULT += ("cp",)
        tool.Launch._cp = _fetches
