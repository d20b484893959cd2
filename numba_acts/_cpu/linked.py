"""Kernels in code that users compile: called at their address.

Numba would link a kernel's LLVM code into each function that calls it, and optimize and compile it
there once more, for seconds. Here the calling code knows a kernel by a name, under which LLVM finds
its machine code. A function that Numba has in its own cache brings with it what is to be found: its
environment holds an object for each kernel, which loads that when it is unpickled. If the library
is another by then, that fails as if the file were gone, and Numba compiles the function anew.
"""

import hashlib
import importlib
import sys
from typing import Any

import llvmlite.binding
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numba_acts import _compiler
from numba_acts._cpu.memory import Elements, emit_elements

# The code that calls is compiled into users' functions as well.
_FOLDERS = "", "._cpu", "._halls"
STAMP = b"".join(_compiler.stamp(f"{_compiler.__package__}{folder}") for folder in _FOLDERS)


class _Linked:
    """A kernel, compiled for some types, which LLVM knows by the name of `symbol`."""

    def __init__(self, module: str, name: str, kinds: tuple[Any, ...]) -> None:
        self.task = module, name, kinds
        digest = hashlib.sha256(repr((self.task, STAMP)).encode()).hexdigest()
        self.symbol = f"numba_acts.{name}.{digest[:32]}"
        kernel = getattr(importlib.import_module(module), name)
        with _compiler.switched_on():
            kernel.compile(kinds)
            self.made = kernel.overloads[kinds]
            self.result = self.made.signature.return_type
            address = self.made.library.get_pointer_to_function(self.made.fndesc.llvm_func_name)
            llvmlite.binding.add_symbol(self.symbol, address)

    def __reduce__(self) -> Any:
        return _relinked, (STAMP, *self.task)


def _relinked(stamp: bytes, *task: Any) -> _Linked:
    """The kernel in another process, if it is the same."""
    if stamp != STAMP:
        raise FileNotFoundError("compiled with another numba_acts")
    return _Linked(*task)


def _taken(kind: Any) -> Any:
    """The type that a kernel takes for one of the caller's."""
    return Elements(kind.dtype) if isinstance(kind, types.Array) else kind


def linked(kernel: Any) -> Any:
    """A kernel as compiled code calls it."""
    module, name = kernel.py_func.__module__, kernel.py_func.__name__

    @intrinsic
    def call(typingctx: Any, *arguments: Any) -> Any:
        """Call the kernel's machine code."""
        passed = tuple(map(types.unliteral, arguments))
        kinds = tuple(map(_taken, passed))
        found = _Linked(module, name, kinds)
        signature = found.result(types.BaseTuple.from_types(passed))

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = zip(kinds, passed, cgutils.unpack_tuple(builder, args[0]), strict=True)
            given = [
                value if kind == of else emit_elements(context, builder, kind(of), [value])
                for kind, of, value in values
            ]
            if "numba.pycc" in sys.modules:  # which compiles for processes without the library
                context.add_linking_libs([found.made.library])
                direct = found.result(*kinds)
                return context.call_internal(builder, found.made.fndesc, direct, given)
            context.environment.consts.append(found)
            convention = context.call_conv
            kind = convention.get_function_type(found.result, kinds)
            function = cgutils.get_or_insert_function(builder.module, kind, found.symbol)
            status, result = convention.call_function(builder, function, found.result, kinds, given)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return result

        return signature, emit

    return call
