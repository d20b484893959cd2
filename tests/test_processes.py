"""What only a process of its own can show: imports, caches, forks and threads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "numba_acts"
LIBRARIES = f"{sys.prefix}/lib:{os.environ.get('LD_LIBRARY_PATH', '')}"  # where pip puts TBB


def run(code, folder=PACKAGE.parent, **environment):
    """What a fresh interpreter prints; its exit status is 0 or the test fails."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": LIBRARIES} | environment,
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
from numba_acts.cpu import affine, maxout, softmax
values = [value for module in (affine, maxout, softmax) for value in vars(module).values()]
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
from numba_acts.cpu import launch, softmax
y = numba_acts.softmin(np.arange(4.0))
assert abs(y.sum() - 1) < 1e-12 and (np.diff(y) < 0).all(), y
stats = softmax.short_rows.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
print(launch.cache_folder(), y[0])
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
    helpers = copied / "numba_acts" / "cpu" / "math.py"
    text = helpers.read_text()
    assert text.count("= 1.4426950408889634,") == 1
    helpers.write_text(text.replace("= 1.4426950408889634,", "= 2.4426950408889634,"))
    hits, misses, _, after = run(CALL, copied, **cache)
    assert (hits, misses) == ("0", "1")
    assert float(after) > float(before) + 0.1


def test_works_where_no_cache_can_be_written(copied):
    """A file in the way of each cache folder stops even an administrator from making it."""
    (copied / "numba_acts" / "cpu" / "__pycache__").write_text("")
    nowhere = {name: "/dev/null/nowhere" for name in ("HOME", "XDG_CACHE_HOME", "IPYTHONDIR")}
    code = CALL.replace("sum(softmax", "0 and sum(softmax")
    nowhere |= {"NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    *_, folder, value = run(code, copied, **nowhere)
    assert folder == "None"
    assert float(value) == pytest.approx(0.64391426)


LAYERS = ["omp", "workqueue", "tbb"]

PREPARE = """
import os, sys, threading
import numba, numpy as np
from numba.np.ufunc import parallel
layer = os.environ["NUMBA_THREADING_LAYER"]
try:
    parallel._launch_threads()
except ValueError:
    sys.exit(print("missing") or 0)
import numba_acts
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


def run_on(layer, code):
    printed = run(PREPARE + code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    if printed == ["missing"]:
        pytest.skip(f"Numba has no threading layer {layer} here")
    return printed


@pytest.mark.parametrize("layer", LAYERS)
def test_child_forked_after_parallel_calls(layer):
    code = """
assert right()
assert numba.threading_layer() == layer
child = os.fork()
if child == 0:
    os._exit(0 if right() else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), right())
"""
    assert run_on(layer, code) == ["0", "True"]


@pytest.mark.parametrize("layer", LAYERS)
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
