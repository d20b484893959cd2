"""Measurements of numba_acts beside its peers: ``python -m benchmarks --help``."""
