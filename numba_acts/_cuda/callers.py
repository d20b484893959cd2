"""What device functions ask of the kernels that call them: arrays of their type, long enough.

The type is known when a kernel is compiled. So is the length of an array of a thread's own: where
it suffices, the machine code has no test of it. Where not, the kernel prints a message and is
stopped by a trap, which the host sees as an error of the launch.
"""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda

from numba_acts._cuda.emit import SIMULATED, VOID, assembly
from numba_acts._cuda.lanes import lane

if SIMULATED:
    registers: Any = SimpleNamespace(local=SimpleNamespace(array=np.empty))

    def thread_rank():
        thread: Any = threading.current_thread()
        return thread.thread_id

    def same_type(array, like):
        wanted = getattr(like, "dtype", None)
        wanted = np.dtype(like if wanted is None or isinstance(like, type) else wanted)
        if getattr(array, "ndim", None) != 1 or array.dtype != wanted:
            raise TypeError(f"an array of {wanted} with one axis is needed, got {array!r}")

    def numeric(array):
        if array.dtype.kind not in "iu" and array.dtype not in (np.float32, np.float64):
            raise TypeError(f"maxout's numbers must be floats or integers, got {array.dtype}")

    def need(array, count):
        if len(array) < count:
            raise ValueError(f"an array of {len(array)} numbers is too short: {count} are needed")

    def need_threads(threads):
        thread: Any = threading.current_thread()
        own = int(np.prod(thread._manager._block_dim))
        if own != threads:
            raise ValueError(f"a block of {own} threads called functions for {threads}")

else:
    from numba.cuda import types
    from numba.cuda.core.errors import TypingError
    from numba.cuda.extending import intrinsic

    registers = cuda  # whose `local.array` the simulator has in kernels alone

    @lane
    def thread_rank():
        """A thread's number in its block, by which warps are formed."""
        plane = cuda.threadIdx.y + cuda.blockDim.y * cuda.threadIdx.z
        rank = np.uint32(cuda.threadIdx.x + cuda.blockDim.x * plane)  # so that it has no sign
        return np.int64(rank)

    def _nothing(context, builder, sig, args):
        return context.get_dummy_value()

    @intrinsic
    def same_type(typingctx, array, like):
        """Refuse, when a kernel is compiled, what is no array of the other's dtype."""
        wanted = like.dtype
        if not isinstance(array, types.Array) or (array.ndim, array.dtype) != (1, wanted):
            raise TypingError(f"an array of {wanted} with one axis is needed, got {array}")
        return types.void(array, like), _nothing

    @intrinsic
    def numeric(typingctx, array):
        """Refuse, when a kernel is compiled, what can't be compared."""
        kind = array.dtype
        if kind not in (types.float32, types.float64) and not isinstance(kind, types.Integer):
            raise TypingError(f"maxout's numbers must be floats or integers, got {kind}")
        return types.void(array), _nothing

    @intrinsic
    def _trap(typingctx):
        def emit(context, builder, sig, args):
            assembly(builder, VOID, "trap;", "", effect=True)
            return context.get_dummy_value()

        return types.void(), emit

    @lane
    def need(array, count):
        """Stop a kernel that has handed over an array too short."""
        if len(array) < count:
            print("numba_acts.cuda: an array of", len(array), "numbers is too short for", count)
            _trap()

    @lane
    def need_threads(threads):
        """Only the simulator looks: to say it, a kernel would need a stack."""
