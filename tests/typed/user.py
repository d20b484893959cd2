"""What a user writes, for a strict type checker: the kind that comes in comes out. It runs, too."""

from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import numba_acts as na

x: NDArray[np.float32] = np.ones((3, 4), np.float32)
whole: NDArray[np.int64] = np.ones((3, 4), np.int64)
flags: NDArray[np.bool_] = np.ones((3, 4), np.bool_)
tensor: torch.Tensor = torch.ones(3, 4)

assert_type(na.softmin(x), NDArray[np.float32])
assert_type(na.softmin(x, (0, 1), temperature=2, where=flags, out=x), NDArray[np.float32])
assert_type(na.softmin(whole), NDArray[np.float64])
assert_type(na.softmin(flags, None), NDArray[np.float64])
assert_type(na.softmin(tensor, 0, where=tensor > 0), torch.Tensor)
assert_type(na.softmin([1.0, 2.0]), Any)
assert_type(na.softmin(np.int64(3)), Any)
assert_type(na.softmin(x, np.intp(0), temperature=np.float32(2)), NDArray[np.float32])
assert_type(na.softmin_vjp(x, tensor), torch.Tensor)
assert_type(na.softmin_vjp(tensor, x), torch.Tensor)
assert_type(na.softmin_vjp(x, x), NDArray[np.float32])
assert_type(na.softmin_vjp(x, x.astype(np.float64)), NDArray[np.floating[Any]])
assert_type(na.softmin_jvp(tensor, tensor, axis=None), torch.Tensor)
assert_type(na.softmin_jacobian(x), NDArray[np.float32])
assert_type(na.softmin_jacobian_diag(tensor), torch.Tensor)
assert_type(na.softmax2d(x[None], channel_axis=-1), NDArray[np.float32])
assert_type(na.softmax2d_vjp(tensor[None], tensor[None]), torch.Tensor)
assert_type(na.maxout(whole), NDArray[np.int64])
assert_type(na.maxout(tensor), torch.Tensor)
best, index = na.maxout_with_index(x)
assert_type(best, NDArray[np.float32])
assert_type(index, NDArray[np.int32])
assert_type(
    na.maxout_with_index(x, index_dtype=np.uint8), tuple[NDArray[np.float32], NDArray[np.uint8]]
)
assert_type(na.maxout_with_index(tensor), tuple[torch.Tensor, torch.Tensor])
assert_type(na.maxout_vjp(best, index, 4), NDArray[np.float32])
assert_type(na.maxout_jvp(x, index), NDArray[np.float32])
assert_type(na.maxout_jvp(tensor, index), torch.Tensor)
assert_type(na.maxout_jacobian(index, 4), NDArray[np.float64])
assert_type(na.maxout_jacobian(index, 4, dtype=np.float32), NDArray[np.float32])
y = np.empty(3, np.float32)
assert_type(na.maxout_affine(x, x, out=y), NDArray[np.float32])
assert_type(na.maxout_affine(tensor, tensor), torch.Tensor)
winners = np.zeros(3, np.int32)
assert_type(
    na.maxout_affine_vjp(y, x, x, winners),
    tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
)
whose = torch.zeros(3, dtype=torch.int32)
assert_type(na.maxout_affine_jvp(tensor, tensor, whose, dx=tensor), torch.Tensor)
assert_type(na.maxout_affine_jacobian(x, winners), NDArray[np.float32])
