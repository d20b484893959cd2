"""Fixtures that the test files share."""

import os
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
hypothesis.settings.register_profile(
    "numba_acts", deadline=None, database=None, max_examples=60, derandomize=True
)
hypothesis.settings.load_profile("numba_acts")


@pytest.fixture
def rng():
    return np.random.default_rng(1729)


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
