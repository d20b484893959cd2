r"""Estimate depth by a soft minimum over matching costs, in one CUDA kernel that reads them once.

A stereo matcher has a cost c_d for each shift d of a pixel between two images. Its estimate of the
shift is the mean of d under the softmin of the costs, a soft argmin that has a derivative:

    w = softmin(c / T)    shift = Σ d w_d

`numba_acts.softmin` on all costs writes the weights to memory, and their mean reads them again.
Here a thread has a pixel: it goes once through the costs, a few at a time, and keeps the pair of
maximum and sum and the mean so far (online softmax), by the functions of `numba_acts.cuda`.

    python examples/expected_disparity.py

It needs a GPU, or Numba's simulator with NUMBA_ENABLE_CUDASIM=1, where it takes a smaller image. It
fails if a shift is off from the one that NumPy computes in float64.
"""

import argparse
import os
import sys

import numpy as np
from numba import cuda

from numba_acts import cuda as acts

TILE = 8  # costs that a thread reads before it needs the first
THREADS = 128
SHIFTS = 16
TEMPERATURE = 0.05

Array = np.ndarray


@cuda.jit
def expected_shift(costs, beta, out):
    """out[p] = Σ_d d·w_d, where w is the softmax of β·costs[:, p]; softmin for β < 0."""
    pixel = cuda.grid(1)
    if pixel >= out.shape[0]:
        return
    mine = cuda.local.array(TILE, np.float32)
    one, mean = np.float32(1), np.float32(0)
    pair = np.float32(np.inf), np.float32(0)  # of no costs yet, as β < 0
    for start in range(0, costs.shape[0], TILE):
        for i in range(TILE):
            d = start + i
            mine[i] = costs[d, pixel] if d < costs.shape[0] else np.inf
        new = acts.merge(pair, acts.thread_softmax_pair(mine, beta), beta)
        mean *= acts.weight(pair[0], (new[0], one), beta)  # exp(β(m − m′)): the maximum has grown
        for i in range(TILE):
            mean += np.float32(start + i) * acts.weight(mine[i], (new[0], one), beta)
        pair = new
    out[pixel] = mean / pair[1]


def matching_costs(height: int, width: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Costs of each shift and pixel, and the true shifts, of a made pair of images."""
    scene = rng.random((height, width + SHIFTS), np.float32)
    truth = np.where(np.arange(width) < width // 2, SHIFTS // 4, SHIFTS // 2)
    truth = np.broadcast_to(truth, (height, width))
    columns = np.arange(width) + truth
    left = np.take_along_axis(scene, columns, axis=1)
    costs = [np.abs(left - scene[:, d : d + width]) for d in range(SHIFTS)]
    window = np.ones(5, np.float32) / 5  # costs of neighbours count too
    for axis in (0, 1):
        costs = [
            np.apply_along_axis(np.convolve, axis, cost, window, mode="same") for cost in costs
        ]
    return np.stack(costs).astype(np.float32), truth


def by_numpy(costs: Array, beta: float) -> Array:
    """The same in float64, the plain way."""
    scaled = beta * costs.astype(np.float64)
    weights = np.exp(scaled - scaled.max(axis=0))
    weights /= weights.sum(axis=0)
    return np.tensordot(np.arange(len(costs)), weights, axes=1)


def main() -> int:
    """Compute the shifts of a made image, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    small = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
    parser.add_argument("--height", type=int, default=24 if small else 1080)
    parser.add_argument("--width", type=int, default=32 if small else 1920)
    given = parser.parse_args()
    if not cuda.is_available():
        print("no GPU was found: set NUMBA_ENABLE_CUDASIM=1 to run this in Numba's simulator")
        return 1
    costs, truth = matching_costs(given.height, given.width, np.random.default_rng(0))
    beta, pixels = -1 / TEMPERATURE, truth.size
    there = cuda.to_device(costs.reshape(SHIFTS, pixels))
    out = cuda.device_array(pixels, np.float32)
    expected_shift[-(-pixels // THREADS), THREADS](there, beta, out)
    shifts = out.copy_to_host().reshape(truth.shape)
    off = np.abs(shifts - by_numpy(costs, beta)).max()
    near = np.mean(np.abs(shifts - truth) < 0.5)
    print(f"{truth.shape[0]} x {truth.shape[1]} pixels, {SHIFTS} shifts each")
    print(f"{near:.1%} are estimated within half a pixel; at most {off:.1e} off NumPy's float64")
    return int(off > 1e-4)


if __name__ == "__main__":
    sys.exit(main())
