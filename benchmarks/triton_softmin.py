"""A fused softmax in Triton, after its tutorial, as a peer to measure beside."""

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def _rows(x, out, n, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    inside = columns < n
    z = -tl.load(x + row * n + columns, mask=inside, other=float("inf")).to(tl.float32)
    powers = tl.exp(z - tl.max(z, axis=0))
    tl.store(out + row * n + columns, powers / tl.sum(powers, axis=0), mask=inside)


def softmin(out: torch.Tensor, x: torch.Tensor) -> Any:
    """Softmin of the rows of a matrix."""
    n = x.shape[-1]
    width = triton.next_power_of_2(n)
    _rows[(x.shape[0],)](x, out, n, width, num_warps=min(max(width // 256, 1), 16))
    return out
