"""PyTorch tensors, wherever they live: which of them a call may take, and what it owes PyTorch.

PyTorch is not imported here: whoever has a tensor has it already.
"""

import functools
import sys
from typing import Any

import numpy as np

from numba_acts._dtypes import BFLOAT16

# What an argument must be, in the words of a message.
NUMBERS = "of dtype float16, bfloat16, float32, float64, an integer or bool"
INTEGERS = "of an integer dtype"
BOOLS = "a boolean mask"

_modules = sys.modules
_NAMES = "float16 float32 float64 bool int8 int16 int32 int64 uint8 uint16 uint32 uint64"


def module(value: Any) -> Any:
    """PyTorch, if the value is one of its tensors, else None."""
    torch = _modules.get("torch")
    return torch if torch is not None and isinstance(value, torch.Tensor) else None


@functools.cache
def dtypes(torch: Any) -> dict[Any, np.dtype]:
    """The dtypes of tensors that kernels know, and under which they do."""
    present = {name: getattr(torch, name) for name in _NAMES.split() if hasattr(torch, name)}
    known = {kind: np.dtype(name) for name, kind in present.items()}
    return known | {torch.bfloat16: BFLOAT16}


def _differentiated(torch: Any) -> bool:
    """Is a tangent carried forward meanwhile, maybe a tensor's?"""
    return getattr(torch.autograd.forward_ad, "_current_level", 0) >= 0


def has_tangent(torch: Any, tensor: Any) -> bool:
    """Is it dual, in forward-mode differentiation?"""
    dual = torch.autograd.forward_ad.unpack_dual
    return _differentiated(torch) and dual(tensor).tangent is not None


def is_plain(torch: Any, tensor: Any) -> bool:
    """Is it dense, of a dtype that kernels know, and nothing but its numbers?"""
    return (
        tensor.dtype in dtypes(torch)
        and tensor.layout is torch.strided
        and not tensor.requires_grad
        and not tensor.is_nested
        and not has_tangent(torch, tensor)
    )


def check(torch: Any, name: str, tensor: Any, wanted: str = NUMBERS) -> None:
    """Refuse what is more than its numbers, or other than a dense array of a known dtype."""
    if is_plain(torch, tensor):
        return
    lost = bare = ""
    if tensor.requires_grad:
        lost, bare = "requires grad", "its detach()"
    elif has_tangent(torch, tensor):
        lost, bare = "carries a tangent", "the primal of torch.autograd.forward_ad.unpack_dual"
    if lost:
        raise TypeError(
            f"{name} is a tensor that {lost}, which would be lost: the functions of "
            f"numba_acts.torch are differentiable, or pass {bare}"
        )
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "a nested one" if tensor.is_nested else f"one of layout {tensor.layout}"
        raise TypeError(f"{name} must be a dense tensor, got {kind}")
    dtype(torch, name, tensor.dtype, wanted)


def dtype(torch: Any, name: str, kind: Any, wanted: str = NUMBERS) -> np.dtype:
    """The NumPy dtype of a PyTorch one."""
    known = dtypes(torch)
    if kind not in known:
        raise TypeError(f"{name} must be {wanted}, got {str(kind).removeprefix('torch.')}")
    return known[kind]


def check_out(name: str, out: Any) -> None:
    """Refuse a view that negates: numbers written to it would be read with the other sign."""
    if out.is_neg() or out.is_conj():
        raise TypeError(f"{name} must be a plain tensor, got the view of a conjugate")


def no_memory(name: str) -> TypeError:
    """Say that a tensor's numbers are not there to be read."""
    return TypeError(
        f"{name} must be a tensor with memory, got one that stands for others, as vmap, torch.func "
        "and fake tensors have them: the functions of numba_acts.torch take those of torch.func"
    )


def written(out: Any) -> None:
    """Let autograd know that a tensor has changed: what it had saved of it is no more."""
    torch = module(out)
    if torch is not None:
        torch.autograd.graph.increment_version(out)


def memory(torch: Any, tensor: Any) -> np.ndarray:
    """The array that shares a CPU tensor's memory; a RuntimeError or TypeError if none does."""
    try:
        array: np.ndarray = tensor.numpy()
    except TypeError:
        if tensor.dtype is not torch.bfloat16:
            raise
        bits: np.ndarray = tensor.view(torch.int16).numpy()
        return bits.view(BFLOAT16)
    return array


def arrays(first: Any, *others: Any) -> Any:
    """The NumPy arrays behind CPU tensors that are nothing but that, None for None; or None."""
    torch = _modules.get("torch")
    if torch is None or type(first) is not torch.Tensor or _differentiated(torch):
        return None
    found: list[Any] = []
    try:
        for tensor in (first, *others):
            if tensor is None:
                found.append(None)
            elif type(tensor) is torch.Tensor and not tensor.requires_grad:
                found.append(found[0] if found and tensor is first else memory(torch, tensor))
            else:
                return None
    except (RuntimeError, TypeError):  # one is more, or less, than its numbers: `check` says what
        return None
    return found


def given(result: Any, out: Any = None) -> Any:
    """`out`, which a result has been written to, or the fresh array as a tensor."""
    if out is not None:
        written(out)
        return out
    torch: Any = _modules["torch"]
    try:
        return torch.from_numpy(result)
    except TypeError:  # a number, or bfloat16
        result = np.asarray(result)
    if result.dtype.kind == "V":
        return torch.from_numpy(result.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(result)
