"""The functions for PyTorch: differentiable, as functions and as modules.

Import it where PyTorch is installed: ``from numba_acts import torch as acts``. Tensors live on the
CPU or on a GPU. Derivatives are of any order, backward and forward, and products with them are
computed by this library's kernels. `torch.func`, `torch.compile` and `torch.export` take them as
they take PyTorch's own.
"""

from importlib import metadata

try:
    _found = metadata.version("torch")
except metadata.PackageNotFoundError:
    _found = "none"
if _found == "none" or tuple(map(int, _found.split(".")[:2])) < (2, 11):
    raise ImportError(f"numba_acts.torch needs PyTorch 2.11 or newer, found {_found}")

from numba_acts.torch._functions import maxout, maxout_affine, softmax2d, softmin
from numba_acts.torch._modules import Maxout, MaxoutLinear, Softmax2d, Softmin

__all__ = [
    "Maxout",
    "MaxoutLinear",
    "Softmax2d",
    "Softmin",
    "maxout",
    "maxout_affine",
    "softmax2d",
    "softmin",
]
