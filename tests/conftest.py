"""Fixtures that the test files share."""

import math
import os
import sys
import tempfile
import tracemalloc
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import configuration

# Two threads at least, so that a machine of one core runs the parallel kernels too. Numba reads
# this once, when it is imported.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

# The first call of a kernel compiles it: no deadline. No database, and nothing else in the
# repository: what hypothesis keeps goes to the folder of temporary files.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")
for name, examples in (("common", 20), ("full", 60)):
    hypothesis.settings.register_profile(
        name, deadline=None, database=None, max_examples=examples, derandomize=True
    )


# The default run has these of what a test is parametrised by; `--full` has all.
COMMON = {
    "dtype": ("float32", "float64"),
    "index_dtype": ("int32", "int64"),
    "layout": ("C",),
    "change": ("float64", "rows", "columns", "one number"),  # of an operand, in test_memory.py
    "layer": ("tbb",),
}
LEFT = pytest.StashKey[int]()


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every dtype, layout, layer of threads")


def pytest_configure(config):
    hypothesis.settings.load_profile("full" if config.getoption("full") else "common")


def _is_rare(item):
    """Is it marked `full`, or one of the full matrix of dtypes and layouts?"""
    given = getattr(item, "callspec", None)
    chosen = given.params.items() if given else ()
    rare = any(name in COMMON and _name(value) not in COMMON[name] for name, value in chosen)
    return rare or item.get_closest_marker("full") is not None


def _name(value):
    """A dtype's name, however it is given, or that of anything else."""
    name = str(value).removeprefix("torch.")
    return np.dtype(value).name if isinstance(value, type) or name in ("f4", "f8") else name


def pytest_collection_modifyitems(config, items):
    """Leave what is rare to `--full`, and count it."""
    if not config.getoption("full"):
        kept: list = []
        left: list = []
        for item in items:
            (left if _is_rare(item) else kept).append(item)
        config.stash[LEFT] = len(left)
        if hasattr(config, "workeroutput"):  # of pytest-xdist
            config.workeroutput["left"] = len(left)
        items[:] = kept
        config.hook.pytest_deselected(items=left)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Each worker of pytest-xdist leaves out the same."""
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


def pytest_terminal_summary(terminalreporter, config):
    if left := config.stash.get(LEFT, 0):
        terminalreporter.write_line(f"{left} tests were left for `python -m pytest --full`")


@pytest.fixture
def rng():
    return np.random.default_rng(1729)


@pytest.fixture(autouse=True, scope="session")
def as_on_a_quiet_machine():
    """No call is made alone since one before it had to wait: tests know which path is taken."""
    from numba_acts._cpu import launch

    launch.LOST = math.inf


@pytest.fixture(autouse=True)
def as_if_nothing_had_been_called():
    """Calls choose their kernels anew: a test may change what they choose by, or watch."""
    if host := sys.modules.get("numba_acts._halls.host"):
        host.forget()


@pytest.fixture
def peak_memory():
    """The most bytes that a call holds beyond what existed before, its result included."""

    def measure(call):
        call()  # compiles
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure
