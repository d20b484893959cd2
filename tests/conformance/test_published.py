"""What other projects publish as right is right here, but for exceptions, each with its reason."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import rarely

from conformance import published

# of which modules are needed, and the least of cases that are known to be there
NEEDED = {
    "scipy": (["scipy.special.tests"], 5),
    "onnx": (["onnx"], 15),
    "torch": (["torch", "expecttest"], 300),
    "thinc": (["thinc.tests", "torch"], 9),
}


def is_here(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("project", ["scipy", "onnx", "thinc", *rarely("torch")])
def test_published_cases(project):
    assert NEEDED.keys() == published.PROJECTS.keys()
    modules, least = NEEDED[project]
    missing = [module for module in modules if not is_here(module)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "conformance.published", project],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["failed"] == {}
    assert told["cases"] >= least
    meant = {reason for who, _, reason in published.EXCEPTIONS if who == project}
    assert set(told["exceptions"].values()) == meant, "an exception that is none"
