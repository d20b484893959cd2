"""Does the machine have other work? Asked wherever times are printed."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

STAT = Path("/proc/stat")
OTHERS = 0.25  # processors' worth of other processes' work,
STOLEN = 0.02  # a processor's share of time that other machines on the same host took,
DRIFT = 1.25  # one thread's time, its tenth-slowest over its fastest, from which a machine is busy


class Spent(NamedTuple):
    """Seconds so far: of the clock, of all processors' work, stolen from them, of this process."""

    clock: float
    work: float
    stolen: float
    own: float


def spent() -> Spent | None:
    """What Linux has counted so far; None elsewhere."""
    try:
        first = STAT.read_text().splitlines()[0].split()[1:]
        user, nice, system, _, _, irq, softirq, stolen = map(int, first[:8])
    except (OSError, ValueError, IndexError):
        return None
    tick = 1 / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return Spent(
        time.perf_counter(),
        (user + nice + system + irq + softirq) * tick,
        stolen * tick,
        own.user + own.system + own.children_user + own.children_system,
    )


class Watch:
    """What else goes on, from its making on."""

    def __init__(self) -> None:
        self._x, self._times, self._start = np.linspace(-1, 1, 20_000), list[float](), spent()
        self._y = np.exp(self._x)

    def look(self) -> None:
        """Time the same work of one thread again, some 0.1 ms. To be called now and then."""
        for _ in range(5):
            start = time.perf_counter()
            np.exp(self._x, out=self._y)
            self._times.append(time.perf_counter() - start)

    def told(self) -> str:
        """A sentence if there was other work, or nothing."""
        found, start, end = [], self._start, spent()
        if start and end and (seconds := end.clock - start.clock) > 0:
            cores = os.cpu_count() or 1
            others = (end.work - start.work - end.own + start.own) / seconds
            stolen = (end.stolen - start.stolen) / seconds / cores
            if others > OTHERS:
                found.append(f"other processes took {others:.1f} of {cores} processors")
            if stolen > STOLEN:
                found.append(f"the host took {stolen:.0%} of the time for other machines")
        if self._times:
            drift = sorted(self._times)[len(self._times) * 9 // 10] / min(self._times)
            if drift > DRIFT:
                found.append(f"one thread's time varied by a factor of {drift:.1f}")
        return f"The machine was busy meanwhile: {', '.join(found)}." if found else ""
