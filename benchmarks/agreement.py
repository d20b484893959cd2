"""``python -m benchmarks agreement``: other projects' own cases, as their packages carry them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import tables, timing

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))


def main(arguments: list[str]) -> int:
    """Ask each project's cases in a process of its own, print the counts, and keep them."""
    from conformance import published
    from rich.progress import track

    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    rows: list[dict[str, Any]] = []
    for project in track(published.PROJECTS, description="agreement", transient=True):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "conformance.published", project],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(tables.agreement(rows))
    print(f"written to {timing.save('agreement', rows)}")
    return int(any(row["failed"] for row in rows))
