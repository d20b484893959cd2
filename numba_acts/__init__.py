"""Maxout, Softmin and Softmax2d and their derivatives: Numba kernels behind NumPy-like calls."""

from numba_acts import _overloads as _overloads
from numba_acts._maxout import maxout as maxout
from numba_acts._maxout import maxout_affine as maxout_affine
from numba_acts._maxout import maxout_affine_jacobian as maxout_affine_jacobian
from numba_acts._maxout import maxout_affine_jvp as maxout_affine_jvp
from numba_acts._maxout import maxout_affine_vjp as maxout_affine_vjp
from numba_acts._maxout import maxout_affine_with_index as maxout_affine_with_index
from numba_acts._maxout import maxout_jacobian as maxout_jacobian
from numba_acts._maxout import maxout_jvp as maxout_jvp
from numba_acts._maxout import maxout_vjp as maxout_vjp
from numba_acts._maxout import maxout_with_index as maxout_with_index
from numba_acts._softmax2d import softmax2d as softmax2d
from numba_acts._softmax2d import softmax2d_jacobian as softmax2d_jacobian
from numba_acts._softmax2d import softmax2d_jacobian_diag as softmax2d_jacobian_diag
from numba_acts._softmax2d import softmax2d_jvp as softmax2d_jvp
from numba_acts._softmax2d import softmax2d_vjp as softmax2d_vjp
from numba_acts._softmin import softmin as softmin
from numba_acts._softmin import softmin_jacobian as softmin_jacobian
from numba_acts._softmin import softmin_jacobian_diag as softmin_jacobian_diag
from numba_acts._softmin import softmin_jvp as softmin_jvp
from numba_acts._softmin import softmin_vjp as softmin_vjp
from numba_acts._version import __version__ as __version__
from numba_acts._versions import show_versions as show_versions

__all__ = [
    "maxout",
    "maxout_affine",
    "maxout_affine_jacobian",
    "maxout_affine_jvp",
    "maxout_affine_vjp",
    "maxout_affine_with_index",
    "maxout_jacobian",
    "maxout_jvp",
    "maxout_vjp",
    "maxout_with_index",
    "softmax2d",
    "softmax2d_jacobian",
    "softmax2d_jacobian_diag",
    "softmax2d_jvp",
    "softmax2d_vjp",
    "softmin",
    "softmin_jacobian",
    "softmin_jacobian_diag",
    "softmin_jvp",
    "softmin_vjp",
]
