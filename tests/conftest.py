"""Fixtures that the test files share."""

import os
import tracemalloc

import hypothesis
import numpy as np
import pytest

# Two threads at least, so that a machine of one core runs the parallel kernels too. Numba reads
# this once, when it is imported.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

# The first call of a kernel compiles it: no deadline. No database: nothing to keep or clean up.
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
