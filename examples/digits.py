r"""Train a Maxout network on handwritten digits with NumPy and `numba_acts` alone.

The 1,797 digits of 8 x 8 pixels that scikit-learn carries are split at random into three quarters
for training and one quarter held out. Two layers of Maxout units end in one energy for each class,
and the probability of a class is the softmin of the energies:

    h1 = maxout(W1 x + b1)    h2 = maxout(W2 h1 + b2)    E = h2 V + c    p = softmin(E)

Training minimises the cross-entropy by AdamW with dropout and shifts of a pixel. The program saves
a figure of the learned filters and the learning curve, prints the accuracy on the held-out quarter
and fails below the goal.

    python examples/digits.py --output digits.png
"""

import argparse
import sys
import time
from typing import NamedTuple

import matplotlib
import numpy as np
from sklearn.datasets import load_digits

from numba_acts import (
    maxout_affine,
    maxout_affine_vjp,
    maxout_affine_with_index,
    softmin,
    softmin_vjp,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSES = 10
PIXELS = 64
UNITS = (96, 48)
PIECES = 4
DROPOUT = (0.1, 0.3, 0.3)  # of the pixels, the first and the second layer
BATCH = 128
LEARNING_RATE = 3e-3
DECAY = 0.2
SHIFTED = 0.3  # share of the training digits that are moved by up to one pixel

Array = np.ndarray
Rng = np.random.Generator


class Digits(NamedTuple):
    """Images as rows of 64 pixels between 0 and 1, and their labels."""

    images: Array
    labels: Array


class Tape(NamedTuple):
    """What the backward pass needs from the forward pass."""

    masks: list[Array]
    inputs: list[Array]
    winners: list[Array]


def load_split(rng: Rng) -> tuple[Digits, Digits]:
    """Return three quarters of the digits for training and the held-out quarter."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    order = rng.permutation(len(images))
    held_out, training = np.split(order, [len(images) // 4])
    return (
        Digits(images[training], labels[training]),
        Digits(images[held_out], labels[held_out]),
    )


def new_network(rng: Rng) -> list[Array]:
    """Return the parameters W1, b1, W2, b2, V, c; every class starts with the same energy."""

    def weight(units: int, d: int) -> Array:
        return rng.normal(scale=0.3 * d**-0.5, size=(units, PIECES, d)).astype(np.float32)

    first, second = UNITS
    return [
        weight(first, PIXELS),
        np.zeros((first, PIECES), np.float32),
        weight(second, first),
        np.zeros((second, PIECES), np.float32),
        np.zeros((second, CLASSES), np.float32),
        np.zeros(CLASSES, np.float32),
    ]


def probabilities(network: list[Array], x: Array) -> Array:
    """Return the probability of each class, with every unit at work."""
    w1, b1, w2, b2, v, c = network
    h1 = maxout_affine(x, w1, b1)
    h2 = maxout_affine(h1, w2, b2)
    return softmin(h2 @ v + c)


def accuracy(network: list[Array], digits: Digits) -> float:
    """Return the share of digits whose most probable class is the right one."""
    return float(np.mean(probabilities(network, digits.images).argmax(-1) == digits.labels))


def dropout_mask(rng: Rng, shape: tuple[int, ...], rate: float) -> Array:
    """Return zeros with probability `rate`, and 1 / (1 - rate) elsewhere to keep the mean."""
    return (rng.random(shape, np.float32) >= rate) / np.float32(1 - rate)


def shifted(rng: Rng, x: Array) -> Array:
    """Return the images, some of them moved by one pixel up or down, left or right, or both."""
    padded = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (8, 8), axis=(1, 2))
    down, right = np.where(rng.random(len(x)) < SHIFTED, rng.integers(3, size=(2, len(x))), 1)
    return views[np.arange(len(x)), down, right].reshape(len(x), PIXELS)


def forward(network: list[Array], x: Array, rng: Rng) -> tuple[Array, Tape]:
    """Return the probabilities under dropout and the tape for `backward`."""
    w1, b1, w2, b2, v, c = network
    sizes = (PIXELS, *UNITS)
    masks = [dropout_mask(rng, (len(x), n), r) for n, r in zip(sizes, DROPOUT, strict=True)]
    h0 = x * masks[0]
    y1, winner1 = maxout_affine_with_index(h0, w1, b1)
    h1 = y1 * masks[1]
    y2, winner2 = maxout_affine_with_index(h1, w2, b2)
    h2 = y2 * masks[2]
    return softmin(h2 @ v + c), Tape(masks, [h0, h1, h2], [winner1, winner2])


def energy_gradient(p: Array, labels: Array) -> Array:
    r"""Return the gradient of the mean cross-entropy with respect to the energies.

    The cross-entropy of one sample with label t is -log p_t, so the cotangent of p is
    g = -e_t / p_t, where e_t is the unit vector of the label. Softmin's product is
    dE = -p (g - <g, p>), and <g, p> = -1. Hence

        dE_j = -p_j (-δ_tj / p_t + 1) = δ_tj - p_j,

    the same with no division by p_t, which stays right where p_t underflows to 0.
    """
    gradient = -p
    gradient[np.arange(len(p)), labels] += 1
    return gradient / np.float32(len(p))


def backward(network: list[Array], tape: Tape, d_energy: Array) -> list[Array]:
    """Return the gradient of every parameter, in the order of the network."""
    w1, _, w2, _, v, _ = network
    h0, h1, h2 = tape.inputs
    winner1, winner2 = tape.winners
    dv, dc = h2.T @ d_energy, d_energy.sum(0)
    dh2 = d_energy @ v.T
    dh1, dw2, db2 = maxout_affine_vjp(dh2 * tape.masks[2], h1, w2, winner2)
    _, dw1, db1 = maxout_affine_vjp(dh1 * tape.masks[1], h0, w1, winner1)
    return [dw1, db1, dw2, db2, dv, dc]


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Each step is the mean gradient over its root mean square. The decay shrinks every parameter by
    a small share, so that pixels that are never lit lose the weights they started with.
    """

    def __init__(self, parameters: list[Array]) -> None:
        """Keep the parameters, which every step changes in place."""
        self.parameters = parameters
        self.mean = [np.zeros_like(p) for p in parameters]
        self.square = [np.zeros_like(p) for p in parameters]
        self.steps = 0

    def step(self, gradients: list[Array], rate: float) -> None:
        """Move the parameters against the gradients."""
        self.steps += 1
        # Both running means start at 0; dividing by 1 - decay^steps takes that bias away.
        bias1, bias2 = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for p, g, m, s in zip(self.parameters, gradients, self.mean, self.square, strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            p -= rate * (m / bias1 / (np.sqrt(s / bias2) + 1e-8) + DECAY * p)


def show_progress(done: int, total: int, note: str) -> None:
    """Draw one line on stderr; where stderr is no terminal, write a line at each tenth."""
    bar = f"training [{'#' * (30 * done // total):<30}] {done}/{total} {note}"
    if sys.stderr.isatty():
        print(f"\r{bar}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif 10 * done // total > 10 * (done - 1) // total:
        print(bar, file=sys.stderr, flush=True)


def train(
    network: list[Array], training: Digits, held_out: Digits, epochs: int, rng: Rng
) -> tuple[list[float], list[float]]:
    """Train in place; return the training loss and the held-out accuracy of every epoch."""
    optimiser = AdamW(network)
    losses, accuracies = [], []
    starts = range(0, len(training.images) - BATCH + 1, BATCH)
    for epoch in range(epochs):
        order = rng.permutation(len(training.images))
        loss = 0.0
        for start in starts:
            batch = order[start : start + BATCH]
            labels = training.labels[batch]
            p, tape = forward(network, shifted(rng, training.images[batch]), rng)
            loss -= float(np.log(np.maximum(p[np.arange(BATCH), labels], 1e-30)).mean())
            gradients = backward(network, tape, energy_gradient(p, labels))
            # The learning rate falls to zero along half a cosine.
            done = (epoch * len(starts) + start // BATCH) / (epochs * len(starts))
            optimiser.step(gradients, LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * done)))
        losses.append(loss / len(starts))
        accuracies.append(accuracy(network, held_out))
        show_progress(epoch + 1, epochs, f"held out {accuracies[-1]:.1%}")
    return losses, accuracies


def largest_gradient_difference(network: list[Array], digits: Digits) -> float:
    """Compare `energy_gradient` with `softmin_vjp` on the cross-entropy's own cotangent."""
    p = probabilities(network, digits.images).astype(np.float64)
    rows = np.arange(len(p))
    cotangent = np.zeros_like(p)
    cotangent[rows, digits.labels] = -1 / p[rows, digits.labels] / len(p)
    return float(np.abs(softmin_vjp(cotangent, p) - energy_gradient(p, digits.labels)).max())


def draw(
    path: str, network: list[Array], held_out: Digits, losses: list[float], accuracies: list[float]
) -> None:
    """Save a figure of the learning curve, the strongest filters and the mistakes."""
    figure = plt.figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    curve, mistakes = left.subfigures(2, 1, height_ratios=(2.3, 1))
    draw_curve(curve, losses, accuracies)
    draw_mistakes(mistakes, network, held_out)
    draw_filters(right, network[0])
    figure.savefig(path, dpi=130)


def draw_curve(figure: "matplotlib.figure.SubFigure", losses: list, accuracies: list) -> None:
    """Draw the training loss and the held-out error against the epochs."""
    axes = figure.subplots()
    epochs = np.arange(1, len(losses) + 1)
    axes.semilogy(epochs, losses, color="tab:blue", label="training loss (nats, with dropout)")
    error = 1 - np.array(accuracies)
    axes.semilogy(epochs, error, color="tab:orange", label="error on the held-out quarter")
    axes.annotate(
        f"{error[-1]:.1%}", (epochs[-1], error[-1]), (4, 0), textcoords="offset points", va="center"
    )
    axes.set(title="Learning curve", xlabel="epoch", xlim=(1, len(losses) * 1.1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def draw_mistakes(figure: "matplotlib.figure.SubFigure", network: list, held_out: Digits) -> None:
    """Draw the first held-out digits that the network gets wrong."""
    p = probabilities(network, held_out.images)
    wrong = np.flatnonzero(p.argmax(-1) != held_out.labels)
    figure.suptitle(f"Mistakes: {len(wrong)} of {len(p)} held-out digits (label → answer)")
    axes = figure.subplots(1, 8)
    for axis in axes:
        axis.axis("off")
    for axis, i in zip(axes, wrong, strict=False):
        axis.imshow(held_out.images[i].reshape(8, 8), cmap="gray_r")
        axis.set_title(f"{held_out.labels[i]} → {p[i].argmax()}", fontsize=10)


def draw_filters(figure: "matplotlib.figure.SubFigure", weight: Array) -> None:
    """Draw the pieces of the first layer's strongest units, the pieces of a unit side by side."""
    rows, columns = 10, 3
    strongest = np.argsort(-np.linalg.norm(weight, axis=(1, 2)))[: rows * columns]
    filters = weight[strongest].reshape(rows, columns, PIECES, 8, 8)
    # A blank column follows each piece, three more each unit, and three blank rows each row.
    filters = np.pad(filters, [(0, 0)] * 3 + [(0, 3), (0, 1)], constant_values=np.nan)
    strips = filters.transpose(0, 1, 3, 2, 4).reshape(rows, columns, 11, 9 * PIECES)
    strips = np.pad(strips, [(0, 0)] * 3 + [(0, 3)], constant_values=np.nan)
    mosaic = strips.transpose(0, 2, 1, 3).reshape(11 * rows, -1)
    axes = figure.subplots()
    limit = np.nanquantile(np.abs(mosaic), 0.995)
    image = axes.imshow(mosaic[:-3, :-4], cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_title(f"First layer: the {len(strongest)} strongest units, {PIECES} pieces each")
    axes.axis("off")
    figure.colorbar(image, ax=axes, label="weight of a pixel", shrink=0.6, extend="both")


def main() -> int:
    """Train, report and draw; return 1 where the goal is missed."""
    parser = argparse.ArgumentParser(
        description="Train a Maxout network on scikit-learn's handwritten digits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", default="digits.png", help="where the figure is saved")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and the training")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the training digits")
    parser.add_argument("--goal", type=float, default=0.97, help="held-out accuracy to reach")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")

    start = time.perf_counter()
    rng = np.random.default_rng(options.seed)
    training, held_out = load_split(rng)
    network = new_network(rng)
    losses, accuracies = train(network, training, held_out, options.epochs, rng)
    seconds = time.perf_counter() - start
    difference = largest_gradient_difference(network, held_out)
    draw(options.output, network, held_out, losses, accuracies)

    passed = accuracies[-1] >= options.goal
    print(f"digits: {len(training.labels)} for training, {len(held_out.labels)} held out")
    print(f"trained {options.epochs} epochs in {seconds:.1f} s, kernel compilation included")
    print(f"cross-entropy gradient: δ - p differs from softmin_vjp by at most {difference:.1e}")
    print(f"accuracy on the training digits: {accuracy(network, training):.2%}")
    print(
        f"accuracy on the held-out digits: {accuracies[-1]:.2%} "
        f"({'reaches' if passed else 'MISSES'} the goal of {options.goal:.0%})"
    )
    print(f"figure: {options.output}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
