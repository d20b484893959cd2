"""What an operation is to PyTorch: its results, its kernel, its derivatives, its batches.

An `Operation` is those in plain functions. `operator` registers them with PyTorch's dispatcher, as
`torch.ops.numba_acts.NAME`. Eager calls, autograd backward and forward, `torch.func`, batched
gradients, `torch.compile` and `torch.export` all go through there, so each finds its function.

`torch.library.register_autograd` knows derivatives backward alone. So the dispatcher's autograd key
gets a function that does as that one's does, and carries tangents forward besides. Derivatives are
made of operations that are differentiable themselves, at every level of nested differentiation:
that is why any order is right.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch._functorch.autograd_function import enable_single_level_autograd_function
from torch.autograd import Function, forward_ad

from numba_acts._halls import tensors

_LIBRARY = torch.library.Library("numba_acts", "FRAGMENT")
_BELOW = torch._C._after_autograd_keyset  # what the dispatcher goes on with after autograd


class Operation:
    """An operation as functions of its arguments, tensors and constants."""

    schema: str  # its name, its arguments and its results, as PyTorch writes them
    makes = False  # whether the kernel makes its results, in C order, or fills those of `empty`

    @staticmethod
    def empty(*given: Any) -> Any:
        """Make the results without their numbers: shapes, dtypes and strides."""
        raise NotImplementedError

    @staticmethod
    def kernel(*given: Any, **out: Any) -> Any:
        """Compute the numbers. On the CPU, arrays of NumPy's stand for tensors."""
        raise NotImplementedError

    @staticmethod
    def keep(output: Any, *given: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Choose what derivatives need, tensors and constants. They get them in this order."""
        raise NotImplementedError

    @staticmethod
    def backward(*kept_and_cotangents: Any) -> Any:
        """Give the gradient of each argument, None where there is none."""
        raise NotImplementedError

    @staticmethod
    def jvp(*kept_and_tangents: Any) -> Any:
        """Give the tangents of the results. An argument's is None if it has none."""
        raise NotImplementedError

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        """Compute a batch: the results, and the place of its axis in each."""
        raise NotImplementedError


def operator(rule: type[Operation]) -> Any:
    """Register an operation, and give the operator that calls it."""
    name = rule.schema.partition("(")[0]
    if hasattr(torch.ops.numba_acts, name):  # by a package that was imported before, and forgotten
        return getattr(torch.ops.numba_acts, name).default
    _LIBRARY.define(rule.schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, _computed(rule, _array), "CPU")
    _LIBRARY.impl(name, _computed(rule, torch.Tensor.detach), "CUDA")
    torch.library.register_fake(f"numba_acts::{name}", rule.empty, lib=_LIBRARY)
    torch.library.register_vmap(f"numba_acts::{name}", rule.vmap, lib=_LIBRARY)
    overload = getattr(torch.ops.numba_acts, name).default
    _LIBRARY.impl(name, _differentiable(rule, overload), "Autograd", with_keyset=True)
    return overload


# ---- numbers ----------------------------------------------------------------------------------


def _computed(rule: type[Operation], numbers: Callable[..., Any]) -> Callable[..., Any]:
    """The operation on a device, where `numbers` makes of a tensor what kernels take."""

    def converted(values: Any) -> list[Any]:
        return [numbers(a) if isinstance(a, torch.Tensor) else a for a in values]

    def compute(*given: Any) -> Any:
        if rule.makes:
            made = rule.kernel(*converted(given))
            return tuple(map(_tensor, made)) if isinstance(made, tuple) else _tensor(made)
        results = rule.empty(*given)
        if isinstance(results, tuple):
            rule.kernel(*converted(given), out=tuple(converted(results)))
        else:
            rule.kernel(*converted(given), out=numbers(results))
        return results

    return compute


def _array(tensor: Any) -> Any:
    """The array that shares a tensor's memory."""
    return tensors.memory(torch, tensor.detach())


def _tensor(made: Any) -> Any:
    """The tensor of what a kernel has made, in C order."""
    if isinstance(made, torch.Tensor):
        return made.contiguous()
    return tensors.given(made)


# ---- derivatives ------------------------------------------------------------------------------


def _differentiable(rule: type[Operation], overload: Any) -> Callable[..., Any]:
    """The operation as autograd calls it, once for each level of nested differentiation."""

    def compute(keyset: Any, *given: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return overload.redispatch(keyset & _BELOW, *given)

    def forward(ctx: Any, keyset: Any, *given: Any) -> Any:
        if torch._C._are_functorch_transforms_active():  # with levels below, which differentiate
            with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
                output = compute(keyset, *given)
        else:
            output = compute(keyset, *given)
        outputs = output if isinstance(output, tuple) else (output,)
        ctx.mark_non_differentiable(*[a for a in outputs if not a.is_floating_point()])
        tensors, ctx.constants = rule.keep(output, *given)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)
        return output

    def backward(ctx: Any, *cotangents: Any) -> Any:
        if all(g is None for g in cotangents):
            return (None,) * len(ctx.needs_input_grad)
        return None, *rule.backward(*ctx.saved_tensors, *ctx.constants, *cotangents)

    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):  # on levels below, which PyTorch forgets
            return rule.jvp(*map(_primal, ctx.saved_tensors), *ctx.constants, *tangents)

    methods = {f.__name__: staticmethod(f) for f in (forward, backward, jvp)}
    node: Any = type(rule.__name__, (Function,), methods)
    apply = super(Function, node).apply  # on one level: the dispatcher comes here for each

    def differentiable(keyset: Any, *given: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            with enable_single_level_autograd_function():
                return apply(keyset, *given)
        dual = forward_ad._current_level >= 0
        if dual or torch.is_grad_enabled() and torch._C._any_requires_grad(*given):
            return apply(keyset, *given)
        return compute(keyset, *given)

    return differentiable


def _primal(tensor: Any) -> Any:
    return None if tensor is None else torch._VF._unpack_dual(tensor, level=0)[0]
