r"""Boltzmann's distribution over more states than a worker's memory holds: softmin on Dask.

A ring of N spins, each up or down, has 2^N states. With the energy E = −Σ s_i s_{i+1} over
neighbours, states have the probabilities

    p = softmin(E, temperature=T)        p_k = exp(−E_k/T) / Z,  Z = Σ exp(−E_k/T)

which is one slice of 2^N numbers. Here two worker processes on this machine compute them, each
with too little memory for half of the array. Its chunks are made twice, for the sum and for the
probabilities, which are saved chunk by chunk; none is held meanwhile.

The program fails where the file differs from what softmin gives for one NumPy array by more than
the accuracy that both are held to, or from the exact solution, in which Z = (2 cosh 1/T)^N +
(2 sinh 1/T)^N.

    python examples/ising_on_a_cluster.py --spins 27 --memory 400MB
"""

import argparse
import logging
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.utils import parse_bytes
from distributed import Client, LocalCluster, progress

from numba_acts import softmin

Array = np.ndarray

# Python, NumPy, Numba and Dask take some 260 MB of a worker's memory. A worker with more than 80 %
# would wait for memory to be freed, and these would wait for ever. Above 95 % it is ended.
LIMITS = {"distributed.worker.memory.pause": False}


def energies(spins: int, start: int, stop: int) -> Array:
    """Return the energies of those states; the bits of a state's number are its spins."""
    states = np.arange(start, stop, dtype=np.uint32)
    last = states >> np.uint32(spins - 1)
    turned = states << np.uint32(1) & np.uint32(2**spins - 1) | last
    return 2.0 * np.bitwise_count(states ^ turned) - spins


def lazy_energies(spins: int, chunk: int) -> da.Array:
    """Return the energies of all states as a Dask array, none of which is computed yet."""

    def block(block_info: dict) -> Array:
        ((start, stop),) = block_info[None]["array-location"]
        return energies(spins, start, stop)

    return da.map_blocks(block, chunks=((chunk,) * (2**spins // chunk),), dtype=np.float64)


class File:
    """A file of numbers that any process writes parts of."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        path.touch()
        os.truncate(path, 8 * count)

    def __setitem__(self, where: tuple[slice], values: Array) -> None:
        with self.path.open("r+b") as file:
            file.seek(8 * where[0].start)
            file.write(values.data)


def compute(p: da.Array, path: Path, memory: str, folder: str) -> None:
    """Compute on a cluster of two processes, under a progress bar, and save chunk by chunk."""
    with (
        dask.config.set({"temporary-directory": folder, **LIMITS}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,  # little memory is intended, as is the progress's end
        ) as cluster,
        Client(cluster) as client,
    ):
        saved = client.compute(da.store(p, File(path, p.size), lock=False, compute=False))
        progress(saved, notebook=False, interval="1s")
        saved.result()
        print()


def largest_difference(path: Path, spins: int, temperature: float, chunk: int) -> float:
    """Return how far the file is from the plain result, in units of what each may err by."""
    e = energies(spins, 0, 2**spins)
    plain = softmin(e, temperature=temperature, out=e)
    saved, worst = np.memmap(path, np.float64, "r"), 0.0
    for start in range(0, 2**spins, chunk):
        p, q = plain[start : start + chunk], saved[start : start + chunk]
        far = (energies(spins, start, start + len(p)) + spins) / temperature
        bound = 4 * np.finfo(p.dtype).eps * (1 + far) * p
        worst = max(worst, float((np.abs(p - q) / bound).max()))
    return worst


def main() -> int:
    """Compute, compare; return 1 where a check fails."""
    parser = argparse.ArgumentParser(
        description="Boltzmann's distribution of a ring of spins, on a cluster of two processes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--spins", type=int, default=27, help="how many spins, 4 to 31")
    parser.add_argument("--temperature", type=float, default=2.0, help="in units of the coupling")
    parser.add_argument("--memory", default="400MB", help="what a worker may take")
    parser.add_argument("--chunk", type=int, default=19, help="2 to how many states a chunk has")
    options = parser.parse_args()
    if not 4 <= options.spins <= 31:
        parser.error("--spins must be 4 to 31")
    spins, temperature = options.spins, options.temperature
    chunk = 2 ** min(options.chunk, spins - 1)

    e = lazy_energies(spins, chunk)
    p = softmin(e, temperature=temperature)
    ratio = p.nbytes / parse_bytes(options.memory)
    print(
        f"{spins} spins: {p.size} states in {p.npartitions} chunks, {p.nbytes / 1e9:.2f} GB, "
        f"{ratio:.1f} times a worker's memory"
    )
    # what compiles takes another 50 MB: it happens here, once, and the workers read what is cached
    two = lazy_energies(chunk.bit_length(), chunk)
    softmin(two, temperature=temperature).compute(scheduler="synchronous")
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder, "p"), time.perf_counter()
        compute(p, path, options.memory, folder)
        print(f"computed and saved in {time.perf_counter() - start:.1f} s")
        difference = largest_difference(path, spins, temperature, chunk)
        lowest = float(np.memmap(path, np.float64, "r")[0])  # all spins down

    a, b = 2 * math.cosh(1 / temperature), 2 * math.sinh(1 / temperature)
    exact = math.exp(spins / temperature) / (a**spins + b**spins)
    off = abs(lowest / exact - 1)
    same, right = difference <= 2, off <= 1e-13
    print(
        f"differs from the plain result by {difference:.2f} of the bound of one of them"
        f"{'' if same else ', TOO MUCH'}"
    )
    print(
        f"all spins down: p = {lowest:.6e}, exactly {exact:.6e}{'' if right else ', TOO FAR APART'}"
    )
    return 0 if same and right else 1


if __name__ == "__main__":
    sys.exit(main())
