"""How many threads a call takes, that there is work for all of them, and what a quota allows."""

import math
import operator
import os
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest

import numba_acts
from numba_acts._cpu import launch, maxout, team, threads
from numba_acts._cpu import product as product_room
from numba_acts._cpu.lanes import LANES
from numba_acts._cpu.memory import elements

# ---- what the process may use -----------------------------------------------------------------

V2 = "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V1_DOCKER = "33 30 0:29 /docker/ab12 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu"
UNIFIED = "34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"

QUOTAS = {
    "version 2, in a container": (
        ["0::/"],
        [V2],
        {"cpu.max": "150000 100000\n"},
        1.5,
    ),
    "version 2, no limit": (["0::/"], [V2], {"cpu.max": "max 100000\n"}, math.inf),
    "version 2, a service": (
        ["0::/system.slice/it.service"],
        [V2],
        {"system.slice/it.service/cpu.max": "300000 100000\n"},
        3.0,
    ),
    "version 2, the group above allows less": (
        ["0::/pod/it"],
        [V2],
        {"pod/cpu.max": "200000 100000\n", "pod/it/cpu.max": "max 100000\n"},
        2.0,
    ),
    "version 1": (
        ["4:memory:/it", "3:cpu,cpuacct:/it"],
        [V1_MEMORY, V1],
        {
            "cpu,cpuacct/it/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/it/cpu.cfs_period_us": "100000\n",
        },
        0.5,
    ),
    "version 1, no limit": (
        ["3:cpu,cpuacct:/"],
        [V1],
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "version 1, the host's path": (
        ["3:cpu:/docker/ab12"],
        [V1_DOCKER],
        {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        4.0,
    ),
    "a path that is not there": (
        ["0::/kubepods/pod7/ab12"],
        [V2],
        {"cpu.max": "250000 100000\n"},
        2.5,
    ),
    "both versions": (
        ["3:cpu,cpuacct:/it", "0::/it"],
        [V1, UNIFIED],
        {
            "cpu,cpuacct/it/cpu.cfs_quota_us": "700000\n",
            "cpu,cpuacct/it/cpu.cfs_period_us": "100000\n",
            "unified/it/cgroup.procs": "",
        },
        7.0,
    ),
    "lines of another system": (
        ["", "0::", "nonsense", "5:cpu", "0::/"],
        ["", "1 2", "9 8 0:1 / /odd", "9 8 - cgroup2", "x - ", "caf\udce9\u2028\x0c - a b c", V2],
        {"cpu.max": "150000 100000\n"},
        1.5,
    ),
    "no period": (["0::/"], [V2], {"cpu.max": "100 0\n"}, math.inf),
    "not a number": (["0::/"], [V2], {"cpu.max": "\n"}, math.inf),
    "no groups": (None, [], {}, math.inf),
}


@pytest.fixture(params=QUOTAS)
def tree(request, tmp_path):
    """A made-up tree of control groups, and the processors that they allow."""
    groups, mounts, files, allowed = QUOTAS[request.param]
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        for name, lines in {"cgroup": groups, "mountinfo": mounts}.items():
            content = "\n".join(lines).encode(errors="surrogateescape")
            (tmp_path / "proc/self" / name).write_bytes(content)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path, allowed


def test_quota(tree):
    root, allowed = tree
    assert threads.quota(root) == allowed


def test_no_more_threads_than_processors_or_their_quota(tree, monkeypatch):
    root, allowed = tree
    for processors in (1, 2, 3, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=processors: set(range(n)))
        assert threads.usable(root) == max(1, int(min(processors, allowed)))


def test_this_machine():
    assert 1 <= threads.usable() <= (os.cpu_count() or 1)
    assert threads.quota(Path("/nowhere")) == math.inf


# ---- what a call takes ------------------------------------------------------------------------

COUNTS = [1, 2, 3, 4, 7, 8, 16, 32, 64]


@pytest.fixture(params=COUNTS)
def many(request, monkeypatch):
    """As many threads, of which the process has fewer."""
    monkeypatch.setattr(threads, "most", lambda: request.param)
    return request.param


def test_no_more_threads_than_the_work_is_worth(many):
    assert launch.crew(launch.PARALLEL_FROM - 1) == 1
    assert launch.crew(70_000) <= 2
    taken = [launch.crew(1 << k) for k in range(10, 40)]
    assert taken == sorted(taken) and taken[-1] == many
    for k, count in enumerate(taken, 10):
        # one more would cost what it saves: W/k − W/(k + 1) is at most what waking one takes
        assert count in (1, many) or (1 << k) / (count * (count + 1)) < 2 * launch.WAKING


def test_threads_are_shared_among_callers(many, monkeypatch):
    for callers in (0, 1, 2, 5, 100):
        monkeypatch.setattr(launch, "_callers", dict.fromkeys(range(callers)))
        assert launch.crew(1 << 40) == max(1, many // max(1, callers))


@pytest.fixture
def crews(many, monkeypatch):
    """For each large part of a call: the kernel, its units, its threads, how many it might have."""
    found = []

    def together(key, data, numbers, units, work, count):
        found.append((key[0].__name__, units, count, launch.crew(work)))
        launch.alone(key, data, numbers, units)

    def run(one, units, work, *rest):
        if work >= launch.PARALLEL_FROM and launch.crew(work) > 1:
            wanted.append(one.__name__)
        return original(one, units, work, *rest)

    wanted: list[str] = []
    original = launch.run
    monkeypatch.setattr(launch, "together", together)
    for room in ("forward", "product", "jacobian", "maxout", "affine"):
        monkeypatch.setattr(f"numba_acts._cpu.{room}.run", run)
        tiles = f"numba_acts._cpu.{room}.run_tiles"
        monkeypatch.setattr(tiles, lambda choice, count, *task: run(*task), raising=False)
    yield found
    assert [name for name, *_ in found] == wanted  # no large part was left to one thread


def ones(*shape):
    return np.ones(shape, np.float32)


def product(y, axis):
    return numba_acts.softmin_vjp(y, y, axis)


# A call for each traversal, with work for 64 threads wherever slices are not very few and long.
CALLS = {
    "rows": lambda: numba_acts.softmin(ones(20_000, 1000)),
    "short rows": lambda: numba_acts.softmin(ones(2_000_000, 10)),
    "columns": lambda: numba_acts.softmin(ones(21, 512, 512), 0),
    "few columns": lambda: numba_acts.softmin(ones(40, 14 * 14, 64), 1),
    "tall columns": lambda: numba_acts.softmin(ones(1000, 4200), 0),
    "columns of two": lambda: numba_acts.softmin(ones(2, 600_000), 0),
    "long slices": lambda: numba_acts.softmin(ones(16, 1_000_000)),
    "a long slice": lambda: numba_acts.softmin(ones(1, 8_000_000)),
    "long columns": lambda: numba_acts.softmin(ones(40_000, 512), 0),
    "product, rows": lambda: product(ones(20_000, 1000), -1),
    "product, columns": lambda: product(ones(21, 512, 512), 0),
    "product, tall columns": lambda: product(ones(1000, 4200), 0),
    "product, columns of two": lambda: product(ones(2, 600_000), 0),
    "product, long slices": lambda: product(ones(16, 1_000_000), -1),
    "product, a long slice": lambda: product(ones(1, 8_000_000), -1),
    "product, long columns": lambda: product(ones(40_000, 512), 0),
    "Jacobian": lambda: numba_acts.softmin_jacobian(ones(1000, 100)),
    "Jacobian's diagonal": lambda: numba_acts.softmin_jacobian_diag(ones(1000, 1000)),
    "maxout": lambda: numba_acts.maxout(ones(1_000_000, 4)),
    "maxout of many": lambda: numba_acts.maxout_with_index(ones(1000, 3000)),
    "maxout of a long row": lambda: numba_acts.maxout(ones(1, 8_000_000)),
    "maxout of long rows": lambda: numba_acts.maxout_with_index(ones(3, 8_000_000)),
    "maxout, columns": lambda: numba_acts.maxout(ones(2000, 4200), 0),
    "maxout, spread": lambda: numba_acts.maxout_jacobian(np.zeros(10**6, np.int32), 4),
    "maxout, spread columns": lambda: numba_acts.maxout_jacobian(np.zeros(4200, np.int32), 500, 0),
    "maxout, tangents": lambda: numba_acts.maxout_jvp(ones(10**6, 2), np.zeros(10**6, np.int32)),
    "affine, few rows": lambda: numba_acts.maxout_affine(ones(8, 700), ones(240, 4, 700)),
    "affine": lambda: numba_acts.maxout_affine(ones(900, 100), ones(64, 4, 100)),
    "affine, tangents": lambda: numba_acts.maxout_affine_jvp(
        ones(900, 100), ones(64, 4, 100), np.zeros((900, 64), np.int32), dx=ones(900, 100)
    ),
    "affine, gradients": lambda: numba_acts.maxout_affine_vjp(
        ones(900, 64), ones(900, 100), ones(64, 4, 100), np.zeros((900, 64), np.int32)
    ),
    "affine, Jacobian": lambda: numba_acts.maxout_affine_jacobian(
        ones(64, 4, 100), np.zeros((900, 64), np.int32)
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_units_for_all_threads(call, crews, many):
    CALLS[call]()
    assert crews or many == 1
    for name, units, count, worth in crews:
        assert units >= count == worth, name


# ---- what is handed out -----------------------------------------------------------------------


@pytest.mark.parametrize("units", [2, 3, 15, 16, 17, 63, 64, 65, 1000, 4097])
def test_each_unit_is_done_once(units, many, rng):
    """A product is written over its cotangent, which a second time would change it."""
    g, y = rng.normal(size=(2, 3 * units))
    y, key = numba_acts.softmin(y.reshape(-1, 3)).ravel(), (product_room.rows, *[g.dtype] * 3)
    once, twice = g.copy(), g.copy()
    for out, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            launch.alone(key, (out, y, out), (3, 1, 1.0, 1 << 60), units)
    assert (once != twice).any()
    for work in (1 << 16, 1 << 20, 1 << 30):
        out = g.copy()
        launch.together(
            key, (out, y, out), (3, 1, 1.0, 1 << 60), units, work, max(1, min(many, units))
        )
        np.testing.assert_array_equal(out, once)


@pytest.mark.parametrize("count", [2, 3, 4, 16, 64])
@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_parts_are_even(most, count):
    """As even as two claims for a thread and more allow, or nearly so."""

    def largest(step):
        claims = -(-units // step)
        ends = [min(units, t * claims // count * step) for t in range(count + 1)]
        return max(map(operator.sub, ends[1:], ends))

    def steps():
        for claims in range(min(most, 2), most + 1):
            step = -(-units // (count * claims))
            yield step if step <= LANES else -(-step // LANES) * LANES

    for units in range(count, 1200, 7):
        step = launch.step_of(units, most, count)
        assert step in steps()
        assert largest(step) <= max(17 * units / (16 * count), min(map(largest, steps())))


def test_parts_of_128_rows():
    assert launch.step_of(128, 3, 2) == 32  # as with 24 they would be 72 and 56


# ---- a call that waited for others is the last for a while ------------------------------------


def test_rest_after_a_call_that_waited(monkeypatch):
    now, spent, waited = [1000.0], [0.0], [0.0]

    def entry(*_):
        now[0] += spent[0]
        return round(waited[0] * spent[0] * 1e9), round(spent[0] * 1e9)  # cycles of a nanosecond

    x, y = ones(64_000), ones(64_000)
    task = (("stand-in",), (x, None, y), (1000,), 64, 128_000, 2)
    monkeypatch.setattr(launch, "_alone_until", 0.0)
    monkeypatch.setattr(launch, "_rest", launch.REST)
    monkeypatch.setattr(launch, "_cycle", math.inf)
    monkeypatch.setattr(team, "CLOCK", True)
    monkeypatch.setattr(launch, "LOST", 1e-3)
    monkeypatch.setattr(launch.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(threads, "most", lambda: 2)
    monkeypatch.setitem(launch._together, task[0], (entry, team.host.board, 0))

    def rest(seconds, part):
        """Seconds that calls are made alone after one that took so long, and waited for a part."""
        spent[0], waited[0] = seconds, part
        launch.together(*task)
        seconds = 0.0
        while launch.crew(128_000) == 1:
            now[0], seconds = now[0] + 0.001, seconds + 0.001
        return seconds

    assert rest(0.008, 0.1) == 0  # long, but all had work
    assert rest(0.0005, 1.0) == 0  # nobody came, but nothing was lost
    lost = 0.008 * 0.5
    for times in (10, 20, 40, 80, 160, 160):
        assert rest(0.008, 0.5) == pytest.approx(times * lost, abs=0.0011)
    assert rest(0.001, 0.1) == 0
    assert rest(0.008, 0.5) == pytest.approx(10 * lost, abs=0.0011)


@pytest.mark.parametrize("clock", [True, False])
@pytest.mark.parametrize("kind", ["lead", "loop"])
def test_nobody_is_waited_for_who_has_not_begun(kind, clock, monkeypatch):
    """A job in two parts is done by the caller alone, where no other thread looks at the board."""
    monkeypatch.setattr(team, "CLOCK", clock)
    job = numba.njit(nogil=True, parallel=kind == "loop")(getattr(team, kind))
    given = launch.ANY, launch.ANY, None, 1 << 20
    job = launch._overload(job, numba.types.int64[::1], 0, 0, 0, 0, 0, given).entry_point
    board, address = np.zeros_like(team.host.board), _address_of_maxout_rows()
    x, y = ones(2 << 20), np.empty(2, np.float32)
    waited, whole = job(board, 3, address, 2, 1, 2, (x, y, *given[2:]))
    assert waited == 0 and (whole > 1) == (clock and kind == "lead")
    np.testing.assert_array_equal(y, 1)


def _address_of_maxout_rows():
    x, y = ones(8), np.empty(1, np.float32)
    key = (maxout.rows, x.dtype, y.dtype, None)
    launch.together(key, (x, y, None), (8,), 1, 1 << 20, 1)
    return launch._together[key][2]


def test_more_callers_than_slots(monkeypatch, rng):
    """Who finds no slot computes alone."""
    x = rng.normal(size=(500, 1000))
    y = numba_acts.softmin(x)
    monkeypatch.setattr(threads, "most", lambda: 2)
    monkeypatch.setattr(team.host, "slots", [])
    np.testing.assert_array_equal(numba_acts.softmin(x), y)
    assert team.host.slots == []


# ---- the team ---------------------------------------------------------------------------------


@pytest.fixture
def board():
    """A board at which two members look until the test is over."""
    board, serve = np.zeros_like(team.host.board), numba.njit(parallel=True, nogil=True)(team.serve)
    if not threads.at_once():
        pytest.skip("Numba's own layer, which has no team")
    serve(board[::1] + (np.arange(board.size) == team.GO), 1)  # compiled, and away at once
    over = threading.Event()

    def members():
        while not over.is_set():
            serve(board, 2)

    host = threading.Thread(target=members)
    host.start()
    yield board
    over.set()
    host.join()


def test_a_member_does_what_the_caller_does_not(board):
    """Jobs that only a member can finish: their caller has no part left."""
    address = _address_of_maxout_rows()
    x, y = ones(4 << 10), np.empty(4, np.float32)

    @numba.njit(nogil=True)
    def post(board, slot, address, x, y):
        given = elements(x), elements(y), None, x.size // 4
        team.write_job(board, slot, team.some_units(address, given), 4, 1, 2)
        at = team.job_at(slot)
        board[at + team.CORE] = -2
        team.put(board, team.OPEN + slot, team.add(board, team.LAST, 1) + 1)
        for t in range(2):
            while team.look(board, at + team.PARTS + t * team.LINE) < 2 * t + 2:
                team.pause()
        team.put(board, team.OPEN + slot, 0)
        while team.look(board, at + team.INSIDE) > 0:
            team.pause()

    for i in range(100):
        y[:] = 0
        post(board, i % team.SLOTS, address, x, y)
        np.testing.assert_array_equal(y, 1)


@pytest.fixture
def one_core():
    """The core that the process runs on meanwhile."""
    if not team.CLOCK or not hasattr(os, "sched_setaffinity"):
        pytest.skip("the processor does not tell a thread its core, or the system places threads")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield min(cores)
    os.sched_setaffinity(0, cores)


def test_a_member_on_the_core_of_the_caller_goes(one_core):
    """It leaves the job that is on the board, and would take another caller's."""
    board, serve = np.zeros_like(team.host.board), numba.njit(nogil=True)(team.serve)
    address, x, y = _address_of_maxout_rows(), ones(2 << 10), np.zeros(2, np.float32)

    @numba.njit(nogil=True)
    def job(board, address, x, y, core):
        given = elements(x), elements(y), None, x.size // 2
        team.write_job(board, 0, team.some_units(address, given), 2, 1, 2)
        board[team.job_at(0) + team.CORE] = core
        team.put(board, team.OPEN, team.add(board, team.LAST, 1) + 1)
        serve(board, 1)

    job(board, address, x, y, one_core)
    np.testing.assert_array_equal(y, 0)
    job(board, address, x, y, one_core + 1)
    np.testing.assert_array_equal(y, 1)


def test_the_host_wakes_on_another_core_than_the_callers(monkeypatch):
    """And is free to go anywhere then, as are threads that the layer starts from it."""
    placed, served, host = [], [], team.Host()
    allowed = {3, 5, 7}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowed), raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: placed.append(given), raising=False)

    def serve(board, members):
        served.append(members)

    for core in (5, 4, 1 << 12 | 7):  # in the last case of the second node
        host.wake(serve, iter([core]).__next__, 2)
        thread = host._thread
        assert thread
        host.dismiss()
        assert placed == [(thread.native_id, allowed - {core & 4095}), (0, allowed)]
        placed.clear()
    allowed -= {3, 7}
    host.wake(serve, lambda: 5, 2)
    host.dismiss()
    assert [cores for _, cores in placed] == [{5}, {5}] and served == [2, 2, 2, 2]


def test_a_larger_team_is_called_when_a_call_is_worth_it():
    host, served = team.Host(), []

    def serve(board, members):
        served.append(members)
        while board[team.GO] == 0:
            pass

    for members in (1, 1, 3, 3, 2):  # the third has one go; the fourth calls three, who stay
        host.wake(serve, lambda: -1, members)
        for _ in range(1000):
            if len(served) == (1 if members == 1 else 2) and host.board[team.AWAKE]:
                break
            time.sleep(0.001)
            if members == 3:
                host.wake(serve, lambda: -1, members)
    host.dismiss()
    assert served == [1, 3]


def test_a_team_that_is_leaving_is_woken_again():
    """Its host may not get the interpreter's lock before a call, which would be made alone."""
    host, served, leaving, over = team.Host(), [], threading.Event(), threading.Event()

    def serve(board, members):
        served.append(members)
        board[team.AWAKE] = 0
        leaving.set()
        over.wait(60)

    host.wake(serve, lambda: -1, 1)
    assert leaving.wait(60)
    host.wake(serve, lambda: -1, 1)
    for _ in range(100):  # as when members of a large team leave one after the other
        host.board[team.AWAKE] = 0
        host.wake(serve, lambda: -1, 1)
    over.set()
    host.dismiss()
    assert served == [1, 1]


def test_a_team_without_jobs_goes_and_says_so():
    numba.get_num_threads()  # which loads the layer
    board, serve = np.zeros_like(team.host.board), numba.njit(nogil=True)(team.serve)
    serve(board, 1)
    assert board[team.AWAKE] == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_thread_that_can_not_be_started(error, monkeypatch, rng):
    """The call is made alone, a later one tries again; an interrupt comes through."""
    monkeypatch.setattr(threads, "most", lambda: 2)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    x = rng.normal(size=(500, 1000))
    y = numba_acts.softmin(x)
    team.host.dismiss()

    def fails(self):
        raise error("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        if error is RuntimeError:
            np.testing.assert_array_equal(numba_acts.softmin(x), y)
        elif threads.at_once():
            with pytest.raises(KeyboardInterrupt):
                numba_acts.softmin(x)
        assert not team.host.board[team.AWAKE] and len(team.host.slots) == team.SLOTS
        team.host.dismiss()
    np.testing.assert_array_equal(numba_acts.softmin(x), y)
    assert team.host._thread or not threads.at_once()


def test_nobody_is_woken_while_a_process_forks():
    host = team.Host()
    host.leave()
    host.wake(lambda board, members: None, lambda: -1, 1)
    assert host._thread is None and not host.board[team.AWAKE]
    host.back()
    host.wake(lambda board, members: None, lambda: -1, 1)
    assert host._thread
    host.dismiss()
    assert host._thread is None
