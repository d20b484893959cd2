"""What only a process of its own can show: imports, caches, forks and threads."""

import compileall
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from cases import FULL

import numba_acts as na

PACKAGE = Path(na.__file__).parent


def run(code, folder=PACKAGE.parent, before=(), **environment):
    """What a fresh interpreter prints; its exit status is 0 or the test fails."""
    done = subprocess.run(
        [*before, sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.split()


@pytest.fixture
def copied(tmp_path):
    """A folder with a copy of the package."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "numba_acts", ignore=ignore)
    return tmp_path


def test_import_compiles_nothing_and_imports_no_cuda():
    code = """
import sys, numba
before = set(sys.modules)
import numba_acts
from numba_acts._cpu import affine, forward, jacobian, maxout, product
rooms = affine, forward, jacobian, maxout, product
values = [value for room in rooms for value in vars(room).values()]
kernels = [value for value in values if hasattr(value, "signatures")]
assert len(kernels) > 50 and not any(kernel.signatures for kernel in kernels)
added = set(sys.modules) - before
print(*(n for n in added if n.split(".")[0] in ("torch", "scipy", "ml_dtypes", "dask", "cupy")))
print(*(n for n in sys.modules if n.startswith("numba.cuda") or n.startswith("numba_cuda")))
"""
    assert run(code) == []


CALL = """
import numpy as np
import numba_acts
from numba_acts import _compiler
from numba_acts._cpu import forward
y = numba_acts.softmin(np.arange(4.0))
assert abs(y.sum() - 1) < 1e-12 and (np.diff(y) < 0).all(), y
stats = forward.short_rows.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
print(_compiler.folder(forward.rows), y[0])
"""


def test_second_process_finds_the_first_ones_kernels(copied):
    hits, misses, folder, value = run(CALL, copied, NUMBA_CACHE_DIR=str(copied / "cache"))
    assert (hits, misses) == ("0", "1")
    assert Path(folder).is_relative_to(copied / "cache")
    again = run(CALL, copied, NUMBA_CACHE_DIR=str(copied / "cache"))
    assert again == ["1", "0", folder, value]


def test_edited_helper_is_not_answered_for_by_old_code(copied):
    cache = {"NUMBA_CACHE_DIR": str(copied / "cache")}
    *_, before = run(CALL, copied, **cache)
    helpers = copied / "numba_acts" / "_cpu" / "exponential.py"
    text = helpers.read_text()
    assert text.count("= 1.4426950408889634,") == 1
    helpers.write_text(text.replace("= 1.4426950408889634,", "= 2.4426950408889634,"))
    hits, misses, _, after = run(CALL, copied, **cache)
    assert (hits, misses) == ("0", "1")
    assert float(after) > float(before) + 0.1


@FULL
def test_indices_are_counted_in_64_bits(copied):
    """Axes that are too long for a test stand for by those of more than 16, here.

    `test_maxout.py` has one of more than 2**31.
    """
    file = copied / "numba_acts" / "_cpu" / "maxout.py"
    text = file.read_text()
    assert text.count("COUNTED = 1 << 30") == 1
    file.write_text(text.replace("COUNTED = 1 << 30", "COUNTED = 16"))
    code = """
import numba, numba_acts
import numpy as np
from numba_acts._cpu import maxout
assert maxout.COUNTED == 16
@numba.njit
def compiled(x, g, axis):
    y, index = numba_acts.maxout_with_index(x, axis)
    dx = numba_acts.maxout_vjp(g, index, x.shape[axis], axis)
    return y, index, dx, numba_acts.maxout_jvp(x, index, axis)
rng = np.random.default_rng(0)
for shape in [(50,), (3, 16), (19, 17), (3, 40), (19, 100), (2, 33, 5), (2, 100, 19), (40, 1),
              (40, 1025)]:
    for axis in range(len(shape)):
        for dtype in (np.int8, np.float32):
            x = rng.integers(-40, 40, shape).astype(dtype)
            if dtype == np.float32:
                x[x == 39] = np.nan
            best, winner = x.max(axis), x.argmax(axis)
            g = rng.normal(size=best.shape)
            want = np.zeros(shape)
            np.put_along_axis(want, np.expand_dims(winner, axis), np.expand_dims(g, axis), axis)
            y, index = numba_acts.maxout_with_index(x, axis)
            dx = numba_acts.maxout_vjp(g, index, shape[axis], axis)
            hot = numba_acts.maxout_jacobian(index, shape[axis], axis)
            called = y, index, dx, numba_acts.maxout_jvp(x, index, axis)
            for got in (called, compiled(x, g, axis)):
                for a, b in zip(got, (best, winner, want, best)):
                    np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(hot.sum(axis), np.ones(best.shape))
            np.testing.assert_array_equal(numba_acts.maxout(x, axis), best)
"""
    assert run(code, copied, NUMBA_CACHE_DIR=str(copied / "cache")) == []


def test_works_where_no_cache_can_be_written(copied):
    """A file in the way of each cache folder stops even an administrator from making it."""
    (copied / "numba_acts" / "_cpu" / "__pycache__").write_text("")
    nowhere = {name: "/dev/null/nowhere" for name in ("HOME", "XDG_CACHE_HOME", "IPYTHONDIR")}
    nowhere |= {"NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    *_, folder, value = run(CALL, copied, **nowhere)
    assert folder == "None"
    assert float(value) == pytest.approx(0.64391426)


@FULL
def test_copied_tree_with_other_times_finds_the_kernels(copied):
    """As an image's layers, which keep whole seconds, or a checkout, which keeps none."""
    first = run(CALL, copied, NUMBA_CACHE_DIR=str(copied / "cache"))
    for file in copied.rglob("*.py"):
        os.utime(file, (10**9, 10**9))
    again = run(CALL, copied, NUMBA_CACHE_DIR=str(copied / "cache"))
    assert (first[1], again[0]) == ("1", "1")


def test_cache_that_can_be_read_but_not_written_is_read(copied):
    """By root too, without its leave to write anywhere."""
    cache = {"NUMBA_CACHE_DIR": str(copied / "cache"), "HOME": "/dev/null/nowhere"}
    first = run(CALL, copied, **cache)
    pycache = copied / "numba_acts" / "_cpu" / "__pycache__"
    pycache.mkdir(exist_ok=True)
    folders = [copied / "cache", *(copied / "cache").iterdir(), pycache, pycache.parent]
    for folder in folders:
        folder.chmod(0o555)
    before = []
    if os.geteuid() == 0:
        before = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and there is no setpriv to forbid it")
    again = run(CALL, copied, before=before, **cache)
    for folder in folders:
        folder.chmod(0o755)
    assert (first[1], again[0]) == ("1", "1")
    assert (first[2], again[2]) == (str(folders[1]), "None")


DAMAGE = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "garbage": lambda content: bytes(len(content)),
    "one bit": lambda content: content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:],
    "a pickle of something else": lambda content: b"\x80\x04N.",
}


@pytest.mark.parametrize("damage", DAMAGE)
@FULL
def test_damaged_file_is_written_anew(damage, copied):
    cache = {"NUMBA_CACHE_DIR": str(copied / "cache")}
    first = run(CALL, copied, **cache)
    (file,) = (copied / "cache").rglob("*.nbc")
    content = file.read_bytes()
    file.write_bytes(DAMAGE[damage](content))
    healed = run(CALL, copied, **cache)
    again = run(CALL, copied, **cache)
    assert [first[:2], healed[:2], again[:2]] == [["0", "1"], ["0", "1"], ["1", "0"]]
    assert first[2:] == healed[2:] == again[2:]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no owners of that kind")
def test_files_that_others_may_have_written_are_not_loaded(copied):
    """What they hold is run. They are written anew, as one's own."""
    cache = {"NUMBA_CACHE_DIR": str(copied / "cache")}
    assert run(CALL, copied, **cache)[:2] == ["0", "1"]
    (file,) = (copied / "cache").rglob("*.nbc")
    file.chmod(0o666)
    assert run("import os; os.umask(0)" + CALL, copied, **cache)[:2] == ["0", "1"]
    assert run(CALL, copied, **cache)[:2] == ["1", "0"]
    try:
        os.chown(file, 54321, -1)
    except OSError:  # only an administrator may give it away
        return
    assert run(CALL, copied, **cache)[:2] == ["0", "1"]
    assert file.stat().st_uid == os.geteuid()
    assert run(CALL, copied, **cache)[:2] == ["1", "0"]


@pytest.mark.skipif(sys.platform == "win32", reason="sizes of files are limited on Unix")
@pytest.mark.parametrize("size", [0, 4096])
@FULL
def test_full_disk(size, copied):
    """No file may grow beyond a few bytes: the kernels are compiled, and nothing is left behind."""
    limit = "import resource, sys; sys.dont_write_bytecode = True;"  # which Python would cut short
    limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    for _ in range(2):
        done = run(limit + CALL, copied, NUMBA_CACHE_DIR=str(copied / "cache"))
        assert done[:2] == ["0", "1"]
    assert not [file for file in (copied / "cache").rglob("*") if file.is_file()]


@FULL
def test_zip_archive(copied):
    archive = shutil.make_archive(str(copied / "library"), "zip", copied, "numba_acts")
    cache = {"HOME": str(copied), "XDG_CACHE_HOME": str(copied / "cache"), "NUMBA_CACHE_DIR": ""}
    code = CALL + "print(numba_acts.__file__)"
    elsewhere = copied / "elsewhere"
    elsewhere.mkdir()
    done = run(code, elsewhere, PYTHONPATH=archive, **cache)
    assert done[-1].startswith(archive)
    assert float(done[-2]) == pytest.approx(0.64391426)


@FULL
def test_without_sources(copied):
    """As in a program that PyInstaller made: bytecode alone."""
    assert compileall.compile_dir(copied, legacy=True, quiet=1)
    for file in copied.rglob("*.py"):
        file.unlink()
    assert float(run(CALL, copied)[-1]) == pytest.approx(0.64391426)


def test_with_numbas_compiler_switched_off():
    """A user's functions are Python then; the library's kernels are compiled all the same."""
    code = """
import numba, numba_acts
import numpy as np
@numba.njit
def own(x):
    return numba_acts.softmin(x, axis=0)
assert not hasattr(own, "py_func")
x = np.random.default_rng(0).normal(size=(3000, 100))
y = own(x)
assert np.allclose(y, np.exp(-x) / np.exp(-x).sum(0))
best, index = numba_acts.maxout_with_index(x)
assert (index == x.argmax(-1)).all() and (best == x.max(-1)).all()
assert numba_acts.maxout_affine(x, np.ones((2, 3, 100))).shape == (3000, 2)
assert numba.config.DISABLE_JIT == 1
"""
    assert run(code, NUMBA_DISABLE_JIT="1") == []


LAYERS = ["omp", "workqueue", "tbb"]

PREPARE = """
import os, sys, threading
import numba, numpy as np
from numba.np.ufunc import parallel
layer = os.environ["NUMBA_THREADING_LAYER"]
import numba_acts
try:
    parallel._launch_threads()
except ValueError:
    sys.exit(print("missing") or 0)
numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
x = np.random.default_rng(0).normal(size=(2000, 100))
expected = np.exp(-x) / np.exp(-x).sum(-1, keepdims=True)
def right():
    g = np.ones_like(x)
    y = numba_acts.softmin(x)
    dx = numba_acts.softmin_vjp(g, y)
    best = numba_acts.maxout(x)
    return np.allclose(y, expected) and np.abs(dx).max() < 1e-14 and (best == x.max(-1)).all()
"""


def run_on(layer, code, **environment):
    environment = {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": layer} | environment
    printed = run(PREPARE + code, **environment)
    if printed == ["missing"]:
        pytest.skip(f"Numba has no threading layer {layer} here")
    return printed


@pytest.mark.parametrize("layer", LAYERS)
def test_child_forked_after_parallel_calls(layer):
    code = """
columns = x.T.copy()
def both():
    return right() and np.allclose(numba_acts.softmin(columns, 0), expected.T)
assert both() and both()
assert numba.threading_layer() == layer
child = os.fork()
if child == 0:
    os._exit(0 if both() else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), both())
"""
    assert run_on(layer, code) == ["0", "True"]


@pytest.mark.parametrize("layer", LAYERS)
@FULL
def test_process_pool_after_parallel_calls(layer):
    code = """
import multiprocessing
assert right()
def work(i):
    return right()
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(pool.map(work, range(4))), right())
"""
    assert run_on(layer, code) == ["True", "True"]


@pytest.mark.parametrize("layer", LAYERS)
def test_calls_from_many_threads_at_once(layer):
    code = """
answers = []
def work():
    answers.extend(right() for _ in range(20))
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(answers), all(answers))
"""
    assert run_on(layer, code) == ["120", "True"]


@pytest.mark.parametrize("layer", LAYERS)
def test_child_forked_while_another_thread_makes_the_first_calls(layer, tmp_path):
    code = """
thread = threading.Thread(target=right)
thread.start()
codes = []
while thread.is_alive():
    child = os.fork()
    if child == 0:
        os._exit(0 if right() else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(codes) > 0 and not any(codes))
"""
    cold = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert run_on(layer, code, **cold)[-1] == "True"


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="the interpreter has its global lock",
)
@pytest.mark.parametrize("layer", LAYERS)
def test_without_the_global_interpreter_lock(layer, tmp_path):
    """Eight threads make all first calls at once, then many more: one thread's bits."""
    code = """
assert not sys._is_gil_enabled(), "an import has taken the lock back"
from numba_acts._cpu import launch, team, threads
launch.LOST = 9  # or calls go alone on a busy machine
rng = np.random.default_rng(1)
small, large = (rng.normal(size=shape).astype(np.float32) for shape in [(8, 24), (2400, 240)])
def calls(x):
    y = numba_acts.softmin(x, 0)
    best, index = numba_acts.maxout_with_index(x)
    yield from (y, numba_acts.softmin(x), numba_acts.softmin_vjp(x, y, 0), best, index)
    yield numba_acts.maxout_vjp(best, index, x.shape[1])
def bits():
    return [array.tobytes() for x in (small, large) for array in calls(x)]
found, barrier = [[] for _ in range(8)], threading.Barrier(8)
def work(mine):
    barrier.wait()
    mine.extend(bits() for _ in range(15))
callers = [threading.Thread(target=work, args=(mine,)) for mine in found]
for thread in callers: thread.start()
for thread in callers: thread.join()
shared = bool(launch._together) == threads.at_once()
launch.PARALLEL_FROM = 1 << 62
alone = bits()
print(*{len(mine) for mine in found}, all(one == alone for mine in found for one in mine))
print(shared, not launch._callers, sorted(team.host.slots) == list(range(team.SLOTS)))
assert not sys._is_gil_enabled()
"""
    cold = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "16"}  # two for each caller
    assert run_on(layer, code, **cold) == ["15", "True", "True", "True", "True"]


def test_beside_a_users_parallel_function_on_workqueue():
    code = """
@numba.njit(parallel=True)
def sums(x):
    s = np.zeros(len(x))
    for i in numba.prange(len(x)):
        s[i] = x[i].sum()
    return s
from numba_acts._cpu.threads import most
sums(x)
print(right(), most())
stop = threading.Event()
def work():
    while not stop.is_set():
        sums(x)
thread = threading.Thread(target=work)
thread.start()
print(all(right() for _ in range(300)), most())
stop.set()
thread.join()
print(most())
"""
    assert run_on("workqueue", code) == ["True", "2", "True", "1", "2"]


@pytest.mark.parametrize("layer", LAYERS)
@FULL
def test_child_forked_while_another_thread_computes(layer):
    code = """
assert right()
stop = threading.Event()
def work():
    while not stop.is_set():
        right()
thread = threading.Thread(target=work)
thread.start()
codes = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if right() else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
thread.join()
print(codes == [0] * 5)
"""
    assert run_on(layer, code)[-1] == "True"  # TBB says first what a fork may break


@pytest.mark.parametrize("layer", LAYERS)
def test_in_the_users_own_parallel_loop(layer):
    """Rows of the user's prange, which call the library's kernels; then calls from Python again."""
    code = """
@numba.njit(parallel=True)
def own(x, out):
    for i in numba.prange(len(x)):
        out[i] = numba_acts.softmin(x[i])
out = np.empty_like(x)
assert right()
own(x, out)
print(np.allclose(out, expected), right())
"""
    assert run_on(layer, code) == ["True", "True"]


@pytest.mark.parametrize("layer", LAYERS)
@FULL
def test_more_threads_than_processors(layer):
    """As the user has asked for, and as a container has that sees more than it may use."""
    code = """
from numba_acts._cpu import launch, threads
counts, together = set(), launch.together
launch.together = lambda *task: counts.add(task[-1]) or together(*task)
x = np.random.default_rng(0).normal(size=(4000, 1000)).astype(np.float32)
calls = lambda: [numba_acts.softmin(x, axis) for axis in (0, 1, None)] + [numba_acts.maxout(x, 0)]
alone = calls()
numba.set_num_threads(64)
launch.LOST = 9
print(threads.most(), all(map(np.array_equal, alone, calls())), max(counts))
"""
    assert run_on(layer, code, NUMBA_NUM_THREADS="64")[:2] == ["64", "True"]


@pytest.mark.parametrize("layer", LAYERS)
@FULL
def test_interrupted(layer):
    """Control-C arrives when the call is done; calls after it are right, on all threads."""
    code = """
import signal, time
from numba_acts._cpu import launch
assert right()
counts, together, launch.LOST = [], launch.together, 9  # or calls go alone on a busy machine
launch.together = lambda *task: counts.append(task[-1]) or together(*task)
done = interrupted = 0
for _ in range(5):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            numba_acts.softmin(x)
            done += 1
    except KeyboardInterrupt:
        interrupted += 1
    assert not launch._callers
time.sleep(0.1)
counts.clear()
print(done > 0, interrupted, right(), counts[-1])
"""
    assert run_on(layer, code) == ["True", "5", "True", "2"]


def test_a_call_does_not_wait_for_threads_that_are_elsewhere():
    """TBB's only worker is in another loop until the call has returned: it would wait for ever."""
    code = """
@numba.njit(parallel=True, nogil=True)
def held(flags):
    for i in numba.prange(2):
        flags[i] = 1
        while flags[2] == 0:
            flags[3 + i] += 1  # or the loop would be taken for one without an end
assert right()
flags = np.zeros(5, np.int64)
held(np.array([0, 0, 1, 0, 0]))
thread = threading.Thread(target=held, args=(flags,))
thread.start()
while not flags[:2].all():
    pass
print(all(right() for _ in range(20)))
flags[2] = 1
thread.join()
"""
    assert run_on("tbb", code) == ["True"]


CHOSEN = """
import numba
if {running}:
    numba.get_num_threads()
import os, numba_acts, numpy as np
from numba_acts._cpu import threads
numba_acts.softmin(np.ones((3000, 100)))
print(numba.threading_layer(), threads.most(), len(os.sched_getaffinity(0)))
"""


@pytest.mark.skipif(
    not (sys.platform == "linux" and platform.machine() == "x86_64"),
    reason="affinities are Linux's, and TBB comes as a dependency on x86-64 alone",
)
def test_users_settings_are_kept(monkeypatch):
    default = {"NUMBA_THREADING_LAYER": "default"}
    assert run(CHOSEN.format(running=False), **default)[0] == "tbb"
    assert run(CHOSEN.format(running=True), **default)[0] != "tbb"
    chosen = {"NUMBA_THREADING_LAYER": "workqueue"}  # as OpenMP may be missing
    assert run(CHOSEN.format(running=False), **chosen)[0] == "workqueue"
    _, most, _ = run(CHOSEN.format(running=False), NUMBA_NUM_THREADS="5")
    assert most == "5"
    one = "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])"
    monkeypatch.delenv("NUMBA_NUM_THREADS")  # set for the tests
    assert run(one + CHOSEN.format(running=False))[1:] == ["1", "1"]


def test_versions_are_told_for_reports_of_bugs(tmp_path):
    command = [sys.executable, "-m", "numba_acts", "versions", "--json"]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, cwd=PACKAGE.parent)
    told = json.loads(done.stdout)
    assert told["numba_acts"] and set(told["packages"]["required"]) >= {"numba", "numpy"}
    assert told["threads"]["a call may use"] == 1 and told["settings"]["NUMBA_NUM_THREADS"] == "1"
    assert Path(told["cache"]["folder"]).parent == tmp_path and told["cache"]["can be written"]
    lines = run("import numba_acts; numba_acts.show_versions()")
    assert lines[:2] == ["numba_acts:", told["numba_acts"]] and "GPU:" in lines


def test_report_names_its_commands():
    done = subprocess.run(
        [sys.executable, "-m", "numba_acts", "--help"],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        timeout=60,
    )
    assert done.returncode == 0
    assert "warmup" in done.stdout
