"""How a CPU kernel is compiled, cached and run: on the calling thread or on all of them."""

import functools
import math
import os
import time
from _thread import get_ident
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.caching import FunctionCache
from numba.np.numpy_support import from_dtype

from numba_acts import _compiler
from numba_acts._cpu import team, threads
from numba_acts._cpu.lanes import LANES
from numba_acts._cpu.memory import Elements
from numba_acts._dtypes import held

# Work from which several threads beat one, about 20 µs of it. Two cores of an AMD Zen 3: a call in
# two threads costs 5 µs more, and twice that while another library's threads wait busily.
PARALLEL_FROM = 1 << 16
# Work that takes one thread as long as it takes to wake another, some 2 µs. A call that takes W on
# one thread takes W/k + k·w on k, which is least for √(W/w) of them.
WAKING = 1 << 13
# A thread's part of the units is handed out in so many claims, each of at least so much work.
CLAIMS, CLAIM = 8, 1 << 15
LOST = 1e-3  # seconds of waiting for other threads from which a call is the last for a while:
REST, MOST_REST = 10, 160  # so many times what was lost, twice that when it happens again, at most

warming = False  # whether what several threads need is compiled with what one needs
_callers: dict[int, Any] = {}  # threads that make a large call, each with its kernel
_alone_until, _rest, _cycle = 0.0, REST, math.inf

_STAMP = _compiler.stamp(__package__)


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on first use, and keep that on disk."""
    with _compiler.switched_on():
        kernel = numba.njit(nogil=True, **_compiler.OPTIONS, **options)(function)
    _compiler.keep(kernel, FunctionCache, _STAMP)
    return kernel


def kernel(function: Callable[..., Any]) -> Any:
    """A function that handles the units of work from `start` to `stop`, its last arguments."""
    return _compiled(function)


# One parallel loop for all kernels, which it knows by their addresses: a loop of its own for each
# would compile the kernel three times more. It is the team's, or on a layer that can't have two
# loops at once the caller's.
serve = _compiled(team.serve, parallel=True)
lead, loop = _compiled(team.lead), _compiled(team.loop, parallel=True)
here = _compiled(team.here)

ANY = Elements(types.uint8)  # memory, of whatever numbers: what calls a kernel does not look

# Compiled kernels as Python functions, by what they are compiled for: Numba would look at the types
# of all arguments in each call, and does not know sixteen-bit floats. They check nothing: what is
# no array, or one of another dtype than in the first call, unaligned, not contiguous or in another
# byte order than the machine's, or a number that is not an int or a float as there, would be
# misread.
_alone: dict[Any, Callable[..., None]] = {}
_together: dict[Any, tuple[Callable[..., tuple[int, int]], np.ndarray, int]] = {}
_serve: tuple[Callable[..., None], Callable[[], int]] | None = None


def _kind(value: Any) -> types.Type:
    """The type that code is compiled for, in the place of an argument."""
    if isinstance(value, np.ndarray):
        return Elements(from_dtype(held(value.dtype)))
    if isinstance(value, tuple):
        return types.BaseTuple.from_types([_kind(one) for one in value])
    return value if isinstance(value, types.Type) else numba.typeof(value)


def _overload(one: Any, *arguments: Any) -> Any:
    with _compiler.switched_on():  # types as well: Numba would make some twice
        kinds = tuple(map(_kind, arguments))
        one.compile(kinds)
        return one.overloads[kinds]


def _compile_alone(key: Any, data: tuple[Any, ...], numbers: tuple[Any, ...]) -> Any:
    _alone[key] = _overload(key[0], *data, *numbers, 0, 0).entry_point
    if warming and key not in _together:
        _compile_together(key, data, numbers)
    return _alone[key]


def _compile_together(key: Any, data: tuple[Any, ...], numbers: tuple[Any, ...]) -> Any:
    global _serve
    kernel = _overload(key[0], *data, *numbers, 0, 0)
    with _compiler.switched_on():  # LLVM has a lock of its own, which no fork must find taken
        address = kernel.library.get_pointer_to_function(kernel.fndesc.llvm_func_name)
    board, given = types.int64[::1], (*_unfolded(data), *numbers)
    given = tuple(ANY if isinstance(one, np.ndarray) else one for one in given)
    if threads.at_once():
        entry = _overload(lead, board, 0, 0, 0, 0, 0, given).entry_point
        _serve = _serve or (_overload(serve, board, 0).entry_point, _overload(here).entry_point)
    else:
        entry = _overload(loop, board, 0, 0, 0, 0, 0, given).entry_point
    _together[key] = entry, team.host.board, address
    if warming and key not in _alone:
        _compile_alone(key, data, numbers)
    return _together[key]


def _unfolded(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """The data one by one, as machine code takes a tuple's numbers."""
    return (*data[:-1], *data[-1]) if type(data[-1]) is tuple else data


def crew(work: int) -> int:
    """How many threads a call of so much work takes, if it has units for all."""
    if (
        work < PARALLEL_FROM
        or threads.forked
        or (_alone_until and time.perf_counter() < _alone_until)
    ):
        return 1
    return _hands(work, len(_callers) or 1)


def _hands(work: int, callers: int) -> int:
    """The threads that are worth their waking, of those for each of some callers."""
    return min(min(threads.most(), team.MOST) // callers or 1, math.isqrt(work // WAKING))


def alone(key: Any, data: tuple[Any, ...], numbers: tuple[Any, ...], units: int) -> Any:
    """`run` on this thread; `key` is the kernel and the data's dtypes, or what stands for them."""
    entry = _alone.get(key) or _compile_alone(key, data, numbers)
    entry(*data, *numbers, 0, units)
    return entry, (*(data[-1:] if type(data[-1]) is tuple else ()), *numbers, 0, units)


@functools.lru_cache(1 << 10)
def step_of(units: int, most: int, count: int) -> int:
    """How many units are claimed at once, where a thread's part has up to `most` claims.

    So many that none has a sixteenth more than it should, or else as little more as two claims or
    more allow.
    """
    best, least = 0, math.inf
    for claims in range(most, min(most, 2) - 1, -1):
        step = -(-units // (count * claims))
        if step > LANES:
            step = -(-step // LANES) * LANES  # rows that are handled eight by eight
        made = -(-units // step)
        each, more = divmod(made, count)
        largest = (each + min(more, 1)) * step
        if more == 1:  # the last part has one more than the others, and the last claim is short
            largest = max(each * step, largest - (made * step - units))
        if largest < least:
            best, least = step, largest
        if 16 * count * largest <= 17 * units:
            break
    return best


def together(key: Any, data: Any, numbers: Any, units: int, work: int, count: int) -> None:
    """`alone` on `count` threads.

    A thread that was stopped in the middle of its units has to be waited for. A call that has lost
    time by that, and not by units of unequal size, is the last for a while that is not made alone.
    """
    global _alone_until, _rest, _cycle
    entry, board, address = _together.get(key) or _compile_together(key, data, numbers)
    step = step_of(units, min(CLAIMS, max(1, work // (count * CLAIM))), count)
    if _serve and (members := min(count, threads.cores()) - 1):
        team.host.wake(*_serve, members)
    start = time.perf_counter()
    slot = None
    try:
        slot = team.host.slots.pop()
        job = board, slot, address, units, step, count, (*_unfolded(data), *numbers)
        waited, whole = entry(*job)
    except IndexError:  # as many callers as there are slots
        alone(key, data, numbers, units)
        return
    finally:
        if slot is not None:
            team.host.slots.append(slot)
    end = time.perf_counter()
    if team.CLOCK:  # a call that did not wait for the interpreter's lock as well shows its cycle
        _cycle = min(_cycle, (end - start) / whole)
    if (lost := waited * _cycle) > LOST:
        _alone_until = end + _rest * lost
        _rest = min(2 * _rest, MOST_REST)
    else:
        _rest = REST


def share(key: Any, data: tuple[Any, ...], numbers: tuple[Any, ...], units: int, work: int) -> None:
    """`run` on as many threads as there are for so much work now."""
    me = get_ident()
    try:
        _callers[me] = key
        count = min(crew(work), units)
        if count > 1 and (len(_callers) == 1 or threads.at_once()):
            together(key, data, numbers, units, work, count)
        else:
            alone(key, data, numbers, units)
    finally:
        _callers.pop(me, None)


def _share_again(a: Any, b: Any, c: Any, tail: tuple[Any, ...], key: Any, *task: Any) -> None:
    share(key, (a, b, c, *tail), *task)


def run(one: Any, units: int, work: int, data: tuple[Any, ...], *numbers: Any) -> Any:
    """Run a kernel over `units` of work, on this thread or on several.

    The kernel takes the `data` that it is compiled for: contiguous arrays, or None in
    the place of one, and last, maybe, a tuple, for its length; then `numbers`; then the units where
    it starts and stops. `work` is the number of float32 numbers that take as long to read and
    write. Callers who come at once share the threads, but on Numba's own layer, where a second one
    computes on its own. So does a child forked after the threads were started (no layer survives
    both). The bits of the result are the same.

    A kernel of three arrays can be started again on arrays alike: given back are what does that,
    and what it takes behind the arrays.
    """
    kinds = [one]
    for some in data:
        kinds.append(getattr(some, "dtype", some))
    key = tuple(kinds)
    if work < PARALLEL_FROM or units < 2:
        return alone(key, data, numbers, units)
    share(key, data, numbers, units, work)
    return _share_again, (data[3:], key, numbers, units, work)


def run_tiles(
    choice: Any, count: int, one: Any, units: int, work: int, data: tuple[Any, ...], *numbers: Any
) -> Any:
    """`run` in units that were chosen for `count` threads, the crew for this work.

    With others, the `choice` of units is made anew: by what, and what that takes behind the arrays,
    which may have any shape then.
    """
    started = run(one, units, work, data, *numbers)
    if work < PARALLEL_FROM or threads.forked:  # it is one thread's in any case
        return started
    if count != _hands(work, 1):
        return None  # others computed at that moment, and the units are for fewer
    return _tiles_again, (choice, {threads.most(): started})


def _tiles_again(a: Any, b: Any, c: Any, choice: Any, known: dict[int, Any]) -> None:
    started = known.get(threads.most())
    if started:
        start, rest = started
        start(a, b, c, *rest)
        return
    choose, given = choice
    kept = choose(a, b, c, *given)
    if kept and kept[0] is _tiles_again:
        known.update(kept[1][1])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_callers.clear)
