r"""Segment a photograph by soft clustering of its colours.

Each pixel's colour f belongs to cluster k with the responsibility

    d[k] = |f - centre[k]|²        r = softmax2d(-d, temperature=T)

and each centre is the mean of all colours weighted by its responsibilities. The two steps are
repeated until no centre moves any more: soft k-means, or a mixture of equal Gaussians of variance
T / 2. At a high temperature centres melt into one; at a low one the answer is that of k-means.
Colours are compared in CIE L*a*b*, where equal distances look about equally different.

The program saves a figure of the photograph, its segmentation and the uncertainty of each pixel,
and shows that softmin over distances is softmax2d over their negatives. It fails where the two
differ by more than rounding or where the centres do not settle.

    python examples/segment_photo.py --output segment_photo.png
"""

import argparse
import math
import sys
import time

import matplotlib
import numpy as np
from sklearn.datasets import load_sample_image

from numba_acts import softmax2d, softmin

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Array = np.ndarray


def lab_colours(photo: Array) -> Array:
    """Return the L*a*b* colours of an sRGB photograph (height, width, 3) of bytes."""
    s = photo / 255
    linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / to_xyz.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


def squared_distances(colours: Array, centres: Array) -> Array:
    """Return d (clusters, height, width), the squared distance of each pixel to each centre."""
    d = np.empty((len(centres), *colours.shape[:2]), np.float32)
    for plane, centre in zip(d, centres, strict=True):
        offset = colours - centre
        np.einsum("hwc,hwc->hw", offset, offset, out=plane)
    return d


def first_centres(colours: Array, clusters: int, rng: np.random.Generator) -> Array:
    """Return pixels drawn far from each other (k-means++)."""
    pixels = colours.reshape(-1, colours.shape[-1])
    centres = pixels[rng.integers(len(pixels), size=1)]
    while len(centres) < clusters:
        nearest = squared_distances(colours, centres).min(0).ravel().astype(np.float64)
        drawn = rng.choice(len(pixels), p=nearest / nearest.sum())
        centres = np.vstack([centres, pixels[drawn]])
    return centres


def weighted_means(values: Array, weights: Array) -> Array:
    """Return the mean of `values` (height, width, 3) under each plane of `weights`."""
    flat = weights.reshape(len(weights), -1)
    return flat @ values.reshape(-1, values.shape[-1]) / flat.sum(1, keepdims=True)


def show_progress(share: float, note: str) -> None:
    """Draw one line on stderr; where stderr is no terminal, write only the last."""
    end = "\n" if share >= 1 else ""
    bar = f"clustering [{'#' * int(30 * share):<30}] {note}"
    if sys.stderr.isatty():
        print(f"\r{bar}\x1b[K", end=end, file=sys.stderr, flush=True)
    elif end:
        print(bar, file=sys.stderr, flush=True)


def cluster(
    colours: Array, centres: Array, temperature: float, tolerance: float, rounds: int
) -> tuple[Array, Array, list[float]]:
    """Update the centres until none moves by more than `tolerance`.

    Returns the centres, their responsibilities and the largest movement of every round.
    """
    r = np.empty((len(centres), *colours.shape[:2]), np.float32)
    movements: list[float] = []
    while len(movements) < rounds:
        softmax2d(-squared_distances(colours, centres), temperature=temperature, out=r)
        updated = weighted_means(colours, r)
        movements.append(float(np.linalg.norm(updated - centres, axis=1).max()))
        centres = updated
        # The movement shrinks about geometrically, so its logarithm tells how far the way is.
        way = math.log(max(movements) / tolerance)
        left = math.log(max(movements[-1], tolerance) / tolerance)
        settled = movements[-1] <= tolerance
        share = 1.0 if settled or len(movements) == rounds else min(1 - left / way, 0.99)
        show_progress(share, f"round {len(movements)}, centres move {movements[-1]:.4f}")
        if settled:
            break
    return centres, r, movements


def entropy(r: Array) -> Array:
    """Return the entropy of each pixel's responsibilities in bits."""
    return -(r * np.log2(np.maximum(r, np.finfo(r.dtype).tiny))).sum(0)


def draw(path: str, photo: Array, r: Array) -> None:
    """Save a figure of the photograph, its segmentation and its uncertainty."""
    # Each pixel of the segmentation has its cluster's mean colour; clusters go from dark to light.
    order = np.argsort(weighted_means(photo.astype(np.float32), r).sum(1))
    r = r[order]
    palette = weighted_means(photo.astype(np.float32), r) / 255
    figure, axes = plt.subplots(1, 3, figsize=(15, 3.9), layout="constrained")
    axes[0].imshow(photo)
    axes[0].set_title("Photograph")
    axes[1].imshow(palette[r.argmax(0)])
    axes[1].set_title(f"Segmentation: the most responsible of {len(r)} clusters")
    uncertainty = axes[2].imshow(entropy(r), cmap="magma", vmin=0)
    axes[2].set_title("Uncertainty: entropy of the responsibilities")
    figure.colorbar(uncertainty, ax=axes[2], label="bits", shrink=0.8, pad=0.02)
    for axis in axes:
        axis.axis("off")
    # The palette under the segmentation: one patch a cluster, as wide as its share of the photo.
    shares = r.sum((1, 2)) / r[0].size
    strip = axes[1].inset_axes((0, -0.1, 1, 0.07))
    strip.barh([0] * len(r), shares, left=np.cumsum(shares) - shares, color=palette)
    strip.set(xlim=(0, 1))
    strip.axis("off")
    figure.savefig(path, dpi=130)


def main() -> int:
    """Cluster, compare and draw; return 1 where a check fails."""
    parser = argparse.ArgumentParser(
        description="Segment one of scikit-learn's photographs by soft clustering of its colours.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", default="segment_photo.png", help="where the figure is saved")
    parser.add_argument(
        "--photo", choices=("china", "flower"), default="china", help="which photograph"
    )
    parser.add_argument("--clusters", type=int, default=8, help="number of clusters")
    parser.add_argument(
        "--temperature", type=float, default=40.0, help="softness, in squared units of L*a*b*"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.01, help="largest movement of a settled centre"
    )
    parser.add_argument("--rounds", type=int, default=500, help="most rounds to try")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first centres")
    options = parser.parse_args()
    for name in ("clusters", "temperature", "tolerance", "rounds"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name} must be greater than 0")

    start = time.perf_counter()
    photo = load_sample_image(f"{options.photo}.jpg")
    colours = lab_colours(photo)
    centres = first_centres(colours, options.clusters, np.random.default_rng(options.seed))
    centres, r, movements = cluster(
        colours, centres, options.temperature, options.tolerance, options.rounds
    )
    seconds = time.perf_counter() - start

    d = squared_distances(colours, centres)
    a = softmin(d, axis=0, temperature=options.temperature)
    b = softmax2d(-d, temperature=options.temperature)
    difference = float(np.abs(a - b).max())
    # Each may err by 4 eps (1 + z) y with y <= exp(-z), which is never more than 4 eps.
    same = difference <= 8 * np.finfo(np.float32).eps
    settled = movements[-1] <= options.tolerance
    draw(options.output, photo, r)

    print(f"{options.photo}.jpg: {photo.shape[0]} x {photo.shape[1]} pixels in {len(r)} clusters")
    state = "settled" if settled else "NOT SETTLED"
    print(
        f"{state} after {len(movements)} rounds in {seconds:.1f} s"
        f" (largest movement {movements[-1]:.4f}, tolerance {options.tolerance})"
    )
    print("cluster  share   L*     a*     b*")
    for k in np.argsort(centres[:, 0]):
        lightness, green_red, blue_yellow = centres[k]
        print(f"{k:7d}  {r[k].mean():5.1%}{lightness:7.1f}{green_red:7.1f}{blue_yellow:7.1f}")
    print(f"mean uncertainty: {entropy(r).mean():.2f} bits of {math.log2(len(r)):.2f}")
    equality = (
        "bit for bit equal" if np.array_equal(a, b) else f"differ by at most {difference:.1e}"
    )
    print(f"softmin(d, axis=0) and softmax2d(-d): {equality}{'' if same else ', TOO MUCH'}")
    print(f"figure: {options.output}")
    return 0 if settled and same else 1


if __name__ == "__main__":
    sys.exit(main())
