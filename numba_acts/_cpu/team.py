"""The team: threads that share the units of a call, and stay awake for a moment after it.

A parallel loop of Numba's ends when its threads have come to its end, and they sleep until the
next: to wake one takes longer than many a call, and some systems wake it where the caller computes.
So the loop belongs to a thread of its own, the host, and lasts while there are jobs. Its members
look at a board; a call puts its job there, claims units like everybody, and waits for nobody who
has not begun: only for those who are at a unit, or just see that there is none.
"""

import atexit
import contextlib
import os
import platform
import queue
import threading
from collections.abc import Callable

import numpy as np
from llvmlite import binding, ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

MACHINE = platform.machine().lower()
CLOCK = MACHINE in ("x86_64", "amd64")
TOLD = CLOCK and binding.get_host_cpu_features().get("fma")  # RDTSCP is older than that
# How often a member looks for a job before it goes, with a pause of some 50 processor cycles each:
# about 0.1 ms, in which calls that follow each other find it awake.
LOOKS = 1 << 13
# It is no longer counted on then, and looks on for a while: a call may have counted on it before.
MORE_LOOKS = LOOKS >> 3
LINE = 16  # numbers of eight bytes that two caches do not quarrel about
MOST, SLOTS = 256, 8  # parts of a job and members, jobs at a time
# The board: the numbers of the jobs in its slots, 0 where there is none; whether the team is to go;
# whether it is awake; the last job's number. Of each slot, from `job_at` on, who is at the job; the
# core of who leads it, the function that does its units, what it takes, how many there are, how
# many are claimed at once, in how many parts; and of each part what is next. Of each member the
# jobs it has seen, here since memory that a thread frees meanwhile may end a process that stops
# Python's tracemalloc (python/cpython#128679).
OPEN, GO, AWAKE, LAST, JOBS = (LINE * i for i in range(5))
INSIDE, CORE, FUNCTION, GIVEN, UNITS, STEP, COUNT = 0, *range(LINE, LINE + 6)
PARTS = 2 * LINE
SLOT = PARTS + MOST * LINE
SEEN = JOBS + SLOTS * SLOT
LINUX_CORE = 0xFFF  # the bits of what the processor tells that are the core's number on Linux
PAUSES: dict[str, tuple[str, list[int]]] = {
    "x86_64": ("x86.sse2.pause", []),
    "amd64": ("x86.sse2.pause", []),
    "arm64": ("aarch64.isb", [15]),
    "aarch64": ("aarch64.isb", [15]),
}


# ---- what all threads see -----------------------------------------------------------------------


def _place(context, builder, sig, args):
    board = context.make_array(sig.args[0])(context, builder, args[0])
    return builder.gep(board.data, [args[1]])


@intrinsic
def look(typingctx, board, i):
    """What is at board[i] now."""

    def emit(context, builder, sig, args):
        return builder.load_atomic(_place(context, builder, sig, args), "seq_cst", 8)

    return types.int64(board, types.int64), emit


@intrinsic
def put(typingctx, board, i, number):
    """Have all threads see a number at board[i], and what was written before."""

    def emit(context, builder, sig, args):
        builder.atomic_rmw("xchg", _place(context, builder, sig, args), args[2], "seq_cst")
        return context.get_dummy_value()

    return types.void(board, types.int64, types.int64), emit


@intrinsic
def add(typingctx, board, i, number):
    """Add to board[i]; what was there before."""

    def emit(context, builder, sig, args):
        return builder.atomic_rmw("add", _place(context, builder, sig, args), args[2], "seq_cst")

    return types.int64(board, types.int64, types.int64), emit


@intrinsic
def pause(typingctx):
    """Leave the processor to others for some cycles, where it knows how."""

    def emit(context, builder, sig, args):
        if MACHINE in PAUSES:
            name, given = PAUSES[MACHINE]
            numbers = [ir.IntType(32)(number) for number in given]
            kind = ir.FunctionType(ir.VoidType(), [number.type for number in numbers])
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}")
            builder.call(function, numbers)
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def cycles(typingctx):
    """The processor's clock; 0 where programs may not read it."""

    def emit(context, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(64), [])
        clock = cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter")
        return builder.call(clock, []) if CLOCK else ir.Constant(ir.IntType(64), 0)

    return types.int64(), emit


@intrinsic
def core(typingctx):
    """The processor core that this thread is on, by a number of the system's; -1 if unknown."""

    def emit(context, builder, sig, args):
        if not TOLD:
            return ir.Constant(ir.IntType(64), -1)
        found = ir.LiteralStructType([ir.IntType(64), ir.IntType(32)])
        kind = ir.FunctionType(found, [])
        clock = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.rdtscp")
        return builder.zext(builder.extract_value(builder.call(clock, []), 1), ir.IntType(64))

    return types.int64(), emit


@intrinsic
def limit(typingctx, count):
    """Have this thread's loops take so many threads; how many it was before."""

    def emit(context, builder, sig, args):
        number, small = args[0].type, ir.IntType(32)
        kinds = {"get_num_threads": (number, []), "set_num_threads": (ir.VoidType(), [small])}
        get, put = (
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(*kind), name)
            for name, kind in kinds.items()
        )
        before = builder.call(get, [])
        builder.call(put, [builder.trunc(args[0], small)])
        return before

    return types.int64(types.int64), emit


# ---- a job --------------------------------------------------------------------------------------

SOME = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, cgutils.intp_t, cgutils.intp_t])


@intrinsic
def some_units(typingctx, address, arguments):
    """A function that has a compiled kernel handle some units, and what it takes, as addresses.

    What the kernel takes lies in the caller's frame, as its types tell; no array's dtype matters.
    """
    kinds = (*arguments.types, types.int64, types.int64)

    def emit(context, builder, sig, args):
        module = builder.module
        frame = cgutils.alloca_once_value(builder, cgutils.make_anonymous_struct(builder, args))
        function = ir.Function(module, SOME, module.get_unique_name("some_units"))
        function.linkage = "internal"
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        given = inner.load(inner.bitcast(function.args[0], frame.type))
        convention = context.call_conv
        pointer = convention.get_function_type(types.none, kinds).as_pointer()
        kernel = inner.inttoptr(inner.extract_value(given, 0), pointer)
        values = cgutils.unpack_tuple(inner, inner.extract_value(given, 1))
        convention.call_function(
            inner, kernel, types.none, kinds, [*values, *function.args[1:]]
        )  # which raises nothing
        inner.ret_void()
        places = [builder.ptrtoint(place, cgutils.intp_t) for place in (function, frame)]
        return context.make_tuple(builder, sig.return_type, places)

    return types.UniTuple(types.int64, 2)(types.int64, arguments), emit


@intrinsic
def do_units(typingctx, function, given, first, stop):
    """Call what `some_units` made."""

    def emit(context, builder, sig, args):
        function = builder.inttoptr(args[0], SOME.as_pointer())
        builder.call(function, [builder.inttoptr(args[1], cgutils.voidptr_t), *args[2:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@register_jitable
def job_at(slot):
    """Where a slot of the board begins."""
    return JOBS + slot * SLOT


@register_jitable
def write_job(board, slot, job, units, step, count):
    """Write a job into a slot of the board."""
    at, claims = job_at(slot), (units + step - 1) // step
    board[at + FUNCTION], board[at + GIVEN] = job
    board[at + UNITS], board[at + STEP], board[at + COUNT] = units, step, count
    for t in range(count):
        board[at + PARTS + t * LINE] = t * claims // count


@register_jitable
def work(board, slot, own):
    """Claim units until there are none: of the own part, then of the others'; how many claims.

    So a part of memory stays with its thread from call to call.
    """
    at = job_at(slot)
    units, step, count = board[at + UNITS], board[at + STEP], board[at + COUNT]
    claims, made = (units + step - 1) // step, 0
    for k in range(count):
        t = (own + k) % count
        part, stop = at + PARTS + t * LINE, (t + 1) * claims // count
        while look(board, part) < stop:
            first = add(board, part, 1) * step
            if first < stop * step:
                made += 1
                last = min(first + step, units)
                do_units(board[at + FUNCTION], board[at + GIVEN], first, last)
    return made


def lead(board, slot, address, units, step, count, arguments):
    """Do a job with whoever is awake.

    Returns how long others were waited for, beyond what two claims take, and the whole time, by the
    processor's clock; 0 and 1 without one.
    """
    start = cycles()
    write_job(board, slot, some_units(address, arguments), units, step, count)
    board[job_at(slot) + CORE] = core()
    put(board, OPEN + slot, add(board, LAST, 1) + 1)
    made = work(board, slot, 0)
    done = cycles()
    put(board, OPEN + slot, 0)
    while look(board, job_at(slot) + INSIDE) > 0:
        pause()
    end = cycles()
    if end > start:
        return max(0, end - done - 2 * (done - start) // max(1, made)), end - start
    return 0, 1


def loop(board, slot, address, units, step, count, arguments):
    """The same as a parallel loop of the caller's own; nobody is waited for who had no part."""
    write_job(board, slot, some_units(address, arguments), units, step, count)
    before = limit(count)
    for p in prange(count):
        work(board, slot, np.int64(p))
    limit(before)
    return 0, 1


def serve(board, members):
    """The team: each of its members does jobs until there has been none for a while.

    One that finds itself on the core of who leads goes at once: it would only take its time. Who
    calls next wakes the team, though its host may wait for the interpreter's lock until then.
    """
    before = limit(members)
    put(board, AWAKE, 1)
    for i in prange(members):
        p, looks = np.int64(i), 0
        seen = SEEN + p * LINE
        while looks < LOOKS + MORE_LOOKS and look(board, GO) == 0:
            looks += 1
            if looks == LOOKS:
                put(board, AWAKE, 0)
            for slot in range(SLOTS):
                number, at = look(board, OPEN + slot), job_at(slot)
                if number != 0 and number != board[seen + slot]:
                    board[seen + slot] = number
                    before_me = add(board, at + INSIDE, 1)
                    if look(board, OPEN + slot) == number:
                        if core() == board[at + CORE] >= 0:
                            looks = LOOKS + MORE_LOOKS
                            put(board, AWAKE, 0)
                        elif before_me < board[at + COUNT] - 1 and work(board, slot, p + 1):
                            looks = 0
                            put(board, AWAKE, 1)
                    add(board, at + INSIDE, -1)
            pause()
    limit(before)


def here():
    """`core`, for Python."""
    return core()


# ---- the host -----------------------------------------------------------------------------------


class Host:
    """The thread that the team's loop belongs to."""

    def __init__(self) -> None:
        self.board = np.zeros(SEEN + MOST * LINE, np.int64)
        self.slots = list(range(SLOTS))  # those that are free
        self._lock = threading.Lock()  # of who starts the thread or has it end
        self._bell: queue.SimpleQueue[tuple[int, set[int]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._members, self._waits = 0, True

    def wake(self, serve: Callable[..., None], here: Callable[[], int], members: int) -> None:
        """Have at least so many members look for jobs, if it can be done now."""
        if members > self._members:  # those who are awake go, and come again as more
            self._members = members
            self.board[GO] = 1
        if self.board[AWAKE] or not self._lock.acquire(blocking=False):
            return
        try:
            if self.board[AWAKE]:  # another caller was as quick
                return
            if self._thread is None:
                bell: queue.SimpleQueue[tuple[int, set[int]]] = queue.SimpleQueue()
                thread = threading.Thread(target=self._wait, args=(serve, bell), daemon=True)
                thread.start()
                self._bell, self._thread, self._waits = bell, thread, True
            self.board[AWAKE] = 1
            if self._bell.empty():  # or it comes back as it is
                self._bell.put((self._members, self._sent_away(here())))
        except RuntimeError:  # no thread can be started
            self.board[AWAKE] = 0
        except BaseException:
            self.board[AWAKE] = 0
            raise
        finally:
            self._lock.release()

    def _sent_away(self, core: int) -> set[int]:
        """Keep the thread off the caller's core, where Linux may wake it; where it may be then."""
        allowed: set[int] = set()
        if hasattr(os, "sched_setaffinity") and self._thread and self._waits:
            with contextlib.suppress(OSError):
                allowed = os.sched_getaffinity(0)
                others = allowed - {core & LINUX_CORE}
                os.sched_setaffinity(self._thread.native_id or 0, others or allowed)
        return allowed

    def _wait(self, serve: Callable[..., None], bell: queue.SimpleQueue) -> None:
        while (rung := bell.get())[0]:
            self._waits = False
            members, allowed = rung
            if allowed:  # it is awake, elsewhere; and the members are not to take over its limit
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(0, allowed)
            self.board[GO] = 0
            serve(self.board, members)
            self._waits = True
            self.board[AWAKE] = 0

    def leave(self) -> None:
        """Have the thread end, and no other begin until `back`: before a fork, as TBB wants it."""
        self._lock.acquire()
        try:
            if self._thread:
                self._bell.put((0, set()))
                while self._thread.is_alive():
                    self.board[GO] = 1
                    self._thread.join(0.01)
        finally:
            self._thread = None
            self.board[AWAKE] = 0

    def back(self) -> None:
        """Undo `leave`."""
        if self._lock.locked():
            self._lock.release()

    def dismiss(self) -> None:
        """Have the thread end: before its code goes."""
        self.leave()
        self.back()

    def clear(self) -> None:
        """Begin anew in a forked process, where nobody is who was at a job."""
        self.board[:] = 0
        self.slots[:] = range(SLOTS)
        self.back()


host = Host()
atexit.register(host.dismiss)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=host.leave, after_in_parent=host.back, after_in_child=host.clear)
