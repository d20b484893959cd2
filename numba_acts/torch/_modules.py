"""The functions as modules: what a network is put together from."""

import math
from typing import Any

import torch
from torch.nn import Module, Parameter

from numba_acts._halls import rules
from numba_acts._halls.rules import Axis
from numba_acts.torch import _functions as functions


class _Softmax(Module):
    """What has a temperature, which a module saves and moves if it is a tensor."""

    temperature: Any

    def __init__(self, temperature: float | torch.Tensor) -> None:
        super().__init__()
        if not isinstance(temperature, torch.Tensor):
            rules.inverse_temperature(temperature)
            self.temperature = temperature
        elif isinstance(temperature, Parameter):
            self.temperature = temperature
        elif temperature.requires_grad:
            raise ValueError(
                "temperature must be a number, a torch.nn.Parameter or a tensor without gradient: "
                "what is computed of a parameter is out of date after a step; pass it to softmin"
            )
        else:
            self.register_buffer("temperature", temperature)

    def _shown_temperature(self) -> str:
        tensor = isinstance(self.temperature, torch.Tensor)
        return f"tensor{tuple(self.temperature.shape)}" if tensor else f"{self.temperature}"


class Softmin(_Softmax):
    r"""The module of `softmin`: weights that are largest where the input is smallest.

    Parameters
    ----------
    axis : int, tuple of ints or None, default -1
        The axis or axes over which the weights sum to 1.
    temperature : float or torch.Tensor, default 1.0
        T > 0. A `torch.nn.Parameter` is learned with the network, another tensor is a buffer of the
        module.

    Notes
    -----
    Called with `x` and, if there is a mask, `where`.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> acts.Softmin()(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor([0.6439, 0.2369, 0.0871, 0.0321])
    >>> acts.Softmin(temperature=torch.nn.Parameter(torch.ones(8, 1, 1)))
    Softmin(axis=-1, temperature=tensor(8, 1, 1))
    """

    def __init__(self, axis: Axis = -1, *, temperature: float | torch.Tensor = 1.0) -> None:
        super().__init__(temperature)
        for a in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
            rules.integer("axis", a)
        self.axis = axis

    def forward(self, x: torch.Tensor, where: Any = None) -> torch.Tensor:
        """Apply `softmin`."""
        return functions.softmin(x, self.axis, temperature=self.temperature, where=where)

    def extra_repr(self) -> str:
        """Show axis and temperature."""
        return f"axis={self.axis}, temperature={self._shown_temperature()}"


class Softmax2d(_Softmax):
    r"""The module of `softmax2d`: probabilities over the channels at each pixel.

    Parameters
    ----------
    channel_axis : -3 or -1, default -3
        Where the channels are.
    temperature : float or torch.Tensor, default 1.0
        T > 0, as for `Softmin`.

    Notes
    -----
    Called with `x` and, if there is a mask, `where`.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> acts.Softmax2d()(torch.zeros(1, 2, 1, 1)).ravel()
    tensor([0.5000, 0.5000])
    """

    def __init__(self, *, channel_axis: int = -3, temperature: float | torch.Tensor = 1.0) -> None:
        super().__init__(temperature)
        rules.channel_axis("x", 3, channel_axis)
        self.channel_axis = channel_axis

    def forward(self, x: torch.Tensor, where: Any = None) -> torch.Tensor:
        """Apply `softmax2d`."""
        return functions.softmax2d(
            x, channel_axis=self.channel_axis, temperature=self.temperature, where=where
        )

    def extra_repr(self) -> str:
        """Show channel axis and temperature."""
        return f"channel_axis={self.channel_axis}, temperature={self._shown_temperature()}"


class Maxout(Module):
    r"""Maxout in the place of an activation: groups of features in, the largest of each out.

    Neighbours belong together. Of $k$ pieces, unit $u$ has the features $uk, \dots, uk + k - 1$:

    $$y_u = \max_{0 \le i < k} x_{uk + i}.$$

    Parameters
    ----------
    pieces : int
        How many features a unit has. It divides their number.
    axis : int, default -1
        The axis of the features: -1 behind a linear layer, -3 or 1 behind a convolution.

    Raises
    ------
    TypeError, ValueError
        If `pieces` is not an int of at least 1. When called, a ValueError if it does not divide the
        number of features.

    See Also
    --------
    MaxoutLinear : A layer that computes its pieces as well, without storing them.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> acts.Maxout(pieces=3)(torch.tensor([[1.0, 5.0, 2.0, 9.0, 7.0, 8.0]]))
    tensor([[5., 9.]])
    >>> block = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), acts.Maxout(pieces=2, axis=1))
    >>> block(torch.randn(1, 3, 8, 8)).shape
    torch.Size([1, 16, 6, 6])
    """

    def __init__(self, pieces: int, axis: int = -1) -> None:
        super().__init__()
        self.pieces, self.axis = rules.piece_count(pieces), rules.integer("axis", axis)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the largest of each group of features."""
        functions.check(x=x)
        axis = rules.one_axis(self.axis, x.ndim)
        features = x.shape[axis]
        if features % self.pieces:
            raise ValueError(
                f"x must have a multiple of {self.pieces} features on axis {self.axis}, got shape "
                f"{tuple(x.shape)}"
            )
        return functions.maxout(x.unflatten(axis, (features // self.pieces, self.pieces)), axis + 1)

    def extra_repr(self) -> str:
        """Show pieces and axis."""
        return f"pieces={self.pieces}, axis={self.axis}"


class MaxoutLinear(Module):
    r"""A dense layer of maxout units, $y_u = \max_i\,(W_{u,i} \cdot x + b_{u,i})$.

    Parameters
    ----------
    in_features : int
        d, the length of an input.
    out_features : int
        How many units there are.
    pieces : int
        How many affine maps a unit takes the largest of.
    bias : bool, default True
        Whether they have a bias $b$.
    device, dtype : optional
        Of the parameters, as for `torch.nn.Linear`.

    Attributes
    ----------
    weight : torch.nn.Parameter
        (out_features, pieces, in_features).
    bias : torch.nn.Parameter or None
        (out_features, pieces).

    Raises
    ------
    TypeError, ValueError
        If `pieces` is not an int of at least 1.

    See Also
    --------
    maxout_affine : The function, its dtypes and shapes: (..., in_features) to (..., out_features).

    Notes
    -----
    Weights are drawn from a normal distribution of mean 0 and variance $1/(d\,m_k)$, where $m_k$ is
    the mean square of the largest of $k$ standard normal numbers: 1 for one or two pieces, 1.28 for
    three, 1.8 for five. At the start, outputs then have the mean square of the inputs, however many
    pieces and layers there are, as [Tseran and Montúfar](https://arxiv.org/abs/2301.06956) advise.
    Biases are 0: the weights keep the pieces of a unit apart.

    Examples
    --------
    >>> import torch
    >>> from numba_acts import torch as acts
    >>> layer = acts.MaxoutLinear(64, 10, pieces=3)
    >>> layer
    MaxoutLinear(in_features=64, out_features=10, pieces=3, bias=True)
    >>> layer(torch.randn(32, 64)).shape
    torch.Size([32, 10])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.pieces = rules.piece_count(pieces)
        shape = out_features, self.pieces
        self.weight = Parameter(torch.empty(*shape, in_features, device=device, dtype=dtype))
        self.bias = Parameter(torch.empty(shape, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights anew and set biases to 0."""
        variance = 1 / max(1, self.in_features) / _mean_square_of_largest(self.pieces)
        torch.nn.init.normal_(self.weight, 0.0, math.sqrt(variance))
        if self.bias is not None:
            torch.nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply `maxout_affine`."""
        return functions.maxout_affine(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Show sizes and whether there is a bias."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"pieces={self.pieces}, bias={self.bias is not None}"
        )


def _mean_square_of_largest(count: int) -> float:
    """E[z²] of the largest z of so many standard normal numbers, of density k φ(z) Φ(z)ᵏ⁻¹."""
    step = 1 / 64
    total = 0.0
    for i in range(-8 * 64, 8 * 64 + 1):
        z = i * step
        below = 0.5 * math.erfc(-z / math.sqrt(2))
        total += z * z * count * below ** (count - 1) * math.exp(-z * z / 2)
    return total * step / math.sqrt(2 * math.pi)
