"""The functions on PyTorch tensors that require grad or carry a tangent: differentiable.

Import it where PyTorch is installed: ``from numba_acts import torch as acts``. Tensors live on the
CPU or on a GPU, and derivatives of any order, backward and forward, are computed by this library's
kernels. `torch.func`, `torch.compile` and `torch.export` take the functions as they take PyTorch's.
"""

from numba_acts.torch._functions import maxout, maxout_affine, softmax2d, softmin

__all__ = ["maxout", "maxout_affine", "softmax2d", "softmin"]
