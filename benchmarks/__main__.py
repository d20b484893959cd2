"""Measure numba_acts: ``python -m benchmarks PART``.

Times are taken in one process, ours and the peers' in turn, and given as medians. Nothing here is a
test: the figures depend on the machine, with whose name they are kept in ``benchmarks/results``.
"""

import argparse
import importlib
import os
import sys

# A BLAS whose threads spin for long after a product would slow down whatever is measured next.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
# Two cores for everybody, where the system lets a process choose: not every peer takes a number.
if hasattr(os, "sched_setaffinity") and sys.argv[1:2] not in (["cuda"], ["cuda-static"]):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

PARTS = {
    "cpu": "every case, ours and the peers', against a copy and a floor",
    "calls": "what a warm call on few numbers takes",
    "startup": "the import, and the first call in a new process",
    "scaling": "time over size, on one thread and on two",
    "busy": "calls while other work takes the cores",
    "uses": "large results, read next or left alone, in the caches and around them",
    "memory": "how much a call takes beyond its result",
    "accuracy": "errors against a reference of higher precision",
    "soak": "millions of calls: memory, many threads, random arguments",
    "agreement": "other projects' own cases: whether their answers are ours",
    "cuda-static": "the GPU's kernels compiled, without a GPU: registers, spills, wide accesses",
    "report": "tables and figures of the results that are there",
    "cuda": "every kernel on a GPU against a copy and the peers",
}


def main() -> int:
    """Run the part that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="\n".join(f"{part:12} {text}" for part, text in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args(sys.argv[1:2]).part
    module = importlib.import_module(f"benchmarks.{part.replace('-', '_')}")
    return int(module.main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
